//! Slots: each seals the same root key for one thing that unlocks it, as those of LUKS2 do.
//!
//! | bytes of a slot | what |
//! | --- | --- |
//! | 0..68 | [`Figure`] |
//! | then | what its kind needs: [`Stretch`] for a passphrase, [`SealedByTpm`] for a TPM, nothing for a root key |
//!
//! What unlocks a slot gives 256 bits: the stretched passphrase, the root key file, or what the TPM unseals. The slot's key is derived from
//! them, and seals the root key, with the store, the slot's number and all its parameters authenticated.

use std::fmt;

use uuid::Uuid;
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kms::{AeadError, KEY_BYTES, open, seal};
use crate::memory::Secret;

use super::config::Unlock;
use super::derive::{Key, Use, derive};
use super::error::{Part, StoreError};
use super::format::MOST_SLOTS;
use super::passphrase::Stretch;
use super::root;
use super::sealed_by_tpm::SealedByTpm;
use super::tpm;

/// Of a sealed root key: nonce, key, tag.
const SEALED: usize = 12 + KEY_BYTES + 16;

/// The beginning of a slot.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Figure {
    number: u8,
    kind: u8,
    /// Bytes that follow.
    parameters_len: U16,
    reserved: [u8; 4],
    sealed: [u8; SEALED],
}

const _: () = assert!(size_of::<Figure>() == 68);

/// What unlocks a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// A passphrase.
    Passphrase,
    /// A key file or credential.
    RootKey,
    /// A TPM 2.0.
    Tpm,
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase => "passphrase",
            Self::RootKey => "root key",
            Self::Tpm => "TPM",
        })
    }
}

/// A slot, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// By which it is removed.
    pub number: u8,
    /// What unlocks it.
    pub kind: SlotKind,
}

/// What has to be known to unlock a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parameters {
    Passphrase(Stretch),
    RootKey,
    Tpm(SealedByTpm),
}

impl Parameters {
    fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::RootKey => SlotKind::RootKey,
            Self::Tpm(_) => SlotKind::Tpm,
        }
    }

    fn number(&self) -> u8 {
        match self {
            Self::Passphrase(_) => 1,
            Self::RootKey => 2,
            Self::Tpm(_) => 3,
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Passphrase(stretch) => stretch.as_bytes().to_vec(),
            Self::RootKey => vec![],
            Self::Tpm(sealed) => sealed.encode(),
        }
    }

    fn decode(slot: u8, kind: u8, bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = |what| StoreError::damaged(Part::Slots, what);
        match kind {
            1 => {
                let stretch =
                    Stretch::read_from_bytes(bytes).map_err(|_| damaged("a passphrase slot's length is wrong"))?;
                stretch.check(slot)?;
                Ok(Self::Passphrase(stretch))
            }
            2 if bytes.is_empty() => Ok(Self::RootKey),
            2 => Err(damaged("a root key slot's length is wrong")),
            3 => SealedByTpm::decode(bytes).map(Self::Tpm).ok_or(damaged("a TPM slot's lengths are wrong")),
            _ => Err(damaged("there is no such kind of slot")),
        }
    }
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) number: u8,
    pub(super) parameters: Parameters,
    pub(super) sealed: [u8; SEALED],
}

impl Slot {
    /// Seals the root key for what `unlock` names.
    pub(super) fn new(store: Uuid, number: u8, root: &Key, unlock: &Unlock) -> Result<Self, StoreError> {
        let (parameters, secret) = match unlock {
            Unlock::Passphrase(reference) => {
                let stretch = Stretch::new()?;
                (Parameters::Passphrase(stretch), stretch.stretch(reference.read()?.as_bytes())?)
            }
            Unlock::RootKey(reference) => (Parameters::RootKey, root::read(reference)?),
            Unlock::Tpm { tcti, pcrs } => {
                let (sealed, secret) = tpm::seal(tcti, pcrs)?;
                (Parameters::Tpm(sealed), secret)
            }
        };
        let mut slot = Self { number, parameters, sealed: [0; SEALED] };
        let key = derive(&secret, Use::Slot { store, number })?;
        let sealed = seal(&key, &slot.authenticated(store), &**root)?;
        slot.sealed = sealed.try_into().expect("a key's sealed bytes have one length");
        Ok(slot)
    }

