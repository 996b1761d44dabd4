//! One core's job: its slots, their places and what they measured.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use crate::device::{ByteRange, IoError};
use crate::disk::{Consumer, Cost, DiskError, DiskQueue, Tap};
use crate::memory::Buffer;
use crate::reactor::{Clock, Reactor, Ticks};

use super::results::Results;
use super::workload::{Access, Draw, Places};
use super::{BenchConfig, pattern};

/// What jobs have done so far; each counter is written by one job and read by the progress line.
pub(super) struct Progress {
    pub(super) jobs: Vec<JobProgress>,
}

#[derive(Default)]
#[repr(align(128))]
pub(super) struct JobProgress {
    pub(super) done: AtomicU64,
}

impl Progress {
    pub(super) fn for_jobs(jobs: usize) -> Self {
        Self { jobs: (0..jobs).map(|_| JobProgress::default()).collect() }
    }
}

/// What the slots of one job share.
pub(super) struct Job {
    queue: Rc<DiskQueue>,
    tap: Tap,
    config: BenchConfig,
    number: usize,
    clock: Clock,
    draw: RefCell<Draw>,
    measure_from: Ticks,
    end: Ticks,
    last: Cell<Ticks>,
    result: RefCell<Results>,
    /// With `verify`: how often each block was written, by this run.
    generations: RefCell<Vec<u32>>,
    first_block: u64,
    progress: Arc<Progress>,
    answer: Sender<Result<Results, DiskError>>,
}

impl Job {
    /// Starts the slots; the last one to end sends the result.
    pub(super) fn start(
        reactor: &Reactor,
        queue: Rc<DiskQueue>,
        consumer: &Consumer,
        config: BenchConfig,
        number: usize,
        progress: Arc<Progress>,
        answer: Sender<Result<Results, DiskError>>,
    ) {
        let clock = *reactor.clock();
        let blocks = queue.disk().size() / config.block_size;
        // Jobs that check, or go in order, have a part of the disk each.
        let (first_block, count) = if config.verify || config.mix.access() == Access::Sequential {
            let share = blocks / config.cores.len() as u64;
            (share * number as u64, share)
        } else {
            (0, blocks)
        };
        let (places, seed) =
            (Places::new(first_block, count, config.mix.access()), config.seed.wrapping_add(number as u64));
        let measure_from = clock.now().plus(clock.ticks(config.ramp));
        let job = Rc::new(Self {
            tap: queue.tap(consumer),
            queue,
            number,
            clock,
            draw: RefCell::new(Draw::new(places, config.mix, config.read_percent, seed)),
            measure_from,
            end: measure_from.plus(clock.ticks(config.runtime)),
            last: Cell::new(measure_from),
            result: RefCell::new(Results::new(clock)),
            generations: RefCell::new(if config.verify { vec![0; count as usize] } else { Vec::new() }),
            first_block,
            progress,
            answer,
            config,
        });
        for slot in 0..job.config.iodepth {
            let job = job.clone();
            let task_reactor = reactor.clone();
            reactor.spawn(async move {
                let mut buffer = task_reactor.buffers().take(job.config.block_size as usize).await;
                pattern::fill(&mut buffer, job.config.seed, u64::from(slot), 0);
                if job.config.verify {
                    job.run_checked(&mut buffer, slot).await;
                } else {
                    job.run(&mut buffer).await;
                }
                drop(buffer);
                if let Some(job) = Rc::into_inner(job) {
                    job.finish();
                }
            });
        }
    }

    fn finish(self) {
        let mut result = self.result.into_inner();
        result.ticks = self.last.get().since(self.measure_from);
        // The caller may have given up waiting.
        let _ = self.answer.send(Ok(result));
    }

    async fn run(&self, buffer: &mut Buffer) {
        let mut now = self.clock.now();
        while now < self.end {
            let (block, is_read) = self.draw.borrow_mut().next();
            let outcome = self.transfer(buffer, block, is_read).await;
            now = self.note(now, is_read, outcome);
        }
    }

    /// Writes blocks of this slot's own and checks what comes back.
    async fn run_checked(&self, buffer: &mut Buffer, slot: u32) {
        let mut now = self.clock.now();
        while now < self.end {
            let (block, is_read) = self.draw.borrow_mut().next();
            let Some(block) = self.own_block(block, slot) else { return };
            let index = (block - self.first_block) as usize;
            let generation = self.generations.borrow()[index];
            if is_read {
                let outcome = self.transfer(buffer, block, true).await;
                now = self.note(now, true, outcome);
                if outcome.is_ok() && generation > 0 {
                    self.compare(buffer, block, generation);
                }
            } else {
                pattern::fill(buffer, self.config.seed, block, generation + 1);
                let outcome = self.transfer(buffer, block, false).await;
                now = self.note(now, false, outcome);
                // After a failed write the block may hold old or new data: it is not checked until it is written again.
                self.generations.borrow_mut()[index] = if outcome.is_ok() { generation + 1 } else { 0 };
            }
        }
    }

    /// The block nearest to `block` whose number, counted in this job's part, belongs to the slot; no two slots share one.
    fn own_block(&self, block: u64, slot: u32) -> Option<u64> {
        let depth = u64::from(self.config.iodepth);
        let index = block - self.first_block;
        let own = index - index % depth + u64::from(slot);
        let count = self.generations.borrow().len() as u64;
        if own < count {
            Some(self.first_block + own)
        } else {
            own.checked_sub(depth).map(|own| self.first_block + own)
        }
    }

    #[inline]
    async fn transfer(&self, buffer: &mut Buffer, block: u64, is_read: bool) -> Result<(), IoError> {
        let size = self.config.block_size;
        let range = ByteRange::new(block * size, size).ok_or(IoError::OutOfRange)?;
        self.tap.pass(Cost::of(size)).await;
        if is_read {
            self.queue.read(range, buffer, 0).await
        } else {
            let data = buffer.segment(0..size as usize);
            self.queue.write(range, &[data]).await
        }
    }

    #[inline]
    fn note(&self, started: Ticks, is_read: bool, outcome: Result<(), IoError>) -> Ticks {
        let now = self.clock.now();
        let mut result = self.result.borrow_mut();
        if let Err(e) = outcome {
            result.fail(|| e.to_string());
        }
        if started >= self.measure_from {
            result.record(is_read, now.since(started));
            self.last.set(now);
            let done = &self.progress.jobs[self.number].done;
            done.store(done.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        now
    }

    fn compare(&self, buffer: &Buffer, block: u64, generation: u32) {
        let size = self.config.block_size;
        let data = &buffer[..size as usize];
        if let Some(byte) = pattern::first_difference(data, self.config.seed, block, generation) {
            self.result.borrow_mut().fail(|| {
                format!("verify: byte {} of the disk is not what was written there", block * size + byte as u64)
            });
        }
    }
}
