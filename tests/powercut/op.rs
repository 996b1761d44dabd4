//! The commands that are thrown at a pool: drawn from a seed, or made by proptest.

use crate::random::Random;

/// One command. Volumes and snapshots are chosen by number among those that there are then; places by number among the hot spots.
#[derive(Clone, Debug)]
pub enum Op {
    Write { volume: u16, at: u32, len: u32 },
    Read { volume: u16, at: u32, len: u32 },
    Discard { volume: u16, at: u32, len: u32 },
    Flush { volume: u16 },
    Create { size: u16 },
    Delete { volume: u16 },
    Snapshot { volume: u16 },
    DeleteSnapshot { snapshot: u16 },
    Clone { snapshot: u16 },
    Rollback { snapshot: u16 },
    Reinitialise { volume: u16, source: u16 },
    Resize { volume: u16, size: u16 },
    ReplaceKey { volume: u16 },
    CheckSnapshot { snapshot: u16 },
    Commit,
    Checkpoint,
    Settle,
}

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Of 16 commands, so many are writes, reads, discards and flushes; the rest changes volumes and snapshots.
    io_of_16: u64,
    /// The largest write is 4 KiB shifted by this.
    len_shift: u64,
    /// Writes of whole 4 KiB blocks only.
    whole_blocks: bool,
    /// One command in so many of the I/O is a discard, and a flush.
    discard_every: u64,
    flush_every: u64,
    /// How much of each hot spot is written.
    pub span_shift: u64,
}

impl Mix {
    pub fn draw(random: &mut Random) -> Self {
        Self {
            io_of_16: [4, 10, 13, 15][random.below(4) as usize],
            len_shift: random.below(7),
            whole_blocks: random.one_in(3),
            discard_every: [3, 8, 30][random.below(3) as usize],
            flush_every: [3, 8, 30][random.below(3) as usize],
            span_shift: 14 + random.below(6),
        }
    }

    pub fn next(&self, random: &mut Random) -> Op {
        if random.below(16) < self.io_of_16 { self.io(random) } else { structural(random) }
    }

    fn io(&self, random: &mut Random) -> Op {
        let volume = random.below(1 << 16) as u16;
        let (at, len) = (random.below(1 << self.span_shift) as u32, self.len(random));
        if random.one_in(self.flush_every) {
            return Op::Flush { volume };
        }
        if random.one_in(self.discard_every) {
            return Op::Discard { volume, at, len };
        }
        if random.one_in(4) { Op::Read { volume, at, len } } else { Op::Write { volume, at, len } }
    }

    fn len(&self, random: &mut Random) -> u32 {
        let most = 8u64 << random.below(self.len_shift + 1);
        let sectors = if self.whole_blocks || random.one_in(2) { most } else { 1 + random.below(most) };
        sectors as u32 * 512
    }
}

fn structural(random: &mut Random) -> Op {
    let (some, other) = (random.below(1 << 16) as u16, random.below(1 << 16) as u16);
    match random.below(27) {
        0..=2 => Op::Create { size: some },
        3 => Op::Delete { volume: some },
        4..=8 => Op::Snapshot { volume: some },
        9..=11 => Op::DeleteSnapshot { snapshot: some },
        12..=13 => Op::Clone { snapshot: some },
        14..=15 => Op::Rollback { snapshot: some },
        16..=17 => Op::Resize { volume: some, size: other },
        18 => Op::CheckSnapshot { snapshot: some },
        19 => Op::Commit,
        20 => Op::Checkpoint,
        21..=23 => Op::ReplaceKey { volume: some },
        24..=25 => Op::Reinitialise { volume: some, source: other },
        _ => Op::Settle,
    }
}
