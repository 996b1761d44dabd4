//! What a KMS does, on an open store.
//!
//! A wrapped key's bytes are AES-256-GCM under the material of a CMK version; authenticated with it are the key's context, the CMK and the
//! version.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::SystemTime;

use uuid::Uuid;

use crate::crypto::scrub::scrub;
use crate::kms::{
    AeadError, Answer, Change, Cmk, CmkId, CmkState, Creator, DataContext, DiskKey, KeyContext, KeyProvider, KmsError,
    Owner, Plaintext, ProviderKind, WrappedKey, open, seal,
};
use crate::memory::Secret;

use super::body::{Body, StoredCmk, Version};
use super::derive::Key;
use super::error::StoreError;
use super::folder::Name;
use super::format;
use super::store::{Draft, EmbeddedStore, State, seconds};
use super::witness::Generation;

/// How many days a key may wait for its destruction.
pub const WAITING_DAYS: RangeInclusive<u32> = 7..=366;
/// How many it waits if nobody says.
pub const DEFAULT_WAITING_DAYS: u32 = 30;
const DAY_S: u64 = 24 * 60 * 60;

impl EmbeddedStore {
    /// Destroys the keys whose waiting period is over: new keys for everything that stays, and the file of before overwritten.
    ///
    /// Each call of the provider does this first; without calls somebody has to ask from time to time.
    pub fn destroy_due(&self, now: SystemTime) -> Result<Vec<CmkId>, KmsError> {
        let mut state = self.state();
        let due: Vec<_> = due(&state.body, seconds(now)).collect();
        if due.is_empty() {
            return Ok(vec![]);
        }
        let destroy = |next: &mut Draft, now: &State| {
            let doomed = next.body.cmks.iter_mut().filter(|cmk| due.contains(&cmk.id));
            doomed.for_each(StoredCmk::destroy);
            next.begin_epoch(now)
        };
        self.change_state(&mut state, destroy).map_err(|error| self.told(error))?;
        Ok(due.into_iter().map(|id| CmkId(id.to_string())).collect())
    }

    /// A key that cannot be destroyed now is unusable all the same, so nobody else's call fails for it.
    pub(super) fn destroy_due_or_warn(&self) {
        match self.destroy_due(SystemTime::now()) {
            Ok(destroyed) => destroyed
                .iter()
                .for_each(|key| tracing::warn!(%key, "a master key's waiting period is over: destroyed")),
            Err(error) => tracing::error!(%error, "master keys whose waiting period is over are not destroyed yet"),
        }
    }

    pub(super) fn not_found(&self, id: &CmkId) -> KmsError {
        KmsError::NotFound { kms: self.called(), key: id.0.clone() }
    }

