//! The counters of a reactor, and who writes them.
//!
//! Each reactor alone writes its own: a load and a store do. They live as long as the process, like the reactors.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use crate::reactor::Clock;

use super::Stage;

/// Whether anything is counted.
static ON: AtomicBool = AtomicBool::new(false);

static ALL: Mutex<Vec<&'static Counters>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: Cell<Option<&'static Local>> = const { Cell::new(None) };
}

/// What was counted of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Cycles of the clock.
    pub cycles: u64,
    /// How often it was entered.
    pub entered: u64,
    /// How often it was left for a stage within.
    pub left: u64,
}

/// What was counted on one reactor so far.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The reactor's core.
    pub core: usize,
    /// By the stages' order.
    pub stages: [Counts; Stage::COUNT],
}

#[derive(Default)]
struct Counted {
    cycles: AtomicU64,
    entered: AtomicU64,
    left: AtomicU64,
}

#[repr(align(128))]
struct Counters {
    core: usize,
    stages: [Counted; Stage::COUNT],
}

/// A reactor's side of its counters.
struct Local {
    clock: Clock,
    counters: &'static Counters,
    current: Cell<Stage>,
    /// When the current stage was counted last; 0 while nothing is.
    since: Cell<u64>,
    /// What [`Stage::Turn`] had when the turn or the rest began.
    turn_mark: Cell<u64>,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl Local {
    fn new(core: usize) -> &'static Self {
        let counters: &'static Counters = Box::leak(Box::new(Counters { core, stages: Default::default() }));
        Box::leak(Box::new(Self {
            clock: Clock::get(),
            counters,
            current: Cell::new(Stage::Turn),
            since: Cell::new(0),
            turn_mark: Cell::new(0),
        }))
    }

    fn counted(&self, stage: Stage) -> &Counted {
        &self.counters.stages[stage as usize]
    }

    /// Counts what has passed for the current stage, and goes on in another.
    #[inline]
    fn go_on_in(&self, stage: Stage) {
        let now = self.clock.now().0;
        let since = self.since.replace(now);
        if since != 0 {
            add(&self.counted(self.current.get()).cycles, now.wrapping_sub(since));
        }
        self.current.set(stage);
    }

    #[inline]
    fn enter(&self, stage: Stage) -> Stage {
        let before = self.current.get();
        add(&self.counted(before).left, 1);
        add(&self.counted(stage).entered, 1);
        self.go_on_in(stage);
        before
    }

    /// Counts the cycles since the mark as idle ones, if that is what they were.
    fn mark(&self, was_idle: bool) {
        let turn = &self.counted(Stage::Turn).cycles;
        let cycles = turn.load(Ordering::Relaxed);
        let before = self.turn_mark.replace(cycles);
        if was_idle {
            turn.store(before, Ordering::Relaxed);
            self.turn_mark.set(before);
            add(&self.counted(Stage::Idle).cycles, cycles.wrapping_sub(before));
        }
    }
}

/// The reactor's side, if something is counted.
#[inline]
fn local() -> Option<&'static Local> {
    let local = HERE.get()?;
    if ON.load(Ordering::Relaxed) {
        return Some(local);
    }
    local.since.set(0);
    None
}

/// Counts for a stage until it is dropped.
pub(crate) struct Probe(Option<(&'static Local, Stage)>);

/// The stage until the end of the scope.
#[inline]
#[must_use]
pub(crate) fn stage(stage: Stage) -> Probe {
    Probe(local().map(|local| (local, local.enter(stage))))
}

impl Drop for Probe {
    #[inline]
    fn drop(&mut self) {
        if let Some((local, before)) = self.0 {
            local.go_on_in(before);
        }
    }
}

/// A future with a stage. An async function would do, but copies the future once more, which is then a part of what is measured.
pub(crate) struct During<F> {
    stage: Stage,
    future: F,
}

/// The stage whenever the future is polled.
#[inline]
pub(crate) fn during<F: Future>(stage: Stage, future: F) -> During<F> {
    During { stage, future }
}

impl<F: Future> Future for During<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _probe = stage(self.stage);
        // SAFETY: the future is pinned with this: it is never moved out, and this has no destructor of its own.
        unsafe { self.map_unchecked_mut(|during| &mut during.future) }.poll(cx)
    }
}

