//! Instructions of an I/O, which do not depend on what else the machine does: by the processor's counters if `perf stat` has them, or else by
//! valgrind's callgrind.
//!
//! A run's length goes by time, so a short and a long run are counted, and what the long one has more of instructions and of I/Os is divided:
//! starting and ending cancel. The reactor never sleeps meanwhile, because under valgrind a thread that waits in `io_uring_enter` holds up all others.
//! Valgrind's processor has neither AVX-512 nor VAES, so there the cipher runs its portable kernel; and it counts each byte of `rep movsb` as an
//! instruction, so glibc is told to copy without it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::contender::bench::{Cipher, Device};
use crate::failure::{Context, Failure, Result};
use crate::interrupt;
use crate::process;
use crate::stats::Summary;

use super::matrix::{Row, Subject};
use super::session::{self, Slice};
use super::side::{Role, Side, Sides};
use super::verdict::Finding;

/// Counts of each side. Both sides take turns.
const REPETITIONS: usize = 3;
/// MiB of a disk: little to make.
const DISK_MIB: u64 = 16;
/// GNU libc manual, "Memory Related Tunables" and "Hardware Capability Tunables".
const WITHOUT_REP: &str = "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000";

/// Who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counter {
    /// `perf stat -e instructions:u`.
    Perf,
    /// Valgrind.
    Callgrind,
}

/// Instructions of an I/O of a row.
#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    /// The row.
    pub title: String,
    /// BASE's, over the repetitions.
    pub base: Option<Summary>,
    /// HEAD's.
    pub head: Option<Summary>,
    /// Why a side was not counted.
    pub why: Option<String>,
    /// What was found: slower if each count of HEAD is more than each of BASE by more than the tolerance.
    pub finding: Finding,
}

impl Counter {
    /// What this machine has.
    pub fn of_this_machine() -> Option<Self> {
        let perf = Command::new("perf").args(["stat", "-x,", "-e", "instructions:u", "true"]).output();
        if perf.is_ok_and(|output| perf_count(&String::from_utf8_lossy(&output.stderr)).is_some()) {
            return Some(Self::Perf);
        }
        process::find("valgrind").map(|_| Self::Callgrind)
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf stat, user instructions",
            Self::Callgrind => "callgrind, portable XTS kernel",
        }
    }

    /// Seconds of the short and the long run.
    fn spans(self) -> [f64; 2] {
        match self {
            Self::Perf => [0.2, 0.7],
            Self::Callgrind => [0.3, 1.5],
        }
    }

    fn wrap(self, program: &Command, out: &Path) -> Command {
        let mut command = match self {
            Self::Perf => {
                let mut command = Command::new("perf");
                command.args(["stat", "-x,", "-e", "instructions:u", "-o"]).arg(out).arg("--");
                command
            }
            Self::Callgrind => {
                let mut command = Command::new("valgrind");
                command.args(["--tool=callgrind", "--fair-sched=yes", "--quiet"]);
                command.arg(format!("--callgrind-out-file={}", out.display()));
                command.env("GLIBC_TUNABLES", WITHOUT_REP);
                command
            }
        };
        command.arg(program.get_program()).args(program.get_args());
        command
    }

    fn read(self, text: &str) -> Option<f64> {
        match self {
            Self::Perf => perf_count(text),
            Self::Callgrind => callgrind_count(text),
        }
    }

    /// Instructions and I/Os of one run.
    fn run(self, row: &Row, side: &Side, seconds: f64) -> Result<(f64, f64)> {
        let mut program = program(row, side)?;
        session::load(&mut program, session::words(row), row.workload, Slice { seconds, ramp_s: 0.0 });
        let out = side.lab.run_path("instructions");
        let answer = process::run("the counted program", &mut self.wrap(&program, &out))?;
        let text = fs::read_to_string(&out).on_file("read", &out)?;
        let unusable = |what: &str| Failure::Answer { program: self.name().into(), why: format!("no {what}") };
        let instructions = self.read(&text).ok_or_else(|| unusable("number of instructions"))?;
        Ok((instructions, ios(&answer).ok_or_else(|| unusable("number of I/Os"))?))
    }

    /// Instructions of an I/O.
    fn per_io(self, row: &Row, side: &Side) -> Result<f64> {
        interrupt::check()?;
        let [short, long] = self.spans();
        let (short, long) = (self.run(row, side, short)?, self.run(row, side, long)?);
        let per_io = (long.0 - short.0) / (long.1 - short.1);
        match per_io.is_finite() && per_io > 0.0 {
            true => Ok(per_io),
            false => Err(Failure::Answer { program: self.name().into(), why: format!("{short:?} and {long:?}") }),
        }
    }
}

