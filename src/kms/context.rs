//! What a wrapped key is bound to: it opens for this disk of this account in this region, and for nothing else. And what the data of users is bound
//! to: their account, and the pairs that they give.
//!
//! A context is authenticated, not secret: [`KeyContext::encode`] is the additional data of the AEAD, or what a KMS derives its key from. Each
//! text is preceded by its length, so that no two contexts have the same bytes; and those of keys and those of data begin differently.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;

const LABEL: &[u8] = b"strongroom key context\0";
const DATA_LABEL: &[u8] = b"strongroom data context\0";
/// Of the encodings below.
const VERSION: u16 = 1;

/// Whose keys they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The region.
    pub region: String,
    /// The account in it.
    pub account: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {} in region {}", self.account, self.region)
    }
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The content of a disk.
    Disk,
    /// What a user has encrypted by the API.
    Data,
}

impl Purpose {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Disk => b"disk",
            Self::Data => b"data",
        }
    }
}

/// What a disk key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyContext {
    /// Whose it is.
    pub owner: Owner,
    /// A disk, its snapshots, and all that is made from them: they share a key.
    pub lineage: Uuid,
    /// What it is for.
    pub purpose: Purpose,
}

impl KeyContext {
    /// The context of a disk's key.
    pub fn disk(owner: Owner, lineage: Uuid) -> Self {
        Self { owner, lineage, purpose: Purpose::Disk }
    }

    /// The bytes that are authenticated.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = begin(LABEL, self.purpose, &self.owner);
        bytes.extend(self.lineage.as_bytes());
        bytes
    }
}

/// What the data of users belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataContext {
    /// Whose it is.
    pub owner: Owner,
    /// What the user says of it: the same has to be said again to have it decrypted.
    pub pairs: BTreeMap<String, String>,
}

impl DataContext {
    /// The bytes that are authenticated. The pairs are in the order of their names, whatever order they were given in.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = begin(DATA_LABEL, Purpose::Data, &self.owner);
        bytes.extend((self.pairs.len() as u32).to_le_bytes());
        for text in self.pairs.iter().flat_map(|(name, value)| [name, value]) {
            push(&mut bytes, text.as_bytes());
        }
        bytes
    }
}

/// What all contexts begin with.
fn begin(label: &[u8], purpose: Purpose, owner: &Owner) -> Vec<u8> {
    let mut bytes = label.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    for text in [purpose.text(), owner.region.as_bytes(), owner.account.as_bytes()] {
        push(&mut bytes, text);
    }
    bytes
}

fn push(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_contexts_have_the_same_bytes() {
        let context = |region: &str, account: &str, lineage: u128| {
            let owner = Owner { region: region.to_owned(), account: account.to_owned() };
            KeyContext::disk(owner, Uuid::from_u128(lineage)).encode()
        };
        let all = [context("a", "bc", 1), context("ab", "c", 1), context("a", "bc", 2), context("", "abc", 1)];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other != one));
        }
    }

    #[test]
    fn no_two_contexts_of_data_have_the_same_bytes() {
        let context = |account: &str, pairs: &[(&str, &str)]| {
            let owner = Owner { region: "r".to_owned(), account: account.to_owned() };
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            DataContext { owner, pairs: pairs.collect() }.encode()
        };
        let all = [
            context("a", &[]),
            context("b", &[]),
            context("a", &[("", "")]),
            context("a", &[("x", "yz")]),
            context("a", &[("xy", "z")]),
            context("a", &[("x", "y"), ("z", "")]),
            context("a", &[("x", ""), ("y", "z")]),
            context("a", &[("x", "yz ")]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other != one));
        }
        assert_eq!(context("a", &[("x", "1"), ("y", "2")]), context("a", &[("y", "2"), ("x", "1")]));
    }

    #[test]
    fn the_bytes_of_a_context_are_for_ever() {
        let owner = Owner { region: "r".to_owned(), account: "a".to_owned() };
        let key = KeyContext::disk(owner.clone(), Uuid::from_u128(1)).encode();
        let wanted = [&b"strongroom key context\0\x01\0\x04\0\0\0disk\x01\0\0\0r\x01\0\0\0a"[..], &[0; 15], &[1]];
        assert_eq!(key, wanted.concat());
        let data = DataContext { owner, pairs: [("x".to_owned(), "yz".to_owned())].into() }.encode();
        let wanted = [
            &b"strongroom data context\0\x01\0\x04\0\0\0data\x01\0\0\0r\x01\0\0\0a"[..],
            b"\x01\0\0\0\x01\0\0\0x\x02\0\0\0yz",
        ];
        assert_eq!(data, wanted.concat());
    }
}
