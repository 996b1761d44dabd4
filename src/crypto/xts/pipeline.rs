//! The hand-written algorithm, for vectors of any width.
//!
//! The CPU starts two AES rounds a cycle and answers each four cycles later, so eight vectors have to be in flight and
//! nothing else may hold them up. Hence:
//!
//! - The unit of work is a *stride* of 512 bytes, the smallest sector: eight vectors of 512 bits, or twice eight of 256.
//! - While a stride's rounds run, the next stride's tweaks are made beside them, on the execution units that AES
//!   leaves free. None waits for another: within a sector each vector is multiplied by x^32; at a sector's start each
//!   is made from the sector's first tweak, with shifts of its own.
//! - The first tweaks of sectors are themselves AES encryptions (IEEE 1619-2018, 5.3.2). They are made for as many
//!   sectors together as a vector has lanes, as a *ninth stream* beside the data of a sector well before.
//! - Round keys are read in their round. Otherwise the compiler takes all 15 into registers and then runs vector after
//!   vector. It is [`Vector::round_key`] that holds it to that; `strongroom-perf xts --check` measures that it does.
//! - The source is fetched 8 KiB ahead, within the run: the reorder window does not reach far enough.
//!
//! A key's tweak schedule, number and direction change which bytes come out, never which instructions run.
#![allow(unsafe_code)]

use super::schedule::{ROUND_KEYS, Schedule, Schedules};
use super::sector::{BLOCK, SectorSize, Tweak};
use super::span::{Block, Span, prefetch_line};
use super::vector::Vector;

/// Vectors in flight.
const STREAMS: usize = 8;

/// Blocks in a stride.
const STRIDE: usize = SectorSize::B512.bytes() / BLOCK;

/// Bytes in a stride.
const STRIDE_BYTES: usize = SectorSize::B512.bytes();

/// How far ahead the source is fetched.
const PREFETCH_BYTES: usize = 8 << 10;

/// The tweaks of a stride: one pass of eight vectors at 512 bits, two at 256.
type StrideTweaks<V> = [[V; STREAMS]; 2];

/// Encryption or decryption of the data; tweaks are always encrypted.
#[allow(clippy::missing_safety_doc)] // The condition is that of `Vector`.
pub(super) trait Direction {
    fn schedule(schedules: &Schedules) -> &Schedule;
    unsafe fn round<V: Vector>(block: V, key: V) -> V;
    unsafe fn last<V: Vector>(block: V, key: V) -> V;
}

/// Plain text to cipher text.
pub(super) struct Encrypt;

impl Direction for Encrypt {
    #[inline(always)]
    fn schedule(schedules: &Schedules) -> &Schedule {
        &schedules.encrypt
    }
    #[inline(always)]
    unsafe fn round<V: Vector>(block: V, key: V) -> V {
        // SAFETY: the condition of `Vector` is passed on.
        unsafe { block.encrypt_round(key) }
    }
    #[inline(always)]
    unsafe fn last<V: Vector>(block: V, key: V) -> V {
        // SAFETY: the condition of `Vector` is passed on.
        unsafe { block.encrypt_last(key) }
    }
}

/// Cipher text to plain text.
pub(super) struct Decrypt;

impl Direction for Decrypt {
    #[inline(always)]
    fn schedule(schedules: &Schedules) -> &Schedule {
        &schedules.decrypt
    }
    #[inline(always)]
    unsafe fn round<V: Vector>(block: V, key: V) -> V {
        // SAFETY: the condition of `Vector` is passed on.
        unsafe { block.decrypt_round(key) }
    }
    #[inline(always)]
    unsafe fn last<V: Vector>(block: V, key: V) -> V {
        // SAFETY: the condition of `Vector` is passed on.
        unsafe { block.decrypt_last(key) }
    }
}

