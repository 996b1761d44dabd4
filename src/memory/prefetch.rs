//! Hints to the CPU: which memory will be worked on soon.
//!
//! Any address will do, also one that is not mapped.
#![allow(unsafe_code)]

/// Bytes in a cache line.
pub const LINE: usize = 64;

/// Asks the CPU to fetch the lines of `len` bytes at `ptr`, which will be worked on some commands later.
///
/// Call it as soon as a request's place is known; the cipher's kernels look ahead within a run themselves. The lines go to the second-level cache:
/// those of a whole batch of commands would drive each other out of the first.
#[inline]
pub fn prefetch_ahead(ptr: *const u8, len: usize) {
    for offset in (0..len).step_by(LINE) {
        prefetch_line_ahead(ptr.wrapping_add(offset));
    }
}

/// Asks the CPU to fetch a line into the second-level cache: one that is not needed yet, and of which many are asked for. They do not wait for the few
/// places in which the first level keeps what it misses.
#[inline(always)]
pub fn prefetch_line_ahead(ptr: *const u8) {
    prefetch::<SECOND_LEVEL>(ptr);
}

/// Asks the CPU to fetch a line that will be read soon.
#[inline(always)]
pub fn prefetch_line(ptr: *const u8) {
    prefetch::<FIRST_LEVEL>(ptr);
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0 as FIRST_LEVEL, _MM_HINT_T1 as SECOND_LEVEL};

#[cfg(not(target_arch = "x86_64"))]
const FIRST_LEVEL: i32 = 1;
#[cfg(not(target_arch = "x86_64"))]
const SECOND_LEVEL: i32 = 2;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch<const LEVEL: i32>(ptr: *const u8) {
    // SAFETY: a prefetch of an address that is not mapped does nothing (Intel SDM volume 2, PREFETCHh).
    unsafe { std::arch::x86_64::_mm_prefetch::<LEVEL>(ptr.cast()) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn prefetch<const LEVEL: i32>(_ptr: *const u8) {}
