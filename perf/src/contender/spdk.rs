//! SPDK's bdevperf and NVMe/TCP target, through a script that the user names in `STRONGROOM_PERF_SPDK`. Nothing of SPDK is built or shipped
//! here.
//!
//! The contract stands in `perf/README.md`, section "SPDK".

use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::{Failure, Result};
use crate::lab::{Lab, SPDK_VARIABLE};
use crate::process;
use crate::sample::Sample;
use crate::workload::Workload;

use super::Contender;
use super::nvme::Place;

/// bdevperf on one of the contract's configurations.
pub struct Spdk {
    name: &'static str,
    config: &'static str,
}

impl Spdk {
    /// Its name in every row.
    pub const NAME: &str = "SPDK bdevperf";

    /// On a configuration of the contract.
    pub fn new(config: &'static str) -> Self {
        Self::named(Self::NAME, config)
    }

    /// On a configuration of the contract, in a row with several of them.
    pub fn named(name: &'static str, config: &'static str) -> Self {
        Self { name, config }
    }
}

impl Contender for Spdk {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        script(lab).map(|_| ())
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("bdevperf needs a workload".into()))?;
        let script = script(lab)?;
        let mut command = Command::new(script);
        command.args([self.config, workload.rw.name(), &workload.block_size(), &workload.depth.to_string()]);
        command.arg(lab.seconds.to_string()).env("STRONGROOM_PERF_CORE", lab.server_core.to_string());
        if self.config == "file" {
            command.env("STRONGROOM_PERF_FILE", lab.file()?);
        }
        parse(&process::run(&format!("{} {}", script.display(), self.config), command.stdin(Stdio::null()))?)
    }
}

/// The script, or why there is none.
pub(super) fn script(lab: &Lab) -> Result<&Path> {
    lab.spdk.as_deref().ok_or_else(|| Failure::Request(format!("{SPDK_VARIABLE} is not set; see perf/README.md")))
}

/// SPDK's client against an NVMe/TCP target of any make.
pub(super) fn nvmf_load(lab: &Lab, place: &Place, workload: Workload) -> Result<Sample> {
    let target = format!("{} {} {}", place.address, place.subsystem, place.host.unwrap_or_default());
    let mut command = Command::new(script(lab)?);
    command.args(["client", workload.rw.name(), &workload.block_size(), &workload.depth.to_string()]);
    command.arg(lab.seconds.to_string()).env("STRONGROOM_PERF_TARGET", target.trim_end());
    command.env("STRONGROOM_PERF_CLIENT_CORE", lab.client_core.to_string());
    parse(&process::run("SPDK's client", command.stdin(Stdio::null()))?)
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
