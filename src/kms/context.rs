//! What a wrapped key is bound to: it opens for this disk of this account in this region, and for nothing else.
//!
//! The context is authenticated, not secret: [`KeyContext::encode`] is the additional data of the AEAD, or what a KMS derives its key from. Each
//! text is preceded by its length, so that no two contexts have the same bytes.

use std::fmt;

use uuid::Uuid;

const LABEL: &[u8] = b"strongroom key context\0";
/// Of the encoding below.
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
}

impl Purpose {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Disk => b"disk",
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
        let mut bytes = LABEL.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        for text in [self.purpose.text(), self.owner.region.as_bytes(), self.owner.account.as_bytes()] {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text);
        }
        bytes.extend(self.lineage.as_bytes());
        bytes
    }
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
}
