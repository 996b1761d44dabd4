//! Windows of time: what the reactor has counted and how many commands the disk has ended in each.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use strongroom::disk::{CommandKind, Disk};
use strongroom::reactor::profile::{Counts, ProbeCost, Stage, read, switch};
use strongroom::reactor::{Clock, Ticks};

use crate::failure::{Failure, Result};

/// How long a window is.
const WINDOW: Duration = Duration::from_millis(4);
/// What goes by after each switch before the next window.
const SETTLE: Duration = Duration::from_micros(200);
/// A window with fewer commands tells nothing: the client was not there.
const LEAST_COMMANDS: u64 = 20;

/// Cycles of one command.
#[derive(Clone, Debug, Serialize)]
pub struct Stages {
    /// In each stage that took any, in their order, without the cost of counting.
    pub stages: Vec<(String, f64)>,
    /// Their sum.
    pub sum: f64,
    /// All that passes for a command while nothing is counted.
    pub whole: f64,
    /// The same while it is.
    pub whole_counted: f64,
    /// What counting costs for a command.
    pub counting: f64,
    /// How often the kernel was entered for a command.
    pub enters: f64,
    /// Windows that were kept, and all.
    pub windows: (usize, usize),
}

/// A moment.
struct Look {
    at: Ticks,
    commands: u64,
    counts: [Counts; Stage::COUNT],
}

impl Look {
    fn now(clock: Clock, disk: &Disk, core: usize) -> Result<Self> {
        let stats = disk.stats();
        let commands = stats.tally(CommandKind::Read).commands + stats.tally(CommandKind::Write).commands;
        let profile = read().into_iter().rfind(|profile| profile.core == core);
        let counts = profile.ok_or_else(|| Failure::Request("the reactor counts nothing".into()))?.stages;
        Ok(Self { at: clock.now(), commands, counts })
    }
}

/// What has passed between two moments.
struct Window {
    cycles: u64,
    commands: u64,
    counts: [Counts; Stage::COUNT],
}

impl Window {
    fn between(from: &Look, to: &Look) -> Self {
        let counts = std::array::from_fn(|stage| {
            let (from, to) = (from.counts[stage], to.counts[stage]);
            Counts {
                // An idle turn moves to another stage when it ends, so a stage may have less than before.
                cycles: (to.cycles.wrapping_sub(from.cycles) as i64).max(0) as u64,
                entered: to.entered - from.entered,
                left: to.left - from.left,
            }
        });
        Self { cycles: to.at.since(from.at), commands: to.commands - from.commands, counts }
    }

    fn cycles_per_command(&self) -> f64 {
        self.cycles as f64 / self.commands as f64
    }
}

/// Measures for so long, with counting on and off in turns.
pub fn measure(disk: &Disk, core: usize, time: Duration, cost: ProbeCost) -> Result<Stages> {
    let clock = Clock::get();
    let (mut counted, mut uncounted) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < time {
        for on in [true, false] {
            switch(on);
            sleep(SETTLE);
            let from = Look::now(clock, disk, core)?;
            sleep(WINDOW);
            let window = Window::between(&from, &Look::now(clock, disk, core)?);
            if window.commands >= LEAST_COMMANDS {
                if on { counted.push(window) } else { uncounted.push(window) }
            }
        }
    }
    let all = counted.len();
    let (counted, uncounted) = (undisturbed(counted), undisturbed(uncounted));
    if counted.is_empty() || uncounted.is_empty() {
        return Err(Failure::Request("the client got no commands through".into()));
    }
    Ok(Stages::of(&counted, &uncounted, all, cost))
}

/// The cheaper half, without the cheapest tenth of all: whatever else runs makes a window more expensive.
fn undisturbed(mut windows: Vec<Window>) -> Vec<Window> {
    windows.sort_by(|a, b| a.cycles_per_command().total_cmp(&b.cycles_per_command()));
    let tenth = windows.len() / 10;
    windows.truncate(windows.len().div_ceil(2));
    windows.split_off(tenth)
}

impl Stages {
    /// Cycles in a stage, if it took any.
    pub fn of_stage(&self, name: &str) -> Option<f64> {
        self.stages.iter().find(|(stage, _)| stage == name).map(|(_, cycles)| *cycles)
    }

    fn of(counted: &[Window], uncounted: &[Window], all: usize, cost: ProbeCost) -> Self {
        let commands: u64 = counted.iter().map(|window| window.commands).sum();
        let each = |stage: Stage, of: fn(&Counts) -> u64| {
            let sum: u64 = counted.iter().map(|window| of(&window.counts[stage as usize])).sum();
            sum as f64 / commands as f64
        };
        let mut counting = 0.0;
        let mut stages = Vec::new();
        for stage in Stage::ALL {
            let probes = each(stage, |c| c.entered) * cost.inner + each(stage, |c| c.left) * cost.outer;
            counting += probes;
            let cycles = each(stage, |c| c.cycles);
            if cycles > 0.0 {
                stages.push((format!("{stage:?}").to_lowercase(), cycles - probes));
            }
        }
        let whole = |windows: &[Window]| {
            let cycles: u64 = windows.iter().map(|window| window.cycles).sum();
            cycles as f64 / windows.iter().map(|window| window.commands).sum::<u64>() as f64
        };
        Self {
            sum: stages.iter().map(|(_, cycles)| cycles).sum(),
            whole: whole(uncounted),
            whole_counted: whole(counted),
            stages,
            counting,
            enters: each(Stage::Kernel, |c| c.entered),
            windows: (counted.len(), all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_counting_is_taken_off_where_it_was_paid() {
        let mut counts = [Counts::default(); Stage::COUNT];
        counts[Stage::Turn as usize] = Counts { cycles: 10_000, entered: 0, left: 100 };
        counts[Stage::Kernel as usize] = Counts { cycles: 50_000, entered: 100, left: 0 };
        let counted = [Window { cycles: 60_000, commands: 50, counts }];
        let uncounted = [Window { cycles: 55_000, commands: 50, counts: [Counts::default(); Stage::COUNT] }];
        let stages = Stages::of(&counted, &uncounted, 1, ProbeCost { inner: 10.0, outer: 30.0 });
        assert_eq!(stages.stages, [("turn".to_owned(), 140.0), ("kernel".to_owned(), 980.0)]);
        assert_eq!((stages.sum, stages.whole, stages.counting, stages.enters), (1120.0, 1100.0, 80.0, 2.0));
    }

    #[test]
    fn expensive_windows_are_left_out_and_a_few_of_the_cheapest() {
        let window = |cycles| Window { cycles, commands: 1, counts: [Counts::default(); Stage::COUNT] };
        let windows = [9, 1, 5, 3, 7, 2, 8, 4, 10, 6].map(window);
        let kept: Vec<_> = undisturbed(windows.into()).iter().map(|w| w.cycles).collect();
        assert_eq!(kept, [2, 3, 4, 5]);
    }
}
