//! The hand-written algorithm, for vectors of any width.
//!
//! The CPU starts two AES rounds a cycle and answers each four cycles later, so eight vectors have to be in flight and
//! nothing else may hold them up. Hence:
//!
//! - The unit of work is a *stride* of 512 bytes, the smallest sector: eight vectors of 512 bits, or twice eight of 256.
//! - While a stride's rounds run, the next stride's tweaks are made beside them, on the execution units that AES
//!   leaves free. None waits for another: within a sector each vector is multiplied by x^32; at a sector's start each
//!   is made from the sector's first tweak, with shifts of its own. Two are made together: what they have in common is done once.
//! - The first tweaks of sectors are themselves AES encryptions (IEEE 1619-2018, 5.3.2). They are made for as many
//!   sectors together as a vector has lanes, as a *ninth stream* beside the data of a sector well before.
//! - Round keys are read in their round. Otherwise the compiler takes all 15 into registers and then runs vector after
//!   vector. It is [`Vector::round_key`] that holds it to that, and [`Vector::pinned`] for the ninth stream;
//!   `strongroom-perf xts --check` measures that they do.
//! - What lies on the disk, source of a decryption and destination of an encryption, is fetched 8 KiB ahead, and behind the end of the run what the
//!   caller says comes next: the reorder window does not reach far enough, and while a short run is worked on the memory would have nothing to do.
//!
//! No closures: one would be compiled without the CPU features of the function it stands in.
//!
//! Keys, numbers and data change which bytes come out, never which instructions run.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use crate::memory::{LINE, prefetch_line_ahead};

use super::schedule::{ROUND_KEYS, Schedule, Schedules};
use super::sector::{BLOCK, SectorSize, Tweak};
use super::span::{Block, Span};
use super::vector::Vector;

/// Vectors in flight.
pub(super) const STREAMS: usize = 8;

/// Blocks in a stride.
const STRIDE: usize = SectorSize::B512.bytes() / BLOCK;

/// Bytes in a stride.
const STRIDE_BYTES: usize = SectorSize::B512.bytes();

/// The last round, which has no column mix.
const LAST: usize = ROUND_KEYS - 1;

/// How far ahead is fetched.
const PREFETCH_BYTES: usize = 8 << 10;

/// Does something for each round but the first and the last.
macro_rules! for_each_round {
    ($round:ident) => {
        $round!(1);
        $round!(2);
        $round!(3);
        $round!(4);
        $round!(5);
        $round!(6);
        $round!(7);
        $round!(8);
        $round!(9);
        $round!(10);
        $round!(11);
        $round!(12);
        $round!(13);
    };
}

/// Encryption or decryption of the data; tweaks are always encrypted.
#[allow(clippy::missing_safety_doc)] // The condition is that of `Vector`.
pub(super) trait Direction {
    /// The side of a run that lies on the disk.
    fn on_disk(span: &Span) -> *const u8;
    fn schedule(schedules: &Schedules) -> &Schedule;
    unsafe fn round<V: Vector>(block: V, key: V) -> V;
    unsafe fn last<V: Vector>(block: V, key: V) -> V;
}

/// Plain text to cipher text.
pub(super) struct Encrypt;

impl Direction for Encrypt {
    #[inline(always)]
    fn on_disk(span: &Span) -> *const u8 {
        span.dst()
    }
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
    fn on_disk(span: &Span) -> *const u8 {
        span.src()
    }
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
        let mut work = Work::<V, D>::new(schedules, span, &units);
        for sector in 0..sectors {
            let next = (sector + 2) % (2 * V::LANES);
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
            let mut unit = self.numbers.xor(V::key(&schedule[0]));
            macro_rules! round {
                ($round:literal) => {
                    unit = unit.encrypt_round(V::key(&schedule[$round]));
                };
            }
            for_each_round!(round);
            self.keep(unit.encrypt_last(V::key(&schedule[LAST])));
        }
    }
}

/// The tweaks of two strides: of the one that is worked on, and of the next. In memory, since registers are for data.
#[repr(C, align(64))]
struct Tweaks([[Block; STRIDE]; 2]);

/// A run on its way.
struct Work<'a, V, D> {
    schedules: &'a Schedules,
    /// The next stride.
    src: *const u8,
    dst: *mut u8,
    /// What is fetched beside the next stride, and beside the last ones: the start of what comes after the run.
    ahead: *const u8,
    /// The last stride of what is fetched.
    last: *const u8,
    after: *const u8,
    tweaks: Tweaks,
    /// Which half of `tweaks` is the next stride's: 0 or 1.
    half: usize,
    /// The start of the sector after this one, made ahead.
    first: First<V>,
    vectors: PhantomData<(V, D)>,
}

