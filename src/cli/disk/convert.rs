//! `strongroom disk convert`: starts a conversion in the target, and tells how far it is until it has ended.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::Outcome;
use crate::cli::client::{Ask, Client, say};
use crate::cli::progress::during;
use crate::cli::table::{Align, Table, bytes, printable};
use crate::control::target::{ConversionReport, Removed};

/// How often the target is asked how far it is.
const INTERVAL: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct ConvertArgs {
    /// The disk that is copied; it lies in a pool
    source: String,
    /// The disk to copy to: made, unless it is there and empty, or its conversion was begun before
    destination: String,
    /// How the destination is encrypted: kms (with a key of its own, which the KMS keeps), or none
    #[arg(long, value_parser = ["kms", "none"])]
    encryption: String,
    /// The pool that it is made in; the source's, if left out
    #[arg(long)]
    pool: Option<String>,
    /// In the end the source's hosts wait for a moment, and go on with the destination without noticing
    #[arg(long)]
    switch: bool,
    /// Read all that was copied again, and compare
    #[arg(long)]
    verify: bool,
    /// Start it, and do not wait for its end
    #[arg(long)]
    detach: bool,
}

#[derive(Args)]
pub(super) struct CancelArgs {
    /// The destination of the conversion; or a disk from which hosts were switched, to use it again as it is
    name: String,
    /// Keep the destination, with the content of the last round that was finished, instead of deleting it
    #[arg(long)]
    keep: bool,
}

pub(super) fn convert(ask: &Ask, args: &ConvertArgs) -> Outcome {
    let mut client = ask.connect()?;
    let ConvertArgs { source, destination, encryption, pool, switch, verify, .. } = args;
    let params = json!({
        "source": source, "destination": destination, "encryption": encryption, "pool": pool, "switch": switch, "verify": verify,
    });
    let mut report: ConversionReport = serde_json::from_value(client.call("disk.convert", params)?)?;
    if !args.detach {
        report = wait(&mut client, report)?;
    }
    if ask.json {
        say(&format!("{:#}\n", serde_json::to_value(&report)?));
    } else {
        say(&one(&report));
    }
    let went_wrong = matches!(report.phase.as_str(), "failed" | "cancelled");
    Ok(if went_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Tells how far it is until it has ended.
fn wait(client: &mut Client, mut report: ConversionReport) -> Result<ConversionReport, Box<dyn std::error::Error>> {
    let name = report.destination.clone();
    while !report.ended {
        let (phase, round) = (report.phase.clone(), report.round);
        let rate =
            || if report.bytes_per_s > 0 { format!(" at {}/s", bytes(report.bytes_per_s)) } else { String::new() };
        let what = format!("{name}: {phase}, round {round}{}", rate());
        report = during(&what, |percent| {
            loop {
                std::thread::sleep(INTERVAL);
                let answer = client.call("disk.convert_status", json!({"name": name}))?;
                let now: ConversionReport = serde_json::from_value(answer)?;
                if let Some(done) = (now.bytes_done * 100).checked_div(now.bytes_total) {
                    percent.set(done as usize);
                }
                if now.ended || now.phase != phase || now.round != round {
                    return Ok::<_, Box<dyn std::error::Error>>(now);
                }
            }
        })?;
    }
    Ok(report)
}

fn one(report: &ConversionReport) -> String {
    let ConversionReport { source, destination, phase, error, note, verified, switched, .. } = report;
    let mut text = format!("conversion of disk {source} to disk {destination}: {phase}");
    if *verified {
        text += ", verified";
    }
    if *switched {
        text += ", switched";
    }
    for more in error.iter().chain(note) {
        text += &format!("\n{more}");
    }
    printable(&text) + "\n"
}

pub(super) fn list(ask: &Ask) -> Outcome {
    ask.print("disk.conversions", json!({}), |reports: Vec<ConversionReport>| {
        let mut table = Table::new(&[
            ("SOURCE", Align::Left),
            ("DESTINATION", Align::Left),
            ("PHASE", Align::Left),
            ("ROUND", Align::Right),
            ("DONE", Align::Right),
            ("OF", Align::Right),
            ("PER SECOND", Align::Right),
        ]);
        for report in reports {
            let ConversionReport { source, destination, phase, round, bytes_done, bytes_total, bytes_per_s, .. } =
                report;
            let counts = [round.to_string(), bytes(bytes_done), bytes(bytes_total), bytes(bytes_per_s)];
            let [round, done, total, rate] = counts;
            table.row([source, destination, phase, round, done, total, rate]);
        }
        table.text_or("there were no conversions since the target was started")
    })
}

pub(super) fn cancel(ask: &Ask, CancelArgs { name, keep }: &CancelArgs) -> Outcome {
    ask.print("disk.convert_cancel", json!({"name": name, "keep": keep}), |ended: Removed| {
        let what = if *keep { "is kept as it is" } else { "is no part of a conversion any more" };
        printable(&format!("disk {} {what}", ended.removed)) + "\n"
    })
}
