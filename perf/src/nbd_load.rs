//! A load over NBD that keeps commands in flight on one connection and spins: fio's engine would be the slower side, and hide the server.
//!
//! Checks that each reply is one to a command in flight, and no error. Data that is read is not looked at.
//!
//! Facts: the NBD protocol document (doc/proto.md), sections "Request message" and "Simple reply message". All numbers are big-endian.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use strongroom::reactor::pin_current_thread;

use crate::failure::{Context, Result};
use crate::nbd_client::{Connection, READ, REPLY_BYTES, REPLY_MAGIC, WRITE, request};
use crate::sample::{Latency, Sample};
use crate::workload::{Rw, Workload};

/// Bytes that are received at once.
const RECEIVE: usize = 256 << 10;
/// A server that is silent for so long does not answer any more.
const SILENCE: Duration = Duration::from_secs(10);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The load.
    pub workload: Workload,
    /// Bytes of the disk.
    pub size: u64,
    /// When it ends.
    pub until: Until,
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so long; what completes in the ramp before is not measured.
    Time { ramp: Duration, run: Duration },
    /// After so many commands.
    Count(u64),
}

/// What a load measured.
pub struct Loaded {
    /// Rates and latencies.
    pub sample: Sample,
    /// The share of looks at the socket that found nothing, in percent.
    pub vain_looks_percent: f64,
}

/// Runs a load, on a thread that is pinned to `core`.
pub fn run(connection: &mut Connection, order: Order, core: usize) -> Result<Loaded> {
    let stream = connection.stream();
    let on_thread = || -> io::Result<Loaded> {
        pin_current_thread(core)?;
        stream.set_nonblocking(true)?;
        let loaded = Load::new(order).run(stream);
        stream.set_nonblocking(false)?;
        loaded
    };
    let joined = std::thread::scope(|scope| scope.spawn(on_thread).join());
    joined.unwrap_or_else(|_| Err(io::Error::other("the load's thread panicked"))).context(|| "the NBD load".into())
}

struct Load {
    order: Order,
    /// When each slot's command was sent, while it is in flight.
    begun: Vec<Option<Instant>>,
    /// Slots whose command is to be sent.
    idle: Vec<u64>,
    in_flight: usize,
    sent: u64,
    random: u64,
    out: Vec<u8>,
    out_at: usize,
    input: Vec<u8>,
    filled: usize,
    /// The read whose data is arriving, and how much is missing.
    arriving: Option<(u64, usize)>,
    latency_ns: Histogram<u64>,
    start: Instant,
    looks: u64,
    vain_looks: u64,
}

impl Load {
    fn new(order: Order) -> Self {
        let start = Instant::now();
        Self {
            begun: vec![None; order.workload.depth as usize],
            idle: (0..u64::from(order.workload.depth)).collect(),
            in_flight: 0,
            sent: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            out: Vec::new(),
            out_at: 0,
            input: vec![0; RECEIVE],
            filled: 0,
            arriving: None,
            latency_ns: Histogram::new_with_bounds(1, 1 << 40, 3).expect("valid bounds"),
            start,
            looks: 0,
            vain_looks: 0,
            order,
        }
    }

