//! The counter file: which generation of the store was written last, so that an older file in its place is noticed.
//!
//! Its one figure is authenticated by a key derived from the root key. It is written after each change of the store and, in a new store, before it;
//! so it is never newer than the store, and a store without it has lost it.

use std::fmt;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::crypto::scrub::scrub;

use super::derive::{Key, Use, derive};
use super::error::StoreError;

const MAGIC: [u8; 8] = *b"SRstgen1";

/// All of the file.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Figure {
    magic: [u8; 8],
    store: [u8; 16],
    generation: U64,
    /// HMAC-SHA-256 of all before.
    mac: [u8; 32],
}

const _: () = assert!(size_of::<Figure>() == 64);
const AUTHENTICATED: usize = size_of::<Figure>() - 32;

/// Which store it is, and how often it was changed. Public: keep it elsewhere to notice that the store was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The store.
    pub store: Uuid,
    /// Grows with each change.
    pub number: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} of store {}", self.number, self.store)
    }
}

impl Generation {
    /// Refuses to be older than this, or another store.
    pub(super) fn follows(&self, newest: &Self) -> Result<(), StoreError> {
        if self.store != newest.store {
            return Err(StoreError::OtherStore { found: self.store, expected: newest.store });
        }
        if self.number < newest.number {
            return Err(StoreError::RolledBack { found: self.number, newest: newest.number });
        }
        Ok(())
    }
}

/// The file for a generation.
pub(super) fn encode(is: &Generation, root: &Key) -> Result<Vec<u8>, StoreError> {
    let mut figure = Figure { magic: MAGIC, store: is.store.into_bytes(), generation: is.number.into(), mac: [0; 32] };
    let key = derive(root, Use::Witness { store: is.store })?;
    figure.mac = mac(&key, &figure.as_bytes()[..AUTHENTICATED]);
    scrub();
    Ok(figure.as_bytes().to_vec())
}

/// What the file says, which anybody may have written.
pub(super) fn decode(bytes: &[u8]) -> Option<Generation> {
    let figure = Figure::read_from_bytes(bytes).ok().filter(|figure| figure.magic == MAGIC)?;
    Some(Generation { store: Uuid::from_bytes(figure.store), number: figure.generation.get() })
}

/// Whether the root key's owner has written it.
pub(super) fn is_authentic(bytes: &[u8], is: &Generation, root: &Key) -> Result<bool, StoreError> {
    let expected = encode(is, root)?;
    Ok(aws_lc_rs::constant_time::verify_slices_are_equal(bytes, &expected).is_ok())
}

#[inline(never)]
fn mac(key: &Key, bytes: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &**key);
    hmac::sign(&key, bytes).as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::embedded::derive::random;

    #[test]
    fn a_changed_byte_or_another_root_key_is_noticed() {
        let root = random().expect("a key");
        let is = Generation { store: Uuid::from_u128(3), number: 4 };
        let bytes = encode(&is, &root).expect("encoded");
        assert_eq!(decode(&bytes), Some(is));
        assert!(is_authentic(&bytes, &is, &root).expect("checked"));
        assert!(!is_authentic(&bytes, &is, &random().expect("a key")).expect("checked"));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let authentic = decode(&bytes).is_some_and(|is| is_authentic(&bytes, &is, &root).expect("checked"));
            assert!(!authentic, "byte {at}");
        }
    }

    #[test]
    fn older_and_other_ones_do_not_follow() {
        let is = |store, number| Generation { store: Uuid::from_u128(store), number };
        is(1, 5).follows(&is(1, 5)).expect("the same");
        is(1, 6).follows(&is(1, 5)).expect("newer");
        assert!(matches!(is(1, 4).follows(&is(1, 5)), Err(StoreError::RolledBack { found: 4, newest: 5 })));
        assert!(matches!(is(2, 6).follows(&is(1, 5)), Err(StoreError::OtherStore { .. })));
    }
}