impl<'a, V: Vector, D: Direction> Work<'a, V, D> {
    /// Makes the tweaks of the first stride, which starts a sector.
    #[inline(always)]
    unsafe fn new(schedules: &'a Schedules, span: Span, units: &Units<V>) -> Self {
        let mut tweaks = Tweaks([[[0; 2]; STRIDE]; 2]);
        // SAFETY: the condition is passed on; the tweaks are of a stride.
        let first = unsafe {
            let first = First::<V>::new(units.first_tweak(0));
            for i in (0..STRIDE / V::LANES).step_by(2) {
                let [one, two] = first.times_x(i);
                one.store(tweaks.0[0].as_mut_ptr().add(i * V::LANES).cast());
                two.store(tweaks.0[0].as_mut_ptr().add((i + 1) * V::LANES).cast());
            }
            First::new(units.first_tweak(1))
        };
        let fetched = D::on_disk(&span);
        let last = fetched.wrapping_add((span.blocks() - STRIDE) * BLOCK);
        let after = if span.after().is_null() { last } else { span.after() };
        // A run that is short fetches only what comes after it.
        let ahead = Some(fetched.wrapping_add(PREFETCH_BYTES)).filter(|&ahead| ahead <= last).unwrap_or(after);
        Self {
            schedules,
            src: span.src(),
            dst: span.dst(),
            ahead,
            last,
            after,
            tweaks,
            half: 0,
            first,
            vectors: PhantomData,
        }
    }

    /// Works on the next stride. `NINTH`: encrypts the next group of `units` beside it. `START`: the stride after it
    /// starts the sector at `next` of the ring; otherwise it belongs to the same sector.
    #[inline(always)]
    unsafe fn stride<const NINTH: bool, const START: bool>(&mut self, units: &mut Units<V>, next: usize) {
        let ahead = self.ahead;
        // SAFETY: the condition is passed on; the stride lies within source and destination, the passes within it.
        unsafe {
            self.pass::<NINTH, START, 0>(units, next, ahead);
            if V::LANES * STREAMS < STRIDE {
                self.pass::<false, START, 1>(units, next, ahead.wrapping_add(STREAMS * V::LANES * BLOCK));
            }
        }
        self.half ^= 1;
        self.src = self.src.wrapping_add(STRIDE_BYTES);
        self.ahead = if self.ahead == self.last { self.after } else { self.ahead.wrapping_add(STRIDE_BYTES) };
        self.dst = self.dst.wrapping_add(STRIDE_BYTES);
    }

    /// Works on the eight vectors of a stride from `PASS * STREAMS` on: all of them at 512 bits, half of them at 256.
    #[inline(always)]
    unsafe fn pass<const NINTH: bool, const START: bool, const PASS: usize>(
        &mut self,
        units: &mut Units<V>,
        next_first: usize,
        ahead: *const u8,
    ) {
        let (schedule, tweak) = (D::schedule(self.schedules), &self.schedules.tweak);
        let from = PASS * STREAMS * V::LANES;
        // SAFETY: the condition is passed on; eight vectors of the stride start at `from`.
        unsafe {
            let tweaks = self.tweaks.0[self.half & 1].as_ptr().add(from).cast::<u8>();
            let next = self.tweaks.0[(self.half ^ 1) & 1].as_mut_ptr().add(from).cast::<u8>();
            let (src, dst) = (self.src.add(from * BLOCK), self.dst.add(from * BLOCK));
            let vector = V::LANES * BLOCK;

            let key = V::key(&schedule[0]);
            let mut blocks = [key; STREAMS];
            for (i, block) in blocks.iter_mut().enumerate() {
                *block = V::load(src.add(i * vector)).xor3(V::load(tweaks.add(i * vector)), key);
            }
            let mut unit = units.numbers;
            if NINTH {
                unit = unit.xor(V::key(&tweak[0]));
            }
            macro_rules! round {
                ($round:literal) => {
                    let key = V::round_key::<$round>(schedule, &mut blocks);
                    for block in &mut blocks {
                        *block = D::round(*block, key);
                    }
                    if NINTH {
                        unit = unit.encrypt_round(V::key(&tweak[$round])).pinned();
                    }
                    if START && $round == 11 && (PASS + 1) * STREAMS * V::LANES == STRIDE {
                        self.first = First::new(units.first_tweak(next_first));
                    }
                    if $round <= STREAMS {
                        let i = $round - 1;
                        if i % 2 == 0 {
                            let [one, two] = if START {
                                self.first.times_x(PASS * STREAMS + i)
                            } else {
                                times_x32([V::load(tweaks.add(i * vector)), V::load(tweaks.add((i + 1) * vector))])
                            };
                            one.store(next.add(i * vector));
                            two.store(next.add((i + 1) * vector));
                        }
                        if i * LINE < STREAMS * vector {
                            prefetch_line_ahead(ahead.wrapping_add(i * LINE));
                        }
                    }
                };
            }
            for_each_round!(round);
            let key = V::round_key::<LAST>(schedule, &mut blocks);
            for (i, block) in blocks.into_iter().enumerate() {
                D::last(block, key.xor(V::load(tweaks.add(i * vector)))).store(dst.add(i * vector));
            }
            if NINTH {
                units.keep(unit.encrypt_last(V::key(&tweak[LAST])));
            }
        }
    }
}