/// Takes a run of whole sectors through the cipher.
///
/// # Safety
/// The condition of [`Vector`].
#[inline(always)]
pub(super) unsafe fn run<V: Vector, D: Direction>(schedules: &Schedules, sector: SectorSize, tweak: Tweak, span: Span) {
    let sector_blocks = sector.bytes() / BLOCK;
    let (mut tweak, mut done) = (tweak, 0);
    while done < span.blocks() {
        let sectors = ((span.blocks() - done) / sector_blocks).min(sectors_before_carry(tweak));
        let part = span.part(done, sectors * sector_blocks);
        // SAFETY: the condition of `Vector` is passed on; the numbers of these sectors do not carry.
        unsafe {
            match sector {
                SectorSize::B512 => run_without_carry::<V, D, 1>(schedules, tweak, part, sectors),
                SectorSize::B4096 => run_without_carry::<V, D, 8>(schedules, tweak, part, sectors),
            }
        }
        tweak = tweak.after(sectors as u64);
        done += sectors * sector_blocks;
    }
}

/// How many sectors can be numbered before the low 64 bits of the number wrap. Lanes add 64-bit words only.
#[inline(always)]
fn sectors_before_carry(tweak: Tweak) -> usize {
    let room = u64::MAX - tweak.first as u64;
    let more = if tweak.step == 1 { room } else { room.checked_div(tweak.step).unwrap_or(u64::MAX) };
    usize::try_from(more).map_or(usize::MAX, |more| more.saturating_add(1))
}

/// # Safety
/// The condition of [`Vector`]; the span is `sectors` sectors of `STRIDES` strides, at least one, whose numbers differ
/// only in the low 64 bits.
#[inline(always)]
unsafe fn run_without_carry<V: Vector, D: Direction, const STRIDES: usize>(
    schedules: &Schedules,
    tweak: Tweak,
    span: Span,
    sectors: usize,
) {
    // SAFETY: the conditions are passed on; each stride lies within the span.
    unsafe {
        let mut units = Units::<V>::new(tweak);
        units.encrypt_alone(&schedules.tweak);
        let mut work = Work::<V, D> {
            schedules,
            src: span.src(),
            dst: span.dst(),
            last: span.src().wrapping_add((span.blocks() - STRIDE) * BLOCK),
            tweaks: start_sector(units.first_tweak(0)),
            direction: std::marker::PhantomData,
        };
        for sector in 0..sectors {
            let next = (sector + 1) % (2 * V::LANES);
            let ninth = sector % V::LANES == 0 && sector + V::LANES < sectors;
            match (STRIDES == 1, ninth) {
                (true, false) => work.stride::<false, true>(&mut units, next),
                (true, true) => work.stride::<true, true>(&mut units, next),
                (false, false) => work.stride::<false, false>(&mut units, next),
                (false, true) => work.stride::<true, false>(&mut units, next),
            }
            for _ in 2..STRIDES {
                work.stride::<false, false>(&mut units, next);
            }
            if STRIDES > 1 {
                work.stride::<false, true>(&mut units, next);
            }
        }
    }
}

/// The first tweaks of sectors: a ring of two groups, each of as many sectors as a vector has lanes.
struct Units<V> {
    ring: [Block; 8],
    /// Which group is encrypted next: 0 or 1.
    group: usize,
    /// The numbers of the sectors of that group.
    numbers: V,
    group_step: Block,
}

/// Which lanes add the step, and which add twice the step: lanes 0 to 3 get 0 to 3 steps.
#[repr(align(64))]
struct LaneSteps([Block; 4], [Block; 4]);

static LANE_STEPS: LaneSteps =
    LaneSteps([[0; 2], [u64::MAX, 0], [0; 2], [u64::MAX, 0]], [[0; 2], [0; 2], [u64::MAX, 0], [u64::MAX, 0]]);

impl<V: Vector> Units<V> {
    /// # Safety
    /// The condition of [`Vector`].
    #[inline(always)]
    unsafe fn new(tweak: Tweak) -> Self {
        let Tweak { first, step } = tweak;
        // SAFETY: the condition is passed on; the tables are longer than a vector.
        let numbers = unsafe {
            let once = V::broadcast(&[step, 0]).and(V::load(LANE_STEPS.0.as_ptr().cast()));
            let twice = V::broadcast(&[step.wrapping_mul(2), 0]).and(V::load(LANE_STEPS.1.as_ptr().cast()));
            V::broadcast(&[first as u64, (first >> 64) as u64]).add(once).add(twice)
        };
        Self { ring: [[0; 2]; 8], group: 0, numbers, group_step: [step.wrapping_mul(V::LANES as u64), 0] }
    }

    /// The first tweak of the sector at `place` in the ring.
    #[inline(always)]
    fn first_tweak(&self, place: usize) -> &Block {
        &self.ring[place]
    }

