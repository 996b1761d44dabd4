//! The power-cut test: a driver that throws commands at a pool, and a model that knows what the pool may hold.
//!
//! Everything of one seed happens on one reactor in an order that follows from the seed alone, so a failure is repeated by its number.
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

pub mod calm;
pub mod driver;
pub mod fake;
pub mod keys;
pub mod model;
pub mod op;
pub mod real;
pub mod rounds;
pub mod sectors;
pub mod subject;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use strongroom::memory::HugePages;
use strongroom::reactor::{Reactor, ReactorConfig, ReactorThread, allowed_cpus};

use rounds::{Figures, run_seed};
use subject::Pool;

/// So many reactors work on seeds at once.
const REACTORS: usize = 2;
/// So many lines of what was done before a failure are told, unless `STRONGROOM_TRACE` asks for all.
const LINES_TOLD: usize = 60;

/// Which seeds to run.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    pub first: u64,
    pub cuts: u64,
}

impl Seeds {
    /// Seeds from `STRONGROOM_SEED` on until there were `STRONGROOM_CUTS` power cuts.
    pub fn from_environment(first: u64, cuts: u64) -> Self {
        let number = |variable: &str, default: u64| {
            std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
        };
        Self { first: number("STRONGROOM_SEED", first), cuts: number("STRONGROOM_CUTS", cuts) }
    }
}

/// A seed that failed.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub what: String,
    pub trace: Vec<String>,
}

struct Progress {
    seeds: Seeds,
    next: AtomicU64,
    figures: Mutex<Figures>,
    failures: Mutex<Vec<Failure>>,
    is_over: AtomicBool,
}

/// Runs seeds until there were enough cuts, or one has failed.
pub fn run<P: Pool>(seeds: Seeds) -> (Figures, Vec<Failure>) {
    let progress = Arc::new(Progress {
        seeds,
        next: AtomicU64::new(seeds.first),
        figures: Mutex::default(),
        failures: Mutex::default(),
        is_over: AtomicBool::new(false),
    });
    let cpus = allowed_cpus();
    let workers = if seeds.cuts == 1 { 1 } else { REACTORS };
    let workers: Vec<_> = (0..workers).map(|number| Worker::start::<P>(cpus[number % cpus.len()], &progress)).collect();
    workers.into_iter().for_each(|worker| worker.wait(&progress));
    let figures = *progress.figures.lock().expect("no panic under this lock");
    let failures = std::mem::take(&mut *progress.failures.lock().expect("no panic under this lock"));
    (figures, failures)
}

/// Runs seeds and panics with what failed and how to run it again.
pub fn run_or_panic<P: Pool>(test: &str, seeds: Seeds) {
    let (figures, failures) = run::<P>(seeds);
    println!("{figures:?}");
    for Failure { seed, what, trace } in &failures {
        let all = std::env::var_os("STRONGROOM_TRACE").is_some();
        let skipped = if all { 0 } else { trace.len().saturating_sub(LINES_TOLD) };
        eprintln!("{}", trace[skipped..].join("\n"));
        eprintln!("seed {seed} failed: {what}");
        eprintln!("again: STRONGROOM_SEED={seed} STRONGROOM_CUTS=1 STRONGROOM_TRACE=1 cargo test --test {test}");
    }
    let seeds: Vec<u64> = failures.iter().map(|failure| failure.seed).collect();
    assert!(failures.is_empty(), "seeds that failed: {seeds:?}");
}

/// One reactor that works on seeds.
struct Worker {
    thread: ReactorThread,
    seed: Arc<AtomicU64>,
    ended: mpsc::Receiver<()>,
}

impl Worker {
    fn start<P: Pool>(cpu: usize, progress: &Arc<Progress>) -> Self {
        let config = ReactorConfig { memory_mib: 16, hugepages: HugePages::Never, ..ReactorConfig::default() };
        let thread = ReactorThread::start(cpu, &config).expect("a reactor");
        let (end, ended) = mpsc::sync_channel(1);
        let (progress, seed) = (progress.clone(), Arc::new(AtomicU64::new(0)));
        let current = seed.clone();
        thread.remote().post(move |reactor| {
            let task = work::<P>(reactor.clone(), progress, current);
            reactor.spawn(async move {
                task.await;
                end.send(()).expect("the test waits");
            });
        });
        Self { thread, seed, ended }
    }

    fn wait(self, progress: &Progress) {
        if self.ended.recv().is_ok() {
            // After a failure tasks may be left that never end; the process ends them.
            if progress.failures.lock().expect("no panic under this lock").is_empty() {
                self.thread.remote().stop();
                self.thread.join();
            }
            return;
        }
        // The reactor has panicked; what it said is on stderr.
        progress.is_over.store(true, Ordering::Relaxed);
        let seed = self.seed.load(Ordering::Relaxed);
        let failure = Failure { seed, what: "a panic".to_owned(), trace: Vec::new() };
        progress.failures.lock().expect("no panic under this lock").push(failure);
    }
}

async fn work<P: Pool>(reactor: Reactor, progress: Arc<Progress>, current: Arc<AtomicU64>) {
    while !progress.is_over.load(Ordering::Relaxed) {
        let seed = progress.next.fetch_add(1, Ordering::Relaxed);
        current.store(seed, Ordering::Relaxed);
        let trace = Rc::new(RefCell::new(Vec::new()));
        match run_seed::<P>(&reactor, seed, trace.clone()).await {
            Ok(figures) => {
                let mut all = progress.figures.lock().expect("no panic under this lock");
                all.cuts += figures.cuts;
                all.in_recovery += figures.in_recovery;
                all.commands += figures.commands;
                if all.cuts >= progress.seeds.cuts {
                    progress.is_over.store(true, Ordering::Relaxed);
                }
            }
            Err(what) => {
                progress.is_over.store(true, Ordering::Relaxed);
                let failure = Failure { seed, what, trace: trace.take() };
                progress.failures.lock().expect("no panic under this lock").push(failure);
            }
        }
    }
}
