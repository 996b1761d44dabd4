//! `strongroom export`: where the target listens, and what is found there.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::control::target::ExportsReport;

use super::Outcome;
use super::client::Ask;
use super::table::printable;

#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: ExportCommand,
}

#[derive(Subcommand)]
enum ExportCommand {
    /// Show where the target listens and what is found there
    List,
}

pub(super) fn run(args: &ExportArgs) -> Outcome {
    match args.command {
        ExportCommand::List => args.ask.print("export.list", json!({}), |exports| list(&exports)),
    }
}

fn list(exports: &ExportsReport) -> String {
    let mut lines = Vec::new();
    if let Some(nbd) = &exports.nbd {
        lines.push(format!("nbd on {}: connections {}", nbd.listen.join(", "), nbd.connections));
        for export in &nbd.exports {
            let mode = if export.read_only { "read-only" } else { "read-write" };
            lines.push(format!("  {:?}: disk {}, {mode}", export.name, export.disk));
        }
    }
    lines.iter().map(|line| printable(line) + "\n").collect()
}
