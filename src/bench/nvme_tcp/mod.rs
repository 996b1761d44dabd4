//! The load generator as an NVMe/TCP initiator: `strongroom bench nvme-tcp://HOST:PORT/SUBSYSTEM_NQN`.
//!
//! It does of the protocol what reads and writes need: an admin queue (connect, enable, identify, number of queues, keep alive), and I/O
//! queues without SQ flow control, with in-capsule data or R2T, with digests if asked for (Base sections 3 and 6, NVM section 3.2, TCP
//! section 3). All queues are driven by one thread on one core (`load.rs`).
//!
//! What it checks: every PDU header, that each command in flight is answered once, that a read gets as many bytes as it asked for, in order,
//! and digests. What it does not: **the content of what is read** (it stays in the receive buffer and is overwritten), whether a write
//! arrived, and everything that it does not send: flush, FUA, compare, reservations, asynchronous events, authentication, TLS. Writes send
//! the same block again and again.

mod address;
mod association;
mod error;
#[cfg(test)]
mod fake;
mod frame;
mod incoming;
mod link;
mod load;
mod outgoing;
mod queue;
mod report;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::reactor::pin_current_thread;

pub use address::{Address, NotAnAddress, Nqn, SCHEME};
pub use error::NvmeTcpError;
pub use report::{HoldReport, NvmeTcpReport};

use address::Host;
use association::{Association, Limits, Namespace};
use frame::Digests;
use link::Link;
use load::{Load, Measured};
use queue::{Queue, Shape};

use super::{Mix, pattern, process};

/// Files that a run has open besides its connections.
const OTHER_FILES: u64 = 64;

/// What to run.
#[derive(Clone, Debug)]
pub struct NvmeTcpConfig {
    /// The subsystem.
    pub target: Address,
    /// The host's name; made up if there is none.
    pub host_nqn: Option<Nqn>,
    /// The namespace; the first one that the host sees if there is none.
    pub namespace: Option<u32>,
    /// I/O queues, one connection each.
    pub connections: u32,
    /// Ask for header digests.
    pub header_digest: bool,
    /// Ask for data digests.
    pub data_digest: bool,
    /// Reads, writes or both, in order or at random.
    pub mix: Mix,
    /// Percent of reads in a mix of both.
    pub read_percent: u32,
    /// Bytes of a command.
    pub block_size: u64,
    /// Commands in flight on each connection.
    pub iodepth: u32,
    /// How long to measure.
    pub runtime: Duration,
    /// How long to run before that.
    pub ramp: Duration,
    /// The core of the load.
    pub core: usize,
    /// Seed of places and data.
    pub seed: u64,
}

/// Connected I/O queues with their controllers.
struct Connected {
    associations: Vec<Association>,
    links: Vec<Link>,
    limits: Limits,
    /// Commands that a queue can have in flight.
    depth: u32,
    host: Host,
}

/// Runs the load and returns what was measured; `progress` is called about once a second with the commands done so far.
pub fn run(config: &NvmeTcpConfig, progress: impl FnMut(Duration, u64)) -> Result<NvmeTcpReport, NvmeTcpError> {
    let mut connected = connect(config)?;
    let namespace = connected.associations[0].namespace(config.namespace)?;
    let shape = shape(config, &connected.limits, &namespace)?;
    let blocks = namespace.sectors / u64::from(shape.sectors);
    if blocks == 0 {
        let (id, bytes) = (namespace.id, namespace.sectors * namespace.sector_bytes);
        return Err(NvmeTcpError::Config(format!("namespace {id} has {bytes} bytes, less than one block of --bs")));
    }
    let links = std::mem::take(&mut connected.links);
    let measured = load(config, links, connected.depth, shape, blocks, &mut connected.associations, progress)?;
    Ok(NvmeTcpReport::new(config, &connected, &namespace, shape.in_capsule, measured))
}

/// Opens the connections, holds them without load for the run's time, and returns how many outlived it.
pub fn hold(config: &NvmeTcpConfig, mut progress: impl FnMut(Duration, u64)) -> Result<HoldReport, NvmeTcpError> {
    let start = Instant::now();
    let mut connected = connect(config)?;
    let opened = start.elapsed();
    let start = Instant::now();
    while start.elapsed() < config.runtime {
        std::thread::sleep(Duration::from_secs(1).min(config.runtime.saturating_sub(start.elapsed())));
        connected.associations.iter_mut().try_for_each(Association::keep_alive_if_due)?;
        progress(start.elapsed(), 0);
    }
    let alive = connected.links.iter().filter(|link| link.is_quiet()).count();
    Ok(HoldReport::new(config, &connected, opened, start.elapsed(), alive))
}

