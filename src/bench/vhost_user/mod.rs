//! The load generator as a virtual machine's front end: `strongroom bench vhost-user:/PATH.sock`.
//!
//! It does of virtio-blk what reads and writes need (virtio 1.2, section 5.2), as a driver that polls: requests are put into rings in shared memory,
//! completions are looked for and never signalled, and the device is kicked only when it asks for that. All queues are driven by one thread
//! on one core (`load.rs`). Any vhost-user-blk back end will do: ours, QEMU's storage daemon, SPDK's target.
//!
//! What it checks: that the device completes what it was given, each request once, and its status and length. What it does not: **the content of what
//! is read** (it stays in the buffer and is overwritten), whether a write arrived, and everything that it does not send: flush, discard, write zeroes.
//! Writes send the same block again and again.

mod address;
mod error;
mod front_end;
mod load;
mod memory;
#[cfg(feature = "simulation")]
pub mod null_device;
mod queue;
mod report;
mod ring;
#[cfg(all(test, feature = "simulation"))]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::memory::HugePages;
use crate::reactor::pin_current_thread;

pub use address::{NotASocket, SCHEME, Socket};
pub use error::VhostUserError;
pub use front_end::{BlockConfig, FrontEnd, QueueEvents, RingPlace, feature};
pub use memory::SharedMemory;
pub use report::VhostUserReport;

use load::{Load, Measured};
use queue::{Place, Queue, Shape};

use super::{Mix, pattern};

/// Places on a disk are counted in units of 512 bytes, whatever its blocks are (virtio 1.2, section 5.2.4).
pub(super) const SECTOR: u64 = 512;
/// Where the device sees the memory. Nothing in this process has such an address, so that confusing the two is found out.
const GUEST_BASE: u64 = 1 << 40;

/// How the rings of a run look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RingKind {
    /// Descriptors, available ring and used ring (virtio 1.2, section 2.7).
    Split,
    /// One ring that both sides write (section 2.8).
    Packed,
}

impl fmt::Display for RingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Split => "split",
            Self::Packed => "packed",
        })
    }
}

impl FromStr for RingKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "split" => Ok(Self::Split),
            "packed" => Ok(Self::Packed),
            _ => Err(format!("{text:?} is unknown; choose split or packed")),
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct VhostUserConfig {
    /// The back end's socket.
    pub socket: PathBuf,
    /// Queues.
    pub queues: u32,
    /// How their rings look.
    pub ring: RingKind,
    /// Put the pieces of a request into a table beside the ring, as Linux does.
    pub indirect: bool,
    /// Reads, writes or both, in order or at random.
    pub mix: Mix,
    /// Percent of reads in a mix of both.
    pub read_percent: u32,
    /// Bytes of a request.
    pub block_size: u64,
    /// Requests in flight on each queue.
    pub iodepth: u32,
    /// How long to measure.
    pub runtime: Duration,
    /// How long to run before that.
    pub ramp: Duration,
    /// How long to sleep after an answer, before the next request; nothing for a load that never stops.
    pub thinktime: Duration,
    /// The core of the load.
    pub core: usize,
    /// Seed of places and data.
    pub seed: u64,
}

/// A device that is ready for the load.
struct Started {
    front_end: FrontEnd,
    memory: Arc<SharedMemory>,
    events: Vec<QueueEvents>,
    places: Vec<Place>,
    shape: Shape,
    disk_bytes: u64,
    sector_bytes: u64,
    is_indirect: bool,
    is_huge: bool,
}

/// Runs the load and returns what was measured; `progress` is called about once a second with the requests done so far.
pub fn run(config: &VhostUserConfig, progress: impl FnMut(Duration, u64)) -> Result<VhostUserReport, VhostUserError> {
    let mut started = start(config)?;
    let measured = load(config, &mut started, progress);
    // The device has let go of the memory before it is unmapped, whatever became of the load.
    let stopped = (0..started.events.len()).try_for_each(|queue| started.front_end.stop_queue(queue).map(|_| ()));
    let measured = measured?;
    stopped?;
    Ok(VhostUserReport::new(config, &started, measured))
}

