//! What a power cut leaves: for each sector one of its versions, drawn from a seed.
//!
//! A draw depends on the seed and the place alone, never on the order in which it is made. Were each sector drawn evenly, nearly
//! every cut would tear every write; so the seed also chooses how large the pieces are that share a fate, and how likely the newest
//! version is. Whole journal blocks without their data, and data without its journal, come about as well.

use super::cache::{PAGE, SECTOR};
use super::draw;

/// Which versions survive.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// The newest ones, also of writes in flight.
    Newest,
    /// The durable ones.
    Durable,
    /// Any.
    Drawn { seed: u64, sectors_alike: u64, newest_of_32: u64 },
}

impl Fate {
    pub(super) fn drawn(seed: u64) -> Self {
        let alike = [SECTOR, SECTOR, PAGE, PAGE, 16 * PAGE];
        let newest = [1, 6, 12, 16, 24, 31];
        let (first, second) = (draw(seed, 1), draw(seed, 2));
        Self::Drawn {
            seed,
            sectors_alike: (alike[(first % alike.len() as u64) as usize] / SECTOR) as u64,
            newest_of_32: newest[(second % newest.len() as u64) as usize],
        }
    }

    /// Which of a sector's versions it is.
    pub(super) fn choose(self, sector: u64, versions: usize) -> usize {
        match self {
            Self::Newest => versions - 1,
            Self::Durable => 0,
            Self::Drawn { seed, sectors_alike, newest_of_32 } => {
                let drawn = draw(seed, sector / sectors_alike + 3);
                if drawn % 32 < newest_of_32 {
                    return versions - 1;
                }
                ((drawn >> 8) % (versions as u64 - 1)) as usize
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_drawn_now_and_then() {
        let mut seen = [false; 4];
        for seed in 0..100 {
            seen[Fate::drawn(seed).choose(17, 4)] = true;
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        for sector in 0..100 {
            assert_eq!(Fate::drawn(5).choose(sector, 3), Fate::drawn(5).choose(sector, 3));
        }
    }
}