/// The tweaks of the first vector of a sector, as they are and with the words of each lane swapped.
struct First<V> {
    tweaks: V,
    swapped: V,
}

/// The place of each lane, and 64 less that.
#[repr(align(64))]
struct Lanes([Block; 4], [Block; 4]);

static LANES: Lanes = Lanes([[0; 2], [1; 2], [2; 2], [3; 2]], [[64; 2], [63; 2], [62; 2], [61; 2]]);

impl<V: Vector> First<V> {
    /// Takes the first tweak of the sector to all lanes, times x to the lane's place.
    #[inline(always)]
    unsafe fn new(first: &Block) -> Self {
        // SAFETY: the condition is passed on; the tables are as long as the longest vector.
        unsafe {
            let first = V::broadcast(first);
            let (left, right) = (V::load(LANES.0.as_ptr().cast()), V::load(LANES.1.as_ptr().cast()));
            let (stays, crosses) = (first.shl_each(left), first.swap().shr_each(right));
            let [tweaks, _] = joined([stays; 2], [crosses; 2]);
            Self { tweaks, swapped: tweaks.swap() }
        }
    }

    /// The tweaks of vectors `i` and `i + 1` of the stride: in each lane those of the first, times x to the power of the blocks between.
    #[inline(always)]
    unsafe fn times_x(&self, i: usize) -> [V; 2] {
        let blocks = [i * V::LANES, (i + 1) * V::LANES];
        // SAFETY: the condition is passed on.
        unsafe {
            let stays = [self.tweaks.shl(blocks[0]), self.tweaks.shl(blocks[1])];
            let crosses = [self.swapped.shr(64 - blocks[0]), self.swapped.shr(64 - blocks[1])];
            joined(stays, crosses)
        }
    }
}

/// The tweaks a stride later: each times x^32. The dwords move up by one; the one that leaves at the top is already at the bottom.
#[inline(always)]
unsafe fn times_x32<V: Vector>([a, b]: [V; 2]) -> [V; 2] {
    // SAFETY: the condition is passed on.
    unsafe {
        let more = come_back(a.upper_words(b).shr(32));
        [a.rotate_up().xor(more[0]), b.rotate_up().xor(more[1])]
    }
}

/// Puts products together: what stays in its word, and what left the words at the top, swapped. From the lower word that enters the upper; from the
/// upper word it comes back to the lower.
#[inline(always)]
unsafe fn joined<V: Vector>(stays: [V; 2], crosses: [V; 2]) -> [V; 2] {
    // SAFETY: the condition is passed on.
    unsafe {
        let more = come_back(crosses[0].lower_words(crosses[1]));
        [stays[0].xor3(crosses[0], more[0]), stays[1].xor3(crosses[1], more[1])]
    }
}

/// How what leaves a tweak at the top comes back: x^128 = x^7 + x^2 + x + 1 (IEEE 1619-2018, 5.2). The 1 costs nothing, since what leaves is moved
/// to the bottom anyway; this is for the rest, for two vectors in the work of one. `left` has in each lane's lower word what left the first
/// vector's lane, and in the upper what left the second's: up to 32 bits, so that the product fits in the word.
#[inline(always)]
unsafe fn come_back<V: Vector>(left: V) -> [V; 2] {
    // SAFETY: the condition is passed on.
    unsafe {
        // Pinned, or the compiler makes shifts of both sums, for which fewer execution units serve.
        let once = left.add(left).pinned();
        let back = once.xor3(once.add(once), left.shl(7));
        let zero = V::broadcast(&[0; 2]);
        [back.lower_words(zero), back.upper_words(zero)]
    }
}
