//! A wrapped disk key as it is stored with the disk: the KMS's own bytes, and what has to be known to have them opened.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..32 | [`Figure`] |
//! | then | the CMK's identity, the region, the account, the KMS's bytes |
//!
//! Region, account and lineage stand there in plain so that a pool can be opened on another node of the region; they are authenticated by the KMS
//! with the key, so changing them only makes the key useless. What is read here may come from a damaged device: nothing is trusted.

use std::fmt;

use thiserror::Error;
use uuid::Uuid;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::context::{KeyContext, Owner};
use super::provider::CmkId;

const MAGIC: [u8; 4] = *b"SRwk";
const VERSION: u8 = 1;
/// What a pool has room for with a disk: all of a wrapped key, once encoded.
pub const MOST_BYTES: usize = 448;
/// What is left of that for the KMS's bytes if the texts are as long as they may be.
pub const MOST_BLOB: usize = MOST_BYTES - size_of::<Figure>() - 3 * MOST_TEXT;
const MOST_TEXT: usize = 64;

/// The beginning.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Figure {
    magic: [u8; 4],
    version: u8,
    provider: u8,
    cmk_len: u8,
    region_len: u8,
    account_len: u8,
    reserved: u8,
    blob_len: U16,
    cmk_version: U32,
    lineage: [u8; 16],
}

const _: () = assert!(size_of::<Figure>() == 32);

/// Which kind of KMS has wrapped a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// The key store of our own.
    Embedded,
    /// Vault or OpenBao, Transit engine.
    Vault,
    /// A PKCS#11 token.
    Pkcs11,
    /// A KMIP server.
    Kmip,
}

impl ProviderKind {
    const ALL: [(u8, Self); 4] = [(1, Self::Embedded), (2, Self::Vault), (3, Self::Pkcs11), (4, Self::Kmip)];

    pub(super) fn number(self) -> u8 {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).expect("all are there").0
    }

    pub(super) fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == number).map(|(_, kind)| kind)
    }

    /// As the configuration writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Vault => "vault",
            Self::Pkcs11 => "pkcs11",
            Self::Kmip => "kmip",
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a wrapped key cannot be read or written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WrappedError {
    /// It is none, or damaged.
    #[error("the wrapped key is damaged: {0}")]
    Damaged(&'static str),
    /// A newer program has written it.
    #[error("the wrapped key has version {0}, and this program knows version {VERSION}; use a newer one")]
    Version(u8),
    /// A part of it does not fit.
    #[error("the wrapped key cannot be stored: {0} is too long")]
    TooLong(&'static str),
}

/// A wrapped disk key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Which kind of KMS opens it.
    pub provider: ProviderKind,
    /// By which key.
    pub cmk: CmkId,
    /// By which version of it.
    pub cmk_version: u32,
    /// What it is bound to.
    pub context: KeyContext,
    /// What the KMS made: opaque to everybody else. At most [`MOST_BLOB`] bytes.
    pub blob: Vec<u8>,
}

impl WrappedKey {
    /// As it is stored.
    pub fn encode(&self) -> Result<Vec<u8>, WrappedError> {
        let text = |what, text: &str| match text.len() {
            0..=MOST_TEXT => Ok(text.len() as u8),
            _ => Err(WrappedError::TooLong(what)),
        };
        let Owner { region, account } = &self.context.owner;
        let figure = Figure {
            magic: MAGIC,
            version: VERSION,
            provider: self.provider.number(),
            cmk_len: text("the name of its CMK", &self.cmk.0)?,
            region_len: text("the region", region)?,
            account_len: text("the account", account)?,
            reserved: 0,
            blob_len: match self.blob.len() {
                0..=MOST_BLOB => (self.blob.len() as u16).into(),
                _ => return Err(WrappedError::TooLong("what the KMS made")),
            },
            cmk_version: self.cmk_version.into(),
            lineage: self.context.lineage.into_bytes(),
        };
        Ok([figure.as_bytes(), self.cmk.0.as_bytes(), region.as_bytes(), account.as_bytes(), &self.blob].concat())
    }

    /// Reads what [`WrappedKey::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, WrappedError> {
        use WrappedError::Damaged;
        let (figure, rest) = Figure::read_from_prefix(bytes).map_err(|_| Damaged("it is cut off"))?;
        if figure.magic != MAGIC {
            return Err(Damaged("it does not begin as one"));
        }
        if figure.version != VERSION {
            return Err(WrappedError::Version(figure.version));
        }
        let provider = ProviderKind::of(figure.provider).ok_or(Damaged("there is no such kind of KMS"))?;
        if figure.reserved != 0 {
            return Err(Damaged("a reserved byte is not zero"));
        }
        let mut rest = rest;
        let mut text = |len: u8| {
            let (text, later) = rest.split_at_checked(len.into()).ok_or(Damaged("it is cut off"))?;
            rest = later;
            if text.len() > MOST_TEXT {
                return Err(Damaged("a name is too long"));
            }
            String::from_utf8(text.to_vec()).map_err(|_| Damaged("a name is no text"))
        };
        let (cmk, region, account) = (text(figure.cmk_len)?, text(figure.region_len)?, text(figure.account_len)?);
        if rest.len() != usize::from(figure.blob_len.get()) || rest.len() > MOST_BLOB {
            return Err(Damaged("its length is wrong"));
        }
        Ok(Self {
            provider,
            cmk: CmkId(cmk),
            cmk_version: figure.cmk_version.get(),
            context: KeyContext::disk(Owner { region, account }, Uuid::from_bytes(figure.lineage)),
            blob: rest.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped() -> WrappedKey {
        let owner = Owner { region: "local".to_owned(), account: "a".to_owned() };
        WrappedKey {
            provider: ProviderKind::Vault,
            cmk: CmkId("strongroom.local.a".to_owned()),
            cmk_version: 7,
            context: KeyContext::disk(owner, Uuid::from_u128(5)),
            blob: vec![9; 60],
        }
    }

    #[test]
    fn it_comes_back_and_the_longest_fits() {
        let key = wrapped();
        assert_eq!(WrappedKey::decode(&key.encode().expect("fits")), Ok(key));
        let long = "x".repeat(64);
        let mut longest = WrappedKey { cmk: CmkId(long.clone()), blob: vec![1; MOST_BLOB], ..wrapped() };
        longest.context.owner = Owner { region: long.clone(), account: long };
        let bytes = longest.encode().expect("fits");
        assert_eq!(bytes.len(), MOST_BYTES);
        assert_eq!(WrappedKey::decode(&bytes), Ok(longest.clone()));
        longest.blob.push(1);
        assert!(matches!(longest.encode(), Err(WrappedError::TooLong(_))));
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let bytes = wrapped().encode().expect("fits");
        for len in 0..bytes.len() {
            assert!(matches!(WrappedKey::decode(&bytes[..len]), Err(WrappedError::Damaged(_))), "{len}");
        }
        for at in [0, 5, 9, 10] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x80;
            assert!(matches!(WrappedKey::decode(&bytes), Err(WrappedError::Damaged(_))), "{at}");
        }
        let mut newer = bytes;
        newer[4] = 2;
        assert_eq!(WrappedKey::decode(&newer), Err(WrappedError::Version(2)));
    }
}