    fn run(mut self, stream: &mut UnixStream) -> io::Result<Loaded> {
        let mut heard = Instant::now();
        loop {
            let now = Instant::now();
            if self.goes_on(now) {
                self.fill(now);
            } else if self.in_flight == 0 {
                let vain_looks_percent = 100.0 * self.vain_looks as f64 / self.looks.max(1) as f64;
                return Ok(Loaded { sample: self.sample(), vain_looks_percent });
            }
            self.send(stream)?;
            self.looks += 1;
            match stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(io::Error::other("the server has closed the connection")),
                Ok(bytes) => {
                    self.filled += bytes;
                    heard = Instant::now();
                    self.take(heard)?;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.vain_looks += 1;
                    if now.duration_since(heard) > SILENCE {
                        return Err(io::Error::other("the server does not answer"));
                    }
                    std::hint::spin_loop();
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn goes_on(&self, now: Instant) -> bool {
        match self.order.until {
            Until::Time { ramp, run } => now.duration_since(self.start) < ramp + run,
            Until::Count(count) => self.sent < count,
        }
    }

    /// Commands of all idle slots into the output.
    fn fill(&mut self, now: Instant) {
        let bytes = self.order.workload.block_kib << 10;
        let write = self.order.workload.rw.is_write();
        while let Some(slot) = self.idle.pop() {
            let at = self.place() * u64::from(bytes);
            self.out.extend(request(if write { WRITE } else { READ }, slot, at, bytes));
            if write {
                self.out.resize(self.out.len() + bytes as usize, 0x5a);
            }
            self.begun[slot as usize] = Some(now);
            self.in_flight += 1;
            self.sent += 1;
        }
    }

    /// The number of the next block.
    fn place(&mut self) -> u64 {
        let blocks = self.order.size / u64::from(self.order.workload.block_kib << 10);
        match self.order.workload.rw {
            Rw::Read | Rw::Write => self.sent % blocks,
            // Marsaglia's xorshift64.
            Rw::RandRead | Rw::RandWrite => {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                self.random % blocks
            }
        }
    }

    fn send(&mut self, stream: &mut UnixStream) -> io::Result<()> {
        while self.out_at < self.out.len() {
            match stream.write(&self.out[self.out_at..]) {
                Ok(bytes) => self.out_at += bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(())
    }

    /// Goes through what has arrived.
    fn take(&mut self, now: Instant) -> io::Result<()> {
        let mut at = 0;
        loop {
            if let Some((slot, missing)) = self.arriving {
                let here = missing.min(self.filled - at);
                at += here;
                if here < missing {
                    self.arriving = Some((slot, missing - here));
                    break;
                }
                self.arriving = None;
                self.complete(slot, now)?;
            }
            let Some(reply) = self.input[at..self.filled].first_chunk::<REPLY_BYTES>() else { break };
            let slot = slot_of(reply, self.begun.len())?;
            at += REPLY_BYTES;
            match self.order.workload.rw.is_write() {
                true => self.complete(slot, now)?,
                false => self.arriving = Some((slot, (self.order.workload.block_kib as usize) << 10)),
            }
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    fn complete(&mut self, slot: u64, now: Instant) -> io::Result<()> {
        let begun = self.begun[slot as usize].take();
        let begun = begun.ok_or_else(|| io::Error::other(format!("a second reply to command {slot}")))?;
        let measured = match self.order.until {
            Until::Time { ramp, run } => begun >= self.start + ramp && now <= self.start + ramp + run,
            Until::Count(_) => true,
        };
        if measured {
            self.latency_ns.saturating_record(now.duration_since(begun).as_nanos() as u64);
        }
        self.in_flight -= 1;
        self.idle.push(slot);
        Ok(())
    }

    fn sample(&self) -> Sample {
        let seconds = match self.order.until {
            Until::Time { run, .. } => run.as_secs_f64(),
            Until::Count(_) => self.start.elapsed().as_secs_f64(),
        };
        let iops = self.latency_ns.len() as f64 / seconds;
        let at = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
        Sample {
            iops: Some(iops),
            mib_per_s: Some(iops * f64::from(self.order.workload.block_kib) / 1024.0),
            latency_us: Some(Latency {
                mean: self.latency_ns.mean() / 1e3,
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p99_9: at(0.999),
                p99_99: at(0.9999),
                max: self.latency_ns.max() as f64 / 1e3,
            }),
            ..Sample::default()
        }
    }
}

/// The slot that a reply is for.
fn slot_of(reply: &[u8; REPLY_BYTES], slots: usize) -> io::Result<u64> {
    let word = |at: usize| u32::from_be_bytes(reply[at..at + 4].try_into().expect("four bytes"));
    let slot = u64::from(word(8)) << 32 | u64::from(word(12));
    match (word(0), word(4)) {
        (REPLY_MAGIC, 0) if slot < slots as u64 => Ok(slot),
        (REPLY_MAGIC, 0) => Err(io::Error::other(format!("a reply to command {slot}, which was never sent"))),
        (REPLY_MAGIC, error) => Err(io::Error::other(format!("error {error} in a reply"))),
        (magic, _) => Err(io::Error::other(format!("{magic:#x} where a reply should begin"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rw: Rw) -> Load {
        let workload = Workload { rw, block_kib: 4, depth: 2 };
        Load::new(Order { workload, size: 1 << 20, until: Until::Count(2) })
    }

    fn reply(slot: u64, error: u32) -> Vec<u8> {
        [&REPLY_MAGIC.to_be_bytes()[..], &error.to_be_bytes(), &slot.to_be_bytes()].concat()
    }

    fn arrive(load: &mut Load, bytes: &[u8]) -> io::Result<()> {
        load.input[load.filled..load.filled + bytes.len()].copy_from_slice(bytes);
        load.filled += bytes.len();
        load.take(Instant::now())
    }

    #[test]
    fn replies_cut_anywhere_complete_their_commands() {
        let mut load = load(Rw::RandRead);
        load.fill(Instant::now());
        assert_eq!((load.in_flight, load.out.len()), (2, 2 * 28));
        let all = [reply(1, 0), vec![0; 4096], reply(0, 0), vec![0; 4096]].concat();
        for piece in all.chunks(1000) {
            arrive(&mut load, piece).unwrap();
        }
        assert_eq!((load.in_flight, load.filled, load.idle.as_slice()), (0, 0, &[1, 0][..]));
        assert_eq!(load.latency_ns.len(), 2);
        let again = [reply(1, 0), vec![0; 4096]].concat();
        assert!(arrive(&mut load, &again).unwrap_err().to_string().contains("a second reply"));
    }

    #[test]
    fn a_write_carries_its_data_and_a_bad_reply_ends_the_load() {
        let mut load = load(Rw::Write);
        load.fill(Instant::now());
        assert_eq!(load.out.len(), 2 * (28 + 4096));
        arrive(&mut load, &reply(1, 0)).unwrap();
        assert!(arrive(&mut load, &reply(0, 28)).unwrap_err().to_string().contains("error 28"));
        assert!(slot_of(reply(7, 0)[..].try_into().unwrap(), 2).is_err());
        assert!(slot_of(&[0; REPLY_BYTES], 2).is_err());
    }
}
