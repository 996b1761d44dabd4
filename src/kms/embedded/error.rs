//! What can be wrong with a store, each with what to do about it.
//!
//! Nothing of this is secret: no passphrase, key, or byte of them ever stands in an error.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use uuid::Uuid;

use crate::kms::{AeadError, KmsError};
use crate::memory::SecretError;
use crate::secrets::{NotPrivate, SecretRefError};

use super::slot::SlotKind;

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Header,
    Slots,
    Body,
}

impl Part {
    fn words(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Slots => "table of slots",
            Self::Body => "body",
        }
    }
}

/// Why a store cannot be opened or changed.
#[derive(Debug, Error)]
pub(super) enum StoreError {
    #[error("there is no such file; set create = true to make a new store, or restore a backup")]
    Missing,
    #[error(
        "there is no such file, but its counter file says that generation {0} of it was there: it was moved or deleted; put it back, or restore a backup"
    )]
    Vanished(u64),
    #[error("another process has it open; a store has one user at a time")]
    InUse,
    #[error("it is no key store, or its first bytes are damaged; put back the right file, or restore a backup")]
    NotAStore,
    #[error("it has format version {0}, and this program knows version {known}; use a newer one", known = super::format::VERSION)]
    Version(u16),
    #[error("it is cut off: {has} bytes are there of {needs}; restore a backup")]
    Truncated { has: u64, needs: u64 },
    #[error("its {} is damaged ({what}); restore a backup", part.words())]
    Damaged { part: Part, what: &'static str },
    #[error(
        "it was changed by something that does not have its keys: its checksums are right, but it does not authenticate; find out who did, and restore a backup"
    )]
    Forged,
    #[error("{bytes} bytes are more than a key store has; put back the right file")]
    TooLarge { bytes: u64 },
    #[error(
        "slot {slot} asks for Argon2id with {what}, outside of what this program accepts; the file is damaged or was not made by it: restore a backup"
    )]
    Parameters { slot: u8, what: String },
    #[error(
        "wrong passphrase: it opens none of the store's passphrase slots; give the right one, or unlock another way"
    )]
    WrongPassphrase,
    #[error("wrong root key: it opens none of the store's root key slots; give the right one, or unlock another way")]
    WrongRootKey,
    #[error("the TPM opens none of the store's TPM slots: {0}; unlock another way, and add a new TPM slot")]
    WrongTpm(String),
    #[error("it has no {0} slot: unlock another way (its slots: {1})")]
    NoSlot(SlotKind, String),
    #[error("it has no slot {0}")]
    NoSuchSlot(u8),
    #[error("slot {0} is the last one, and a store without a slot never opens again: add another one first")]
    LastSlot(u8),
    #[error("it has {0} slots, which is as many as there may be: remove one first")]
    TooManySlots(usize),
    #[error("a root key is 32 random bytes or 64 hexadecimal digits; make one with `openssl rand -hex 32`")]
    NotARootKey,
    #[error(
        "it is an older file: it has generation {found}, and generation {newest} was written last; put back the newest one, or restore this one by force if that is lost"
    )]
    RolledBack { found: u64, newest: u64 },
    #[error(
        "it is another store ({found}) than the one that was here ({expected}); put back the right file, or restore this one by force"
    )]
    OtherStore { found: Uuid, expected: Uuid },
    #[error(
        "its counter file {} is missing, so that nobody can say whether it is the newest; put that back, or move the store away and restore it from there", .0.display()
    )]
    NoWitness(PathBuf),
    #[error(
        "its counter file {} is damaged, so that nobody can say whether it is the newest; put that back, or move both away and restore the store from there", .0.display()
    )]
    WitnessDamaged(PathBuf),
    #[error(
        "the backup has generation {backup}, and generation {newest} is here: restoring would lose what was done since; do it by force if that is meant"
    )]
    WouldLose { backup: u64, newest: u64 },
    #[error("there is no backup {}", .0.display())]
    NoBackup(PathBuf),
    #[error("the backup {} cannot be used, and nothing was changed: {error}", path.display())]
    Backup { path: PathBuf, error: Box<StoreError> },
    #[error("the backup is of store {backup}, and store {here} is here; do it by force if that one shall be replaced")]
    WouldReplace { backup: Uuid, here: Uuid },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "what was asked for is done, but an old copy could not be overwritten, and is tried again when the store opens: {0}"
    )]
    OldCopy(Box<StoreError>),
    #[cfg(feature = "tpm")]
    #[error("the TPM at {tcti}: {what}")]
    Tpm { tcti: String, what: String },
    #[cfg(not(feature = "tpm"))]
    #[error("this build cannot use a TPM: build it with `--features tpm`, or unlock another way")]
    WithoutTpm,
    #[error(transparent)]
    Secret(#[from] SecretRefError),
    #[error(transparent)]
    Memory(#[from] SecretError),
    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Aead(#[from] AeadError),
}

impl StoreError {
    pub(super) fn damaged(part: Part, what: &'static str) -> Self {
        Self::Damaged { part, what }
    }

    /// As the users of a KMS see it. `kms` is the store's name.
    pub(super) fn into_kms(self, kms: String) -> KmsError {
        match self {
            Self::Memory(error) => KmsError::Memory(error),
            Self::Random(error) => KmsError::Random(error),
            Self::Aead(error) => KmsError::Aead(error),
            other => KmsError::Store { kms, what: other.to_string() },
        }
    }
}
