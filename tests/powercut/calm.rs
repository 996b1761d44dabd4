//! Runs without power cuts: a given list of commands, with the pool closed and opened in between; and the record of a run, replayed to
//! each of its flushes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use strongroom::device::{SharedDevice, SimulatedConfig, SimulatedDevice};
use strongroom::memory::HugePages;
use strongroom::reactor::{Reactor, ReactorConfig, ReactorThread, allowed_cpus};

use crate::random::Random;

use super::driver::Driver;
use super::model::Model;
use super::op::{Mix, Op};
use super::rounds::no_traces;
use super::subject::Pool;

/// A run: commands between which the pool is closed and opened.
#[derive(Clone, Debug)]
pub struct Case {
    pub sessions: Vec<Vec<Op>>,
    pub at_once: usize,
    pub block_size: u32,
    pub clusters: u64,
    pub most_turns: u32,
    pub seed: u64,
}

impl Case {
    /// A case that follows from a seed.
    pub fn drawn(seed: u64) -> Self {
        let mut random = Random(seed);
        let mix = Mix::draw(&mut random);
        Self {
            sessions: (0..2).map(|_| (0..60).map(|_| mix.next(&mut random)).collect()).collect(),
            at_once: 1 + random.below(6) as usize,
            block_size: if random.one_in(3) { 4096 } else { 512 },
            clusters: 8 + random.below(150),
            most_turns: random.below(8) as u32,
            seed,
        }
    }

    fn device<P: Pool>(&self, is_recorded: bool) -> SimulatedDevice {
        SimulatedDevice::new(SimulatedConfig {
            size: P::smallest_device() + self.clusters * 65536,
            block_size: self.block_size,
            most_turns: self.most_turns,
            seed: self.seed,
            is_recorded,
        })
    }
}

/// Runs the case and holds everything against the model while it runs and after each session.
pub async fn run_case<P: Pool>(reactor: &Reactor, case: &Case) -> Result<(), String> {
    let device = case.device::<P>(false);
    format::<P>(reactor, &device).await?;
    run_sessions::<P>(reactor, case, &device).await.map(|_| ())
}

async fn format<P: Pool>(reactor: &Reactor, device: &SimulatedDevice) -> Result<(), String> {
    let shared = Arc::new(SharedDevice::simulated("sim", device.clone()));
    P::format(reactor, &shared).await.map_err(|trouble| format!("format: {trouble:?}"))
}

async fn open<P: Pool>(
    reactor: &Reactor,
    device: &SimulatedDevice,
    block_size: u32,
    model: Model,
) -> Result<Rc<Driver<P>>, String> {
    let trace = Rc::new(RefCell::new(Vec::new()));
    let opened = Driver::open(reactor, device, u64::from(block_size), model, trace).await;
    opened.map_err(|trouble| format!("open: {trouble:?}"))
}

async fn run_sessions<P: Pool>(reactor: &Reactor, case: &Case, device: &SimulatedDevice) -> Result<Model, String> {
    let mut model = Model::default();
    for ops in &case.sessions {
        let driver = open::<P>(reactor, device, case.block_size, model).await?;
        driver.run(ops.clone(), case.at_once).await?;
        driver.verify().await?;
        model = close(reactor, driver).await?;
        let driver = open::<P>(reactor, device, case.block_size, model).await?;
        let listed = driver.pool.list();
        driver.model.borrow_mut().reopened(&listed)?;
        driver.verify().await?;
        model = close(reactor, driver).await?;
    }
    Ok(model)
}

async fn close<P: Pool>(reactor: &Reactor, driver: Rc<Driver<P>>) -> Result<Model, String> {
    let (mut model, device) = (driver.end(), driver.device.clone());
    driver.pool.clone().close().await.map_err(|trouble| format!("close: {trouble:?}"))?;
    drop(driver);
    let now = model.tick();
    model.all_flushed(now);
    let shared = Arc::new(SharedDevice::simulated("sim", device));
    P::check(reactor, &shared).await.map_err(|trouble| format!("check after close: {trouble:?}"))?;
    Ok(model)
}

/// Records a run, and opens the pool as it was after each flush of it. Returns how many there were.
pub async fn replay_flushes<P: Pool>(reactor: &Reactor, case: &Case) -> Result<usize, String> {
    let blank = case.device::<P>(false);
    format::<P>(reactor, &blank).await?;
    // Recorded from the formatted pool on: before that there is none to open.
    let device = blank.recorded();
    let model = run_sessions::<P>(reactor, case, &device).await?;
    let record = device.record().expect("kept");
    let (mut replay, mut flushes) = (record.replay(), 0);
    while let Some(then) = replay.next_flush() {
        flushes += 1;
        let at =
            |what: String| format!("after flush {flushes} (entry {} of {}): {what}", replay.position(), record.len());
        let shared = Arc::new(SharedDevice::simulated("sim", then.clone()));
        P::check(reactor, &shared).await.map_err(|trouble| at(format!("check: {trouble:?}")))?;
        let driver = open::<P>(reactor, &then, case.block_size, model.clone()).await.map_err(at)?;
        no_traces(&*driver.pool, &then).map_err(at)?;
        driver.look_around().await.map_err(at)?;
        driver.end();
        driver.pool.clone().close().await.map_err(|trouble| at(format!("close: {trouble:?}")))?;
        drop(driver);
        P::check(reactor, &shared).await.map_err(|trouble| at(format!("check after close: {trouble:?}")))?;
    }
    Ok(flushes)
}

/// Runs a task on a reactor of its own. If it fails or panics, tasks may be left that never end: then nobody waits for them.
pub fn on_own_reactor<T, F>(task: impl FnOnce(Reactor) -> F + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>> + 'static,
{
    let config = ReactorConfig { memory_mib: 16, hugepages: HugePages::Never, ..ReactorConfig::default() };
    let thread = ReactorThread::start(*allowed_cpus().last().expect("a core"), &config).expect("a reactor");
    let (answer, result) = mpsc::sync_channel(1);
    thread.remote().post(move |reactor| {
        let task = task(reactor.clone());
        reactor.spawn(async move { answer.send(task.await).expect("the test waits") });
    });
    let result = result.recv().unwrap_or_else(|_| Err("a panic".to_owned()));
    if result.is_ok() {
        thread.remote().stop();
        thread.join();
    }
    result
}
