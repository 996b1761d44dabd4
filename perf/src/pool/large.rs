//! A pool whose one volume has 1 TiB and is full, on a simulated device: each cluster holds one block of zeros, which that device keeps
//! without memory. It is filled once, which takes most of the time, and then asked again and again.
//!
//! The device answers within a few turns of the reactor, so that nothing hides behind its latency, and the reactor that serves the load is the
//! pool's home as well.

use std::io::{BufRead, Write, stdin, stdout};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use clap::{Args as Arguments, ValueEnum};
use strongroom::device::{SharedDevice, SimulatedConfig, SimulatedDevice};
use strongroom::reactor::Reactor;
use strongroom::volume::{FormatOptions, Home, NewVolume, OpenOptions, VolumeQueue};

use crate::failure::Failure;
use crate::sample::Sample;
use crate::stats::Summary;

use super::load::{Load, Step, Stride, Under};
use super::places::Places;
use super::{BLOCK, BLOCKS_PER_CLUSTER, CLUSTER, Outcome, fill, on_reactor, resident};

/// The line that says that the pool is full.
pub const READY: &str = "ready";
/// The most turns of the reactor that the device takes for a command.
const TURNS: u32 = 4;
/// Bytes of the volume that is loaded while another is deleted.
const BYSTANDER: u64 = 1 << 30;
/// The least room for what is copied after a snapshot.
const LEAST_SPARE: u64 = 64 << 30;
/// Commands in flight.
pub const LOAD_DEPTH: u32 = 32;
/// Load before something happens, and between two events.
const CALM: Duration = Duration::from_millis(100);
/// Snapshots in a measurement, however long they take.
const LEAST_EVENTS: usize = 5;
/// What is still measured after a snapshot: the first writes that find it.
const AFTERMATH: Duration = Duration::from_millis(10);
/// Load that parts a volume from its snapshot.
const PARTING: Duration = Duration::from_secs(1);
/// What is measured of a load when nothing happens to it.
const STILL: Duration = Duration::from_millis(300);
/// Clusters changed between the last checkpoint and the crash: a quarter of the largest journal.
const CHANGED: u64 = 1 << 19;
/// How often it is looked whether there is a request.
const LOOK: Duration = Duration::from_millis(1);

/// The pool.
#[derive(Arguments)]
pub struct Args {
    /// GiB of the volume
    #[arg(long)]
    gib: u64,
    /// Seconds of a measurement that goes on for ever
    #[arg(long)]
    seconds: u32,
    /// The reactor's core
    #[arg(long)]
    core: usize,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Request {
    /// Random writes, and snapshots of the volume now and then: the moments around these are measured.
    Snapshots,
    /// The same moments without snapshots.
    NoSnapshots,
    /// A snapshot is deleted that shares most clusters and no leaf any more with its volume, which is loaded.
    DeleteShared,
    /// The same load beside the same snapshot, which stays.
    KeepShared,
    /// A snapshot is deleted that alone has its clusters, while another volume is loaded.
    DeleteLast,
    /// The same load beside the same snapshot, which stays.
    KeepLast,
    /// The pool is closed and opened.
    OpenClean,
    /// The pool is left in the midst of changes and opened.
    OpenCrashed,
}

impl Request {
    /// Its name on the line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is skipped").get_name().to_owned()
    }
}

/// Fills the pool and answers what is asked on the standard input, until that ends.
pub fn serve(args: Args) -> Outcome<()> {
    let (requests, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            if requests.send(line).is_err() {
                return;
            }
        }
    });
    let (answers, answered) = mpsc::channel::<String>();
    let printer = std::thread::spawn(move || {
        for line in answered {
            let mut out = stdout().lock();
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    });
    on_reactor(args.core, move |reactor| answer(reactor, args, asked, answers))?;
    // It ends when the last answer is printed.
    let _ = printer.join();
    Ok(())
}

