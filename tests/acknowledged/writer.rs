//! An NBD client that writes, trims, zeroes and flushes at random, with many commands in flight, until its target is gone; it keeps the
//! [`Record`] of it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::{Flushed, Record, content};
use crate::common::nbd_client::{Client, FLUSH, FUA, READ, Stream, TRIM, WRITE, WRITE_ZEROES, request};
use crate::common::random::Random;

const IN_FLIGHT: usize = 16;
/// The longest command, in units.
const LONGEST: u64 = 24;
/// A trim takes whole blocks of this size.
const BLOCK: usize = 4096;
const READ_AT_ONCE: usize = 256 << 10;

/// What writers have in common.
#[derive(Clone)]
pub struct Site {
    pub socket: PathBuf,
    pub export: &'static str,
    pub record: Arc<Mutex<Record>>,
    /// Set before the target is killed: only then may a connection break.
    pub is_doomed: Arc<AtomicBool>,
    /// Commands that were answered.
    pub answered: Arc<AtomicU64>,
}

impl Site {
    /// A thread that writes to these units; it ends with the target.
    pub fn start_writer(&self, seed: u64, units: Range<usize>) -> JoinHandle<()> {
        let client = Client::silent(&self.socket).greet().go(self.export, false);
        let mut writer = Writer {
            site: self.clone(),
            random: Random(seed),
            units,
            stream: client.stream,
            in_flight: HashMap::new(),
        };
        std::thread::spawn(move || {
            let error = writer.work().expect_err("it works until the connection breaks");
            let export = writer.site.export;
            assert!(writer.site.is_doomed.load(Ordering::SeqCst), "{export}: the connection broke early: {error}");
        })
    }

    /// The bytes of the disk, as far as the record goes.
    pub fn read(&self) -> Vec<u8> {
        read(&self.socket, self.export, self.record.lock().expect("no panic under the lock").bytes())
    }
}

/// The first bytes of an export.
pub fn read(socket: &Path, export: &str, len: usize) -> Vec<u8> {
    let mut client = Client::silent(socket).greet().go(export, false);
    let pieces = (0..len).step_by(READ_AT_ONCE).map(|at| {
        let reply = client.ask(READ, 0, at as u64, READ_AT_ONCE.min(len - at) as u32);
        assert_eq!(reply.error, 0, "{export}: read at {at}");
        reply.data
    });
    pieces.collect::<Vec<_>>().concat()
}

enum Sent {
    Change { units: Range<usize>, is_durable: bool },
    Flush(Flushed),
}

struct Writer {
    site: Site,
    random: Random,
    units: Range<usize>,
    stream: Stream,
    in_flight: HashMap<u64, Sent>,
}

impl Writer {
    fn work(&mut self) -> io::Result<()> {
        for cookie in 1.. {
            self.send(cookie)?;
            // In bursts: the target sees both long queues and empty ones.
            let most = if self.random.one_in(8) { 0 } else { IN_FLIGHT };
            while self.in_flight.len() > most {
                self.take_answer()?;
            }
        }
        Ok(())
    }

    fn send(&mut self, cookie: u64) -> io::Result<()> {
        if self.random.one_in(24) {
            let flushed = self.record().begin_flush();
            self.in_flight.insert(cookie, Sent::Flush(flushed));
            return self.stream.write_all(&request(FLUSH, 0, cookie, 0, 0));
        }
        let kind = [WRITE, WRITE, WRITE, WRITE, WRITE, TRIM, WRITE_ZEROES][self.random.below(7) as usize];
        let Some(units) = self.choose(kind) else { return Ok(()) };
        let is_durable = self.random.one_in(10);
        let (number, unit_bytes) = {
            let mut record = self.record();
            (record.send(units.clone(), kind != WRITE), record.unit_bytes())
        };
        let flags = if is_durable { FUA } else { 0 };
        let (at, len) = (units.start * unit_bytes, units.len() * unit_bytes);
        let mut bytes = request(kind, flags, cookie, at as u64, len as u32);
        if kind == WRITE {
            units.clone().for_each(|unit| bytes.extend(content(unit, number, false, unit_bytes)));
        }
        self.in_flight.insert(cookie, Sent::Change { units, is_durable });
        self.stream.write_all(&bytes)
    }

    /// Units that no other command has in flight; none if these cannot be found quickly.
    fn choose(&mut self, kind: u16) -> Option<Range<usize>> {
        let align = if kind == TRIM { BLOCK / self.record().unit_bytes() } else { 1 };
        let from = self.units.start + self.random.below(self.units.len() as u64) as usize;
        let from = from.next_multiple_of(align);
        let len = (1 + self.random.below(LONGEST)) as usize;
        let units = from..(from + len.next_multiple_of(align)).min(self.units.end);
        (!units.is_empty() && self.record().is_idle(units.clone())).then_some(units)
    }

    fn take_answer(&mut self) -> io::Result<()> {
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply)?;
        let word = |at: usize| u32::from_be_bytes(reply[at..at + 4].try_into().expect("four bytes"));
        let export = self.site.export;
        assert_eq!((word(0), word(4)), (0x6744_6698, 0), "{export}: a simple reply without an error");
        let cookie = u64::from_be_bytes(reply[8..].try_into().expect("eight bytes"));
        match self.in_flight.remove(&cookie).expect("an answer to what was asked") {
            Sent::Flush(flushed) => self.record().end_flush(flushed),
            Sent::Change { units, is_durable: true } => self.record().answer_durable(units),
            Sent::Change { units, is_durable: false } => self.record().answer(units),
        }
        self.site.answered.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.site.record.lock().expect("no panic under the lock")
    }
}
