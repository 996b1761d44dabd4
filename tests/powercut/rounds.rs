//! One seed: a pool, and rounds of commands that each end in a power cut, a recovery and a look at everything.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use strongroom::device::{SharedDevice, SimulatedConfig, SimulatedDevice};
use strongroom::reactor::Reactor;

use crate::random::Random;

use super::driver::Driver;
use super::keys::{found_on, key_of};
use super::model::Model;
use super::op::{Mix, Op};
use super::subject::{Pool, Trouble};

/// The name that the driver gives to clones which it makes in order to look at a snapshot.
const LOOKS: &str = "look";

/// What a seed came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Power cuts, each with its recovery.
    pub cuts: u64,
    /// Of these, cuts during a recovery.
    pub in_recovery: u64,
    pub commands: u64,
}

/// One seed's pool between cuts.
struct Run {
    reactor: Reactor,
    random: Random,
    block_size: u64,
    trace: Rc<RefCell<Vec<String>>>,
    figures: Figures,
}

/// Runs one seed; what was done is left in `trace`.
pub async fn run_seed<P: Pool>(
    reactor: &Reactor,
    seed: u64,
    trace: Rc<RefCell<Vec<String>>>,
) -> Result<Figures, String> {
    let mut random = Random(seed);
    let block_size = if random.one_in(4) { 4096 } else { 512 };
    let mut run =
        Run { reactor: reactor.clone(), random, block_size, trace: trace.clone(), figures: Figures::default() };
    let mut device = run.new_device(P::smallest_device())?;
    run.note(format_args!("a device of {} KiB, blocks of {block_size}", run.size_of(&device) >> 10));
    run.format::<P>(&device).await?;
    let mut driver = run.open::<P>(&device, Model::default()).await?;
    for round in 0..3 + run.random.below(8) {
        run.note(format_args!("== round {round}"));
        (device, driver) = run.round(driver).await?;
    }
    run.end(device, driver).await?;
    Ok(run.figures)
}

impl Run {
    fn note(&self, what: impl std::fmt::Display) {
        self.trace.borrow_mut().push(what.to_string());
    }

    fn size_of(&self, device: &SimulatedDevice) -> u64 {
        strongroom::device::Device::info(device).size
    }

    fn new_device(&mut self, smallest: u64) -> Result<SimulatedDevice, String> {
        let random = &mut self.random;
        // From one that is full at once to one that never is.
        let clusters = [4, 16, 48, 96, 160][random.below(5) as usize] + random.below(16);
        Ok(SimulatedDevice::new(SimulatedConfig {
            size: smallest + clusters * 65536,
            block_size: self.block_size as u32,
            most_turns: [0, 1, 3, 8, 20][random.below(5) as usize],
            seed: random.next(),
            is_recorded: false,
        }))
    }

    async fn format<P: Pool>(&self, device: &SimulatedDevice) -> Result<(), String> {
        let shared = Arc::new(SharedDevice::simulated("sim", device.clone()));
        P::format(&self.reactor, &shared).await.map_err(|trouble| format!("format: {trouble:?}"))
    }

    async fn open<P: Pool>(&self, device: &SimulatedDevice, model: Model) -> Result<Rc<Driver<P>>, String> {
        let opened = Driver::open(&self.reactor, device, self.block_size, model, self.trace.clone()).await;
        opened.map_err(|trouble| format!("open: {trouble:?}"))
    }

    /// Commands until the power goes, and the recovery.
    async fn round<P: Pool>(&mut self, driver: Rc<Driver<P>>) -> Result<(SimulatedDevice, Rc<Driver<P>>), String> {
        let mix = Mix::draw(&mut self.random);
        let commands = 5 + self.random.below(100);
        let ops: Vec<Op> = (0..commands).map(|_| mix.next(&mut self.random)).collect();
        if !self.random.one_in(4) {
            driver.device.cut_after(1 + self.random.below(4 * commands));
        }
        let at_once = 1 + self.random.below(8) as usize;
        driver.run(ops, at_once).await?;
        self.figures.commands += commands;
        let device = driver.device.clone();
        if !device.is_cut() && self.random.one_in(3) {
            return self.close_and_open(driver).await;
        }
        let mut model = driver.end();
        drop(driver);
        self.note(format_args!("-- the power goes; {} commands of the device", device.commands()));
        model.cut();
        if self.random.one_in(2) {
            let other = device.cut_power(self.random.next());
            self.figures.cuts += 1;
            self.note("-- another outcome of the same cut");
            let (_, driver) = self.recover::<P>(other, model.clone()).await?;
            self.close_and_check(driver).await?;
            self.note("-- and the outcome with which it goes on");
        }
        let after = device.cut_power(self.random.next());
        self.figures.cuts += 1;
        self.recover(after, model).await
    }

    /// Ends in good order; if the power goes in the middle of that, it is a cut like others.
    async fn close_and_open<P: Pool>(
        &mut self,
        driver: Rc<Driver<P>>,
    ) -> Result<(SimulatedDevice, Rc<Driver<P>>), String> {
        let (device, mut model) = (driver.device.clone(), driver.end());
        let start = model.tick();
        self.note("-- close");
        device.cut_after(1 + self.random.below(30));
        let closed = driver.pool.clone().close().await;
        drop(driver);
        match closed {
            Ok(()) => model.all_flushed(start),
            Err(_) if device.is_cut() => {}
            Err(trouble) => return Err(format!("close: {trouble:?}")),
        }
        model.cut();
        self.figures.cuts += 1;
        let after = device.cut_power(self.random.next());
        self.recover(after, model).await
    }

