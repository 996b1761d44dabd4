//! A reactor: one thread, pinned to one core, that serves queues by running to completion.
//!
//! It looks at what nobody tells it ([`poller`]), runs slot tasks ([`task`]), hands their operations to the kernel in batches and takes in the
//! completions ([`ring`]), keeps timers and a mailbox, and sleeps in io_uring when there has been nothing to do for a while. A reactor shares nothing
//! with other reactors; they reach it by [`Remote::post`].

mod affinity;
mod census;
mod clock;
mod eventfd;
mod file;
mod lending;
mod local;
mod mailbox;
mod offload;
mod poller;
pub mod profile;
mod receive;
mod ring;
mod socket;
mod stats;
mod sync;
mod task;
#[cfg(test)]
pub(crate) mod testing;
mod timer;
mod wipe;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::memory::{Arena, ArenaError, BufferPool, HugePages, Pages};

pub use affinity::{allowed_cpus, pin_current_thread};
pub use census::{Census, Member};
pub use clock::{Clock, Ticks};
pub use eventfd::EventFd;
pub use file::File;
pub use lending::{Lending, Lent};
pub use local::LocalReactor;
pub use offload::offload;
pub use poller::{Polled, Poller};
pub use receive::{RECEIVE_BYTES, ReceiveBuffers, Received};
pub use ring::{Ring, RingFeatures};
pub use socket::{SendBatch, Socket};
pub use stats::ReactorStats;
pub use sync::{Event, Flight, Handoff, InFlight, WaitList};
pub use task::yield_now;

use mailbox::{Mailbox, Message};
use poller::Pollers;
use task::Executor;
use timer::Timers;
use wipe::Wiping;

/// How many turns a reactor spins before it looks at the clock again while it has nothing to do.
const SPINS_PER_LOOK: u32 = 64;

/// How many turns a reactor spins before it asks the kernel for completions unasked. The ring's flag tells when there are some, but it was
/// seen to stay clear with completions pending: on Linux 6.18, under load, reactors then spun until something else made them enter the kernel.
const SPINS_PER_ENTER: u32 = 4096;

/// How a reactor is set up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReactorConfig {
    /// The cores that get a reactor each; if absent, all allowed ones but the first.
    pub cores: Option<Vec<usize>>,
    /// MiB of buffers.
    pub memory_mib: usize,
    /// What to do about hugepages.
    pub hugepages: HugePages,
    /// Entries of the submission queue.
    pub ring_entries: u32,
    /// Microseconds without work after which the reactor sleeps; 0 = never.
    pub idle_us: u64,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        Self { cores: None, memory_mib: 128, hugepages: HugePages::Prefer, ring_entries: 512, idle_us: 200 }
    }
}

