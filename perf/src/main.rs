//! What measures Strongroom beside its rivals.

mod xts;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures Strongroom beside its rivals on this machine.
#[derive(Parser)]
#[command(name = "strongroom-perf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// AES-256-XTS kernels in core cycles per byte, beside the CPU's limit and other libraries.
    Xts(xts::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Xts(args) => xts::measure(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("strongroom-perf: {error}");
            ExitCode::FAILURE
        }
    }
}
