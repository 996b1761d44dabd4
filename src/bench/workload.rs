//! Where the next command goes, and whether it reads or writes.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

/// In which order places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One after the other.
    Sequential,
    /// Anywhere, each equally likely.
    Random,
}

/// Which commands are issued, by fio's names (`rw=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// Sequential reads.
    Read,
    /// Sequential writes.
    Write,
    /// Sequential reads and writes.
    Rw,
    /// Random reads.
    RandRead,
    /// Random writes.
    RandWrite,
    /// Random reads and writes.
    RandRw,
}

const NAMES: [(&str, Mix); 6] = [
    ("read", Mix::Read),
    ("write", Mix::Write),
    ("rw", Mix::Rw),
    ("randread", Mix::RandRead),
    ("randwrite", Mix::RandWrite),
    ("randrw", Mix::RandRw),
];

impl Mix {
    /// In which order places are taken.
    pub fn access(self) -> Access {
        match self {
            Self::Read | Self::Write | Self::Rw => Access::Sequential,
            Self::RandRead | Self::RandWrite | Self::RandRw => Access::Random,
        }
    }

    /// How many percent of the commands read, if a mix of both has `mixed` percent.
    pub fn read_percent(self, mixed: u32) -> u32 {
        match self {
            Self::Read | Self::RandRead => 100,
            Self::Write | Self::RandWrite => 0,
            Self::Rw | Self::RandRw => mixed,
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, mix)| mix == self).map_or("", |(name, _)| name))
    }
}

/// A word that is no mix.
#[derive(Debug, Error)]
#[error("{0:?} is unknown; choose read, write, rw, randread, randwrite or randrw")]
pub struct UnknownMix(String);

impl FromStr for Mix {
    type Err = UnknownMix;

    fn from_str(text: &str) -> Result<Self, UnknownMix> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, mix)| *mix).ok_or_else(|| UnknownMix(text.to_owned()))
    }
}

/// A small, fast generator: wyrand's step, as published by Wang Yi (wyhash, public domain).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }

    /// A number below `bound`.
    #[inline]
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// The places of one job: `count` blocks from block `first` on.
pub(super) struct Places {
    first: u64,
    count: u64,
    access: Access,
    next: u64,
}

impl Places {
    pub(super) fn new(first: u64, count: u64, access: Access) -> Self {
        Self { first, count, access, next: 0 }
    }

    /// The number of the next command's block.
    #[inline]
    pub(super) fn next(&mut self, random: &mut Random) -> u64 {
        match self.access {
            Access::Random => self.first + random.below(self.count),
            Access::Sequential => {
                let at = self.first + self.next;
                self.next = if self.next + 1 == self.count { 0 } else { self.next + 1 };
                at
            }
        }
    }
}

/// The commands of one job.
pub(super) struct Draw {
    places: Places,
    random: Random,
    read_percent: u64,
}

impl Draw {
    /// From these places; of a mix of both, `mixed` percent read.
    pub(super) fn new(places: Places, mix: Mix, mixed: u32, seed: u64) -> Self {
        Self { places, random: Random::new(seed), read_percent: mix.read_percent(mixed).into() }
    }

    /// The block of the next command, and whether it is read.
    #[inline]
    pub(super) fn next(&mut self) -> (u64, bool) {
        let block = self.places.next(&mut self.random);
        let is_read = match self.read_percent {
            0 => false,
            100 => true,
            percent => self.random.below(100) < percent,
        };
        (block, is_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_places_wrap() {
        let mut places = Places::new(10, 3, Access::Sequential);
        let seen: Vec<_> = (0..4).map(|_| places.next(&mut Random::new(0))).collect();
        assert_eq!(seen, [10, 11, 12, 10]);
    }

    #[test]
    fn random_places_stay_inside_and_reach_everything() {
        let (mut places, mut random) = (Places::new(5, 8, Access::Random), Random::new(1));
        let mut seen = [0; 8];
        (0..8000).for_each(|_| seen[(places.next(&mut random) - 5) as usize] += 1);
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
    }

    #[test]
    fn names_go_both_ways() {
        for (name, mix) in NAMES {
            assert_eq!((name.parse::<Mix>().expect("known"), mix.to_string().as_str()), (mix, name));
        }
        assert!("random".parse::<Mix>().is_err());
    }
}