/// The calling thread is the reactor of this core from now on.
pub(in crate::reactor) fn begin(core: usize) {
    let local = Local::new(core);
    HERE.set(Some(local));
    ALL.lock().expect("no panic under this lock").push(local.counters);
}

/// A turn begins: what has passed since the last one was a rest, if it was not nothing.
#[inline]
pub(in crate::reactor) fn turn_begins() {
    if let Some(local) = local() {
        local.go_on_in(Stage::Turn);
        local.mark(true);
    }
}

/// A turn ends.
#[inline]
pub(in crate::reactor) fn turn_ends(had_work: bool) {
    if let Some(local) = local() {
        if had_work {
            // Both looks of a turn are its own.
            let turn = local.counted(Stage::Turn);
            add(&turn.entered, 1);
            add(&turn.left, 1);
        }
        local.go_on_in(Stage::Turn);
        local.mark(!had_work);
    }
}

/// Begins or ends to count, everywhere.
pub fn switch(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// What all reactors have counted.
pub fn read() -> Vec<Profile> {
    let all = ALL.lock().expect("no panic under this lock");
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = |counted: &Counted| Counts {
        cycles: load(&counted.cycles),
        entered: load(&counted.entered),
        left: load(&counted.left),
    };
    let profile = |counters: &&Counters| Profile {
        core: counters.core,
        stages: std::array::from_fn(|i| counts(&counters.stages[i])),
    };
    all.iter().map(profile).collect()
}

/// What entering and leaving a stage once costs, in cycles.
#[derive(Clone, Copy, Debug)]
pub struct ProbeCost {
    /// What the stage itself gets of it.
    pub inner: f64,
    /// What the stage around gets of it.
    pub outer: f64,
}

/// Probes of one measurement.
const PROBES: u32 = 2000;
/// Measurements, of which the cheapest counts: nothing else ran meanwhile.
const TRIES: usize = 200;

impl ProbeCost {
    /// Measures it on the calling thread, which is no reactor's, while counting is switched on.
    pub fn measure() -> Self {
        let local = Local::new(0);
        let before = HERE.replace(Some(local));
        let cycles = |stage: Stage| local.counted(stage).cycles.load(Ordering::Relaxed) as f64;
        let mut least = Self { inner: f64::MAX, outer: f64::MAX };
        for _ in 0..TRIES {
            let (inner, outer) = (cycles(Stage::Cipher), cycles(Stage::Disk));
            {
                let _outer = stage(Stage::Disk);
                for _ in 0..PROBES {
                    std::hint::black_box(stage(Stage::Cipher));
                }
            }
            let per_probe = |cycles: f64| cycles / f64::from(PROBES);
            least.inner = least.inner.min(per_probe(cycles(Stage::Cipher) - inner));
            least.outer = least.outer.min(per_probe(cycles(Stage::Disk) - outer));
        }
        HERE.set(before);
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::testing::{end, small_reactor};
    use crate::reactor::yield_now;

    fn burn(clock: Clock, ticks: u64) {
        let from = clock.now();
        while clock.now().since(from) < ticks {}
    }

    #[test]
    fn each_cycle_counts_for_the_innermost_stage_and_all_of_them_are_what_has_passed() {
        let thread = small_reactor(0);
        switch(true);
        let (before, after) = thread.remote().run(async |reactor| {
            let clock = *reactor.clock();
            let read = || {
                let local = HERE.get().expect("a reactor");
                local.go_on_in(local.current.get());
                let cycles = |i: usize| local.counters.stages[i].cycles.load(Ordering::Relaxed);
                (std::array::from_fn::<u64, { Stage::COUNT }, _>(cycles), local.since.get())
            };
            let before = read();
            during(Stage::Command, async {
                burn(clock, 100_000);
                for _ in 0..3 {
                    let _cipher = stage(Stage::Cipher);
                    burn(clock, 50_000);
                }
                yield_now().await;
                burn(clock, 100_000);
            })
            .await;
            (before, read())
        });
        let grown = |i: usize| after.0[i].wrapping_sub(before.0[i]);
        let (inner, outer) = (grown(Stage::Cipher as usize), grown(Stage::Command as usize));
        assert!(inner >= 150_000 && outer >= 200_000, "{inner} {outer}");
        assert_eq!((0..Stage::COUNT).map(grown).sum::<u64>(), after.1 - before.1);
        end([thread]);
    }
}
