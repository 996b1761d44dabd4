//! A span: the memory of one run, from where it is read and to where it is written, as raw pointers.
//!
//! Source and destination are memory that others may own and change meanwhile (a guest's, a memory device's), so they
//! are never seen as slices. A span holds a whole number of AES blocks; source and destination either do not overlap
//! or are the same, and need no alignment. A kernel reads each block before it writes it, and never reads it again.
#![allow(unsafe_code)]

use aes::cipher::array::Array;
use aes::cipher::consts::U16;

use super::sector::BLOCK;

/// An AES block as two little-endian quadwords, or a tweak in the same form.
pub(super) type Block = [u64; 2];

/// Where a run is read from and written to.
#[derive(Clone, Copy)]
pub(super) struct Span {
    src: *const u8,
    dst: *mut u8,
    blocks: usize,
    /// What is worked on after this run and may be fetched meanwhile; null if nobody knows.
    after: *const u8,
}

impl Span {
    /// Names the run of `blocks` AES blocks from `src` to `dst`.
    ///
    /// # Safety
    /// For as long as the span is used, that many blocks can be read at `src` and written at `dst`, and the two places
    /// are either the same or do not overlap.
    pub(super) unsafe fn new(src: *const u8, dst: *mut u8, blocks: usize) -> Self {
        Self { src, dst, blocks, after: std::ptr::null() }
    }

    /// The same run with a hint: what lies at `after`, which need not be mapped, is worked on next.
    pub(super) fn before(self, after: *const u8) -> Self {
        Self { after, ..self }
    }

    /// What is worked on after this run; null if nobody knows.
    pub(super) fn after(&self) -> *const u8 {
        self.after
    }

    /// The number of AES blocks.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// The first source byte.
    pub(super) fn src(&self) -> *const u8 {
        self.src
    }

    /// The first destination byte.
    pub(super) fn dst(&self) -> *mut u8 {
        self.dst
    }

    /// The part of `blocks` blocks from block `first` on.
    pub(super) fn part(&self, first: usize, blocks: usize) -> Self {
        assert!(first <= self.blocks && blocks <= self.blocks - first, "part outside its span");
        // SAFETY: the part lies within the span, so its memory is as good as the span's.
        unsafe { Self::new(self.src.add(first * BLOCK), self.dst.add(first * BLOCK), blocks) }.before(self.after)
    }

    /// Reads the blocks from `first` on, as many as there are tweaks, each combined with its tweak, into `blocks`.
    #[inline(always)]
    pub(super) fn read_xor(&self, first: usize, tweaks: &[Block], blocks: &mut [Array<u8, U16>]) {
        assert!(first <= self.blocks && tweaks.len() <= self.blocks - first, "read outside its span");
        for (i, (tweak, block)) in tweaks.iter().zip(blocks).enumerate() {
            // SAFETY: block `first + i` lies within the span; the read needs no alignment.
            let bytes = unsafe { self.src.add((first + i) * BLOCK).cast::<[u8; BLOCK]>().read_unaligned() };
            block.0 = xor(bytes, tweak);
        }
    }

    /// Writes `blocks` from `first` on, as many as there are tweaks, each combined with its tweak.
    #[inline(always)]
    pub(super) fn write_xor(&self, first: usize, tweaks: &[Block], blocks: &[Array<u8, U16>]) {
        assert!(first <= self.blocks && tweaks.len() <= self.blocks - first, "write outside its span");
        for (i, (tweak, block)) in tweaks.iter().zip(blocks).enumerate() {
            let bytes = xor(block.0, tweak);
            // SAFETY: block `first + i` lies within the span; the write needs no alignment.
            unsafe { self.dst.add((first + i) * BLOCK).cast::<[u8; BLOCK]>().write_unaligned(bytes) };
        }
    }
}

/// Byte by byte, of which the compiler makes one vector: out of words it makes two stores, for whose joint load the CPU
/// would have to wait.
#[inline(always)]
fn xor(mut bytes: [u8; BLOCK], tweak: &Block) -> [u8; BLOCK] {
    let tweak = tweak.map(u64::to_le_bytes);
    for (byte, tweak) in bytes.iter_mut().zip(tweak.as_flattened()) {
        *byte ^= tweak;
    }
    bytes
}

/// The block that the bytes are.
#[inline(always)]
pub(super) fn block_of(bytes: &Array<u8, U16>) -> Block {
    let word = u128::from_le_bytes(bytes.0);
    [word as u64, (word >> 64) as u64]
}