    /// Opens the pool and holds everything against the model, while the power goes now and then.
    async fn recover<P: Pool>(
        &mut self,
        mut device: SimulatedDevice,
        mut model: Model,
    ) -> Result<(SimulatedDevice, Rc<Driver<P>>), String> {
        for attempt in 0.. {
            if attempt < 4 && self.random.one_in(3) {
                device.cut_after(1 + self.random.below(40));
            }
            match self.look::<P>(&device, model).await? {
                Look::Whole(driver) => {
                    device.cut_after(u64::MAX);
                    return Ok((device, driver));
                }
                Look::Cut(unchanged) => model = *unchanged,
            }
            self.note("-- the power goes during recovery");
            device = device.cut_power(self.random.next());
            self.figures.cuts += 1;
            self.figures.in_recovery += 1;
        }
        unreachable!("the power stays on from the fifth attempt on")
    }

    async fn look<P: Pool>(&mut self, device: &SimulatedDevice, model: Model) -> Result<Look<P>, String> {
        let before = model.clone();
        // Whatever the cut kept: what was gone before is not there.
        model.keys.check_found(&found_on(device)).map_err(|wrong| format!("after a cut: {wrong}"))?;
        // A check writes nothing, so it may look before the recovery does.
        if self.random.one_in(4) {
            let shared = Arc::new(SharedDevice::simulated("sim", device.clone()));
            P::check(&self.reactor, &shared).await.map_err(|trouble| format!("check after a cut: {trouble:?}"))?;
        }
        let opened = Driver::open(&self.reactor, device, self.block_size, model, self.trace.clone()).await;
        let driver: Rc<Driver<P>> = match opened {
            // What the opening had to destroy is perhaps not destroyed yet.
            Ok(_) if device.is_cut() => return Ok(Look::Cut(Box::new(before))),
            Ok(driver) => driver,
            Err(_) if device.is_cut() => return Ok(Look::Cut(Box::new(before))),
            Err(trouble) => return Err(format!("open after a cut: {trouble:?}")),
        };
        no_traces(&*driver.pool, device)?;
        for left in driver.pool.list().into_iter().filter(|listed| listed.name.starts_with(LOOKS)) {
            match driver.pool.delete(&left.name).await {
                Err(Trouble::Other(error)) if !device.is_cut() => return Err(format!("delete {}: {error}", left.name)),
                _ => {}
            }
        }
        let mut listed = driver.pool.list();
        listed.retain(|listed| !listed.name.starts_with(LOOKS));
        driver.model.borrow_mut().reopened(&listed)?;
        driver.verify().await?;
        if device.is_cut() {
            let mut model = driver.end();
            model.cut();
            return Ok(Look::Cut(Box::new(model)));
        }
        Ok(Look::Whole(driver))
    }

    async fn close_and_check<P: Pool>(&mut self, driver: Rc<Driver<P>>) -> Result<(), String> {
        let device = driver.device.clone();
        driver.end();
        driver.pool.clone().close().await.map_err(|trouble| format!("close: {trouble:?}"))?;
        drop(driver);
        let shared = Arc::new(SharedDevice::simulated("sim", device));
        P::check(&self.reactor, &shared).await.map_err(|trouble| format!("check: {trouble:?}"))
    }

    /// Nothing is left behind when everything is deleted.
    async fn end<P: Pool>(&mut self, device: SimulatedDevice, driver: Rc<Driver<P>>) -> Result<(), String> {
        driver.end();
        self.note("-- delete everything");
        let mut listed = driver.pool.list();
        // Snapshots first: a volume may be kept by them.
        listed.sort_by_key(|listed| !listed.name.contains('@'));
        for listed in listed {
            let deleted = driver.pool.delete(&listed.name).await;
            deleted.map_err(|trouble| format!("delete {} at the end: {trouble:?}", listed.name))?;
        }
        no_traces(&*driver.pool, &device)?;
        let tidy = |trouble| format!("checkpoint at the end: {trouble:?}");
        driver.pool.settle().await;
        driver.pool.checkpoint().await.map_err(tidy)?;
        driver.pool.settle().await;
        let used = driver.pool.used();
        let fresh = SimulatedDevice::new(SimulatedConfig {
            size: self.size_of(&device),
            block_size: self.block_size as u32,
            ..SimulatedConfig::default()
        });
        self.close_and_check(driver).await?;
        self.format::<P>(&fresh).await?;
        let driver = self.open::<P>(&fresh, Model::default()).await?;
        let used_when_new = driver.pool.used();
        driver.pool.clone().close().await.map_err(|trouble| format!("close: {trouble:?}"))?;
        if used > used_when_new + P::SLACK {
            return Err(format!("{used} bytes are used when all is deleted; {used_when_new} in a new pool"));
        }
        Ok(())
    }
}

/// The keys on the device are those of the volumes, and no others.
pub fn no_traces<P: Pool>(pool: &P, device: &SimulatedDevice) -> Result<(), String> {
    let keys = pool.list().into_iter().filter_map(|listed| listed.key);
    let keys: BTreeSet<_> = keys.map(|key| key_of(&key)).collect::<Result<_, _>>()?;
    let found = found_on(device);
    if found == keys {
        return Ok(());
    }
    Err(format!("keys {found:?} are on the device, and those of the volumes are {keys:?}"))
}

/// How a look at a pool ended.
enum Look<P: Pool> {
    Whole(Rc<Driver<P>>),
    /// The power went; the model knows what was seen before.
    Cut(Box<Model>),
}
