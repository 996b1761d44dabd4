//! The `strongroom` command: what an operator types, and what comes back.
//!
//! Exit codes: 0 = done; 1 = failed, with the reason on standard error; 2 = the command line is wrong; 130 = interrupted at once.

mod bench;
mod serve;

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
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Bench(args) => bench::run(&args),
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
type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;