    /// Keeps the encrypted numbers of a group and goes on to the next.
    #[inline(always)]
    unsafe fn keep(&mut self, encrypted: V) {
        let place = &mut self.ring[self.group * V::LANES..][..V::LANES];
        // SAFETY: the condition is passed on; the place is as long as a vector.
        unsafe {
            encrypted.store(place.as_mut_ptr().cast());
            self.numbers = self.numbers.add(V::broadcast(&self.group_step));
        }
        self.group ^= 1;
    }

    /// Encrypts a group with nothing beside it.
    #[inline(always)]
    unsafe fn encrypt_alone(&mut self, schedule: &Schedule) {
        // SAFETY: the condition is passed on.
        unsafe {
            let mut unit = self.numbers.xor(V::round_key(&schedule[0]));
            for key in &schedule[1..ROUND_KEYS - 1] {
                unit = unit.encrypt_round(V::round_key(key));
            }
            self.keep(unit.encrypt_last(V::round_key(&schedule[ROUND_KEYS - 1])));
        }
    }
}

/// A run on its way.
struct Work<'a, V, D> {
    schedules: &'a Schedules,
    /// The next stride.
    src: *const u8,
    dst: *mut u8,
    /// The last stride of the source, beyond which nothing is fetched.
    last: *const u8,
    /// The tweaks of the next stride.
    tweaks: StrideTweaks<V>,
    direction: std::marker::PhantomData<D>,
}

impl<V: Vector, D: Direction> Work<'_, V, D> {
    /// Works on the next stride. `NINTH`: encrypts the next group of `units` beside it. `START`: the stride after it
    /// starts the sector at `next` of the ring; otherwise it belongs to the same sector.
    #[inline(always)]
    unsafe fn stride<const NINTH: bool, const START: bool>(&mut self, units: &mut Units<V>, next: usize) {
        let (data, tweak) = (D::schedule(self.schedules), &self.schedules.tweak);
        let ahead = self.src.wrapping_add(PREFETCH_BYTES).min(self.last);
        // SAFETY: the condition is passed on; the stride lies within source and destination.
        unsafe {
            let first = First::new(units.first_tweak(next));
            let mut next_tweaks = self.tweaks;
            for pass in 0..passes::<V>() {
                let ninth = NINTH && pass == 0;
                let tweaks = self.tweaks[pass];
                let mut unit = units.numbers;
                let mut blocks = tweaks;
                let key = V::round_key(&data[0]);
                for (i, block) in blocks.iter_mut().enumerate() {
                    *block = V::load(self.src.add((pass * STREAMS + i) * V::LANES * BLOCK)).xor3(*block, key);
                }
                if ninth {
                    unit = unit.xor(V::round_key(&tweak[0]));
                }
                for round in 1..ROUND_KEYS - 1 {
                    let key = V::round_key(&data[round]);
                    for block in &mut blocks {
                        *block = D::round(*block, key);
                    }
                    if ninth {
                        unit = unit.encrypt_round(V::round_key(&tweak[round]));
                    }
                    if let Some(i) = (round - 1 < STREAMS).then_some(round - 1) {
                        next_tweaks[pass][i] =
                            if START { first.times_x(pass * STREAMS + i) } else { times_x32(tweaks[i]) };
                        if i < STREAMS / passes::<V>() {
                            prefetch_line(ahead.wrapping_add((pass * STREAMS / passes::<V>() + i) * 64));
                        }
                    }
                }
                let key = V::round_key(&data[ROUND_KEYS - 1]);
                for (i, block) in blocks.iter().enumerate() {
                    let out = D::last(*block, key.xor(tweaks[i]));
                    out.store(self.dst.add((pass * STREAMS + i) * V::LANES * BLOCK));
                }
                if ninth {
                    units.keep(unit.encrypt_last(V::round_key(&tweak[ROUND_KEYS - 1])));
                }
            }
            self.tweaks = next_tweaks;
        }
        self.src = self.src.wrapping_add(STRIDE_BYTES);
        self.dst = self.dst.wrapping_add(STRIDE_BYTES);
    }
}

/// Passes of eight vectors in a stride.
#[inline(always)]
const fn passes<V: Vector>() -> usize {
    STRIDE / STREAMS / V::LANES
}