fn start(config: &VhostUserConfig) -> Result<Started, VhostUserError> {
    let wrong = |text: String| Err(VhostUserError::Config(text));
    if config.iodepth == 0 || config.queues == 0 {
        return wrong("at least one queue and --iodepth 1 are needed".to_owned());
    }
    use feature::{BLK_SIZE, FLUSH, INDIRECT_DESC, MQ, RING_PACKED, RO, SEG_MAX, SIZE_MAX, VERSION_1};
    let ring = if config.ring == RingKind::Packed { RING_PACKED } else { 0 };
    let indirect = if config.indirect { INDIRECT_DESC } else { 0 };
    // A driver that knows no flush has each write made durable by itself (section 5.2.6.2), which is not what Linux asks for.
    let wanted = VERSION_1 | BLK_SIZE | SEG_MAX | SIZE_MAX | MQ | RO | FLUSH | ring | indirect;
    let mut front_end = FrontEnd::connect(&config.socket, wanted)?;
    if config.ring == RingKind::Packed && !front_end.has(RING_PACKED) {
        return wrong("the device has no packed rings; leave --ring packed out".to_owned());
    }
    if front_end.has(RO) && config.mix.read_percent(config.read_percent) < 100 {
        return wrong("the disk cannot be written; choose --rw read or randread".to_owned());
    }
    let device = front_end.config()?;
    let queues = if front_end.has(MQ) { front_end.queues()?.min(device.num_queues.get().into()) } else { 1 };
    if u64::from(config.queues) > queues {
        return wrong(format!("the device has {queues} queues, not {}", config.queues));
    }
    let shape = Shape::new(config, &front_end, &device)?;
    let (places, bytes) = Place::of_all(config, &shape)?;
    let memory = SharedMemory::new(bytes, GUEST_BASE, HugePages::Prefer)
        .map_err(|source| VhostUserError::Memory { mib: bytes >> 20, source })?;
    front_end.set_memory(&[&memory])?;
    let events = (0..config.queues).map(|_| QueueEvents::new()).collect::<Result<Vec<_>, _>>();
    let events = events.map_err(|source| VhostUserError::Socket { what: "making eventfds".to_owned(), source })?;
    Ok(Started {
        is_huge: memory.is_huge(),
        front_end,
        memory: Arc::new(memory),
        events,
        places,
        shape,
        disk_bytes: device.capacity.get() * SECTOR,
        sector_bytes: device.blk_size.get().into(),
        is_indirect: shape.is_indirect,
    })
}

/// Starts the queues and runs the load on a thread of its own.
fn load(
    config: &VhostUserConfig,
    started: &mut Started,
    mut progress: impl FnMut(Duration, u64),
) -> Result<Measured, VhostUserError> {
    let blocks = started.disk_bytes / config.block_size;
    if blocks == 0 {
        let bytes = started.disk_bytes;
        return Err(VhostUserError::Config(format!("the disk has {bytes} bytes, less than one block of --bs")));
    }
    let done = AtomicU64::new(0);
    let (result, finished) = mpsc::channel();
    let start = Instant::now();
    for (index, place) in started.places.iter().enumerate() {
        let ring = place.ring.place(&started.memory);
        started.front_end.start_queue(index, &ring, place.ring.base(), &started.events[index])?;
    }
    let started = &*started;
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            // The caller waits for as long as the thread lives.
            let _ = result.send(on_core(config, started, blocks, done));
        });
        loop {
            match finished.recv_timeout(Duration::from_secs(1)) {
                Ok(measured) => return measured,
                Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the load's thread panicked"),
                Err(mpsc::RecvTimeoutError::Timeout) => progress(start.elapsed(), done.load(Ordering::Relaxed)),
            }
        }
    })
}

fn on_core(
    config: &VhostUserConfig,
    started: &Started,
    blocks: u64,
    done: &AtomicU64,
) -> Result<Measured, VhostUserError> {
    pin_current_thread(config.core)
        .map_err(|e| VhostUserError::Config(format!("cannot run on core {}: {e}", config.core)))?;
    let Started { memory, shape, events, .. } = started;
    let mut payload = vec![0; (shape.block_bytes as usize).next_multiple_of(8)];
    pattern::fill(&mut payload, config.seed, 0, 0);
    let queue = |(index, place): (usize, &Place)| {
        let kick = events[index].kick.try_clone();
        let kick = kick.map_err(|source| VhostUserError::Socket { what: "sharing an eventfd".to_owned(), source })?;
        Ok(Queue::new(index, memory.clone(), place, kick, *shape, config.iodepth as usize, &payload))
    };
    let queues = started.places.iter().enumerate().map(queue).collect::<Result<_, _>>()?;
    Load::new(config, queues, *shape, blocks, done).run()
}