    /// The root key, if this is what unlocks the slot.
    fn unlock(&self, store: Uuid, secret: &Key) -> Result<Option<Key>, StoreError> {
        let key = derive(secret, Use::Slot { store, number: self.number })?;
        let root = Secret::filled(|root: &mut [u8; KEY_BYTES]| {
            Ok::<_, StoreError>(open(&key, &self.authenticated(store), &self.sealed, root)?)
        });
        match root {
            Ok(root) => Ok(Some(root)),
            Err(StoreError::Aead(AeadError::NotAuthentic)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the sealed key is bound to.
    fn authenticated(&self, store: Uuid) -> Vec<u8> {
        let kind = [self.number, self.parameters.number()];
        [b"strongroom store slot\0", &store.as_bytes()[..], &kind, &self.parameters.encode()].concat()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let parameters = self.parameters.encode();
        let figure = Figure {
            number: self.number,
            kind: self.parameters.number(),
            parameters_len: (parameters.len() as u16).into(),
            reserved: [0; 4],
            sealed: self.sealed,
        };
        [figure.as_bytes(), &parameters].concat()
    }

    /// The first slot, and the bytes after it.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), StoreError> {
        let damaged = |what| StoreError::damaged(Part::Slots, what);
        let (figure, rest) = Figure::read_from_prefix(bytes).map_err(|_| damaged("they are cut off"))?;
        let parameters = rest.split_at_checked(figure.parameters_len.get().into());
        let (parameters, rest) = parameters.ok_or(damaged("they are cut off"))?;
        if figure.reserved != [0; 4] {
            return Err(damaged("reserved bytes are not zero"));
        }
        let parameters = Parameters::decode(figure.number, figure.kind, parameters)?;
        Ok((Self { number: figure.number, parameters, sealed: figure.sealed }, rest))
    }

    pub(super) fn info(&self) -> SlotInfo {
        SlotInfo { number: self.number, kind: self.parameters.kind() }
    }
}

/// The root key of a store, out of the first slot that opens.
pub(super) fn unlock(store: Uuid, slots: &[Slot], by: &Unlock) -> Result<Key, StoreError> {
    match by {
        Unlock::Passphrase(reference) => {
            let passphrase = reference.read()?;
            first(store, slots, SlotKind::Passphrase, StoreError::WrongPassphrase, |parameters| match parameters {
                Parameters::Passphrase(stretch) => stretch.stretch(passphrase.as_bytes()).map(Some),
                _ => Ok(None),
            })
        }
        Unlock::RootKey(reference) => {
            first(store, slots, SlotKind::RootKey, StoreError::WrongRootKey, |parameters| match parameters {
                Parameters::RootKey => root::read(reference).map(Some),
                _ => Ok(None),
            })
        }
        Unlock::Tpm { tcti, .. } => {
            let mut said = None;
            let secret = |parameters: &Parameters| match parameters {
                // If one is refused, another slot may be this TPM's, or bound to the PCRs as they are now.
                Parameters::Tpm(sealed) => Ok(tpm::unseal(tcti, sealed)?.map_err(|why| said = Some(why)).ok()),
                _ => Ok(None),
            };
            first(store, slots, SlotKind::Tpm, StoreError::WrongTpm(String::new()), secret).map_err(|error| match error
            {
                StoreError::WrongTpm(_) => {
                    StoreError::WrongTpm(said.unwrap_or("what it unseals does not fit".to_owned()))
                }
                other => other,
            })
        }
    }
}

fn first(
    store: Uuid,
    slots: &[Slot],
    kind: SlotKind,
    wrong: StoreError,
    mut secret: impl FnMut(&Parameters) -> Result<Option<Key>, StoreError>,
) -> Result<Key, StoreError> {
    if slots.iter().all(|slot| slot.parameters.kind() != kind) {
        let there: Vec<_> = slots.iter().map(|slot| slot.parameters.kind().to_string()).collect();
        return Err(StoreError::NoSlot(kind, there.join(", ")));
    }
    for slot in slots {
        if let Some(secret) = secret(&slot.parameters)?
            && let Some(root) = slot.unlock(store, &secret)?
        {
            return Ok(root);
        }
    }
    Err(wrong)
}

/// The number of a new slot.
pub(super) fn free_number(slots: &[Slot]) -> Result<u8, StoreError> {
    let free = (0..MOST_SLOTS as u8).find(|number| slots.iter().all(|slot| slot.number != *number));
    free.ok_or(StoreError::TooManySlots(MOST_SLOTS))
}
