//! The kernel for any CPU: the `aes` crate's many-blocks call between two passes that combine tweaks.
//!
//! The passes are plain loops over words and bytes, which the compiler turns into vectors; with AVX2 where the CPU has
//! it. The cipher is called with a slab at a time and not from within the passes: merged with them, the compiler takes
//! the `aes` crate's rounds out of their order, and they wait for each other.
//!
//! Which instructions the `aes` crate uses is its own choice. Release 0.9.4 takes VAES only where the system has
//! enabled AVX-512 state, also for the 256-bit form; elsewhere AES-NI.
//!
//! What is left on the stack at the end is overwritten, except for round keys that the `aes` crate put there: those
//! are for [`crate::crypto::scrub`].
#![allow(unsafe_code)]

use aes::cipher::array::Array;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Aes256Enc};
use zeroize::Zeroize;

use super::sector::{BLOCK, SectorSize, Tweak};
use super::span::{Block, Span, block_of};

/// Blocks that share one pass: the smallest sector, so that a sector is a whole number of them.
const STRIDE: usize = SectorSize::B512.bytes() / BLOCK;

/// Blocks that are worked on together, at most. Slab and tweaks fit well into the first-level cache, and do not lie a
/// multiple of 4 KiB apart, where the CPU would take one for the other.
const SLAB: usize = 6 * STRIDE;

/// The same for a run of a few sectors, which would pay for the clearing of a whole slab.
const SMALL_SLAB: usize = 2 * STRIDE;

/// Data unit numbers that are encrypted together: a call of the widest backend.
const UNITS: usize = 64;

/// The expanded key. The `aes` types zeroize themselves on drop.
pub(super) struct BulkKey {
    data: Aes256,
    tweak: Aes256Enc,
}

impl BulkKey {
    /// Expands the two halves of an XTS key.
    pub(super) fn expand(data: &[u8; 32], tweak: &[u8; 32]) -> Self {
        Self { data: Aes256::new(data.into()), tweak: Aes256Enc::new(tweak.into()) }
    }

    /// Encrypts a run of whole sectors.
    pub(super) fn encrypt(&self, sector: SectorSize, tweak: Tweak, span: Span) {
        self.by_slabs(sector, tweak, span, |slab| self.data.encrypt_blocks(slab));
    }

    /// Decrypts a run of whole sectors.
    pub(super) fn decrypt(&self, sector: SectorSize, tweak: Tweak, span: Span) {
        self.by_slabs(sector, tweak, span, |slab| self.data.decrypt_blocks(slab));
    }

    fn by_slabs(&self, sector: SectorSize, tweak: Tweak, span: Span, cipher: impl Fn(&mut [aes::Block])) {
        let source = TweakSource::new(&self.tweak, sector, tweak, span.blocks());
        if span.blocks() <= SMALL_SLAB {
            by_slabs_of::<SMALL_SLAB>(source, span, cipher);
        } else {
            by_slabs_of::<SLAB>(source, span, cipher);
        }
    }
}

fn by_slabs_of<const SLAB: usize>(mut source: TweakSource, span: Span, cipher: impl Fn(&mut [aes::Block])) {
    let mut tweaks = [[0; 2]; SLAB];
    let mut slab = [Array([0; BLOCK]); SLAB];
    let mut done = 0;
    while done < span.blocks() {
        let blocks = SLAB.min(span.blocks() - done);
        let (tweaks, slab) = (&mut tweaks[..blocks], &mut slab[..blocks]);
        read_slab(&mut source, &span, done, tweaks, slab);
        cipher(slab);
        write_slab(&span, done, tweaks, slab);
        done += blocks;
    }
    wipe(&mut tweaks);
    slab.fill(Array([0; BLOCK]));
    zeroize::optimization_barrier(&slab);
}

/// Declares a pass that is compiled twice, for the baseline and for AVX2, and takes the better one at run time.
macro_rules! pass {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $type),*) {
            #[inline(always)]
            fn plain($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) {
                plain($($arg),*);
            }

            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the CPU has AVX2; the code is safe otherwise.
                return unsafe { avx2($($arg),*) };
            }
            plain($($arg),*);
        }
    };
}

pass! {
    /// Makes the tweaks of the blocks from `first` on, and reads the blocks, combined with them.
    fn read_slab(source: &mut TweakSource, span: &Span, first: usize, tweaks: &mut [Block], slab: &mut [aes::Block]) {
        source.fill(tweaks);
        span.read_xor(first, tweaks, slab);
    }
}

pass! {
    /// Writes the blocks from `first` on, combined with their tweaks.
    fn write_slab(span: &Span, first: usize, tweaks: &[Block], slab: &[aes::Block]) {
        span.write_xor(first, tweaks, slab);
    }
}

