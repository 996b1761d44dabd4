//! A side with a load on it, for one unit: started, measured in slices, and gone when it is dropped.
//!
//! Everything under test is started anew for each unit, and what runs in one process for each slice: what depends on where a process happens to
//! lie in memory then differs from unit to unit, and is part of the noise that is seen.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::contender::bench::{self, Cipher, Device};
use crate::contender::nbd::{self, EXPORT};
use crate::contender::nvme::{self, Place};
use crate::contender::vhost;
use crate::failure::Result;
use crate::nbd_client::Connection;
use crate::nbd_load::{self, Loaded, Order, Until};
use crate::process::{self, Server};
use crate::sample::Sample;
use crate::workload::{Rw, Workload};

use super::matrix::{Row, Subject};
use super::side::{DISK_MIB, Side, Sides};

/// The load that fills a disk.
const FILL: Workload = Workload { rw: Rw::Write, block_kib: 128, depth: 8 };

/// Several times as long as that takes.
const FILL_TIME: Slice = Slice { seconds: 0.3, ramp_s: 0.0 };

/// How long a slice is.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Seconds that are measured.
    pub seconds: f64,
    /// Seconds of load before that.
    pub ramp_s: f64,
}

/// A side with a load on it.
pub enum Session {
    /// A process for each slice.
    Process,
    /// A connection, and its server.
    Nbd { connection: Connection, _server: Server },
    /// A server, and where it listens. A client for each slice.
    Nvme { place: Place, _server: Server },
    /// A back end and its socket. A front end for each slice.
    VhostUser { socket: PathBuf, _server: Server },
}

impl Session {
    /// Starts what the row needs of a side, and fills its disk.
    pub fn open(row: &Row, side: &Side, sides: &Sides) -> Result<Self> {
        match row.subject {
            Subject::Bench(..) | Subject::Pool => Ok(Self::Process),
            Subject::Nbd => {
                nbd::Kind::OursMemory.prepare(&side.lab)?;
                let (server, socket) = nbd::Kind::OursMemory.start(&side.lab)?;
                let mut connection = Connection::open(&socket, EXPORT)?;
                let until = Until::Count((DISK_MIB << 10) / u64::from(FILL.block_kib));
                let fill = Order { workload: FILL, size: DISK_MIB << 20, until };
                nbd_load::run(&mut connection, fill, side.lab.client_core)?;
                Ok(Self::Nbd { connection, _server: server })
            }
            Subject::Nvme => {
                nvme::Kind::Ours.prepare(&side.lab)?;
                let (server, place) = nvme::Kind::Ours.start(&side.lab)?;
                run_bench(&mut place.bench(sides.client()), FILL, FILL_TIME)?;
                Ok(Self::Nvme { place, _server: server })
            }
            Subject::VhostUser => {
                vhost::Kind::Ours.prepare(&side.lab)?;
                let (server, socket) = vhost::Kind::Ours.start(&side.lab, None)?;
                run_bench(&mut vhost::front_end(sides.client(), &socket), FILL, FILL_TIME)?;
                Ok(Self::VhostUser { socket, _server: server })
            }
        }
    }

    /// Measures once.
    pub fn slice(&mut self, row: &Row, side: &Side, sides: &Sides, slice: Slice) -> Result<Sample> {
        match (self, row.subject) {
            (Self::Nbd { connection, .. }, _) => {
                let (ramp, run) = (Duration::from_secs_f64(slice.ramp_s), Duration::from_secs_f64(slice.seconds));
                let until = Until::Time { ramp, run };
                let order = Order { workload: row.workload, size: DISK_MIB << 20, until };
                let Loaded { sample, vain_looks_percent } = nbd_load::run(connection, order, side.lab.client_core)?;
                Ok(Sample { note: Some(format!("client waits {vain_looks_percent:.0} %")), ..sample })
            }
            (Self::Nvme { place, .. }, _) => run_bench(&mut place.bench(sides.client()), row.workload, slice),
            (Self::VhostUser { socket, .. }, _) => {
                run_bench(&mut vhost::front_end(sides.client(), socket), row.workload, slice)
            }
            (Self::Process, Subject::Bench(device, cipher)) => {
                run_bench(&mut own_disk(side, device, cipher), row.workload, slice)
            }
            (Self::Process, _) => run_pool(&mut pool(side), row.workload, slice),
        }
    }
}

/// `strongroom bench` on a disk of its own.
fn own_disk(side: &Side, device: Device, cipher: Cipher) -> Command {
    let mut command = Command::new(side.strongroom());
    command.args(["bench", "--json", "--cores", &side.lab.server_core.to_string()]);
    command.args(["--device", if device == Device::Null { "null" } else { "memory" }]);
    command.args(["--size", &format!("{DISK_MIB}M")]);
    match cipher {
        Cipher::Plain => command.args(["--encryption", "none"]),
        Cipher::Xts(unit) => command.args(["--encryption", "aes-256-xts", "--sector-size", &unit.to_string()]),
    };
    command
}

/// The driver of pools on a volume as large as those disks.
pub fn pool(side: &Side) -> Command {
    let mut command = Command::new(side.driver());
    command.args(["drive-pool", "disk", "--stands-on", "pool", "--encrypted"]);
    command.args(["--core", &side.lab.server_core.to_string(), "--mib", &DISK_MIB.to_string()]);
    command
}

/// Whether a driver of pools can measure parts of a second; older ones count in whole ones.
pub fn pool_takes_fractions(side: &Side) -> bool {
    let workload = Workload::randread_4k(1);
    let slice = Slice { seconds: 0.01, ramp_s: 0.0 };
    run_pool(&mut pool(side), workload, slice).is_ok()
}

fn run_bench(command: &mut Command, workload: Workload, slice: Slice) -> Result<Sample> {
    command.args(["--bs", &workload.block_size()]);
    ask("strongroom bench", command, BENCH, workload, slice)
}

fn run_pool(command: &mut Command, workload: Workload, slice: Slice) -> Result<Sample> {
    ask("strongroom-perf drive-pool", command, POOL, workload, slice)
}

/// What two programs call the same things.
#[derive(Clone, Copy)]
pub struct Words {
    /// Commands in flight.
    pub depth: &'static str,
    /// Seconds to measure.
    pub time: &'static str,
}

const BENCH: Words = Words { depth: "--iodepth", time: "--runtime" };
const POOL: Words = Words { depth: "--depth", time: "--seconds" };

/// The words of the program that a row runs in process.
pub fn words(row: &Row) -> Words {
    if row.subject == Subject::Pool { POOL } else { BENCH }
}

/// The options of a load.
pub fn load(command: &mut Command, words: Words, workload: Workload, slice: Slice) {
    command.args(["--rw", workload.rw.name(), words.depth, &workload.depth.to_string()]);
    command.args([words.time, &slice.seconds.to_string(), "--ramp", &slice.ramp_s.to_string()]);
}

fn ask(name: &str, command: &mut Command, words: Words, workload: Workload, slice: Slice) -> Result<Sample> {
    load(command, words, workload, slice);
    bench::parse(&process::run(name, command)?, 0)
}
