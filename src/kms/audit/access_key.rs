//! The identity of an access key: who has signed a request to the API. No secret; the secret that belongs to it never comes here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of the longest one.
const MOST_BYTES: usize = 32;

/// The identity of an access key: 1 to 32 ASCII letters, digits, `-`, `_` and `.`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AccessKeyId {
    /// Zeros behind the end.
    bytes: [u8; MOST_BYTES],
    len: u8,
}

impl AccessKeyId {
    /// Its text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("it was made from ASCII")
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for AccessKeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !(1..=MOST_BYTES).contains(&text.len()) || !text.chars().all(fits) {
            return Err(format!(
                "that is no access key ID; it has 1 to {MOST_BYTES} letters, digits, '-', '_' and '.'"
            ));
        }
        let mut bytes = [0; MOST_BYTES];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes, len: text.len() as u8 })
    }
}

impl TryFrom<String> for AccessKeyId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AccessKeyId> for String {
    fn from(id: AccessKeyId) -> Self {
        id.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_short_plain_text() {
        for good in ["L", "LTAI5tExample", "STS.NUabc-_9", &"x".repeat(32)] {
            let id: AccessKeyId = good.parse().expect("an id");
            assert_eq!((id.as_str(), id.to_string()), (good, good.to_owned()));
        }
        for bad in ["", "a b", "a\n", "\u{e9}", "a\"", &"x".repeat(33)] {
            assert!(bad.parse::<AccessKeyId>().is_err(), "{bad}");
        }
        // What may have been a secret is not repeated.
        assert!(!"secret/secret".parse::<AccessKeyId>().expect_err("none").contains("secret/"));
    }
}