/// Opens controllers until they give as many queues as are asked for.
fn connect(config: &NvmeTcpConfig) -> Result<Connected, NvmeTcpError> {
    let wrong = |text: &str| Err(NvmeTcpError::Config(text.to_owned()));
    if config.iodepth == 0 || config.connections == 0 {
        return wrong("at least one connection and --iodepth 1 are needed");
    }
    let files = u64::from(config.connections) * 2 + OTHER_FILES;
    process::allow_open_files(files)
        .map_err(|e| NvmeTcpError::Config(format!("cannot have {files} files open: {e}")))?;
    let host = Host::new(config.host_nqn.clone())
        .map_err(|e| NvmeTcpError::Config(format!("no random host identifier: {e}")))?;
    let digests = Digests { header: config.header_digest, data: config.data_digest };
    let mut associations = vec![Association::open(&config.target, &host, digests, config.connections)?];
    let limits = associations[0].limits;
    // A queue is full with one entry less than it has (Base section 3.3.1.5, Full Queue).
    let entries = config.iodepth.saturating_add(1).clamp(2, limits.entries.max(2));
    let depth = config.iodepth.min(entries - 1).min(limits.commands);
    let mut links = Vec::new();
    while links.len() < config.connections as usize {
        let association = associations.last_mut().expect("one at least");
        match association.queue(&config.target, &host, digests, entries)? {
            Some(link) => links.push(link),
            None => {
                let left = config.connections - links.len() as u32;
                associations.push(Association::open(&config.target, &host, digests, left)?);
            }
        }
    }
    Ok(Connected { associations, links, limits, depth, host })
}

fn shape(config: &NvmeTcpConfig, limits: &Limits, namespace: &Namespace) -> Result<Shape, NvmeTcpError> {
    let (bytes, sector) = (config.block_size, namespace.sector_bytes);
    if bytes == 0 || !bytes.is_multiple_of(sector) {
        return Err(NvmeTcpError::Config(format!(
            "--bs {bytes} is not a multiple of the {sector}-byte sectors of namespace {}",
            namespace.id
        )));
    }
    // Number of Logical Blocks has 16 bits (NVM section 3.2.4).
    let most = limits.transfer.min(sector << 16);
    if bytes > most {
        return Err(NvmeTcpError::Config(format!("--bs {bytes} is more than the {most} bytes of one transfer")));
    }
    Ok(Shape {
        namespace: namespace.id,
        block_bytes: bytes as u32,
        sectors: (bytes / sector) as u32,
        in_capsule: bytes <= limits.in_capsule,
    })
}

/// Runs the load on a thread of its own, and keeps the controllers alive meanwhile.
fn load(
    config: &NvmeTcpConfig,
    links: Vec<Link>,
    depth: u32,
    shape: Shape,
    blocks: u64,
    associations: &mut [Association],
    mut progress: impl FnMut(Duration, u64),
) -> Result<Measured, NvmeTcpError> {
    let done = AtomicU64::new(0);
    let (result, finished) = mpsc::channel();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            // The caller waits for as long as the thread lives.
            let _ = result.send(on_core(config, links, depth, shape, blocks, done));
        });
        loop {
            match finished.recv_timeout(Duration::from_secs(1)) {
                Ok(measured) => return measured,
                Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the load's thread panicked"),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            progress(start.elapsed(), done.load(Ordering::Relaxed));
            associations.iter_mut().try_for_each(Association::keep_alive_if_due)?;
        }
    })
}

fn on_core(
    config: &NvmeTcpConfig,
    links: Vec<Link>,
    depth: u32,
    shape: Shape,
    blocks: u64,
    done: &AtomicU64,
) -> Result<Measured, NvmeTcpError> {
    pin_current_thread(config.core)
        .map_err(|e| NvmeTcpError::Config(format!("cannot run on core {}: {e}", config.core)))?;
    let mut payload = vec![0; (shape.block_bytes as usize).next_multiple_of(8)];
    pattern::fill(&mut payload, config.seed, 0, 0);
    let payload: Rc<[u8]> = payload.into();
    let queues = links
        .into_iter()
        .map(|link| Queue::new(link, depth as usize, shape, payload.clone()))
        .collect::<Result<_, _>>()?;
    Load::new(config, queues, shape, blocks, done).run()
}