/// Why a reactor did not start.
#[derive(Debug, Error)]
pub enum ReactorError {
    /// No memory.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// No io_uring.
    #[error(
        "reactor on core {core}: io_uring cannot be set up: {source}; Linux 5.15 or newer with io_uring allowed is needed"
    )]
    Ring {
        /// The core.
        core: usize,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The core cannot be had.
    #[error("reactor: cannot run on core {core}: {source}; choose among the allowed cores")]
    Pin {
        /// The core.
        core: usize,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The thread or its eventfd could not be made.
    #[error("reactor on core {core}: cannot be started: {source}")]
    Start {
        /// The core.
        core: usize,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// What a reactor got at its start; for the start-up report.
#[derive(Clone, Debug)]
pub struct StartReport {
    /// The core that it is pinned to.
    pub core: usize,
    /// Bytes of buffers.
    pub memory: usize,
    /// On which pages.
    pub pages: Pages,
    /// Kernel features in use.
    pub ring: RingFeatures,
}

/// The reactor of the current thread: what tasks hold.
#[derive(Clone)]
pub struct Reactor(Rc<Core>);

struct Core {
    number: usize,
    // The ring comes first: it is dropped before the buffers that the kernel knows.
    ring: Ring,
    buffers: Rc<BufferPool>,
    tasks: Executor,
    timers: Timers,
    pollers: Rc<Pollers>,
    clock: Clock,
    mailbox: Arc<Mailbox>,
    stats: Arc<ReactorStats>,
    stopping: Cell<bool>,
    wiping: Wiping,
    idle_after: Option<Duration>,
}

impl Reactor {
    fn start(
        core: usize,
        config: &ReactorConfig,
        mailbox: Arc<Mailbox>,
        stats: Arc<ReactorStats>,
    ) -> Result<Self, ReactorError> {
        let workers = affinity::other_cpus(core);
        pin_current_thread(core).map_err(|source| ReactorError::Pin { core, source })?;
        let reactor = Self::on_this_thread(core, config, mailbox, stats)?;
        if let Some(cpus) = workers {
            reactor.ring().keep_workers_on(&cpus);
        }
        Ok(reactor)
    }

    /// Sets up a reactor on the calling thread, wherever that runs.
    fn on_this_thread(
        core: usize,
        config: &ReactorConfig,
        mailbox: Arc<Mailbox>,
        stats: Arc<ReactorStats>,
    ) -> Result<Self, ReactorError> {
        let arena = Arena::new(config.memory_mib << 20, config.hugepages)?;
        let ring = Ring::new(config.ring_entries, &arena, mailbox.eventfd())
            .map_err(|source| ReactorError::Ring { core, source })?;
        let clock = Clock::get();
        Ok(Self(Rc::new(Core {
            number: core,
            ring,
            buffers: BufferPool::new(arena),
            tasks: Executor::new(task::enrol(&mailbox)),
            timers: Timers::new(clock),
            pollers: Rc::default(),
            clock,
            mailbox,
            stats,
            stopping: Cell::new(false),
            wiping: Wiping::default(),
            idle_after: (config.idle_us > 0).then(|| Duration::from_micros(config.idle_us)),
        })))
    }

    /// Adds a task. It lives until it is finished; a reactor stops only when all its tasks are.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.tasks.spawn(task);
    }

    /// Looks at something once a turn, until what this returns is dropped.
    pub fn add_poller(&self, poller: Rc<dyn Poller>) -> Polled {
        self.0.pollers.add(poller)
    }

    /// The handle for other threads.
    pub fn remote(&self) -> Remote {
        Remote { core: self.0.number, mailbox: self.0.mailbox.clone(), stats: self.0.stats.clone() }
    }

    /// The ring.
    pub(crate) fn ring(&self) -> &Ring {
        &self.0.ring
    }

    /// The buffers.
    pub fn buffers(&self) -> &Rc<BufferPool> {
        &self.0.buffers
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Completes when `duration` has passed.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + '_ {
        self.0.timers.sleep(duration)
    }

    /// Whether the reactor was asked to stop: tasks finish what they have and end.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.get()
    }

    fn wiping(&self) -> &Wiping {
        &self.0.wiping
    }

    fn run(&self) {
        profile::begin(self.0.number);
        self.0.tasks.enter(|| {
            let mut idle = Idle::default();
            while self.step(&mut idle) || !self.0.stopping.get() || self.0.tasks.alive() > 0 {}
        });
    }

    /// One turn, and a rest if there was nothing to do; false if there was nothing.
    #[inline]
    fn step(&self, idle: &mut Idle) -> bool {
        if self.turn() {
            *idle = Idle::default();
            return true;
        }
        if !self.0.stopping.get() || self.0.tasks.alive() > 0 {
            self.rest(idle);
        }
        false
    }

    /// One turn of the poll loop; false if there was nothing to do.
    #[inline]
    fn turn(&self) -> bool {
        profile::turn_begins();
        let core = &*self.0;
        let mut work = 0;
        while let Some(message) = core.mailbox.take() {
            match message {
                Message::Run(job) => job(self),
                Message::Wake(task) => core.tasks.wake(task),
            }
            work += 1;
        }
        work += core.pollers.poll();
        work += core.tasks.run_ready();
        work += match core.ring.turn() {
            Ok(done) => done,
            // Without its ring a reactor can neither finish nor refuse a command: the process cannot go on honestly.
            Err(e) => panic!("io_uring_enter failed: {e}"),
        };
        work += core.timers.expire();
        profile::turn_ends(work > 0);
        work > 0
    }

    /// Spins while storage works or the idle time is not over; sleeps otherwise.
    fn rest(&self, idle: &mut Idle) {
        let core = &*self.0;
        std::hint::spin_loop();
        let idle_after = match core.idle_after {
            Some(idle_after) if core.ring.storage_in_flight() == 0 => idle_after,
            _ => return self.spin(idle),
        };
        if !idle.is_over(&core.clock, idle_after) {
            return;
        }
        let timeout = core.timers.next_in();
        if timeout.is_some_and(|t| t < idle_after) || !core.pollers.fall_asleep() {
            return;
        }
        if !core.mailbox.fall_asleep() {
            return core.pollers.awake();
        }
        core.stats.count_sleep();
        if let Err(e) = core.ring.wait(timeout) {
            panic!("io_uring_enter failed: {e}");
        }
        core.mailbox.awake();
        core.pollers.awake();
        if core.ring.take_eventfd_fired() {
            core.mailbox.clear_eventfd();
        }
        *idle = Idle::default();
    }
}

impl Reactor {
    /// Goes on polling; now and then with the kernel's help.
    fn spin(&self, idle: &mut Idle) {
        idle.spins = idle.spins.wrapping_add(1);
        if idle.spins.is_multiple_of(SPINS_PER_ENTER)
            && let Err(e) = self.0.ring.enter()
        {
            panic!("io_uring_enter failed: {e}");
        }
    }
}

/// Since when a reactor has had nothing to do.
#[derive(Default)]
struct Idle {
    spins: u32,
    since: Option<Ticks>,
}

impl Idle {
    fn is_over(&mut self, clock: &Clock, limit: Duration) -> bool {
        self.spins += 1;
        if !self.spins.is_multiple_of(SPINS_PER_LOOK) {
            return false;
        }
        let now = clock.now();
        let since = *self.since.get_or_insert(now);
        now.since(since) >= clock.ticks(limit)
    }
}

/// A reactor as other threads see it.
#[derive(Clone)]
pub struct Remote {
    core: usize,
    mailbox: Arc<Mailbox>,
    stats: Arc<ReactorStats>,
}

impl Remote {
    /// The core that the reactor is pinned to.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Runs `job` on the reactor's thread.
    pub fn post(&self, job: impl FnOnce(&Reactor) + Send + 'static) {
        self.mailbox.run(Box::new(job));
    }

    /// Runs `job` on the reactor's thread and waits for its answer; not to be called on a reactor.
    pub fn call<T: Send + 'static>(&self, job: impl FnOnce(&Reactor) -> T + Send + 'static) -> T {
        let (answer, result) = std::sync::mpsc::sync_channel(1);
        self.post(move |reactor| {
            // The caller waits, so the channel is open.
            let _ = answer.send(job(reactor));
        });
        result.recv().expect("the reactor runs until it is stopped and joined")
    }

    /// Runs a task on the reactor and waits for its result; not to be called on a reactor.
    pub fn run<T, F>(&self, task: impl FnOnce(Reactor) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (answer, result) = std::sync::mpsc::sync_channel(1);
        self.post(move |reactor| {
            let task = task(reactor.clone());
            // The caller waits, so the channel is open.
            reactor.spawn(async move { drop(answer.send(task.await)) });
        });
        result.recv().expect("the reactor runs until it is stopped and joined")
    }

    /// What the reactor counts.
    pub fn stats(&self) -> &ReactorStats {
        &self.stats
    }

    /// Asks the reactor to stop once its tasks are finished.
    pub fn stop(&self) {
        self.post(|reactor| reactor.0.stopping.set(true));
    }
}

