//! Text with secrets in it, in locked memory: requests that hold a key or a credential are put together here, and answers are read into it. Nothing grows,
//! so nothing is copied by growing.

use std::io::{self, Read};

use base64ct::{Base64, Encoding};

use crate::kms::{DiskKey, KEY_BYTES, KmsError, Plaintext};
use crate::memory::{PAGE, Secret};

/// Bytes of a key's base64 text.
pub(super) const KEY_TEXT_BYTES: usize = KEY_BYTES.div_ceil(3) * 4;

/// A text of at most `N` bytes.
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

/// A request, or a token: a page, as a [`Secret`] takes anyway.
pub(super) type Short = Text<{ PAGE - size_of::<usize>() }>;
/// A request with the data of a user in it, which is at most 8 KiB of base64.
pub(super) type Middling = Text<{ 3 * PAGE - size_of::<usize>() }>;
/// An answer: a list of some thousand keys is the longest.
pub(super) type Long = Text<{ 64 * PAGE - size_of::<usize>() }>;

/// It does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Text<N> {
    /// What is there.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends something as it is.
    pub(super) fn push(&mut self, more: &[u8]) -> Result<&mut Self, TooLong> {
        let room = self.bytes[self.len..].get_mut(..more.len()).ok_or(TooLong)?;
        room.copy_from_slice(more);
        self.len += more.len();
        Ok(self)
    }

    /// Appends a JSON string (RFC 8259 section 7).
    pub(super) fn push_json(&mut self, text: &[u8]) -> Result<&mut Self, TooLong> {
        self.push(b"\"")?;
        for byte in text {
            match byte {
                b'"' | b'\\' => self.push(&[b'\\', *byte])?,
                0..0x20 => self.push(format!("\\u{byte:04x}").as_bytes())?,
                _ => self.push(&[*byte])?,
            };
        }
        self.push(b"\"")
    }

    /// Appends bytes in base64, which is written in place.
    pub(super) fn push_base64(&mut self, bytes: &[u8]) -> Result<&mut Self, TooLong> {
        let room = self.bytes[self.len..].get_mut(..Base64::encoded_len(bytes)).ok_or(TooLong)?;
        let written = Base64::encode(bytes, room).map_err(|_| TooLong)?.len();
        self.len += written;
        Ok(self)
    }

    /// Reads to the end.
    pub(super) fn read_all(&mut self, mut from: impl Read) -> io::Result<()> {
        loop {
            if self.len == N {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer that is too long"));
            }
            match from.read(&mut self.bytes[self.len..]) {
                Ok(0) => return Ok(()),
                Ok(read) => self.len += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A short text in locked memory that `write` puts together.
pub(super) fn short(write: impl FnOnce(&mut Short) -> Result<&mut Short, TooLong>) -> Result<Secret<Short>, KmsError> {
    written(write)
}

/// A text in locked memory that `write` puts together.
pub(super) fn written<const N: usize>(
    write: impl FnOnce(&mut Text<N>) -> Result<&mut Text<N>, TooLong>,
) -> Result<Secret<Text<N>>, KmsError> {
    Secret::filled(|text: &mut Text<N>| match write(text) {
        Ok(_) => Ok(()),
        Err(TooLong) => Err(KmsError::Config("a credential or a name is too long to be sent to Vault".to_owned())),
    })
}

/// The key that a base64 text stands for, if it is one.
pub(super) fn key_of(text: &str) -> Option<Result<Secret<DiskKey>, KmsError>> {
    if text.len() != KEY_TEXT_BYTES {
        return None;
    }
    let mut fits = false;
    let key = Secret::filled(|key: &mut DiskKey| {
        fits = Base64::decode(text, &mut key.0).is_ok_and(|bytes| bytes.len() == KEY_BYTES);
        Ok(())
    });
    match key {
        Ok(_) if !fits => None,
        key => Some(key),
    }
}

/// The data that a base64 text stands for, if it is one, and no longer than it may be.
pub(super) fn data_of(text: &str) -> Option<Result<Secret<Plaintext>, KmsError>> {
    let padding = text.bytes().rev().take(2).take_while(|byte| *byte == b'=').count();
    let len = (text.len() / 4 * 3).checked_sub(padding)?;
    let mut fits = false;
    let data = Secret::filled(|data: &mut Plaintext| {
        fits = data.room(len).is_some_and(|room| Base64::decode(text, room).is_ok_and(|bytes| bytes.len() == len));
        Ok(())
    });
    match data {
        Ok(_) if !fits => None,
        data => Some(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::MOST_PLAINTEXT;

    #[test]
    fn a_key_comes_back_from_its_text() {
        let key = DiskKey::random().expect("a key");
        let text = short(|text| text.push(b"[")?.push_base64(&key.0)?.push(b"]")).expect("a text");
        let text = std::str::from_utf8(text.as_bytes()).expect("text");
        let back = key_of(&text[1..45]).expect("a key").expect("memory");
        assert_eq!(back.0, key.0);
        for wrong in [&text[1..44], &text[0..44], &text[2..46], ""] {
            assert!(key_of(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn data_comes_back_from_its_text() {
        for data in [&b""[..], b"a", b"ab", b"abc", &[7; MOST_PLAINTEXT]] {
            let text = written::<{ 3 * PAGE - 8 }>(|text| text.push_base64(data)).expect("a text");
            let text = std::str::from_utf8(text.as_bytes()).expect("text");
            assert_eq!(&**data_of(text).expect("data").expect("memory"), data);
        }
        let long = "AAAA".repeat(MOST_PLAINTEXT / 3 + 1);
        for wrong in ["A", "AAA", "AA*A", "AA=A", "====", "A===", "AAAA\n", &long] {
            assert!(data_of(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn strings_are_json() {
        let text = short(|text| text.push_json(b"a\"\\\n\x01 \xc3\xa4")).expect("a text");
        let back: String = serde_json::from_slice(text.as_bytes()).expect("JSON");
        assert_eq!(back, "a\"\\\n\u{1} \u{e4}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut text = Text::<4>::default();
        assert!(text.push(b"abc").is_ok());
        assert!(matches!(text.push(b"de"), Err(TooLong)));
        assert_eq!(text.as_bytes(), b"abc");
        assert!(text.read_all(&b"dd"[..]).is_err());
    }
}