/// The tweaks of a sector's first stride.
///
/// # Safety
/// The condition of [`Vector`].
#[inline(always)]
unsafe fn start_sector<V: Vector>(first: &Block) -> StrideTweaks<V> {
    // SAFETY: the condition is passed on.
    unsafe {
        let first = First::<V>::new(first);
        let mut tweaks = [[first.low_high; STREAMS]; 2];
        for pass in 0..passes::<V>() {
            for i in 0..STREAMS {
                tweaks[pass][i] = first.times_x(pass * STREAMS + i);
            }
        }
        tweaks
    }
}

/// The first tweak of a sector in all lanes, in the forms that [`First::times_x`] starts from.
struct First<V> {
    low_high: V,
    /// For carry-less multiplication the low word alone, on top; for shifts the two words swapped.
    crossed: V,
}

/// By how much each block of a stride is shifted, and 64 less that.
#[repr(align(64))]
struct Shifts([Block; STRIDE], [Block; STRIDE]);

static SHIFTS: Shifts = {
    let mut shifts = Shifts([[0; 2]; STRIDE], [[0; 2]; STRIDE]);
    let mut i = 0;
    while i < STRIDE {
        shifts.0[i] = [i as u64; 2];
        shifts.1[i] = [64 - i as u64; 2];
        i += 1;
    }
    shifts
};

/// x^128 = x^7 + x^2 + x + 1 (IEEE 1619-2018, 5.2), and the same without the 1.
const FOLD: Block = [0x87, 0];
const FOLD_WITHOUT_1: Block = [0x86, 0];

/// Shifts of the low word that make up a product with [`FOLD`]; nothing of the high word.
const FOLD_1: Block = [1, 64];
const FOLD_2: Block = [2, 64];
const FOLD_7: Block = [7, 64];

impl<V: Vector> First<V> {
    #[inline(always)]
    unsafe fn new(first: &Block) -> Self {
        // SAFETY: the condition is passed on.
        unsafe {
            let low_high = V::broadcast(first);
            let crossed = if V::CLMUL { low_high.low_to_high() } else { low_high.shuffle::<0b01_00_11_10>() };
            Self { low_high, crossed }
        }
    }

    /// The tweaks of vector `i` of the stride: in each lane the first times x to the block's place. What leaves a word at
    /// the top enters the word above, or from the upper word the lower, times [`FOLD`].
    #[inline(always)]
    unsafe fn times_x(&self, i: usize) -> V {
        // SAFETY: the condition is passed on; the tables hold a vector from there on.
        unsafe {
            let counts = V::load(SHIFTS.0.as_ptr().add(i * V::LANES).cast());
            let carries = V::load(SHIFTS.1.as_ptr().add(i * V::LANES).cast());
            let shifted = self.low_high.shl_each(counts);
            let crossing = self.crossed.shr_each(carries);
            if V::CLMUL {
                shifted.xor3(crossing, self.low_high.shr_each(carries).clmul_high(V::broadcast(&FOLD)))
            } else {
                fold(shifted.xor(crossing), crossing)
            }
        }
    }
}

/// The tweaks a stride later: each times x^32. The dwords move up by one; the one that leaves at the top is already at
/// the bottom, where the 1 of [`FOLD`] wants it.
#[inline(always)]
unsafe fn times_x32<V: Vector>(tweaks: V) -> V {
    // SAFETY: the condition is passed on.
    unsafe {
        let moved = tweaks.shuffle::<0b10_01_00_11>();
        if V::CLMUL {
            moved.xor(tweaks.shr::<32>().clmul_high(V::broadcast(&FOLD_WITHOUT_1)))
        } else {
            let top = tweaks.top_dword();
            moved.xor3(top.shl::<1>(), top.shl::<2>()).xor(top.shl::<7>())
        }
    }
}

/// Adds the low word of each lane of `out`, times x, x^2 and x^7, to `tweaks`.
#[inline(always)]
unsafe fn fold<V: Vector>(tweaks: V, out: V) -> V {
    // SAFETY: the condition is passed on.
    unsafe {
        let [one, two, seven] = [FOLD_1, FOLD_2, FOLD_7].map(|shift| out.shl_each(V::broadcast(&shift)));
        tweaks.xor3(one, two).xor(seven)
    }
}
