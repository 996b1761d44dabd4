//! What stands in a wrapped key of ours: which key of the server, and what AES-256-GCM made.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | the version of this form |
//! | 1 | bytes of the key's unique identifier |
//! | so many | the unique identifier |
//! | 12, 16, 32 | nonce, tag, cipher text |
//!
//! Names may be given twice at a server, unique identifiers not: so the latter stands here, and the name with the version in the wrapped key.

use crate::kms::KEY_BYTES;

use super::message::{NONCE_BYTES, TAG_BYTES};

const VERSION: u8 = 1;
/// UUIDs have 36.
pub const MOST_ID: usize = 64;

/// A sealed disk key.
#[derive(Debug, PartialEq, Eq)]
pub struct Blob {
    /// The key's unique identifier.
    pub id: String,
    /// The nonce.
    pub nonce: [u8; NONCE_BYTES],
    /// The tag.
    pub tag: [u8; TAG_BYTES],
    /// The cipher text.
    pub text: [u8; KEY_BYTES],
}

impl Blob {
    /// As it is stored. The identifier is no longer than [`MOST_ID`].
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.id.len() <= MOST_ID, "the identifier was not checked");
        [&[VERSION, self.id.len() as u8], self.id.as_bytes(), &self.nonce, &self.tag, &self.text].concat()
    }

    /// Reads what [`Blob::encode`] made.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION, id_len], rest) = bytes.split_first_chunk()? else {
            return None;
        };
        let (id, rest) = rest.split_at_checked(id_len.into()).filter(|(id, _)| id.len() <= MOST_ID)?;
        let (&nonce, rest) = rest.split_first_chunk()?;
        let (&tag, rest) = rest.split_first_chunk()?;
        Some(Self { id: str::from_utf8(id).ok()?.to_owned(), nonce, tag, text: rest.try_into().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::MOST_BLOB;

    #[test]
    fn it_comes_back_whole_or_not_at_all() {
        let blob = Blob { id: "x".repeat(MOST_ID), nonce: [1; 12], tag: [2; 16], text: [3; 32] };
        let bytes = blob.encode();
        assert!(bytes.len() <= MOST_BLOB);
        assert_eq!(Blob::decode(&bytes), Some(blob));
        assert!((0..bytes.len()).all(|len| Blob::decode(&bytes[..len]).is_none()));
        assert!(Blob::decode(&[&bytes[..], &[0]].concat()).is_none());
        assert!(Blob::decode(&[&[2], &bytes[1..]].concat()).is_none());
    }
}