    fn find<'a>(&self, state: &'a State, id: &CmkId) -> Result<&'a StoredCmk, KmsError> {
        state.body.find(id).ok_or_else(|| self.not_found(id))
    }

    /// A key, and its version, with which something may be done.
    pub(super) fn usable<'a>(&self, state: &'a State, id: &CmkId) -> Result<&'a StoredCmk, KmsError> {
        let cmk = self.find(state, id)?;
        match cmk.state {
            CmkState::Enabled => Ok(cmk),
            CmkState::Disabled => Err(refused(cmk, "it neither encrypts nor decrypts until it is enabled")),
            CmkState::PendingDeletion => {
                Err(refused(cmk, "it neither encrypts nor decrypts unless its deletion is cancelled and it is enabled"))
            }
            CmkState::Destroyed => Err(refused(cmk, "what it encrypted never opens again")),
        }
    }

    fn wrap_in(
        &self,
        state: &State,
        cmk: &StoredCmk,
        key: &Secret<DiskKey>,
        context: &KeyContext,
    ) -> Result<WrappedKey, KmsError> {
        if !cmk.owner.is(&context.owner) {
            let what = format!("key {} is not of {}", cmk.id, context.owner);
            return Err(KmsError::Refused { kms: self.called(), what });
        }
        let version = cmk.newest();
        let material = version.open(cmk.id, &state.material).map_err(|error| self.told(error))?;
        let blob = seal(&material, &authenticated(cmk.id, version, context), &key.0)?;
        let cmk = CmkId(cmk.id.to_string());
        Ok(WrappedKey {
            provider: ProviderKind::Embedded,
            cmk,
            cmk_version: version.number,
            context: context.clone(),
            blob,
        })
    }

    fn unwrap_in(&self, state: &State, wrapped: &WrappedKey) -> Result<Secret<DiskKey>, KmsError> {
        if wrapped.provider != ProviderKind::Embedded {
            let what = format!("open a key that a KMS of kind {} has wrapped; configure that one", wrapped.provider);
            return Err(KmsError::Unsupported { kms: self.called(), what });
        }
        let cmk = self.usable(state, &wrapped.cmk)?;
        let not_authentic = |what: String| KmsError::NotAuthentic { kms: self.called(), what };
        let version = cmk.versions.iter().find(|version| version.number == wrapped.cmk_version);
        let version =
            version.ok_or_else(|| not_authentic(format!("key {} has no version {}", cmk.id, wrapped.cmk_version)))?;
        let material = version.open(cmk.id, &state.material).map_err(|error| self.told(error))?;
        let bound_to = authenticated(cmk.id, version, &wrapped.context);
        let key = Secret::filled(|key: &mut DiskKey| Ok(open(&material, &bound_to, &wrapped.blob, &mut key.0)?));
        scrub();
        key.map_err(|error| match error {
            KmsError::Aead(AeadError::NotAuthentic) => not_authentic(format!(
                "lineage {}, version {} of key {}",
                wrapped.context.lineage, version.number, cmk.id
            )),
            other => other,
        })
    }

    fn add_key(
        &self,
        state: &mut State,
        make: impl FnOnce(u64, &Key) -> Result<StoredCmk, StoreError>,
    ) -> Result<Answer<Cmk>, KmsError> {
        let made = self.change_state(state, |next, now| {
            let cmk = make(seconds(SystemTime::now()), &now.material)?;
            let info = cmk.info();
            next.body.cmks.push(cmk);
            Ok(info)
        });
        made.map(|cmk| Answer::new(cmk, None)).map_err(|error| self.told(error))
    }

    /// Changes one key.
    fn change_key(
        &self,
        state: &mut State,
        id: Uuid,
        change: impl FnOnce(&mut StoredCmk, &State) -> Result<(), StoreError>,
    ) -> Result<Answer<Cmk>, KmsError> {
        let changed = self.change_state(state, |next, now| {
            let cmk = next.body.cmks.iter_mut().find(|cmk| cmk.id == id).expect("it was found in the same state");
            change(cmk, now)?;
            Ok(cmk.info())
        });
        changed.map(|cmk| Answer::new(cmk, None)).map_err(|error| self.told(error))
    }
}

impl KeyProvider for EmbeddedStore {
    fn generation(&self) -> Option<Generation> {
        Some(Self::generation(self))
    }

    fn check_generation(&self, noted: &Generation) -> Result<(), KmsError> {
        self.check_witness(noted)
    }

    fn backup(&self, to: &Path) -> Result<(), KmsError> {
        Self::backup(self, to).map(drop)
    }

    fn kind(&self) -> ProviderKind {
        ProviderKind::Embedded
    }

    fn name(&self) -> String {
        self.called()
    }

    /// Also notices that somebody has put another file in the store's place under way.
    fn health(&self) -> Result<String, KmsError> {
        self.destroy_due_or_warn();
        let state = self.state();
        let check = || {
            let bytes = self.folder.read(Name::Store)?.ok_or(StoreError::Vanished(state.header.is.number))?;
            format::generation(&bytes)?.follows(&state.header.is)
        };
        check().map_err(|error| self.told(error))?;
        Ok(format!("open, {} keys, {}", state.body.cmks.len(), state.header.is))
    }

    fn service_key(&self, owner: &Owner) -> Result<Answer<Cmk>, KmsError> {
        self.destroy_due_or_warn();
        let mut state = self.state();
        let service = |cmk: &&StoredCmk| {
            cmk.owner.is(owner) && cmk.creator == Creator::Service && cmk.state != CmkState::Destroyed
        };
        if let Some(cmk) = state.body.cmks.iter().find(service) {
            return Ok(Answer::new(cmk.info(), None));
        }
        self.add_key(&mut state, |now, sealing| StoredCmk::service(owner, now, sealing))
    }

    fn create_key(&self, owner: &Owner) -> Result<Answer<Cmk>, KmsError> {
        self.destroy_due_or_warn();
        self.add_key(&mut self.state(), |now, sealing| StoredCmk::user(owner, now, sealing))
    }

    fn keys(&self) -> Result<Answer<Vec<Cmk>>, KmsError> {
        self.destroy_due_or_warn();
        let state = self.state();
        let ours = state.body.cmks.iter().filter(|cmk| cmk.owner.region == self.region);
        Ok(Answer::new(ours.map(StoredCmk::info).collect(), None))
    }

    fn key(&self, id: &CmkId) -> Result<Answer<Cmk>, KmsError> {
        self.destroy_due_or_warn();
        Ok(Answer::new(self.find(&self.state(), id)?.info(), None))
    }

