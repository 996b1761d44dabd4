//! Keys from keys: HKDF-Expand with SHA-256 (RFC 5869 section 2.3, NIST SP 800-56C rev. 2 section 5.1) under a label for each use.
//!
//! What is expanded is uniformly random, so it is taken as the pseudorandom key without extraction (RFC 5869 section 3.3). After each label
//! comes what tells apart the keys of that use, always as long, so that no two uses have the same bytes.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use uuid::Uuid;

use crate::crypto::scrub::scrub;
use crate::kms::KEY_BYTES;
use crate::memory::Secret;

use super::error::StoreError;

/// Bytes that tell apart the keys for texts of a CMK version.
pub(super) const SALT_BYTES: usize = 16;

/// A 256-bit key in locked memory.
pub(super) type Key = Secret<[u8; KEY_BYTES]>;

/// What a key is for.
#[derive(Clone, Copy)]
pub(super) enum Use {
    /// Seals the root key in a slot.
    Slot { store: Uuid, number: u8 },
    /// Seals the body.
    Body { store: Uuid, epoch: u64 },
    /// Seals material of CMKs.
    Material { store: Uuid, epoch: u64 },
    /// Authenticates the counter file.
    Witness { store: Uuid },
    /// Seals one text of a user; from the material of a CMK version.
    Data { cmk: Uuid, version: u32, salt: [u8; SALT_BYTES] },
}

impl Use {
    fn info(self) -> Vec<u8> {
        let (label, of, rest) = match self {
            Self::Slot { store, number } => ("strongroom store 1: slot", store, vec![number]),
            Self::Body { store, epoch } => ("strongroom store 1: body", store, epoch.to_le_bytes().to_vec()),
            Self::Material { store, epoch } => ("strongroom store 1: material", store, epoch.to_le_bytes().to_vec()),
            Self::Witness { store } => ("strongroom store 1: witness", store, vec![]),
            Self::Data { cmk, version, salt } => {
                ("strongroom cmk 1: data", cmk, [&version.to_le_bytes()[..], &salt].concat())
            }
        };
        [label.as_bytes(), b"\0", of.as_bytes(), &rest].concat()
    }
}

/// The key for a use.
pub(super) fn derive(from: &[u8; KEY_BYTES], of: Use) -> Result<Key, StoreError> {
    let derived = Secret::filled(|key: &mut [u8; KEY_BYTES]| {
        expand(from, &of.info(), key);
        Ok(())
    });
    scrub();
    derived
}

/// A new random key.
pub(super) fn random() -> Result<Key, StoreError> {
    let key = Secret::filled(|key: &mut [u8; KEY_BYTES]| getrandom::fill(key).map_err(StoreError::Random));
    scrub();
    key
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// Kept out of line, so that what it leaves on the stack lies where `scrub` reaches.
#[inline(never)]
fn expand(from: &[u8; KEY_BYTES], info: &[u8], key: &mut [u8; KEY_BYTES]) {
    let prk = Prk::new_less_safe(HKDF_SHA256, from);
    let info = [info];
    let filled = prk.expand(&info, Length).and_then(|okm| okm.fill(key));
    filled.expect("32 bytes are no more than HKDF gives");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_hkdf_as_others_compute_it() {
        // python3: hmac.new(bytes(range(32)), b"strongroom store 1: body\0" + bytes(15) + b"\x05" + b"\x07" + bytes(7) + b"\x01", hashlib.sha256)
        let from = std::array::from_fn(|n| n as u8);
        let key = derive(&from, Use::Body { store: Uuid::from_u128(5), epoch: 7 }).expect("derived");
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "a3e57fad649d886847f989990d7587d1d9ef0cc5bb5aa0b8bac8b65590aa73f2");
    }

    #[test]
    fn each_use_has_a_key_of_its_own() {
        let (store, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let uses = [
            Use::Slot { store, number: 0 },
            Use::Slot { store, number: 1 },
            Use::Body { store, epoch: 0 },
            Use::Body { store, epoch: 1 },
            Use::Body { store: other, epoch: 0 },
            Use::Material { store, epoch: 0 },
            Use::Witness { store },
            Use::Data { cmk: store, version: 0, salt: [0; 16] },
            Use::Data { cmk: store, version: 1, salt: [0; 16] },
            Use::Data { cmk: store, version: 0, salt: [1; 16] },
            Use::Data { cmk: other, version: 0, salt: [0; 16] },
        ];
        let keys: Vec<_> = uses.into_iter().map(|of| derive(&[1; 32], of).expect("derived")).collect();
        for (at, key) in keys.iter().enumerate() {
            assert!(keys[..at].iter().all(|other| **other != **key));
        }
    }
}
