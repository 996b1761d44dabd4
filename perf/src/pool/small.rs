//! A pool on the lab's file: first writes, overwriting, writes after a snapshot, and flushes; and the same file without a pool.
//!
//! The volume has less than half of the pool, so that a snapshot can be written over whole.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args as Arguments, ValueEnum};
use strongroom::device::{DeviceConfig, DeviceKind, SharedDevice};
use strongroom::memory::HugePages;
use strongroom::reactor::Reactor;
use strongroom::volume::{FormatOptions, Home, NewVolume, OpenOptions, VolumeQueue};

use crate::sample::Sample;

use super::load::{Load, Step, Stride, Under};
use super::meter::Meter;
use super::places::Places;
use super::{BLOCK, BLOCKS_PER_CLUSTER, CLUSTER, Outcome, fill};

/// Bytes written at a time when a volume is filled.
const FILL_BYTES: u64 = 256 << 10;
/// The seed of all places.
const SEED: u64 = 1;
/// How often a load whose time is limited is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// One measurement.
#[derive(Arguments)]
pub struct Args {
    /// What is done
    #[arg(long, value_enum)]
    case: Case,
    /// The file, whose content is lost
    #[arg(long)]
    file: PathBuf,
    /// Commands in flight
    #[arg(long)]
    depth: u32,
    /// Seconds to measure
    #[arg(long)]
    seconds: u32,
    /// Seconds of load before that, where the load goes on for ever
    #[arg(long)]
    ramp: u32,
    /// The reactor's core
    #[arg(long)]
    pub core: usize,
}

/// What is done, with 4 KiB at random places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// Blocks that are there are written again.
    Overwrite,
    /// Each block of an empty volume is written once.
    FirstWrites,
    /// After a snapshot of a full volume, one block in each cluster is written.
    AfterSnapshot,
    /// A block that is there is written again, and flushed.
    FlushInPlace,
    /// A block of an empty volume is written and flushed.
    FlushFirstWrite,
    /// The same file without a pool: a block is written and flushed.
    FlushDevice,
}

impl Case {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is skipped").get_name().to_owned()
    }
}

/// Makes a pool and measures.
pub async fn measure(reactor: Reactor, args: Args) -> Outcome<Sample> {
    let config = DeviceConfig {
        name: "perf".into(),
        kind: DeviceKind::File,
        path: Some(args.file.clone()),
        size: None,
        create: false,
        hugepages: HugePages::Prefer,
        layers: Vec::new(),
    };
    let device = Arc::new(SharedDevice::open(&config)?);
    if args.case == Case::FlushDevice {
        let places = Places::anywhere(device.info().size / BLOCK, BLOCK, SEED);
        let under = Under::Device(Rc::new(device.handle(&reactor)?));
        return on_and_on(&reactor, &args, Load::new(&reactor, under, places, Step::WriteAndFlush)).await;
    }
    Home::format("perf", &reactor, &device.handle(&reactor)?, &FormatOptions::default()).await?;
    let home = Home::open("perf", &reactor, device, &OpenOptions::default()).await?;
    let clusters = home.pool().info().free_bytes / CLUSTER * 45 / 100;
    let bench = Bench { reactor, home, clusters, args };
    let sample = match bench.args.case {
        Case::Overwrite => bench.overwrite(Step::Write(BLOCK as usize)).await,
        Case::FlushInPlace => bench.overwrite(Step::WriteAndFlush).await,
        Case::FirstWrites => bench.first_writes(Step::Write(BLOCK as usize)).await,
        Case::FlushFirstWrite => bench.first_writes(Step::WriteAndFlush).await,
        Case::AfterSnapshot => bench.after_snapshot().await,
        Case::FlushDevice => unreachable!("it has no pool"),
    }?;
    bench.home.close().await?;
    Ok(sample)
}

/// A load that goes on for ever, measured after its ramp.
async fn on_and_on(reactor: &Reactor, args: &Args, load: Rc<Load>) -> Outcome<Sample> {
    load.start(args.depth);
    reactor.sleep(Duration::from_secs(args.ramp.into())).await;
    load.meter.on();
    reactor.sleep(Duration::from_secs(args.seconds.into())).await;
    load.meter.off();
    load.stop().await?;
    Ok(load.meter.sample())
}

struct Bench {
    reactor: Reactor,
    home: Rc<Home>,
    /// In the volume.
    clusters: u64,
    args: Args,
}

impl Bench {
    async fn volume(&self) -> Outcome<Rc<VolumeQueue>> {
        let new = NewVolume { name: "v".into(), size: self.clusters * CLUSTER, attributes: Vec::new(), key: None };
        Ok(self.home.create_volume(new).await?.queue(&self.reactor)?)
    }

    async fn full_volume(&self) -> Outcome<Rc<VolumeQueue>> {
        let queue = self.volume().await?;
        let count = self.clusters * CLUSTER / FILL_BYTES;
        let stride = Stride { bytes: FILL_BYTES, count, len: FILL_BYTES as usize };
        fill(&self.reactor, &self.home, &queue, Load::new, stride).await?;
        Ok(queue)
    }

    async fn overwrite(&self, step: Step) -> Outcome<Sample> {
        let queue = self.full_volume().await?;
        let places = Places::anywhere(self.clusters / 4 * 4 * BLOCKS_PER_CLUSTER, BLOCK, SEED);
        on_and_on(&self.reactor, &self.args, Load::new(&self.reactor, Under::Volume(queue), places, step)).await
    }

    /// As many empty volumes as the time takes.
    async fn first_writes(&self, step: Step) -> Outcome<Sample> {
        let meter = Rc::new(Meter::new(*self.reactor.clock()));
        for round in 0.. {
            let queue = self.volume().await?;
            let places = Places::each_once(self.clusters * BLOCKS_PER_CLUSTER, BLOCK, SEED + round);
            let is_over = self.measure_some(&meter, queue, places, step).await?;
            self.home.delete("v").await?;
            self.home.settle().await;
            if is_over {
                break;
            }
        }
        Ok(meter.sample())
    }

    /// As many snapshots as the time takes.
    async fn after_snapshot(&self) -> Outcome<Sample> {
        let meter = Rc::new(Meter::new(*self.reactor.clock()));
        let queue = self.full_volume().await?;
        for round in 0.. {
            self.home.snapshot("v", "s").await?;
            let places = Places::one_of_each(self.clusters, BLOCKS_PER_CLUSTER, BLOCK, SEED + round);
            let is_over = self.measure_some(&meter, queue.clone(), places, Step::Write(BLOCK as usize)).await?;
            self.home.delete("v@s").await?;
            self.home.settle().await;
            if is_over {
                break;
            }
        }
        Ok(meter.sample())
    }

    /// Goes through the places as far as the time allows; true if it is over.
    async fn measure_some(
        &self,
        meter: &Rc<Meter>,
        queue: Rc<VolumeQueue>,
        places: Places,
        step: Step,
    ) -> Outcome<bool> {
        let load = Load::measured_by(&self.reactor, Under::Volume(queue), places, step, meter.clone());
        let is_over = || meter.seconds() >= f64::from(self.args.seconds);
        meter.on();
        load.start(self.args.depth);
        while !load.is_over() && !is_over() {
            self.reactor.sleep(LOOK).await;
        }
        meter.off();
        load.stop().await?;
        Ok(is_over())
    }
}
