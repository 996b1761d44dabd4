//! The result for people: a column for each load, a row for each stage.

use std::fmt;

use strongroom::reactor::profile::Stage;

use super::Measured;

/// Stages that are the kernel's, and those in which the reactor has nothing to do.
const KERNEL: &str = "kernel";
const WAITING: [&str; 2] = ["idle", "sleep"];

/// The loads of one protocol.
pub struct Table<'a>(pub &'a [&'a Measured]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else { return Ok(()) };
        let line = |f: &mut fmt::Formatter<'_>, name: &str, of: &dyn Fn(&Measured) -> Option<f64>| {
            write!(f, "  {name:<34}")?;
            for measured in self.0 {
                match of(measured) {
                    Some(value) => write!(f, "{value:>14.0}")?,
                    None => write!(f, "{:>14}", "-")?,
                }
            }
            writeln!(f)
        };
        write!(f, "{:<36}", format!("{}, cycles a command", first.protocol))?;
        for measured in self.0 {
            write!(f, "{:>14}", measured.load)?;
        }
        writeln!(f)?;
        for stage in Stage::ALL.map(|stage| format!("{stage:?}").to_lowercase()) {
            let cycles = |m: &Measured| m.stages.of_stage(&stage);
            if self.0.iter().any(|m| cycles(m).is_some_and(|cycles| cycles >= 0.5)) {
                line(f, &stage, &cycles)?;
            }
        }
        line(f, "sum of the stages", &|m| Some(m.stages.sum))?;
        line(f, "the whole, nothing counted", &|m| Some(m.stages.whole))?;
        line(f, "the same while counting", &|m| Some(m.stages.whole_counted))?;
        line(f, "busy, without the kernel", &|m| Some(ours(m)))?;
        line(f, "cost of counting, taken off", &|m| Some(m.stages.counting))?;
        write!(f, "  {:<34}", "system calls a command")?;
        self.0.iter().try_for_each(|m| write!(f, "{:>14.2}", m.stages.enters))?;
        writeln!(f)?;
        line(f, "client waits, %", &|m| Some(m.client_waits))
    }
}

/// What the reactor's own code takes.
fn ours(measured: &Measured) -> f64 {
    let others = WAITING.iter().chain([&KERNEL]).filter_map(|stage| measured.stages.of_stage(stage));
    measured.stages.sum - others.sum::<f64>()
}