async fn answer(reactor: Reactor, args: Args, asked: Receiver<String>, answers: Sender<String>) -> Outcome<()> {
    let mut pool = Large::make(reactor.clone(), &args).await?;
    answers.send(READY.into())?;
    loop {
        match asked.try_recv() {
            Ok(line) => {
                let request = Request::from_str(line.trim(), false).map_err(Failure::Request)?;
                answers.send(serde_json::to_string(&pool.answer(request).await?)?)?;
            }
            Err(TryRecvError::Empty) => reactor.sleep(LOOK).await,
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

struct Large {
    reactor: Reactor,
    simulated: SimulatedDevice,
    device: Arc<SharedDevice>,
    /// None while it is closed.
    open: Option<Rc<Home>>,
    clusters: u64,
    span: Duration,
    seed: u64,
}

impl Large {
    async fn make(reactor: Reactor, args: &Args) -> Outcome<Self> {
        let clusters = (args.gib << 30) / CLUSTER;
        // Room for metadata, for what is copied after snapshots, and for another volume.
        let size = (args.gib << 30) + ((args.gib << 30) / 4).max(LEAST_SPARE) + BYSTANDER;
        let config = SimulatedConfig { size, block_size: 4096, most_turns: TURNS, ..SimulatedConfig::default() };
        let simulated = SimulatedDevice::new(config);
        let device = Arc::new(SharedDevice::simulated("perf", simulated.clone()));
        Home::format("perf", &reactor, &device.handle(&reactor)?, &FormatOptions::default()).await?;
        let home = Home::open("perf", &reactor, device.clone(), &OpenOptions::default()).await?;
        let span = Duration::from_secs(args.seconds.into());
        let pool = Self { reactor, simulated, device, open: Some(home), clusters, span, seed: 0 };
        pool.fill("v", pool.clusters).await?;
        pool.fill("bystander", BYSTANDER / CLUSTER).await?;
        Ok(pool)
    }

    async fn fill(&self, name: &str, clusters: u64) -> Outcome<()> {
        let new = NewVolume { name: name.into(), size: clusters * CLUSTER, attributes: Vec::new(), key: None };
        let queue = self.home().create_volume(new).await?.queue(&self.reactor)?;
        let stride = Stride { bytes: CLUSTER, count: clusters, len: BLOCK as usize };
        fill(&self.reactor, self.home(), &queue, Load::of_zeros, stride).await
    }

    async fn answer(&mut self, request: Request) -> Outcome<Sample> {
        self.seed += 1;
        match request {
            Request::Snapshots | Request::NoSnapshots => self.snapshots(request == Request::Snapshots).await,
            Request::DeleteShared | Request::KeepShared => self.delete_shared(request == Request::DeleteShared).await,
            Request::DeleteLast | Request::KeepLast => self.delete_last(request == Request::DeleteLast).await,
            Request::OpenClean => self.open_clean().await,
            Request::OpenCrashed => self.open_crashed().await,
        }
    }

    fn home(&self) -> &Home {
        self.open.as_ref().expect("it is opened again before the next request")
    }

    fn leave(&mut self) -> Rc<Home> {
        self.open.take().expect("it is opened again before the next request")
    }

    fn queue(&self, name: &str) -> Outcome<Rc<VolumeQueue>> {
        Ok(self.home().pool().volume(name)?.queue(&self.reactor)?)
    }

    /// Random writes of 4 KiB to the blocks that are there.
    fn load(&self, name: &str, clusters: u64) -> Outcome<Rc<Load>> {
        let places = Places::anywhere(clusters, CLUSTER, self.seed);
        let load = Load::of_zeros(&self.reactor, Under::Volume(self.queue(name)?), places, Step::Write(BLOCK as usize));
        load.start(LOAD_DEPTH);
        Ok(load)
    }

    async fn snapshots(&self, takes_them: bool) -> Outcome<Sample> {
        let load = self.load("v", self.clusters)?;
        let (mut pauses, mut calls) = (Vec::new(), Vec::new());
        let began = Instant::now();
        while began.elapsed() < self.span || pauses.len() < LEAST_EVENTS {
            self.reactor.sleep(CALM).await;
            load.meter.on();
            if takes_them {
                let call = Instant::now();
                self.home().snapshot("v", "s").await?;
                calls.push(call.elapsed().as_secs_f64() * 1e3);
            }
            self.reactor.sleep(AFTERMATH).await;
            pauses.push(load.meter.off());
            if takes_them {
                self.home().delete("v@s").await?;
                self.home().settle().await;
            }
        }
        load.stop().await?;
        let pause = Summary::of(pauses.iter().copied()).ok_or("nothing was measured")?;
        let call = Summary::of(calls).map(|c| format!(", each answered after {:.1} ms", c.median)).unwrap_or_default();
        let note = format!("longest of {} {:.2} ms{call}", pauses.len(), pause.max / 1e3);
        Ok(Sample { pause_us: Some(pause.median), note: Some(note), ..load.meter.sample() })
    }

    async fn delete_shared(&self, deletes: bool) -> Outcome<Sample> {
        self.home().snapshot("v", "s").await?;
        let load = self.load("v", self.clusters)?;
        self.reactor.sleep(PARTING).await;
        let sample = self.deletion(&load, "v@s", deletes).await?;
        load.stop().await?;
        if !deletes {
            self.home().delete("v@s").await?;
            self.home().settle().await;
        }
        Ok(sample)
    }

    async fn delete_last(&self, deletes: bool) -> Outcome<Sample> {
        self.home().snapshot("v", "s").await?;
        self.home().delete("v").await?;
        self.home().settle().await;
        let load = self.load("bystander", BYSTANDER / CLUSTER)?;
        self.reactor.sleep(CALM).await;
        let sample = self.deletion(&load, "v@s", deletes).await?;
        load.stop().await?;
        if deletes {
            self.fill("v", self.clusters).await?;
        } else {
            self.home().clone_snapshot("v@s", "v").await?;
            self.home().delete("v@s").await?;
            self.home().settle().await;
        }
        Ok(sample)
    }

    /// What the load notices of a deletion, until the last cluster may be used again; or of nothing.
    async fn deletion(&self, load: &Load, snapshot: &str, deletes: bool) -> Outcome<Sample> {
        load.meter.on();
        if deletes {
            self.home().delete(snapshot).await?;
            self.home().settle().await;
        } else {
            self.reactor.sleep(STILL).await;
        }
        load.meter.off();
        let note = format!("measured for {:.2} s", load.meter.seconds());
        Ok(Sample { note: Some(note), ..load.meter.sample() })
    }

    async fn open_clean(&mut self) -> Outcome<Sample> {
        self.leave().close().await?;
        self.open().await
    }

    async fn open_crashed(&mut self) -> Outcome<Sample> {
        self.home().checkpoint().await?;
        let queue = self.queue("v")?;
        // Another block in each of these clusters, so that their words change.
        let places = Places::one_of_each(self.clusters, BLOCKS_PER_CLUSTER, BLOCK, self.seed);
        let load =
            Load::of_zeros(&self.reactor, Under::Volume(queue), places.first(CHANGED), Step::Write(BLOCK as usize));
        load.run(LOAD_DEPTH).await?;
        drop(load);
        self.home().commit().await?;
        self.leave().abandon();
        self.open().await
    }

    /// Opens the pool after the last one is gone.
    async fn open(&mut self) -> Outcome<Sample> {
        // The tasks of the old home end in their own time.
        self.reactor.sleep(CALM).await;
        resident::trim();
        let (before, on_device) = (resident::bytes(), self.simulated.bytes_kept());
        resident::forget_peak();
        let began = Instant::now();
        let home = Home::open("perf", &self.reactor, self.device.clone(), &OpenOptions::default()).await?;
        let seconds = began.elapsed().as_secs_f64();
        let peak = resident::peak_bytes();
        resident::trim();
        let grown = (resident::bytes() + on_device).saturating_sub(before + self.simulated.bytes_kept());
        self.open = Some(home);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let note = format!("{:.0} MiB more while it opens", mib(peak.saturating_sub(before)));
        Ok(Sample { seconds: Some(seconds), memory_mib: Some(mib(grown)), note: Some(note), ..Sample::default() })
    }
}