/// Whether the instructions of a row are counted: those that run in process, in small blocks, with a reactor that always has work.
pub fn is_counted(row: &Row) -> bool {
    row.is_in_process() && row.workload.block_kib == 4 && row.workload.depth > 1
}

/// Counts a row on both sides.
pub fn count(counter: Counter, row: &Row, sides: &Sides, tolerance: f64) -> Result<Counted> {
    let mut counts = [Vec::new(), Vec::new()];
    let mut why = None;
    'all: for repetition in 0..REPETITIONS {
        let mut roles = [Role::Base, Role::Head];
        roles.rotate_left(repetition % 2);
        for role in roles {
            match counter.per_io(row, sides.of(role)) {
                Ok(count) => counts[role as usize].push(count),
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                Err(failure) => {
                    why = Some(format!("{}: {failure}", role.name()));
                    break 'all;
                }
            }
        }
    }
    let [base, head] = counts.map(Summary::of);
    let finding = match (&why, base, head) {
        (None, Some(base), Some(head)) => compare(base, head, tolerance),
        _ => Finding::Same,
    };
    Ok(Counted { title: row.title(), base, head, why, finding })
}

fn compare(base: Summary, head: Summary, tolerance: f64) -> Finding {
    match tolerance {
        t if head.min > base.max * (1.0 + t) => Finding::Slower,
        t if head.max * (1.0 + t) < base.min => Finding::Faster,
        _ => Finding::Same,
    }
}

/// The program on a disk of the row's kind, with a reactor that never sleeps.
fn program(row: &Row, side: &Side) -> Result<Command> {
    let Subject::Bench(device, cipher) = row.subject else {
        let mut command = session::pool(side);
        command.arg("--spin");
        return Ok(command);
    };
    let kind = if device == Device::Null { "null" } else { "memory" };
    let (unit, encryption) = match cipher {
        Cipher::Plain => (4096, "\"none\"".to_owned()),
        Cipher::Xts(unit) => (unit, format!("{{ key_file = {:?} }}", side.lab.key_file()?.display().to_string())),
    };
    let path = side.lab.run_path("instructions.toml");
    let config = format!(
        "[reactor]\ncores = [{core}]\nidle_us = 0\nmemory_mib = 8\n\n\
         [[device]]\nname = \"d0\"\nkind = \"{kind}\"\nsize = \"{DISK_MIB} MiB\"\n\n\
         [[disk]]\nname = \"d\"\ndevice = \"d0\"\nsector_size = {unit}\nencryption = {encryption}\n",
        core = side.lab.server_core
    );
    fs::write(&path, config).on_file("write", &path)?;
    let mut command = Command::new(side.strongroom());
    command.args(["bench", "--json", "--disk", "d", "--config"]).arg(path);
    Ok(command)
}

/// `VALUE,UNIT,EVENT,…` (perf-stat(1), "CSV FORMAT"); no number where the machine has no counter.
fn perf_count(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("instructions:u"))?;
    line.split(',').next()?.parse().ok()
}

/// `summary:` or `totals:` of a profile with the one event Ir (Callgrind manual, "Callgrind Format Specification").
fn callgrind_count(text: &str) -> Option<f64> {
    let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok());
    of("summary:").or_else(|| of("totals:"))
}

/// The I/Os in an answer of `strongroom bench --json`.
fn ios(answer: &str) -> Option<f64> {
    let answer: serde_json::Value = serde_json::from_str(answer).ok()?;
    Some(answer["read"]["ios"].as_f64()? + answer["write"]["ios"].as_f64()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(perf_count("# started\n\n123456,,instructions:u,1000,100.00,,\n"), Some(123456.0));
        assert_eq!(perf_count("<not supported>,,instructions:u,0,100.00,,\n"), None);
        assert_eq!(callgrind_count("events: Ir\nsummary: 42\n"), Some(42.0));
        assert_eq!(callgrind_count("events: Ir\n\ntotals: 43\n"), Some(43.0));
        assert_eq!(ios(r#"{"read":{"ios":3},"write":{"ios":4}}"#), Some(7.0));
    }

    #[test]
    fn every_count_has_to_be_more() {
        let counts = |values: [f64; 3]| Summary::of(values).unwrap();
        let base = counts([1000.0, 1004.0, 1002.0]);
        assert_eq!(compare(base, counts([1050.0, 1051.0, 1052.0]), 0.01), Finding::Slower);
        assert_eq!(compare(base, counts([1010.0, 1051.0, 1052.0]), 0.01), Finding::Same);
        assert_eq!(compare(base, counts([950.0, 951.0, 952.0]), 0.01), Finding::Faster);
        assert_eq!(compare(base, base, 0.0), Finding::Same);
    }
}
