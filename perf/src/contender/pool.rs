//! Pools on the lab's file and in memory, and the same without a pool: this program again, with the pool inside, for each measurement.

use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::lab::Lab;
use crate::pool::disk::StandsOn;
use crate::pool::small::Case;
use crate::process;
use crate::sample::Sample;
use crate::workload::Workload;

use super::Contender;
use super::bench::{self, Cipher, Device};

/// A disk in memory or on the lab's file, under the load of `strongroom bench`.
pub struct PoolDisk {
    name: &'static str,
    stands_on: StandsOn,
    device: Device,
    cipher: Cipher,
    iops: Option<u64>,
}

impl PoolDisk {
    /// A disk under a name that tells what it stands on.
    pub fn new(name: &'static str, stands_on: StandsOn, device: Device, cipher: Cipher) -> Self {
        Self { name, stands_on, device, cipher, iops: None }
    }

    /// The same with a limit of I/Os a second.
    pub fn limited(self, iops: u64) -> Self {
        Self { iops: Some(iops), ..self }
    }
}

impl Contender for PoolDisk {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        self.device.prepare(lab)
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("a pool needs a workload".into()))?;
        let mut command = this_program()?;
        command.args(["drive-pool", "disk", "--stands-on", &self.stands_on.name()]);
        command.args(["--rw", workload.rw.name(), "--depth", &workload.depth.to_string()]);
        command.args(["--core", &lab.server_core.to_string(), "--mib", &lab.memory_mib.to_string()]);
        command.args(["--seconds", &lab.seconds.to_string(), "--ramp", &lab.ramp_s.to_string()]);
        if self.device == Device::File {
            command.arg("--file").arg(lab.file()?);
        }
        if self.cipher != Cipher::Plain {
            command.arg("--encrypted");
        }
        if let Some(iops) = self.iops {
            command.args(["--iops", &iops.to_string()]);
        }
        bench::parse(&process::run("the pool's process", &mut command)?, lab.ramp_s)
    }
}

/// A case on a pool that is made for the measurement.
pub struct SmallPool {
    name: &'static str,
    case: Case,
}

impl SmallPool {
    /// A case under a name that tells which.
    pub fn new(name: &'static str, case: Case) -> Self {
        Self { name, case }
    }
}

impl Contender for SmallPool {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        lab.file().map(|_| ())
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("a pool needs a workload".into()))?;
        let mut command = this_program()?;
        command.args(["drive-pool", "small", "--case", &self.case.name()]).arg("--file").arg(lab.file()?);
        command.args(["--depth", &workload.depth.to_string(), "--core", &lab.server_core.to_string()]);
        command.args(["--seconds", &lab.seconds.to_string(), "--ramp", &lab.ramp_s.to_string()]);
        parse(&process::run("the pool's process", &mut command)?)
    }
}

/// This program, to be started once more.
pub(super) fn this_program() -> Result<Command> {
    std::env::current_exe().map(Command::new).context(|| "cannot find this program".into())
}

/// A sample as such a process prints it.
pub(super) fn parse(text: &str) -> Result<Sample> {
    serde_json::from_str(text)
        .map_err(|e| Failure::Answer { program: "the pool's process".into(), why: format!("{e}: {text:.200}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_comes_through() {
        let sample = Sample { iops: Some(1.5), pause_us: Some(2.0), note: Some("n".into()), ..Sample::default() };
        assert_eq!(parse(&serde_json::to_string(&sample).unwrap()).unwrap(), sample);
        assert!(parse("").is_err());
    }
}
