//! Runs in pieces: finds the longest spans of whole sectors in a source and a destination that are cut anywhere.
//!
//! What is contiguous on both sides goes to the kernel as it lies. Only a sector that a border cuts is gathered into a
//! sector on the stack, worked on there, and scattered; that sector is overwritten at the end.
#![allow(unsafe_code)]

use super::key::assert_whole_sectors;
use super::sector::{BLOCK, SectorSize};
use super::span::Span;
use crate::memory::Segment;

/// Calls `work` for each span of a run, in order, with the number of sectors before it.
///
/// # Safety
/// The pieces of `src` can be read and those of `dst` written. Byte n of the source and byte n of the destination are
/// either the same byte for all n, or no piece of the source overlaps one of the destination.
pub(super) unsafe fn for_each_span(
    sector: SectorSize,
    src: &[Segment],
    dst: &[Segment],
    mut work: impl FnMut(u64, Span),
) {
    let len = total(src);
    assert_eq!(len, total(dst), "source and destination of a run differ in length");
    assert_whole_sectors(sector, len);
    let (mut src, mut dst) = (Cursor::new(src), Cursor::new(dst));
    let (mut done, sectors) = (0, (len >> sector.shift()) as u64);
    while done < sectors {
        let whole = src.contiguous().min(dst.contiguous()) >> sector.shift();
        if whole > 0 {
            let bytes = whole << sector.shift();
            // SAFETY: `bytes` are left in the current piece of either side; the caller promises the rest.
            work(done, unsafe { Span::new(src.ptr(), dst.ptr(), bytes / BLOCK) });
            src.advance(bytes);
            dst.advance(bytes);
            done += whole as u64;
        } else {
            // SAFETY: less than all sectors are done, so either side has another sector; the caller promises the rest.
            unsafe { cut_sector(sector, &mut src, &mut dst, |span| work(done, span)) };
            done += 1;
        }
    }
}

/// Takes one sector through the stack.
///
/// # Safety
/// Either side has another sector, which can be read and written.
#[cold]
#[inline(never)]
unsafe fn cut_sector(sector: SectorSize, src: &mut Cursor, dst: &mut Cursor, work: impl FnOnce(Span)) {
    let mut stack = [0u8; SectorSize::B4096.bytes()];
    let stack = &mut stack[..sector.bytes()];
    // SAFETY: the caller promises that the source has a sector that can be read.
    unsafe { src.gather(stack) };
    let ptr = stack.as_mut_ptr();
    // SAFETY: one slice of that many bytes is both source and destination.
    work(unsafe { Span::new(ptr, ptr, stack.len() / BLOCK) });
    // SAFETY: the caller promises that the destination has a sector that can be written.
    unsafe { dst.scatter(stack) };
    stack.fill(0);
    zeroize::optimization_barrier(stack);
}

fn total(pieces: &[Segment]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

/// A place in a list of pieces. Never stands on an empty piece, unless at the end.
struct Cursor<'a> {
    piece: Option<Segment>,
    rest: std::slice::Iter<'a, Segment>,
}

impl<'a> Cursor<'a> {
    fn new(pieces: &'a [Segment]) -> Self {
        let mut cursor = Self { piece: None, rest: pieces.iter() };
        cursor.next_piece();
        cursor
    }

    fn next_piece(&mut self) {
        self.piece = self.rest.find(|piece| !piece.is_empty()).copied();
    }

    /// The bytes left in the current piece.
    fn contiguous(&self) -> usize {
        self.piece.map_or(0, Segment::len)
    }

    /// The address of the next byte.
    fn ptr(&self) -> *mut u8 {
        self.piece.map_or(std::ptr::null_mut(), Segment::as_ptr)
    }

    /// Moves on by `bytes`, at most to the end of the current piece.
    fn advance(&mut self, bytes: usize) {
        let left = self.contiguous() - bytes;
        match self.piece {
            Some(piece) if left > 0 => self.piece = Some(piece.part(bytes, left)),
            _ => self.next_piece(),
        }
    }

    /// # Safety
    /// At least `into.len()` bytes are left, and can be read.
    unsafe fn gather(&mut self, mut into: &mut [u8]) {
        while !into.is_empty() {
            let (now, later) = into.split_at_mut(self.contiguous().min(into.len()));
            // SAFETY: the current piece has that many bytes left; the stack overlaps no piece.
            unsafe { std::ptr::copy_nonoverlapping(self.ptr(), now.as_mut_ptr(), now.len()) };
            self.advance(now.len());
            into = later;
        }
    }

    /// # Safety
    /// At least `from.len()` bytes are left, and can be written.
    unsafe fn scatter(&mut self, mut from: &[u8]) {
        while !from.is_empty() {
            let (now, later) = from.split_at(self.contiguous().min(from.len()));
            // SAFETY: the current piece has that many bytes left; the stack overlaps no piece.
            unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), self.ptr(), now.len()) };
            self.advance(now.len());
            from = later;
        }
    }
}
