//! What a disk may hold after its target was killed: a record of everything that was sent to it, answered, and flushed.
//!
//! The disk is looked at in units (its sectors). Each version of a unit has a number of its own, out of which its bytes are made, or is
//! zeros. A unit has one command in flight at a time, so its versions have an order: it holds one of those from its durable one on.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod writer;

use std::ops::Range;

/// A state that a unit was put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number; rises within the record.
    pub number: u64,
    /// Whether it is all zeros.
    pub is_zero: bool,
    is_answered: bool,
}

/// For each unit the versions that it may have, the oldest first.
pub type Allowance = Vec<Vec<Version>>;

/// The record of one disk.
pub struct Record {
    unit_bytes: usize,
    units: Allowance,
    last_number: u64,
    in_flight: Vec<bool>,
    /// What a snapshot that is being made may hold.
    watched: Option<Allowance>,
}

/// The versions that a flush makes durable: of a unit, the number of one.
pub struct Flushed(Vec<(usize, u64)>);

const NEVER_WRITTEN: Version = Version { number: 0, is_zero: true, is_answered: true };

impl Record {
    /// A disk that was never written.
    pub fn new(unit_bytes: usize, units: usize) -> Self {
        Self {
            unit_bytes,
            units: vec![vec![NEVER_WRITTEN]; units],
            last_number: 0,
            in_flight: vec![false; units],
            watched: None,
        }
    }

    pub fn unit_bytes(&self) -> usize {
        self.unit_bytes
    }

    pub fn bytes(&self) -> usize {
        self.units.len() * self.unit_bytes
    }

    /// Whether nothing is in flight for these units.
    pub fn is_idle(&self, units: Range<usize>) -> bool {
        !self.in_flight[units].contains(&true)
    }

    /// Something is sent: from now on it may be there. Returns its number.
    pub fn send(&mut self, units: Range<usize>, is_zero: bool) -> u64 {
        self.last_number += 1;
        let version = Version { number: self.last_number, is_zero, is_answered: false };
        for unit in units {
            assert!(!self.in_flight[unit], "two commands in flight for unit {unit}");
            self.in_flight[unit] = true;
            self.units[unit].push(version);
            if let Some(watched) = &mut self.watched {
                watched[unit].push(version);
            }
        }
        self.last_number
    }

    /// It was answered: it survives the next flush.
    pub fn answer(&mut self, units: Range<usize>) {
        for unit in units {
            self.in_flight[unit] = false;
            self.units[unit].last_mut().expect("never empty").is_answered = true;
        }
    }

    /// It was answered, and was sent to be durable then.
    pub fn answer_durable(&mut self, units: Range<usize>) {
        self.answer(units.clone());
        for unit in units {
            let last = self.units[unit].len() - 1;
            self.units[unit].drain(..last);
        }
    }

    /// A flush is sent: it is for everything that is answered now, whoever sent it.
    pub fn begin_flush(&self) -> Flushed {
        let newest = self.units.iter().map(|versions| newest_answered(versions)).enumerate();
        let is_news = |(unit, at): &(usize, usize)| self.units[*unit].len() > 1 && *at > 0;
        Flushed(newest.filter(is_news).map(|(unit, at)| (unit, self.units[unit][at].number)).collect())
    }

    /// The flush was answered.
    pub fn end_flush(&mut self, flushed: Flushed) {
        for (unit, number) in flushed.0 {
            let versions = &mut self.units[unit];
            // Something newer may have become durable meanwhile.
            if let Some(at) = versions.iter().position(|version| version.number == number) {
                versions.drain(..at);
            }
        }
    }

    /// A snapshot is asked for: it has to hold what is answered now, or something newer.
    pub fn begin_snapshot(&mut self) {
        self.watched = Some(self.units.iter().map(|versions| versions[newest_answered(versions)..].to_vec()).collect());
    }

    /// The snapshot is there, or the target was killed: nothing that is sent later is in it.
    pub fn end_snapshot(&mut self) -> Allowance {
        self.watched.take().expect("a snapshot was begun")
    }

    /// The disk has gone back to a snapshot.
    pub fn roll_back(&mut self, snapshot: Allowance) {
        self.units = snapshot;
    }

    /// The target is gone, and this is what the disk holds now. Panics if it may not.
    pub fn settle(&mut self, what: &str, bytes: &[u8]) {
        self.in_flight.fill(false);
        let found = check(what, self.unit_bytes, &self.units, bytes);
        // What was read once stays: the machine has not lost its power.
        self.units = found.into_iter().map(|version| vec![Version { is_answered: true, ..version }]).collect();
    }
}

/// Which version each unit has. Panics if one has none that it may have.
pub fn check(what: &str, unit_bytes: usize, allowance: &Allowance, bytes: &[u8]) -> Vec<Version> {
    assert_eq!(bytes.len(), allowance.len() * unit_bytes);
    let units = bytes.chunks(unit_bytes).zip(allowance).enumerate();
    let found = units.map(|(unit, (bytes, allowed))| {
        let is_seen = |version: &&Version| bytes == content(unit, version.number, version.is_zero, unit_bytes);
        *allowed.iter().rfind(is_seen).unwrap_or_else(|| {
            let numbers: Vec<_> = allowed.iter().map(|v| (v.number, v.is_zero, v.is_answered)).collect();
            let seen = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
            let place = u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes"));
            let is_whole = place < allowance.len() as u64 && bytes == content(place as usize, seen, false, unit_bytes);
            let is_zero = bytes.iter().all(|byte| *byte == 0);
            panic!(
                "{what}: unit {unit} (byte {}) holds {}; it may hold (number, zeros, answered) {numbers:?}",
                unit * unit_bytes,
                match (is_zero, is_whole) {
                    (true, _) => "zeros".to_owned(),
                    (_, true) => format!("version {seen} of unit {place}"),
                    _ => format!("what nobody wrote: {:02x?}", &bytes[..32]),
                }
            )
        })
    });
    found.collect()
}

/// The bytes of a version: its number, its unit, and noise that follows from both.
pub fn content(unit: usize, number: u64, is_zero: bool, unit_bytes: usize) -> Vec<u8> {
    if is_zero {
        return vec![0; unit_bytes];
    }
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ unit as u64;
    let noise = std::iter::repeat_with(|| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word
    });
    [number, unit as u64].into_iter().chain(noise).take(unit_bytes / 8).flat_map(u64::to_le_bytes).collect()
}

fn newest_answered(versions: &[Version]) -> usize {
    versions.iter().rposition(|version| version.is_answered).expect("the durable one is answered")
}
