//! `strongroom log-level`: what the target logs.

use clap::Args;
use serde_json::json;

use crate::control::target::{Changed, LogReport};

use super::Outcome;
use super::client::Ask;

#[derive(Args)]
pub(super) struct LogLevelArgs {
    #[command(flatten)]
    ask: Ask,
    /// error, warn, info, debug, or such as info,strongroom::export=debug; only tell, if left out
    filter: Option<String>,
}

pub(super) fn run(args: &LogLevelArgs) -> Outcome {
    args.ask.print("log.level", json!({"filter": args.filter}), |changed: Changed<LogReport>| {
        if args.filter.is_none() {
            return changed.now.filter + "\n";
        }
        super::changed(&format!("what is logged now: {}", changed.now.filter), &changed.note)
    })
}
