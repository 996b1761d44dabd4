//! SPDK's bdevperf, through a script that the user names in `STRONGROOM_PERF_SPDK`. Nothing of SPDK is built or shipped here.
//!
//! The contract (also in `perf/README.md`): the script is called as `SCRIPT CONFIG RW BS QD SECONDS`, with CONFIG one of `null`, `memory`,
//! `memory-c4k`, `memory-c512`, `file`; RW, BS as fio writes them; QD and SECONDS numbers. It runs on the core in
//! `STRONGROOM_PERF_CORE`; memory devices are 512 MiB, `file` is the file in `STRONGROOM_PERF_FILE`. The last line that it prints ends
//! with two numbers: I/Os a second and MiB a second.

use std::process::{Command, Stdio};

use crate::failure::{Failure, Result};
use crate::lab::{Lab, SPDK_VARIABLE};
use crate::process;
use crate::sample::Sample;
use crate::workload::Workload;

use super::Contender;

/// bdevperf on one of the contract's configurations.
pub struct Spdk {
    config: &'static str,
}

impl Spdk {
    /// Its name in every row.
    pub const NAME: &str = "SPDK bdevperf";

    /// On a configuration of the contract.
    pub fn new(config: &'static str) -> Self {
        Self { config }
    }
}

impl Contender for Spdk {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        match lab.spdk {
            Some(_) => Ok(()),
            None => Err(Failure::Request(format!("{SPDK_VARIABLE} is not set; see perf/README.md"))),
        }
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let (Some(script), Some(workload)) = (&lab.spdk, workload) else {
            return Err(Failure::Request("SPDK needs a script and a workload".into()));
        };
        let mut command = Command::new(script);
        command.args([self.config, workload.rw.name(), &workload.block_size(), &workload.depth.to_string()]);
        command.arg(lab.seconds.to_string()).env("STRONGROOM_PERF_CORE", lab.server_core.to_string());
        if self.config == "file" {
            command.env("STRONGROOM_PERF_FILE", lab.file()?);
        }
        parse(&process::run(&format!("{} {}", script.display(), self.config), command.stdin(Stdio::null()))?)
    }
}

fn parse(text: &str) -> Result<Sample> {
    let refuse =
        || Failure::Answer { program: "the SPDK script".into(), why: format!("no line `… IOPS MiB/s`: {text:.200}") };
    let line = text.lines().rev().find(|l| !l.trim().is_empty()).ok_or_else(refuse)?;
    let mut words = line.split_whitespace().rev().map(str::parse::<f64>);
    match (words.next(), words.next()) {
        (Some(Ok(mib_per_s)), Some(Ok(iops))) if iops > 0.0 => {
            Ok(Sample { iops: Some(iops), mib_per_s: Some(mib_per_s), ..Sample::default() })
        }
        _ => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_words_of_the_last_line_count() {
        let sample = parse("starting\ncrypto4096-randread-4k randread 4096 32 583508.72 2279.33\n\n").unwrap();
        assert_eq!((sample.iops, sample.mib_per_s), (Some(583508.72), Some(2279.33)));
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(parse("").is_err());
        assert!(parse("failed to start").is_err());
        assert!(parse("null 0 0").is_err());
    }
}
