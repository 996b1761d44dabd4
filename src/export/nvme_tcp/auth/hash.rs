//! The hash functions of DH-HMAC-CHAP, chosen when the two sides negotiate (NVM Express Base 2.0 section 8.13.5.2; TP 8006).
//!
//! Values are held in [`SecretBytes`], which wipe themselves: a transformed key or a session key is worth as much as the secret.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The most bytes of a hash value and of a secret (section 8.13.5.8).
pub const MOST_HASH_BYTES: usize = 64;

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// All, the strongest first.
    pub const ALL: [Self; 3] = [Self::Sha512, Self::Sha384, Self::Sha256];

    /// The hash identifier (section 8.13.5.2, HashIDList).
    pub fn id(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha384 => 2,
            Self::Sha512 => 3,
        }
    }

    /// How long its values are.
    pub fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// H(message).
    pub fn digest(self, message: &[u8]) -> SecretBytes {
        SecretBytes::filled(self.bytes(), |out| match self {
            Self::Sha256 => digest_into::<Sha256>(message, out),
            Self::Sha384 => digest_into::<Sha384>(message, out),
            Self::Sha512 => digest_into::<Sha512>(message, out),
        })
    }

    /// HMAC(key, message), where the message is these parts joined.
    pub fn hmac(self, key: &[u8], message: &[&[u8]]) -> SecretBytes {
        SecretBytes::filled(self.bytes(), |out| match self {
            Self::Sha256 => hmac_into::<Hmac<Sha256>>(key, message, out),
            Self::Sha384 => hmac_into::<Hmac<Sha384>>(key, message, out),
            Self::Sha512 => hmac_into::<Hmac<Sha512>>(key, message, out),
        })
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

fn digest_into<H: Digest>(message: &[u8], out: &mut [u8]) {
    let mut value = H::digest(message);
    out.copy_from_slice(&value);
    value.as_mut_slice().zeroize();
}

fn hmac_into<M: Mac + KeyInit>(key: &[u8], message: &[&[u8]], out: &mut [u8]) {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    message.iter().for_each(|part| mac.update(part));
    let mut value = mac.finalize().into_bytes();
    out.copy_from_slice(&value);
    value.as_mut_slice().zeroize();
}

/// Up to 64 bytes that are wiped when dropped, never printed, and compared in constant time.
pub struct SecretBytes {
    bytes: Zeroizing<[u8; MOST_HASH_BYTES]>,
    len: usize,
}

impl SecretBytes {
    /// `len` bytes that `fill` writes.
    pub fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = Zeroizing::new([0; MOST_HASH_BYTES]);
        fill(&mut bytes[..len]);
        Self { bytes, len }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Whether these are the same bytes, in a time that depends on their number alone.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.as_bytes().ct_eq(other).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 4231 section 4.3, test case 2.
    #[test]
    fn hmac_gives_the_values_of_rfc_4231() {
        for (hash, wanted) in [
            (Hash::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                Hash::Sha384,
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
            ),
            (
                Hash::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            let value = hash.hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
            assert_eq!(hex(value.as_bytes()), wanted);
            assert!(value.matches(value.as_bytes()) && !value.matches(&value.as_bytes()[1..]));
        }
    }

    #[test]
    fn values_have_the_length_of_their_function() {
        for hash in Hash::ALL {
            assert_eq!(hash.digest(b"").as_bytes().len(), hash.bytes());
        }
    }
}
