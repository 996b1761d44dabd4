//! `strongroom serve`: the target in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::control::log::Filtered;
use crate::control::{self, Config, LogFilter};

use super::Outcome;

#[derive(Args)]
pub(super) struct ServeArgs {
    /// The configuration (TOML); examples/quickstart.toml is one to start from
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What is logged to standard error: error, warn, info, debug, or a filter such as strongroom::export=debug
    #[arg(long, default_value = "info", value_name = "FILTER")]
    log: String,
    /// How it is logged
    #[arg(long, default_value = "text", value_enum)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(super) fn run(args: &ServeArgs) -> Outcome {
    let (log, filter) = LogFilter::new(&args.log).map_err(|e| format!("--log: {e}"))?;
    // Lines go through a thread of their own: a reactor that logs the end of a connection never waits for a terminal. The guard writes
    // out what is left when it is dropped.
    let (writer, _guard) = tracing_appender::non_blocking(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let lines: Box<dyn Layer<Filtered> + Send + Sync> = match args.log_format {
        LogFormat::Text => Box::new(lines),
        LogFormat::Json => Box::new(lines.json()),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    let config = Config::load(&args.config)?;
    control::serve(&config, log)?;
    Ok(ExitCode::SUCCESS)
}
