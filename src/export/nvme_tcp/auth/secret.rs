//! Secrets of DH-HMAC-CHAP in their textual form, and the keys made of them.
//!
//! `DHHC-1:HH:BASE64:` carries a secret of 32, 48 or 64 bytes with its CRC-32; HH says which hash function transforms it into
//! a key (NVM Express Base 2.0 section 8.13.5.8). `nvme gen-dhchap-key` prints such a text. No error repeats any of it.

use base64ct::{Base64, Encoding};
use thiserror::Error;
use zeroize::Zeroizing;

use super::hash::{Hash, MOST_HASH_BYTES, SecretBytes};
use crate::memory::{Secret, SecretError};

const PREFIX: &[u8] = b"DHHC-1:";
const CRC_BYTES: usize = 4;
const LENGTHS: [usize; 3] = [32, 48, 64];
/// What a key is bound to beside an NQN (section 8.13.5.8).
const FABRICS: &[u8] = b"NVMe-over-Fabrics";

/// Why a text is no secret.
#[derive(Debug, Error)]
pub enum ChapSecretError {
    /// The text looks different.
    #[error("it has to look like DHHC-1:HH:BASE64: (`nvme gen-dhchap-key` makes one)")]
    Form,
    /// HH is unknown.
    #[error("the number after DHHC-1 has to be 00, 01, 02 or 03")]
    Transformation,
    /// The base64 part cannot be decoded.
    #[error("its third part is not base64")]
    Encoding,
    /// The secret has a length of its own.
    #[error("it holds {0} bytes and not 32, 48 or 64")]
    Length(usize),
    /// The CRC-32 does not fit.
    #[error("its checksum is wrong: it was changed or cut when it was copied")]
    Checksum,
    /// There is no locked memory for it.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// A secret, and how it becomes a key.
pub struct ChapSecret {
    transformation: Option<Hash>,
    bytes: Secret<Bytes>,
}

struct Bytes {
    bytes: [u8; MOST_HASH_BYTES],
    len: usize,
}

impl Default for Bytes {
    fn default() -> Self {
        Self { bytes: [0; MOST_HASH_BYTES], len: 0 }
    }
}

impl ChapSecret {
    /// Reads the textual form.
    pub fn parse(text: &[u8]) -> Result<Self, ChapSecretError> {
        let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(b":")).ok_or(ChapSecretError::Form)?;
        let (number, base64) = rest.split_at_checked(3).ok_or(ChapSecretError::Form)?;
        let transformation = match number {
            b"00:" => None,
            b"01:" => Some(Hash::Sha256),
            b"02:" => Some(Hash::Sha384),
            b"03:" => Some(Hash::Sha512),
            [_, _, b':'] => return Err(ChapSecretError::Transformation),
            _ => return Err(ChapSecretError::Form),
        };
        let mut decoded = Zeroizing::new([0; MOST_HASH_BYTES + CRC_BYTES]);
        let decoded = match Base64::decode(base64, decoded.as_mut_slice()) {
            Ok(decoded) => decoded,
            Err(base64ct::Error::InvalidEncoding) => return Err(ChapSecretError::Encoding),
            Err(base64ct::Error::InvalidLength) => {
                return Err(ChapSecretError::Length((base64.len() / 4 * 3).saturating_sub(CRC_BYTES)));
            }
        };
        let (key, crc) = decoded
            .split_last_chunk::<CRC_BYTES>()
            .filter(|(key, _)| LENGTHS.contains(&key.len()))
            .ok_or(ChapSecretError::Length(decoded.len().saturating_sub(CRC_BYTES)))?;
        if crc32fast::hash(key) != u32::from_le_bytes(*crc) {
            return Err(ChapSecretError::Checksum);
        }
        let bytes = Secret::filled(|place: &mut Bytes| {
            place.bytes[..key.len()].copy_from_slice(key);
            place.len = key.len();
            Ok::<_, SecretError>(())
        })?;
        Ok(Self { transformation, bytes })
    }

