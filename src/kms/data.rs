//! Small data that users have encrypted by keys of their own: what goes in and comes out, and the cipher text that names its key.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..12 | [`Figure`] |
//! | then | the CMK's identity, the KMS's bytes |
//!
//! All of it is authenticated by the KMS together with the [`DataContext`](super::DataContext). What is read here comes from users: nothing is trusted.

use std::ops::Deref;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::crypto::scrub::scrub;
use crate::memory::Secret;

use super::KmsError;
use super::provider::CmkId;
use super::wrapped::ProviderKind;

const MAGIC: [u8; 4] = *b"SRdb";
const VERSION: u8 = 1;
/// Bytes that can be encrypted at once.
pub const MOST_PLAINTEXT: usize = 6 << 10;
/// Bytes of the longest cipher text: the plain text in base64 and what Vault, or the head, adds to it.
pub const MOST_CIPHERTEXT: usize = (8 << 10) + 256;
/// Bytes of a CMK's identity, as in a wrapped key.
const MOST_ID: usize = 64;

/// The beginning.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Figure {
    magic: [u8; 4],
    version: u8,
    provider: u8,
    cmk_len: u8,
    reserved: u8,
    cmk_version: U32,
}

const _: () = assert!(size_of::<Figure>() == 12);

/// What is encrypted: 1 to [`MOST_PLAINTEXT`] bytes. Kept in a [`Secret`], which wipes it.
pub struct Plaintext {
    bytes: [u8; MOST_PLAINTEXT],
    len: usize,
}

impl Default for Plaintext {
    fn default() -> Self {
        Self { bytes: [0; MOST_PLAINTEXT], len: 0 }
    }
}

impl Deref for Plaintext {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Plaintext {
    /// So many random bytes.
    pub(super) fn random(len: usize) -> Result<Secret<Self>, KmsError> {
        let random = Secret::filled(|text: &mut Self| {
            let room = text.room(len).expect("the caller has checked the length");
            getrandom::fill(room).map_err(KmsError::Random)
        });
        scrub();
        random
    }

    /// Room for so many bytes, if there may be so many.
    pub(super) fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        let room = self.bytes.get_mut(..len)?;
        self.len = len;
        Some(room)
    }
}

/// Data that a CMK has encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataBlob {
    /// By which key.
    pub key: CmkId,
    /// By which version of it.
    pub version: u32,
    /// The cipher text, which names both: at most [`MOST_CIPHERTEXT`] bytes.
    pub ciphertext: Vec<u8>,
}

/// A new key for the user's own use: plain, and encrypted by a CMK.
pub struct DataKey {
    /// The key.
    pub plaintext: Secret<Plaintext>,
    /// The same, encrypted.
    pub blob: DataBlob,
}

/// Data that was decrypted.
pub struct OpenedData {
    /// By which key.
    pub key: CmkId,
    /// By which version of it.
    pub version: u32,
    /// What had been encrypted.
    pub plaintext: Secret<Plaintext>,
}

/// A cipher text, taken apart. Nothing of it has been authenticated then.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) provider: ProviderKind,
    pub(super) key: CmkId,
    pub(super) version: u32,
    /// What the KMS made.
    pub(super) sealed: &'a [u8],
}

impl<'a> Parts<'a> {
    /// The cipher text; nothing if a part of it is too long.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let figure = Figure {
            magic: MAGIC,
            version: VERSION,
            provider: self.provider.number(),
            cmk_len: Some(self.key.0.len()).filter(|len| *len <= MOST_ID)? as u8,
            reserved: 0,
            cmk_version: self.version.into(),
        };
        let bytes = [figure.as_bytes(), self.key.0.as_bytes(), self.sealed].concat();
        Some(bytes).filter(|bytes| bytes.len() <= MOST_CIPHERTEXT)
    }

    /// Reads what [`Parts::encode`] made; or says what is wrong with it.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, &'static str> {
        if bytes.len() > MOST_CIPHERTEXT {
            return Err("it is too long");
        }
        let (figure, rest) = Figure::read_from_prefix(bytes).map_err(|_| "it is cut off")?;
        if figure.magic != MAGIC || figure.reserved != 0 {
            return Err("it is none of ours");
        }
        if figure.version != VERSION {
            return Err("a newer program has made it");
        }
        let provider = ProviderKind::of(figure.provider).ok_or("there is no such kind of KMS")?;
        let (key, sealed) = rest.split_at_checked(figure.cmk_len.into()).ok_or("it is cut off")?;
        let key = str::from_utf8(key).ok().filter(|key| key.len() <= MOST_ID).ok_or("its key has no such name")?;
        Ok(Self { provider, key: CmkId(key.to_owned()), version: figure.cmk_version.get(), sealed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(sealed: &[u8]) -> Parts<'_> {
        Parts { provider: ProviderKind::Embedded, key: CmkId("k".repeat(MOST_ID)), version: 7, sealed }
    }

    #[test]
    fn a_cipher_text_comes_back_and_the_longest_fits() {
        let sealed = vec![9; MOST_CIPHERTEXT - size_of::<Figure>() - MOST_ID];
        let bytes = parts(&sealed).encode().expect("fits");
        assert_eq!(bytes.len(), MOST_CIPHERTEXT);
        assert_eq!(Parts::decode(&bytes), Ok(parts(&sealed)));
        assert!(Parts::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(parts(&[&sealed[..], &[0]].concat()).encode().is_none());
        assert!(Parts { key: CmkId("k".repeat(MOST_ID + 1)), ..parts(&[]) }.encode().is_none());
        // What Vault makes of the longest plain text is the longest.
        let vault = "vault:v4294967295:".len() + (12 + MOST_PLAINTEXT + 16).div_ceil(3) * 4;
        assert!(vault <= sealed.len());
    }

    #[test]
    fn what_is_none_is_refused() {
        let bytes = parts(&[5; 60]).encode().expect("fits");
        for len in 0..size_of::<Figure>() + MOST_ID {
            assert!(Parts::decode(&bytes[..len]).is_err(), "{len}");
        }
        for (at, flip) in [(0, 1), (3, 0x80), (4, 2), (5, 0x40), (7, 1), (20, 0x80)] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            assert!(Parts::decode(&bytes).is_err(), "{at}");
        }
    }
}
