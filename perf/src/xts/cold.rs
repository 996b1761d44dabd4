//! Requests whose data on the disk's side lies in memory and in no cache: at random places, of which the next one is named, as the data path does it.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use strongroom::crypto::xts::{SectorSize, Tweak, XtsKey};
use strongroom::memory::{Arena, HugePages, Segment};

use super::{Direction, HOT_BYTES};

/// Much more than caches hold.
const BYTES: usize = 256 << 20;

/// Sizes of requests.
pub(super) const REQUESTS: [usize; 2] = [4096, 32 << 10];

/// The memory of a disk and of a client.
pub(super) struct Cold {
    disk: Arena,
    client: Arena,
    /// The state of the generator that chooses places (xorshift, Marsaglia 2003).
    random: u64,
    next: usize,
    near: usize,
}

impl Cold {
    pub(super) fn new() -> Result<Self, String> {
        let arena = |bytes| Arena::new(bytes, HugePages::Prefer).map_err(|e| format!("no memory for cold data: {e}"));
        let (disk, client) = (arena(BYTES)?, arena(HOT_BYTES)?);
        for at in (0..BYTES).step_by(64) {
            // SAFETY: the byte lies in the arena, which nobody else knows.
            unsafe { disk.base().add(at).write(at as u8) };
        }
        Ok(Self { disk, client, random: 0x9E37_79B9_7F4A_7C15, next: 0, near: 0 })
    }

    /// Takes a request of `bytes`, a power of two up to [`HOT_BYTES`], through the cipher, at the place that was named last; and names the next.
    pub(super) fn request(&mut self, key: &XtsKey, direction: Direction, bytes: usize) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let place = self.next.min(BYTES - bytes);
        self.next = (self.random as usize % BYTES) & !(bytes - 1);
        // The client's memory is used in turn, and is near.
        self.near = ((self.near + bytes) % HOT_BYTES) & !(bytes - 1);
        // SAFETY: both places lie in their arenas with all their bytes; the arenas do not overlap, and nobody else uses them.
        unsafe {
            let segment = |arena: &Arena, at| Segment::new(NonNull::new_unchecked(arena.base().add(at)), bytes);
            let (disk, client) = (segment(&self.disk, place), segment(&self.client, self.near));
            let after = self.disk.base().add(self.next);
            let tweak = Tweak::sectors(1000);
            match direction {
                Direction::Encrypt => key.encrypt_segments(SectorSize::B4096, tweak, &[client], &[disk], after),
                Direction::Decrypt => key.decrypt_segments(SectorSize::B4096, tweak, &[disk], &[client], after),
            }
        }
    }
}
