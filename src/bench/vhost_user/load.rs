//! The load itself: one thread, pinned to its core, that keeps the slots of all queues in flight and spins in between.
//!
//! No system calls: rings lie in shared memory, and the device is asked not to wake anybody. The clock is read once for what a look at a ring finds: a
//! latency lasts from before a request is made available until after its completion is seen, which is what a guest waits. Time in
//! which no queue had anything is counted as waiting: as long as there is much of it, the device is the slower side and not this thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bench::process::thread_cpu_seconds;
use crate::bench::results::Results;
use crate::bench::workload::{Draw, Places};
use crate::reactor::{Clock, Ticks};

use super::VhostUserConfig;
use super::error::VhostUserError;
use super::queue::{Done, Queue, Shape};

/// How long requests may be in flight without any answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many completions are taken at a time, before their places are filled again.
const BATCH: usize = 64;

/// What was measured.
pub(super) struct Measured {
    pub(super) results: Results,
    /// Ticks, of those measured, with nothing to do.
    pub(super) waiting_ticks: u64,
    /// Kicks in the time measured.
    pub(super) kicks: u64,
    /// Processor time of the thread in the time measured.
    pub(super) cpu_s: f64,
}

/// The load.
pub(super) struct Load<'a> {
    queues: Vec<Queue>,
    shape: Shape,
    draw: Draw,
    clock: Clock,
    measure_from: Ticks,
    end: Ticks,
    thinktime: Duration,
    patience: u64,
    /// At the end of the ramp: processor time and kicks.
    before: Option<(f64, u64)>,
    done: Vec<Done>,
    result: Measured,
    progress: &'a AtomicU64,
}

impl<'a> Load<'a> {
    pub(super) fn new(
        config: &VhostUserConfig,
        queues: Vec<Queue>,
        shape: Shape,
        blocks: u64,
        progress: &'a AtomicU64,
    ) -> Self {
        let clock = Clock::get();
        let measure_from = clock.now().plus(clock.ticks(config.ramp));
        let places = Places::new(0, blocks, config.mix.access());
        Self {
            queues,
            shape,
            draw: Draw::new(places, config.mix, config.read_percent, config.seed),
            clock,
            measure_from,
            end: measure_from.plus(clock.ticks(config.runtime)),
            thinktime: config.thinktime,
            patience: clock.ticks(PATIENCE),
            before: None,
            done: Vec::with_capacity(BATCH),
            result: Measured { results: Results::new(clock), waiting_ticks: 0, kicks: 0, cpu_s: 0.0 },
            progress,
        }
    }

    /// Runs until the time is over and everything is answered.
    pub(super) fn run(mut self) -> Result<Measured, VhostUserError> {
        for queue in 0..self.queues.len() {
            for slot in 0..self.queues[queue].depth() {
                self.issue(queue, slot as u16, self.clock.now());
            }
            self.queues[queue].publish()?;
        }
        let mut last_heard = self.clock.now();
        let mut idle_since = None;
        while self.queues.iter().any(|queue| queue.in_flight() > 0) {
            let mut heard = None;
            for queue in 0..self.queues.len() {
                heard = self.turn(queue, &mut idle_since)?.or(heard);
            }
            match (heard, idle_since) {
                (Some(now), _) => last_heard = now,
                (None, None) => idle_since = Some(self.clock.now()),
                (None, Some(_)) => {
                    std::hint::spin_loop();
                    self.check_patience(last_heard)?;
                }
            }
        }
        self.result.results.ticks = last_heard.since(self.measure_from);
        let (cpu_s, kicks) = self.before.unwrap_or_default();
        self.result.cpu_s = thread_cpu_seconds() - cpu_s;
        self.result.kicks = self.kicks() - kicks;
        Ok(self.result)
    }

    /// Takes what a queue has done, and puts new requests into the places of those. Gives the time, if there was anything.
    #[inline]
    fn turn(&mut self, queue: usize, idle_since: &mut Option<Ticks>) -> Result<Option<Ticks>, VhostUserError> {
        let mut done = std::mem::take(&mut self.done);
        self.queues[queue].receive(&mut done, BATCH)?;
        if done.is_empty() {
            self.done = done;
            return Ok(None);
        }
        let now = self.clock.now();
        if let Some(since) = idle_since.take() {
            self.wait(since, now);
        }
        if now >= self.measure_from && self.before.is_none() {
            self.before = Some((thread_cpu_seconds(), self.kicks()));
        }
        let next = self.think(now);
        // First the new requests: the device works on them while this notes the old.
        if next < self.end {
            for done in &done {
                self.issue(queue, done.slot, next);
            }
            self.queues[queue].publish()?;
        }
        done.drain(..).for_each(|done| self.note(done, now));
        self.done = done;
        Ok(Some(next))
    }

    /// Sleeps before the next requests, but not beyond the end; gives the time at which they are made.
    #[inline]
    fn think(&self, now: Ticks) -> Ticks {
        if self.thinktime.is_zero() || now >= self.end {
            return now;
        }
        let left = Duration::from_nanos(self.clock.nanoseconds(self.end.since(now)));
        std::thread::sleep(self.thinktime.min(left));
        self.clock.now()
    }

    #[inline]
    fn issue(&mut self, queue: usize, slot: u16, now: Ticks) {
        let (block, is_read) = self.draw.next();
        self.queues[queue].issue(slot, block * self.shape.sectors(), is_read, now);
    }

    #[inline]
    fn note(&mut self, done: Done, now: Ticks) {
        if let Some(what) = done.wrong {
            let (way, bytes) = (if done.is_read { "read" } else { "write" }, self.shape.block_bytes);
            self.result.results.fail(|| format!("{way} of {bytes} bytes at sector {}: {what}", done.sector));
        } else if done.started >= self.measure_from {
            self.result.results.record(done.is_read, now.since(done.started));
            self.progress.store(self.progress.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    fn kicks(&self) -> u64 {
        self.queues.iter().map(Queue::kicks).sum()
    }

    /// Counts time in which there was nothing to take.
    #[inline]
    fn wait(&mut self, from: Ticks, to: Ticks) {
        if from >= self.measure_from && to < self.end {
            self.result.waiting_ticks += to.since(from);
        }
    }

    #[inline]
    fn check_patience(&self, last_heard: Ticks) -> Result<(), VhostUserError> {
        if self.clock.now().since(last_heard) > self.patience { Err(self.too_long()) } else { Ok(()) }
    }

    #[cold]
    fn too_long(&self) -> VhostUserError {
        let queue = self.queues.iter().find(|queue| queue.in_flight() > 0).unwrap_or(&self.queues[0]);
        VhostUserError::Silent { queue: queue.index(), seconds: PATIENCE.as_secs(), waiting: queue.in_flight() }
    }
}
