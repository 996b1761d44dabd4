//! fio: its own io_uring engine as a contender on the data file, and its NBD engine as the client of every NBD server.
//!
//! Facts: fio's HOWTO (options, JSON output). With the NBD engine fio prints a line before the JSON.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::lab::Lab;
use crate::machine;
use crate::process;
use crate::sample::{CpuTime, Latency, Sample};
use crate::workload::Workload;

use super::Contender;

/// fio's io_uring engine with registered buffers and files on the lab's data file.
pub struct FioFile {
    hugepages: bool,
}

impl FioFile {
    /// With buffers from `malloc`, fio's default.
    pub const NAME: &str = "fio io_uring";
    /// With buffers in reserved hugepages, as our own are.
    pub const NAME_HUGE: &str = "fio io_uring, hugepages";

    /// fio as it comes.
    pub fn new() -> Self {
        Self { hugepages: false }
    }

    /// fio with its buffers in hugepages.
    pub fn with_hugepages() -> Self {
        Self { hugepages: true }
    }
}

impl Contender for FioFile {
    fn name(&self) -> &'static str {
        if self.hugepages { Self::NAME_HUGE } else { Self::NAME }
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        process::require("fio", "fio")?;
        if self.hugepages && machine::free_hugepages() < 8 {
            return Err(Failure::Request("needs 8 free hugepages (sysctl vm.nr_hugepages)".into()));
        }
        lab.file().map(|_| ())
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("fio needs a workload".into()))?;
        let mut command = timed(lab, lab.server_core, workload);
        command.args(["--ioengine=io_uring", "--fixedbufs", "--registerfiles", "--direct=1"]);
        command.arg(format!("--size={}m", lab.file_mib)).arg(format!("--filename={}", lab.file()?.display()));
        if self.hugepages {
            command.args(["--iomem=shmhuge", "--hugepage-size=2m"]);
        }
        parse(&process::run("fio", &mut command)?, workload)
    }
}

/// A run of the NBD engine against a server on a socket. The CPU time in the sample is the client's.
pub fn nbd_load(lab: &Lab, socket: &Path, export: &str, mib: u64, workload: Workload) -> Result<Sample> {
    let mut command = timed(lab, lab.client_core, workload);
    command.arg("--ioengine=nbd").arg(nbd_uri(socket, export)).arg(format!("--size={mib}m"));
    parse(&process::run("fio", &mut command)?, workload)
}

/// Writes every byte of an export once.
pub fn nbd_fill(lab: &Lab, socket: &Path, export: &str, mib: u64) -> Result<()> {
    let mut command = process::on_core(lab.client_core, "fio");
    command.args(["--name=fill", "--thread", "--ioengine=nbd", "--rw=write", "--bs=128k", "--iodepth=8"]);
    command.arg(nbd_uri(socket, export)).arg(format!("--size={mib}m"));
    process::run("fio", &mut command).map(|_| ())
}

fn nbd_uri(socket: &Path, export: &str) -> String {
    format!("--uri=nbd+unix:///{export}?socket={}", socket.display())
}

/// What all measurements share. No map of blocks already used (it costs fio time), no fixed seed, latency from issue to completion.
pub(super) fn timed(lab: &Lab, core: usize, workload: Workload) -> Command {
    let mut command = process::on_core(core, "fio");
    command.args([
        "--name=measure",
        "--thread",
        "--time_based",
        "--norandommap",
        "--randrepeat=0",
        "--group_reporting",
    ]);
    command.args(["--output-format=json", "--lat_percentiles=1", "--clat_percentiles=0"]);
    command.arg("--percentile_list=50:90:99:99.9:99.99");
    command.arg(format!("--rw={}", workload.rw.name())).arg(format!("--bs={}", workload.block_size()));
    command.arg(format!("--iodepth={}", workload.depth));
    command.arg(format!("--runtime={}", lab.seconds)).arg(format!("--ramp_time={}", lab.ramp_s));
    command
}

pub(super) fn parse(text: &str, workload: Workload) -> Result<Sample> {
    let refuse = |why: &str| Failure::Answer { program: "fio".into(), why: format!("{why}: {text:.200}") };
    let json = text.find('{').map(|at| &text[at..]).ok_or_else(|| refuse("no JSON"))?;
    let answer: Value = serde_json::from_str(json).map_err(|e| refuse(&e.to_string()))?;
    let job = &answer["jobs"][0];
    if job["error"].as_i64() != Some(0) {
        return Err(refuse("the job ended with an error"));
    }
    let side = &job[if workload.rw.is_write() { "write" } else { "read" }];
    let number = |v: &Value| v.as_f64().ok_or_else(|| refuse("a number is missing"));
    if side["total_ios"].as_u64().unwrap_or(0) == 0 {
        return Err(refuse("no I/O was made"));
    }
    let latency = &side["lat_ns"];
    let micros = |v: &Value| number(v).map(|ns| ns / 1000.0);
    let percentile = |key: &str| micros(&latency["percentile"][key]);
    let elapsed_s = number(&job["job_runtime"])? / 1000.0;
    let busy_percent = number(&job["usr_cpu"])? + number(&job["sys_cpu"])?;
    Ok(Sample {
        iops: Some(number(&side["iops"])?),
        mib_per_s: Some(number(&side["bw_bytes"])? / f64::from(1 << 20)),
        latency_us: Some(Latency {
            mean: micros(&latency["mean"])?,
            p50: percentile("50.000000")?,
            p90: percentile("90.000000")?,
            p99: percentile("99.000000")?,
            p99_9: percentile("99.900000")?,
            p99_99: percentile("99.990000")?,
            max: micros(&latency["max"])?,
        }),
        cpu: Some(CpuTime { spent_s: busy_percent / 100.0 * elapsed_s, elapsed_s }),
        ..Sample::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = r#"fio: connected to NBD server
{"fio version":"fio-3.33","jobs":[{"error":0,"job_runtime":1000,"usr_cpu":13.0,"sys_cpu":39.3,
"read":{"total_ios":49338,"iops":49288.7,"bw_bytes":201886561,"lat_ns":{"mean":648558.4,"max":5237962,
"percentile":{"50.000000":561152,"90.000000":913408,"99.000000":1220608,"99.900000":4620288,"99.990000":5210112}}},
"write":{"total_ios":0}}]}"#;

    #[test]
    fn an_answer_behind_a_line_of_text_is_read() {
        let sample = parse(READ, Workload::randread_4k(32)).unwrap();
        assert_eq!(sample.iops, Some(49288.7));
        assert_eq!(sample.latency_us.unwrap().p99, 1220.608);
        assert!((sample.cpu.unwrap().percent() - 52.3).abs() < 1e-9);
        assert!((sample.mib_per_s.unwrap() - 192.53).abs() < 0.01);
    }

    #[test]
    fn a_failed_job_is_no_measurement() {
        assert!(parse(&READ.replace("\"error\":0", "\"error\":5"), Workload::randread_4k(32)).is_err());
        assert!(parse(READ, Workload::randwrite_4k(32)).unwrap_err().to_string().contains("no I/O"));
        assert!(parse("fio: bad option", Workload::randread_4k(1)).is_err());
    }
}
