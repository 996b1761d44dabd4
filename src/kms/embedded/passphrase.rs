//! From a passphrase to a key: Argon2id version 1.3 (RFC 9106).
//!
//! How much work that is stands in the slot. What comes from a file may be damaged, so it is bounded before memory is taken for it.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::scrub::scrub;
use crate::kms::KEY_BYTES;
use crate::memory::Secret;

use super::derive::Key;
use super::error::StoreError;

/// Less is refused: 19 MiB and two passes are the least that OWASP's password storage cheat sheet lets pass.
const LEAST_MEMORY_KIB: u32 = 19 << 10;
const LEAST_PASSES: u32 = 2;
/// More would keep the machine busy for minutes, or take its memory.
const MOST_MEMORY_KIB: u32 = 1 << 20;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;

/// How a passphrase is stretched, as it stands in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Stretch {
    pub(super) memory_kib: U32,
    pub(super) passes: U32,
    pub(super) lanes: U32,
    pub(super) salt: [u8; 32],
}

const _: () = assert!(size_of::<Stretch>() == 44);

impl Stretch {
    /// For a new slot: 64 MiB, three passes, one lane (the second choice of RFC 9106 section 4, for one core), and a salt of its own.
    pub(super) fn new() -> Result<Self, StoreError> {
        let mut stretch = Self { memory_kib: (64 << 10).into(), passes: 3.into(), lanes: 1.into(), salt: [0; 32] };
        getrandom::fill(&mut stretch.salt).map_err(StoreError::Random)?;
        Ok(stretch)
    }

    /// Whether it is work that we are ready to do, for this slot.
    pub(super) fn check(&self, slot: u8) -> Result<(), StoreError> {
        let (memory, passes, lanes) = (self.memory_kib.get(), self.passes.get(), self.lanes.get());
        let sound = (LEAST_MEMORY_KIB..=MOST_MEMORY_KIB).contains(&memory)
            && (LEAST_PASSES..=MOST_PASSES).contains(&passes)
            && (1..=MOST_LANES).contains(&lanes);
        match sound {
            true => Ok(()),
            false => {
                let what = format!("{memory} KiB, {passes} passes, {lanes} lanes");
                Err(StoreError::Parameters { slot, what })
            }
        }
    }

    /// Does the work. [`Stretch::check`] has to have passed.
    pub(super) fn stretch(&self, passphrase: &[u8]) -> Result<Key, StoreError> {
        let stretched = Secret::filled(|key: &mut [u8; KEY_BYTES]| {
            self.run(passphrase, key);
            Ok(())
        });
        scrub();
        stretched
    }

    /// Kept out of line, so that what it leaves on the stack lies where `scrub` reaches.
    #[inline(never)]
    fn run(&self, passphrase: &[u8], key: &mut [u8; KEY_BYTES]) {
        let params = Params::new(self.memory_kib.get(), self.passes.get(), self.lanes.get(), Some(KEY_BYTES));
        let params = params.expect("the bounds are within Argon2's");
        // Its own memory is not wiped by the library.
        let mut blocks = Zeroizing::new(Blocks(vec![Block::default(); params.block_count()]));
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hashed = argon.hash_password_into_with_memory(passphrase, &self.salt, key, &mut blocks.0);
        hashed.expect("the lengths are within Argon2's");
    }
}

struct Blocks(Vec<Block>);

impl Zeroize for Blocks {
    fn zeroize(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_argon2id_as_others_compute_it() {
        // argon2-cffi: hash_secret_raw(b"correct horse", bytes(range(32)), 3, 65536, 1, 32, Type.ID)
        let stretch = Stretch { salt: std::array::from_fn(|n| n as u8), ..Stretch::new().expect("random") };
        let key = stretch.stretch(b"correct horse").expect("stretched");
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5ae5814e91d65faf404b210f2e803dfb6dc636ba6bd666d9d2012acee1bc54b9");
    }

    #[test]
    fn absurd_work_is_refused_before_it_is_begun() {
        let good = Stretch::new().expect("random");
        good.check(0).expect("good");
        for (memory_kib, passes, lanes) in [
            (u32::MAX, 3, 1),
            (8, 3, 1),
            (0, 3, 1),
            (64 << 10, u32::MAX, 1),
            (64 << 10, 1, 1),
            (64 << 10, 3, 0),
            (64 << 10, 3, u32::MAX),
        ] {
            let bad = Stretch { memory_kib: memory_kib.into(), passes: passes.into(), lanes: lanes.into(), ..good };
            assert!(matches!(bad.check(3), Err(StoreError::Parameters { slot: 3, .. })));
        }
    }
}