    fn wrap(&self, cmk: &CmkId, key: &Secret<DiskKey>, context: &KeyContext) -> Result<Answer<WrappedKey>, KmsError> {
        self.destroy_due_or_warn();
        let state = self.state();
        let cmk = self.usable(&state, cmk)?;
        Ok(Answer::new(self.wrap_in(&state, cmk, key, context)?, None))
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<Answer<Secret<DiskKey>>, KmsError> {
        self.destroy_due_or_warn();
        Ok(Answer::new(self.unwrap_in(&self.state(), wrapped)?, None))
    }

    fn rewrap(&self, wrapped: &WrappedKey) -> Result<Answer<WrappedKey>, KmsError> {
        self.destroy_due_or_warn();
        let state = self.state();
        let key = self.unwrap_in(&state, wrapped)?;
        let cmk = self.usable(&state, &wrapped.cmk)?;
        Ok(Answer::new(self.wrap_in(&state, cmk, &key, &wrapped.context)?, None))
    }

    fn seal(&self, cmk: &CmkId, plain: &[u8], context: &DataContext) -> Result<Answer<(u32, Vec<u8>)>, KmsError> {
        self.destroy_due_or_warn();
        Ok(Answer::new(self.encrypt_in(&self.state(), cmk, plain, context)?, None))
    }

    fn open(
        &self,
        cmk: &CmkId,
        version: u32,
        sealed: &[u8],
        context: &DataContext,
    ) -> Result<Answer<Secret<Plaintext>>, KmsError> {
        self.destroy_due_or_warn();
        Ok(Answer::new(self.decrypt_in(&self.state(), cmk, version, sealed, context)?, None))
    }

    fn rotate(&self, id: &CmkId) -> Result<Answer<Cmk>, KmsError> {
        self.destroy_due_or_warn();
        let mut state = self.state();
        let id = self.usable(&state, id)?.id;
        self.change_key(&mut state, id, |cmk, now| {
            let number = cmk.newest().number + 1;
            cmk.versions.push(Version::new(id, number, seconds(SystemTime::now()), &now.material)?);
            Ok(())
        })
    }

    fn change(&self, id: &CmkId, change: Change) -> Result<Answer<Cmk>, KmsError> {
        self.destroy_due_or_warn();
        let mut state = self.state();
        let cmk = self.find(&state, id)?;
        let (to, deletion_at) = match (change, cmk.state) {
            (_, CmkState::Destroyed) => return Err(refused(cmk, "it never comes back")),
            (Change::Enable, CmkState::Enabled) | (Change::Disable, CmkState::Disabled) => {
                return Ok(Answer::new(cmk.info(), None));
            }
            (Change::Enable, CmkState::Disabled) => (CmkState::Enabled, None),
            (Change::Disable, CmkState::Enabled) => (CmkState::Disabled, None),
            (Change::Enable | Change::Disable, CmkState::PendingDeletion) => {
                return Err(refused(cmk, "cancel its deletion first"));
            }
            (Change::ScheduleDeletion { .. }, CmkState::PendingDeletion) => {
                return Err(refused(cmk, "cancel its deletion first to give it another time"));
            }
            (Change::ScheduleDeletion { days }, _) if !WAITING_DAYS.contains(&days) => {
                let (least, most) = (WAITING_DAYS.start(), WAITING_DAYS.end());
                let what = format!("destroy a key after {days} days; take {least} to {most}");
                return Err(KmsError::Unsupported { kms: self.called(), what });
            }
            (Change::ScheduleDeletion { days }, _) => {
                let at = seconds(SystemTime::now()) + u64::from(days) * DAY_S;
                (CmkState::PendingDeletion, Some(at))
            }
            (Change::CancelDeletion, CmkState::PendingDeletion) => (CmkState::Disabled, None),
            (Change::CancelDeletion, _) => return Err(refused(cmk, "there is no deletion to cancel")),
        };
        let id = cmk.id;
        self.change_key(&mut state, id, |cmk, _| {
            (cmk.state, cmk.deletion_at) = (to, deletion_at);
            Ok(())
        })
    }
}

fn due(body: &Body, now: u64) -> impl Iterator<Item = Uuid> {
    let is_due = move |cmk: &&StoredCmk| {
        cmk.state == CmkState::PendingDeletion && cmk.deletion_at.is_some_and(|deletion_at| deletion_at <= now)
    };
    body.cmks.iter().filter(is_due).map(|cmk| cmk.id)
}

fn refused(cmk: &StoredCmk, what: &'static str) -> KmsError {
    KmsError::State { key: cmk.id.to_string(), state: cmk.state, what }
}

fn authenticated(cmk: Uuid, version: &Version, context: &KeyContext) -> Vec<u8> {
    let label = b"strongroom wrapped key\0";
    [label, &cmk.as_bytes()[..], &version.number.to_le_bytes(), &context.encode()].concat()
}