    /// The key that is used in the name of this NQN: the secret itself, or its HMAC over the name (section 8.13.5.8).
    pub fn key_for(&self, nqn: &str) -> SecretBytes {
        let secret = &self.bytes.bytes[..self.bytes.len];
        match self.transformation {
            None => SecretBytes::filled(secret.len(), |out| out.copy_from_slice(secret)),
            Some(hash) => hash.hmac(secret, &[nqn.as_bytes(), FABRICS]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";

    /// Printed by `nvme gen-dhchap-key -m 0 -s 000102…` (nvme-cli 2.3).
    const COUNTING: [(usize, &str); 3] = [
        (32, "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:"),
        (48, "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vcSEgBQ==:"),
        (64, "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P4zODhA=:"),
    ];

    /// Printed by `nvme gen-dhchap-key -m 1 (2, 3) -s 000102… -n NQN`: nvme-cli prints the transformed key as the secret.
    const TRANSFORMED: [(Hash, &str); 3] = [
        (Hash::Sha256, "DHHC-1:01:bOHk6jHoMxpP5YJr/eF6XNOGuPAzh0iRniebpsVb9ydqVuR5:"),
        (Hash::Sha384, "DHHC-1:02:JzgkyQ7IBRNgZgoVJQTRqDZ62Hnj5/kZ+vrrqjiE4TzoZZv5ycVS5cOLCiZ1bQfVVxJqow==:"),
        (
            Hash::Sha512,
            "DHHC-1:03:D+Ucidhr9Oh00yaKCrMLB2s2c/hsojlyxwni12p59UZ78f4YQ6UMpEcQG4yaPnLJFkljK+euytryvvQe2rYShiu0Vv0=:",
        ),
    ];

    fn secret(text: &str) -> ChapSecret {
        ChapSecret::parse(text.as_bytes()).expect("a secret")
    }

    #[test]
    fn what_nvme_cli_prints_is_read() {
        for (len, text) in COUNTING {
            let wanted: Vec<u8> = (0..len as u8).collect();
            assert_eq!(secret(text).key_for(NQN).as_bytes(), wanted);
        }
    }

    #[test]
    fn a_secret_is_transformed_as_nvme_cli_does() {
        for ((_, plain), (hash, printed)) in COUNTING.into_iter().zip(TRANSFORMED) {
            let text = plain.replacen(":00:", &format!(":{:02}:", hash.id()), 1);
            let printed = ChapSecret { transformation: None, bytes: secret(printed).bytes };
            assert_eq!(secret(&text).key_for(NQN).as_bytes(), printed.key_for(NQN).as_bytes());
            assert_ne!(secret(&text).key_for("nqn.other").as_bytes(), printed.key_for(NQN).as_bytes());
        }
    }

    #[test]
    fn other_texts_are_refused_and_not_repeated() {
        for (text, wanted) in [
            ("", "look like"),
            ("DHHC-1:", "look like"),
            ("DHHC-1:00:", "look like"),
            ("DHHC-2:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:", "look like"),
            ("DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR", "look like"),
            ("DHHC-1:0:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:", "look like"),
            ("DHHC-1:04:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:", "00, 01"),
            ("DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh!KfiaR:", "base64"),
            ("DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaS:", "checksum"),
            ("DHHC-1:00:ABECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:", "checksum"),
            ("DHHC-1:00::", "0 bytes"),
            ("DHHC-1:00:AAEC:", "0 bytes"),
            ("DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd:", "26 bytes"),
            (&format!("DHHC-1:00:{}:", "AAEC".repeat(100)), "296 bytes"),
        ] {
            let error = ChapSecret::parse(text.as_bytes()).map(|_| ()).expect_err(text).to_string();
            assert!(error.contains(wanted) && !error.contains("AAEC"), "{text}: {error}");
        }
    }
}
