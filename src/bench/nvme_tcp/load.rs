//! The load itself: one thread, pinned to its core, that keeps the slots of all queues in flight and spins in between.
//!
//! Plain non-blocking sockets, because a batch needs only two system calls: one that receives many answers and one that sends the commands
//! which take their places. The clock is read once for a batch: a latency lasts from before the call that sends a command to after the call that
//! receives its answer, which is what a client waits. Time in which no queue had anything is counted as waiting: as long as there is
//! much of it, the target is the slower side and not this thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::bench::process::thread_cpu_seconds;
use crate::bench::workload::{Places, Random};
use crate::reactor::{Clock, Ticks};

use super::NvmeTcpConfig;
use super::error::NvmeTcpError;
use super::queue::{Done, Queue, Shape};

/// How long commands may be in flight without any answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Latencies are kept to three significant digits, up to some minutes of ticks.
const DIGITS: u8 = 3;
const LONGEST_TICKS: u64 = 1 << 40;

/// What was measured.
pub(super) struct Measured {
    pub(super) reads: Histogram<u64>,
    pub(super) writes: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// From the end of the ramp to the last completion.
    pub(super) ticks: u64,
    /// Of these, with nothing to do.
    pub(super) waiting_ticks: u64,
    /// Processor time of the thread in `ticks`.
    pub(super) cpu_s: f64,
    pub(super) clock: Clock,
}

/// The load.
pub(super) struct Load<'a> {
    queues: Vec<Queue>,
    shape: Shape,
    places: Places,
    random: Random,
    read_percent: u64,
    clock: Clock,
    measure_from: Ticks,
    end: Ticks,
    patience: u64,
    cpu_before: Option<f64>,
    done: Vec<Done>,
    result: Measured,
    progress: &'a AtomicU64,
}

impl<'a> Load<'a> {
    pub(super) fn new(
        config: &NvmeTcpConfig,
        queues: Vec<Queue>,
        shape: Shape,
        blocks: u64,
        progress: &'a AtomicU64,
    ) -> Self {
        let clock = Clock::get();
        let measure_from = clock.now().plus(clock.ticks(config.ramp));
        let histogram = || Histogram::new_with_bounds(1, LONGEST_TICKS, DIGITS).expect("valid bounds");
        Self {
            queues,
            shape,
            places: Places::new(0, blocks, config.mix.access()),
            random: Random::new(config.seed),
            read_percent: config.mix.read_percent(config.read_percent).into(),
            clock,
            measure_from,
            end: measure_from.plus(clock.ticks(config.runtime)),
            patience: clock.ticks(PATIENCE),
            cpu_before: None,
            done: Vec::new(),
            result: Measured {
                reads: histogram(),
                writes: histogram(),
                errors: 0,
                first_error: None,
                ticks: 0,
                waiting_ticks: 0,
                cpu_s: 0.0,
                clock,
            },
            progress,
        }
    }

    /// Runs until the time is over and everything is answered.
    pub(super) fn run(mut self) -> Result<Measured, NvmeTcpError> {
        for queue in 0..self.queues.len() {
            for slot in 0..self.queues[queue].depth() {
                self.issue(queue, slot as u16, self.clock.now());
            }
            self.queues[queue].send()?;
        }
        let (mut last, mut last_heard) = (self.clock.now(), self.clock.now());
        while self.queues.iter().any(|queue| queue.in_flight() > 0) {
            let mut heard = false;
            for queue in 0..self.queues.len() {
                heard |= self.turn(queue)?;
            }
            let now = self.clock.now();
            if heard {
                last_heard = now;
            } else {
                if last >= self.measure_from && now < self.end {
                    self.result.waiting_ticks += now.since(last);
                }
                self.check_patience(now.since(last_heard))?;
            }
            last = now;
        }
        self.result.ticks = last_heard.since(self.measure_from);
        self.result.cpu_s = thread_cpu_seconds() - self.cpu_before.unwrap_or_default();
        Ok(self.result)
    }

    /// Receives from a queue, and puts new commands into the places of those that are complete.
    #[inline]
    fn turn(&mut self, queue: usize) -> Result<bool, NvmeTcpError> {
        let mut done = std::mem::take(&mut self.done);
        let heard = self.queues[queue].receive(&mut done)? > 0;
        if !done.is_empty() {
            let now = self.clock.now();
            if now >= self.measure_from && self.cpu_before.is_none() {
                self.cpu_before = Some(thread_cpu_seconds());
            }
            for done in done.drain(..) {
                self.note(queue, done, now);
                if now < self.end {
                    self.issue(queue, done.slot, now);
                }
            }
        }
        self.done = done;
        self.queues[queue].send()?;
        Ok(heard)
    }

    #[inline]
    fn issue(&mut self, queue: usize, slot: u16, now: Ticks) {
        let block = self.places.next(&mut self.random);
        let is_read = match self.read_percent {
            0 => false,
            100 => true,
            percent => self.random.below(100) < percent,
        };
        self.queues[queue].issue(slot, block * u64::from(self.shape.sectors), is_read, now);
    }

    #[inline]
    fn note(&mut self, queue: usize, done: Done, now: Ticks) {
        let slot = self.queues[queue].slot(done.slot);
        if !done.status.is_success() {
            self.result.errors += 1;
            let (way, sectors) = (if slot.is_read { "read" } else { "write" }, self.shape.sectors);
            self.result
                .first_error
                .get_or_insert_with(|| format!("{way} of {sectors} sectors at LBA {}: {}", slot.lba, done.status));
        } else if slot.started >= self.measure_from {
            let histogram = if slot.is_read { &mut self.result.reads } else { &mut self.result.writes };
            histogram.saturating_record(now.since(slot.started));
            self.progress.store(self.progress.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    #[cold]
    fn too_long(&self) -> NvmeTcpError {
        let queue = self.queues.iter().find(|queue| queue.in_flight() > 0).unwrap_or(&self.queues[0]);
        NvmeTcpError::Silent { queue: queue.number(), seconds: PATIENCE.as_secs(), waiting: queue.in_flight() }
    }

    #[inline]
    fn check_patience(&self, silent: u64) -> Result<(), NvmeTcpError> {
        if silent > self.patience { Err(self.too_long()) } else { Ok(()) }
    }
}