/// Makes the tweaks of a run in order, a stride at a time.
struct TweakSource<'a> {
    key: &'a Aes256Enc,
    /// Data unit numbers that are still to be encrypted.
    numbers: Tweak,
    units_left: usize,
    /// The first tweaks of the next data units, from `unit` to `units_ready`.
    units: [Block; UNITS],
    unit: usize,
    units_ready: usize,
    /// The tweaks of the stride before the next.
    stride: Stride,
    strides_per_unit: usize,
    strides_left: usize,
}

impl<'a> TweakSource<'a> {
    #[inline(always)]
    fn new(key: &'a Aes256Enc, sector: SectorSize, numbers: Tweak, blocks: usize) -> Self {
        let strides_per_unit = sector.bytes() / BLOCK / STRIDE;
        Self {
            key,
            numbers,
            units_left: blocks / STRIDE / strides_per_unit,
            units: [[0; 2]; UNITS],
            unit: 0,
            units_ready: 0,
            stride: Stride { low: [0; STRIDE], high: [0; STRIDE] },
            strides_per_unit,
            strides_left: 0,
        }
    }

    /// Fills `tweaks`, a whole number of strides, with the next tweaks of the run.
    #[inline(always)]
    fn fill(&mut self, tweaks: &mut [Block]) {
        for tweaks in tweaks.as_chunks_mut::<STRIDE>().0 {
            if self.strides_left == 0 {
                let first = self.next_unit();
                self.stride.start(first);
                self.strides_left = self.strides_per_unit;
            } else {
                self.stride.advance();
            }
            self.strides_left -= 1;
            self.stride.write(tweaks);
        }
    }

    #[inline(always)]
    fn next_unit(&mut self) -> Block {
        if self.unit == self.units_ready {
            self.encrypt_units();
        }
        self.unit += 1;
        self.units[self.unit - 1]
    }

    /// Encrypts the next data unit numbers: the first tweak of each unit (IEEE 1619-2018, 5.3.2).
    fn encrypt_units(&mut self) {
        self.unit = 0;
        self.units_ready = UNITS.min(self.units_left);
        let mut blocks = [Array([0; BLOCK]); UNITS];
        let blocks = &mut blocks[..self.units_ready];
        for block in blocks.iter_mut() {
            block.0 = self.numbers.first.to_le_bytes();
            self.numbers = self.numbers.after(1);
        }
        self.key.encrypt_blocks(blocks);
        for (unit, block) in self.units.iter_mut().zip(blocks) {
            *unit = block_of(block);
        }
        self.units_left -= self.units_ready;
    }
}

impl Drop for TweakSource<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        wipe(&mut self.units[..self.units_ready]);
        self.stride.low.zeroize();
        self.stride.high.zeroize();
    }
}

/// The tweaks of a stride: low words and high words apart, so that the compiler can work on several at a time.
struct Stride {
    low: [u64; STRIDE],
    high: [u64; STRIDE],
}

impl Stride {
    /// Tweak i of a data unit is the first times x^i in GF(2^128) (IEEE 1619-2018, 5.2): so x^N of those before, doubling.
    #[inline(always)]
    fn start(&mut self, [low, high]: Block) {
        (self.low[0], self.high[0]) = (low, high);
        self.double::<1>();
        self.double::<2>();
        self.double::<4>();
        self.double::<8>();
        self.double::<16>();
    }

    /// Makes tweaks N to 2N out of tweaks 0 to N.
    #[inline(always)]
    fn double<const N: usize>(&mut self) {
        for i in 0..N {
            (self.low[N + i], self.high[N + i]) = times_x::<N>(self.low[i], self.high[i]);
        }
    }

    /// The stride that follows in the same data unit.
    #[inline(always)]
    fn advance(&mut self) {
        for i in 0..STRIDE {
            (self.low[i], self.high[i]) = times_x::<STRIDE>(self.low[i], self.high[i]);
        }
    }

    #[inline(always)]
    fn write(&self, tweaks: &mut [Block; STRIDE]) {
        for (i, tweak) in tweaks.iter_mut().enumerate() {
            *tweak = [self.low[i], self.high[i]];
        }
    }
}

/// A tweak times x^N. What leaves at the top comes back at the bottom times x^7 + x^2 + x + 1.
#[inline(always)]
fn times_x<const N: usize>(low: u64, high: u64) -> (u64, u64) {
    ((low << N) ^ reduced(high >> (64 - N)), (high << N) | (low >> (64 - N)))
}

#[inline(always)]
fn reduced(out: u64) -> u64 {
    out ^ (out << 1) ^ (out << 2) ^ (out << 7)
}

fn wipe(blocks: &mut [Block]) {
    blocks.fill([0; 2]);
    zeroize::optimization_barrier(blocks);
}
