//! The kernel for any CPU: the `aes` crate's many-blocks call between two passes that combine tweaks, in safe Rust.
//!
//! The `aes` crate hands its chosen backend (VAES, AES-NI, ARMv8, constant-time software) to a closure and compiles the
//! closure with that backend's CPU features. So the whole work is done inside such a closure: the tweak arithmetic,
//! written as plain loops over 64-bit words, is vectorized for the same CPU, and the round keys are set up once a run.
//!
//! What is left on the stack at the end is overwritten, except for the round keys that the backend put there: they are
//! for [`crate::crypto::scrub`].

use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::typenum::Unsigned;
use aes::cipher::{
    BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncBackend, BlockCipherEncClosure,
    BlockCipherEncrypt, BlockSizeUser, KeyInit, ParBlocks, ParBlocksSizeUser,
};
use aes::{Aes256, Aes256Enc};

use super::sector::{BLOCK, SectorSize, Tweak};
use super::span::{Block, Span};

/// Blocks that share one pass: the smallest sector, so that a sector is a whole number of them.
const STRIDE: usize = SectorSize::B512.bytes() / BLOCK;

/// Blocks whose tweaks are made together: 15 strides, 16 calls of the 256-bit VAES backend, 60 of the AES-NI backend.
const SLAB: usize = 15 * STRIDE;

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
        self.data.encrypt_with_backend(Run { key: &self.tweak, sector, tweak, span });
    }

    /// Decrypts a run of whole sectors.
    pub(super) fn decrypt(&self, sector: SectorSize, tweak: Tweak, span: Span) {
        self.data.decrypt_with_backend(Run { key: &self.tweak, sector, tweak, span });
    }
}

/// A run of whole sectors, waiting for a backend.
struct Run<'a> {
    key: &'a Aes256Enc,
    sector: SectorSize,
    tweak: Tweak,
    span: Span,
}

impl BlockSizeUser for Run<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Run<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        self.over::<B>(|batch| backend.encrypt_par_blocks_inplace(batch));
    }
}

impl BlockCipherDecClosure for Run<'_> {
    #[inline(always)]
    fn call<B: BlockCipherDecBackend<BlockSize = U16>>(self, backend: &B) {
        self.over::<B>(|batch| backend.decrypt_par_blocks_inplace(batch));
    }
}

impl Run<'_> {
    /// Takes the run slab by slab through `cipher`, which works on as many blocks as backend `B` likes best.
    #[inline(always)]
    fn over<B: ParBlocksSizeUser<BlockSize = U16>>(self, mut cipher: impl FnMut(&mut ParBlocks<B>)) {
        let mut source = TweakSource::new(self.key, self.sector, self.tweak, self.span.blocks());
        let mut tweaks = [[0; 2]; SLAB];
        let mut batch: ParBlocks<B> = Array::from_fn(|_| Array([0; BLOCK]));
        let mut done = 0;
        while done < self.span.blocks() {
            let slab = &mut tweaks[..SLAB.min(self.span.blocks() - done)];
            source.fill(slab);
            for tweaks in slab.chunks(B::ParBlocksSize::USIZE) {
                self.span.read_xor(done, tweaks, |i, block| batch[i] = bytes_of(block));
                cipher(&mut batch);
                self.span.write_xor(done, tweaks, |i| block_of(&batch[i]));
                done += tweaks.len();
            }
        }
        wipe(&mut tweaks);
        batch.iter_mut().for_each(|block| block.fill(0));
        zeroize::optimization_barrier(&batch);
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
    /// The tweaks of the stride before this one.
    stride: [Block; STRIDE],
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
            stride: [[0; 2]; STRIDE],
            strides_per_unit,
            strides_left: 0,
        }
    }

    /// Fills `tweaks`, a whole number of strides, with the next tweaks of the run.
    #[inline(always)]
    fn fill(&mut self, tweaks: &mut [Block]) {
        for stride in tweaks.as_chunks_mut::<STRIDE>().0 {
            if self.strides_left == 0 {
                start_unit(self.next_unit(), &mut self.stride);
                self.strides_left = self.strides_per_unit;
            } else {
                self.stride.iter_mut().for_each(|tweak| *tweak = times_x32(*tweak));
            }
            self.strides_left -= 1;
            *stride = self.stride;
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
        wipe(&mut self.stride);
    }
}

/// Tweak i of a data unit is the first times x^i in GF(2^128) (IEEE 1619-2018, 5.2): here for i below 32, each from the
/// first, so that none waits for another. What leaves at the top comes back at the bottom times x^7 + x^2 + x + 1.
#[inline(always)]
fn start_unit(first: Block, stride: &mut [Block; STRIDE]) {
    let [low, high] = first;
    for (i, tweak) in stride.iter_mut().enumerate() {
        // Two shifts, since a shift by 64 is not one.
        let out = (high >> 1) >> (63 - i);
        let carry = (low >> 1) >> (63 - i);
        *tweak = [(low << i) ^ reduced(out), (high << i) ^ carry];
    }
}

/// The tweak 32 blocks later.
#[inline(always)]
fn times_x32([low, high]: Block) -> Block {
    [(low << 32) ^ reduced(high >> 32), (high << 32) | (low >> 32)]
}

#[inline(always)]
fn reduced(out: u64) -> u64 {
    out ^ (out << 1) ^ (out << 2) ^ (out << 7)
}

#[inline(always)]
fn bytes_of([low, high]: Block) -> Array<u8, U16> {
    Array((u128::from(low) | u128::from(high) << 64).to_le_bytes())
}

#[inline(always)]
fn block_of(bytes: &Array<u8, U16>) -> Block {
    let word = u128::from_le_bytes(bytes.0);
    [word as u64, (word >> 64) as u64]
}

fn wipe(blocks: &mut [Block]) {
    blocks.fill([0; 2]);
    zeroize::optimization_barrier(blocks);
}
