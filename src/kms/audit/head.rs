//! Hashes of records, and heads: the number and the hash of one, which stand for everything before it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::{Deserialize, Serialize};

/// Keeps these hashes apart from those of anything else.
const LABEL: &[u8] = b"strongroom audit record 1\0";

/// What a record is known by: SHA-256 (FIPS 180-4) of the label, the hash before it, and its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash([u8; SHA256_OUTPUT_LEN]);

impl Hash {
    /// Digits of its text.
    pub(super) const DIGITS: usize = 2 * SHA256_OUTPUT_LEN;
    /// What stands before the first record.
    pub(super) const START: Self = Self([0; SHA256_OUTPUT_LEN]);

    pub(super) fn of_record(prev: Self, text: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in [LABEL, &prev.0, text] {
            context.update(part);
        }
        let digest = context.finish();
        Self(digest.as_ref().try_into().expect("SHA-256 gives 32 bytes"))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGIT: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; Self::DIGITS];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGIT[usize::from(byte >> 4)], DIGIT[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&text).expect("digits are text"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = String;

    /// Lower-case digits only: a hash has one text.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no hash of 64 digits from 0 to f");
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(wrong()),
        };
        if text.len() != Self::DIGITS {
            return Err(wrong());
        }
        let mut hash = Self::START;
        for (byte, pair) in hash.0.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(hash)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A record, and with it all those before. Written `SEQ:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Head {
    /// The record's number; 0 if there is none yet.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// Before the first record.
    pub const START: Self = Self { seq: 0, hash: Hash::START };
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (seq, hash) = text.split_once(':').ok_or_else(|| format!("{text:?} is no head: write SEQ:HASH"))?;
        let seq = seq.parse().map_err(|_| format!("{seq:?} is no number of a record"))?;
        Ok(Self { seq, hash: hash.parse()? })
    }
}

impl From<Head> for String {
    fn from(head: Head) -> Self {
        head.to_string()
    }
}

impl TryFrom<String> for Head {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_one_text() {
        let head = Head { seq: 7, hash: Hash::of_record(Hash::START, b"text") };
        let text = head.to_string();
        // python3: hashlib.sha256(b"strongroom audit record 1\0" + bytes(32) + b"text").hexdigest()
        assert_eq!(text, "7:6cc3b200645e03f046d118ad984148b9baf8d3e241cfd9f638aee6759d7765e8");
        assert_eq!(text.parse(), Ok(head));
        let upper = text.to_uppercase();
        for wrong in ["", "7", "7:", ":00", &text[1..], &text[..text.len() - 1], &upper, "x:00"] {
            assert!(wrong.parse::<Head>().is_err(), "{wrong}");
        }
    }
}
