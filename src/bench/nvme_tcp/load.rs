//! The load itself: one thread, pinned to its core, that keeps the slots of all queues in flight and spins in between.
//!
//! Plain non-blocking sockets, because a batch needs only two system calls: one that receives many answers and one that sends the commands
//! which take their places. Where answers come one by one, some are gathered before that ([`GATHER`]): one send for each command would make
//! this thread the slower side from about a million commands a second on. The clock is read once for a batch: a latency lasts from before the call
//! that sends a command to after the call that receives its answer, which is what a client waits. Time in which no queue had anything is counted as waiting: as long as there is
//! much of it, the target is the slower side and not this thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bench::process::thread_cpu_seconds;
use crate::bench::results::Results;
use crate::bench::workload::{Draw, Places};
use crate::reactor::{Clock, Ticks};

use super::NvmeTcpConfig;
use super::error::NvmeTcpError;
use super::queue::{Done, Queue, Shape};

/// How long commands may be in flight without any answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a free slot may wait for others to be sent together with it, while most of the queue's commands are in flight.
const GATHER: Duration = Duration::from_micros(5);
/// The part of a queue's slots that is worth a send at once.
const GATHERED_PART: usize = 8;

/// What was measured.
pub(super) struct Measured {
    pub(super) results: Results,
    /// Ticks, of those measured, with nothing to do.
    pub(super) waiting_ticks: u64,
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
    patience: u64,
    gather: u64,
    cpu_before: Option<f64>,
    done: Vec<Done>,
    free: Vec<u16>,
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
        let places = Places::new(0, blocks, config.mix.access());
        Self {
            queues,
            shape,
            draw: Draw::new(places, config.mix, config.read_percent, config.seed),
            clock,
            measure_from,
            end: measure_from.plus(clock.ticks(config.runtime)),
            patience: clock.ticks(PATIENCE),
            gather: clock.ticks(GATHER),
            cpu_before: None,
            done: Vec::new(),
            free: Vec::new(),
            result: Measured { results: Results::new(clock), waiting_ticks: 0, cpu_s: 0.0 },
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
                self.wait(last, now);
                self.check_patience(now.since(last_heard))?;
            }
            last = now;
        }
        self.result.results.ticks = last_heard.since(self.measure_from);
        self.result.cpu_s = thread_cpu_seconds() - self.cpu_before.unwrap_or_default();
        Ok(self.result)
    }

    /// Receives from a queue, and puts new commands into the places of those that are complete.
    #[inline]
    fn turn(&mut self, queue: usize) -> Result<bool, NvmeTcpError> {
        let (heard, mut now) = self.hear(queue)?;
        if !self.free.is_empty() {
            let (enough, until) = (self.queues[queue].depth() / GATHERED_PART, now.plus(self.gather));
            while self.free.len() < enough && now < until {
                let (heard, later) = self.hear(queue)?;
                if !heard {
                    self.wait(now, later);
                }
                now = later;
            }
            let free = std::mem::take(&mut self.free);
            if now < self.end {
                free.iter().for_each(|slot| self.issue(queue, *slot, now));
            }
            self.free = free;
            self.free.clear();
        }
        self.queues[queue].send()?;
        Ok(heard)
    }

    /// Receives once, and notes what is complete. Gives whether there was anything, and the time.
    #[inline]
    fn hear(&mut self, queue: usize) -> Result<(bool, Ticks), NvmeTcpError> {
        let mut done = std::mem::take(&mut self.done);
        let heard = self.queues[queue].receive(&mut done)? > 0;
        let now = self.clock.now();
        if now >= self.measure_from && self.cpu_before.is_none() {
            self.cpu_before = Some(thread_cpu_seconds());
        }
        for done in done.drain(..) {
            self.note(queue, done, now);
            self.free.push(done.slot);
        }
        self.done = done;
        Ok((heard, now))
    }

    #[inline]
    fn issue(&mut self, queue: usize, slot: u16, now: Ticks) {
        let (block, is_read) = self.draw.next();
        self.queues[queue].issue(slot, block * u64::from(self.shape.sectors), is_read, now);
    }

    #[inline]
    fn note(&mut self, queue: usize, done: Done, now: Ticks) {
        let slot = self.queues[queue].slot(done.slot);
        if !done.status.is_success() {
            let (way, sectors) = (if slot.is_read { "read" } else { "write" }, self.shape.sectors);
            self.result.results.fail(|| format!("{way} of {sectors} sectors at LBA {}: {}", slot.lba, done.status));
        } else if slot.started >= self.measure_from {
            self.result.results.record(slot.is_read, now.since(slot.started));
            self.progress.store(self.progress.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Counts time in which there was nothing to receive.
    #[inline]
    fn wait(&mut self, from: Ticks, to: Ticks) {
        if from >= self.measure_from && to < self.end {
            self.result.waiting_ticks += to.since(from);
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
