//! Our side in process: `strongroom bench` on a null, memory or file device.

use std::process::Command;

use serde::Deserialize;

use crate::failure::{Failure, Result};
use crate::lab::Lab;
use crate::process;
use crate::sample::{CpuTime, Latency, Sample};
use crate::workload::Workload;

use super::Contender;

/// Where the blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Nowhere.
    Null,
    /// In memory.
    Memory,
    /// In the lab's data file.
    File,
}

impl Device {
    /// Makes what is needed before the first measurement.
    pub fn prepare(self, lab: &Lab) -> Result<()> {
        match self {
            Self::File => lab.file().map(|_| ()),
            _ => Ok(()),
        }
    }
}

/// The cipher of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// None.
    Plain,
    /// AES-256-XTS with data units of that many bytes.
    Xts(u32),
}

/// `strongroom bench`.
pub struct Bench {
    name: &'static str,
    device: Device,
    cipher: Cipher,
}

impl Bench {
    /// Ours, under a name that may tell the cipher.
    pub fn new(name: &'static str, device: Device, cipher: Cipher) -> Self {
        Self { name, device, cipher }
    }

    fn command(&self, lab: &Lab, workload: Workload) -> Result<Command> {
        let mut command = Command::new(&lab.strongroom);
        command.args(["bench", "--json", "--rw", workload.rw.name(), "--bs", &workload.block_size()]);
        command.args(["--iodepth", &workload.depth.to_string(), "--runtime", &lab.seconds.to_string()]);
        command.args(["--ramp", &lab.ramp_s.to_string(), "--cores", &lab.server_core.to_string()]);
        let (device, mib) = match self.device {
            Device::Null => ("null".to_owned(), lab.memory_mib),
            Device::Memory => ("memory".to_owned(), lab.memory_mib),
            Device::File => (format!("file:{}", lab.file()?.display()), lab.file_mib),
        };
        command.args(["--device", &device, "--size", &format!("{mib}M")]);
        match self.cipher {
            Cipher::Plain => command.args(["--encryption", "none"]),
            Cipher::Xts(unit) => command.args(["--encryption", "aes-256-xts", "--sector-size", &unit.to_string()]),
        };
        Ok(command)
    }
}

impl Contender for Bench {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        self.device.prepare(lab)
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("strongroom bench needs a workload".into()))?;
        parse(&process::run("strongroom bench", &mut self.command(lab, workload)?)?, lab.ramp_s)
    }
}

/// The part of the answer that is used.
#[derive(Deserialize)]
struct Answer {
    runtime_s: f64,
    cpu_s: f64,
    errors: u64,
    kernel: Option<String>,
    waiting_percent: Option<f64>,
    read: Side,
    write: Side,
}

#[derive(Deserialize)]
struct Side {
    ios: u64,
    iops: f64,
    mib_per_s: f64,
    latency_us: Quantiles,
}

#[derive(Deserialize)]
struct Quantiles {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    p99_99: f64,
    max: f64,
}

/// `cpu_s` in the answer covers the ramp as well.
pub fn parse(text: &str, ramp_s: u32) -> Result<Sample> {
    let refuse = |why: String| Failure::Answer { program: "strongroom bench".into(), why };
    let answer: Answer = serde_json::from_str(text).map_err(|e| refuse(format!("{e}: {text:.200}")))?;
    if answer.errors > 0 {
        return Err(refuse(format!("{} I/Os failed", answer.errors)));
    }
    let side = match (answer.read.ios, answer.write.ios) {
        (0, 0) => return Err(refuse("no I/O was made".into())),
        (_, 0) => answer.read,
        (0, _) => answer.write,
        _ => return Err(refuse("reads and writes where one was asked for".into())),
    };
    let Quantiles { mean, p50, p90, p99, p99_9, p99_99, max } = side.latency_us;
    Ok(Sample {
        iops: Some(side.iops),
        mib_per_s: Some(side.mib_per_s),
        latency_us: Some(Latency { mean, p50, p90, p99, p99_9, p99_99, max }),
        cpu: Some(CpuTime { spent_s: answer.cpu_s, elapsed_s: answer.runtime_s + f64::from(ramp_s) }),
        note: match answer.waiting_percent {
            Some(percent) => Some(format!("client waits {percent:.0} %")),
            None => answer.kernel.map(|kernel| format!("XTS kernel {kernel}")),
        },
        ..Sample::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(errors: u32, reads: u32, writes: u32) -> String {
        let side = |ios: u32| {
            format!(
                r#"{{"ios":{ios},"iops":{ios}.5,"mib_per_s":2.0,"latency_us":{{"mean":1.0,"p50":1.0,"p90":2.0,"p99":3.0,"p99_9":4.0,"p99_99":5.0,"max":6.0}}}}"#
            )
        };
        format!(
            r#"{{"rw":"randread","bs":4096,"iodepth":32,"runtime_s":2.0,"cores":[0],"cpu_s":1.0,"kernel":"vaes512","errors":{errors},"read":{},"write":{}}}"#,
            side(reads),
            side(writes)
        )
    }

    #[test]
    fn the_side_that_worked_is_taken() {
        let sample = parse(&answer(0, 0, 7), 0).unwrap();
        assert_eq!(sample.iops, Some(7.5));
        assert_eq!(sample.latency_us.unwrap().p99_9, 4.0);
        assert_eq!(sample.cpu.unwrap().percent(), 50.0);
        assert_eq!(parse(&answer(0, 0, 7), 2).unwrap().cpu.unwrap().percent(), 25.0);
        assert_eq!(sample.note.as_deref(), Some("XTS kernel vaes512"));
        assert_eq!(parse(&answer(0, 9, 0), 1).unwrap().iops, Some(9.5));
    }

    #[test]
    fn failed_or_missing_io_is_no_measurement() {
        assert!(parse(&answer(3, 9, 0), 0).unwrap_err().to_string().contains("3 I/Os failed"));
        assert!(parse(&answer(0, 0, 0), 0).is_err());
        assert!(parse("not JSON", 0).is_err());
    }
}
