//! The `strongroom` command: what an operator types, and what comes back.
//!
//! `serve` is the target; `bench`, `audit`, and those of `pool` that take a path, need none; everything else asks a running target over its control socket.
//!
//! Exit codes: 0 = done; 1 = failed or refused, with the reason on standard error; 2 = the command line is wrong; 3 = a pool could not be
//! checked; 130 = interrupted at once.

mod access_key;
mod account;
mod audit;
mod bench;
mod client;
mod cloud;
mod disk;
mod export;
mod host;
mod instance;
mod key;
mod key_store;
mod kms;
mod kms_helper;
mod log_level;
mod offline;
mod pool;
mod progress;
mod rpc;
mod serve;
mod snapshot;
mod stat;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Serves encrypted disks.
#[derive(Parser)]
#[command(version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the target: serve the disks of a configuration until SIGTERM
    Serve(serve::ServeArgs),
    /// Load a disk inside this process, or a target over NVMe/TCP, and report throughput and latency
    Bench(bench::BenchArgs),
    /// List, create, add and remove disks, and attach them to hosts
    Disk(disk::DiskArgs),
    /// Take, list, compare and delete snapshots of disks, and go back to them
    Snapshot(snapshot::SnapshotArgs),
    /// Create, show, check and grow the pools that disks and snapshots lie in
    Pool(pool::PoolArgs),
    /// List, add and remove hosts
    Host(host::HostArgs),
    /// List and add accounts
    Account(account::AccountArgs),
    /// Make, list, disable and remove the access keys by which an account's requests to the cloud API are signed
    AccessKey(access_key::AccessKeyArgs),
    /// List, make, start, stop and delete instances, which use disks of the cloud
    Instance(instance::InstanceArgs),
    /// Carry out any operation of the cloud API for an account
    Cloud(cloud::CloudArgs),
    /// List, rotate, disable, destroy and save the master keys that wrap the keys of disks
    Key(key::KeyArgs),
    /// Show how the KMS is that keeps them
    Kms(kms::KmsArgs),
    /// Verify and show the audit log of keys, and the calls that accounts have made
    Audit(audit::AuditArgs),
    /// Show where the target listens and what is found there
    Export(export::ExportArgs),
    /// Show what disks have done
    Stat(stat::StatArgs),
    /// Show or change what the target logs
    LogLevel(log_level::LogLevelArgs),
    /// Call any method of the control socket, or list them
    Rpc(rpc::RpcArgs),
    /// Run the library of a key service for a target, which starts this by itself
    #[command(hide = true)]
    KmsHelper(kms_helper::KmsHelperArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Disk(args) => disk::run(&args),
        Command::Snapshot(args) => snapshot::run(&args),
        Command::Pool(args) => pool::run(&args),
        Command::Host(args) => host::run(&args),
        Command::Account(args) => account::run(&args),
        Command::AccessKey(args) => access_key::run(&args),
        Command::Instance(args) => instance::run(&args),
        Command::Cloud(args) => cloud::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Kms(args) => kms::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::LogLevel(args) => log_level::run(&args),
        Command::Rpc(args) => rpc::run(&args),
        Command::KmsHelper(args) => kms_helper::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("strongroom: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a subcommand returns: an exit code, or a text for people.
type Outcome = Result<ExitCode, Failure>;
type Failure = Box<dyn std::error::Error>;

/// What has happened, and what else has to be known about it.
fn changed(what: &str, note: &str) -> String {
    format!("{}\n  {note}\n", table::printable(what))
}