/// A running reactor.
pub struct ReactorThread {
    remote: Remote,
    report: StartReport,
    thread: JoinHandle<()>,
}

impl ReactorThread {
    /// Starts a reactor pinned to `core`.
    pub fn start(core: usize, config: &ReactorConfig) -> Result<Self, ReactorError> {
        let start_error = |source| ReactorError::Start { core, source };
        let mailbox = Arc::new(Mailbox::new().map_err(start_error)?);
        let stats = Arc::new(ReactorStats::default());
        let remote = Remote { core, mailbox: mailbox.clone(), stats: stats.clone() };
        let config = config.clone();
        let (started, outcome) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("reactor-{core}"))
            .spawn(move || {
                let reactor = match Reactor::start(core, &config, mailbox, stats) {
                    Ok(reactor) => reactor,
                    Err(e) => return drop(started.send(Err(e))),
                };
                let report = StartReport {
                    core,
                    memory: reactor.buffers().arena().len(),
                    pages: reactor.buffers().arena().pages().clone(),
                    ring: reactor.ring().features().clone(),
                };
                drop(started.send(Ok(report)));
                reactor.run();
            })
            .map_err(start_error)?;
        let report = outcome.recv().expect("the thread reports before it ends")?;
        Ok(Self { remote, report, thread })
    }

    /// The handle for other threads.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// What the reactor got.
    pub fn report(&self) -> &StartReport {
        &self.report
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread to end; `stop` comes before.
    pub fn join(self) {
        if self.thread.join().is_err() {
            panic!("reactor-{} panicked", self.remote.core);
        }
    }
}

#[cfg(test)]
mod tests;
