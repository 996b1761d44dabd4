//! Text with secrets in it, in locked memory: requests that hold a key or a credential are put together here, and answers are read into it. Nothing grows,
//! so nothing is copied by growing.

use std::io::{self, Read};

use base64ct::{Base64, Encoding};

use crate::kms::{DiskKey, KEY_BYTES, KmsError};
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

    /// Appends a key in base64, which is written in place.
    pub(super) fn push_key(&mut self, key: &DiskKey) -> Result<&mut Self, TooLong> {
        let room = self.bytes[self.len..].get_mut(..KEY_TEXT_BYTES).ok_or(TooLong)?;
        let written = Base64::encode(&key.0, room).map_err(|_| TooLong)?.len();
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
    Secret::filled(|text: &mut Short| match write(text) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_text() {
        let key = DiskKey::random().expect("a key");
        let text = short(|text| text.push(b"[")?.push_key(&key)?.push(b"]")).expect("a text");
        let text = std::str::from_utf8(text.as_bytes()).expect("text");
        let back = key_of(&text[1..45]).expect("a key").expect("memory");
        assert_eq!(back.0, key.0);
        for wrong in [&text[1..44], &text[0..44], &text[2..46], ""] {
            assert!(key_of(wrong).is_none(), "{wrong}");
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
