//! The KMS of a target: what control threads call. It tries again where that may help, keeps account of the health of the KMS, and writes every
//! operation to the audit log before its result is used.
//!
//! **A key that is not in the log is not given out**: if the log cannot be written, the operation fails. The other way round nothing is lost: an
//! operation that failed is in the log, with the reason.
//!
//! While the KMS is away, calls fail at once, but for one try: an operator who detaches and attaches does not wait for time-outs one after the
//! other. Nothing here is called on a reactor.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::crypto::xts::XtsKeyBytes;
use crate::memory::Secret;

use super::audit::{self, Actor, AuditLog, Event, Filter, Operation, Outcome, Record};
use super::context::{KeyContext, Owner};
use super::derive::derive_xts_key;
use super::embedded::Generation;
use super::provider::{Answer, Change, Cmk, CmkId, CmkState, Creator, KeyProvider};
use super::users::recordable;
use super::wrapped::{ProviderKind, WrappedKey};
use super::{DiskKey, KmsError};

/// Pauses between tries.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];
/// So long a call is tried again; a KMS that lets us wait is not waited for twice.
const TRIES_FOR: Duration = Duration::from_secs(2);
/// So long after it was found to be away, the KMS is tried once only.
const STAYS_AWAY: Duration = Duration::from_secs(5);

/// Who does what to which disk: for the audit log.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Who.
    pub actor: Actor,
    /// What.
    pub operation: Operation,
    /// Whose disk.
    pub account: &'a str,
    /// Which.
    pub disk: &'a str,
}

/// The key of a new disk: as its cipher takes it, and as it is stored.
pub struct NewKey {
    /// Both halves.
    pub xts: Secret<XtsKeyBytes>,
    /// The disk key, wrapped.
    pub wrapped: WrappedKey,
}

/// How the KMS is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsStatus {
    /// Its kind.
    pub kind: &'static str,
    /// What people call it.
    pub name: String,
    /// What it says of itself; or why it does not answer.
    pub health: Result<String, String>,
    /// Calls made to it since the start.
    pub calls: u64,
    /// Those that it did not carry out.
    pub failures: u64,
    /// Tries after the first of a call.
    pub retries: u64,
}

/// The KMS of a target.
pub struct Kms {
    region: String,
    provider: Box<dyn KeyProvider>,
    audit: AuditLog,
    /// Accounts whose service key is known to be there.
    accounts: Mutex<HashSet<String>>,
    /// Held while a user's key is made.
    creating: Mutex<()>,
    away_since: Mutex<Option<Instant>>,
    calls: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
}

impl Kms {
    /// A KMS that keeps the keys of a region. Keys of our own must not be older than when they were opened last, as the log at `log` has noted.
    pub fn open(region: &str, provider: Box<dyn KeyProvider>, audit: AuditLog, log: &Path) -> Result<Self, KmsError> {
        let kms = Self::new(region, provider, audit);
        let Some(generation) = kms.provider.generation() else { return Ok(kms) };
        if let Some(noted) = noted_generation(log)? {
            kms.provider.check_generation(&noted)?;
        }
        kms.write(generation_event(Actor::System, Operation::Unlock, &generation))?;
        Ok(kms)
    }

    fn new(region: &str, provider: Box<dyn KeyProvider>, audit: AuditLog) -> Self {
        Self {
            region: region.to_owned(),
            provider,
            audit,
            accounts: Mutex::default(),
            creating: Mutex::default(),
            away_since: Mutex::default(),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        }
    }

    /// What people call it.
    pub fn name(&self) -> String {
        self.provider.name()
    }

    /// The audit log.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// Asks it how it is, once.
    pub fn status(&self) -> KmsStatus {
        let health = self.once(|kms| kms.health().map(|words| Answer::new(words, None)));
        KmsStatus {
            kind: self.provider.kind().word(),
            name: self.name(),
            health: health.map(|answer| answer.value).map_err(|e| e.to_string()),
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
        }
    }

    /// Makes the key of a new disk, wrapped by a key of its account: that one, or the service key, which is made if there is none.
    pub fn new_disk_key(&self, call: Call<'_>, cmk: Option<&CmkId>) -> Result<NewKey, KmsError> {
        let context = KeyContext::disk(self.owner(call.account), Uuid::new_v4());
        let wrapping = match cmk {
            Some(id) => self.key_of(call.account, id).and_then(enabled),
            None => self.service_key(call.actor, &context.owner),
        };
        let made = wrapping.and_then(|cmk| {
            let key = DiskKey::random()?;
            let wrapped = self.persist(|kms| kms.wrap(&cmk.id, &key, &context))?;
            Ok((derive_xts_key(&key)?, wrapped))
        });
        let (wrapped, request) = match &made {
            Ok((_, answer)) => (Some(&answer.value), answer.request_id.clone()),
            Err(_) => (None, None),
        };
        let mut event = event(call, wrapped, made.as_ref().err(), request);
        event.key = event.key.or_else(|| cmk.and_then(recordable));
        self.write(event)?;
        made.map(|(xts, wrapped)| NewKey { xts, wrapped: wrapped.value })
    }

    /// Opens a disk's key.
    pub fn disk_key(&self, call: Call<'_>, wrapped: &WrappedKey) -> Result<Secret<XtsKeyBytes>, KmsError> {
        let opened = self.check_home(call, wrapped).and_then(|()| {
            let opened = self.persist(|kms| kms.unwrap(wrapped))?;
            Ok((derive_xts_key(&opened.value)?, opened.request_id))
        });
        let request = opened.as_ref().ok().and_then(|(_, request)| request.clone());
        self.write(event(call, Some(wrapped), opened.as_ref().err(), request))?;
        opened.map(|(key, _)| key)
    }

    /// Makes sure that a disk's key may be used, for operations that do not need it themselves.
    pub fn check_key(&self, call: Call<'_>, wrapped: &WrappedKey) -> Result<(), KmsError> {
        let checked = self.check_home(call, wrapped).and_then(|()| {
            let cmk = self.persist(|kms| kms.key(&wrapped.cmk))?;
            enabled(cmk.value).map(|_| cmk.request_id)
        });
        let request = checked.as_ref().ok().cloned().flatten();
        self.write(event(call, Some(wrapped), checked.as_ref().err(), request))?;
        checked.map(drop)
    }

    /// Writes down what needed nothing of the KMS.
    pub fn note(&self, call: Call<'_>, wrapped: Option<&WrappedKey>) -> Result<(), KmsError> {
        self.write(event(call, wrapped, None, None))
    }

    /// Wraps a disk's key by the newest version of its CMK; nothing if it is by now.
    pub fn rewrap(&self, call: Call<'_>, wrapped: &WrappedKey) -> Result<Option<WrappedKey>, KmsError> {
        let rewrapped = self.check_home(call, wrapped).and_then(|()| {
            let cmk = self.persist(|kms| kms.key(&wrapped.cmk))?.value;
            match cmk.newest() > wrapped.cmk_version {
                true => self.persist(|kms| kms.rewrap(wrapped)).map(Some),
                false => Ok(None),
            }
        });
        match rewrapped {
            Ok(None) => Ok(None),
            Ok(Some(answer)) => {
                self.write(event(call, Some(&answer.value), None, answer.request_id))?;
                Ok(Some(answer.value))
            }
            Err(error) => {
                self.write(event(call, Some(wrapped), Some(&error), None))?;
                Err(error)
            }
        }
    }

    /// All CMKs of the region.
    pub fn keys(&self) -> Result<Vec<Cmk>, KmsError> {
        Ok(self.persist(|kms| kms.keys())?.value)
    }

    /// A CMK, by its identity; or the service key of an account, by the account's name.
    pub fn key(&self, name: &str) -> Result<Cmk, KmsError> {
        let keys = self.keys()?;
        let by_id = keys.iter().find(|cmk| cmk.id.0 == name);
        let by_account = || keys.iter().find(|cmk| cmk.creator == Creator::Service && cmk.account == name);
        let not_found = || KmsError::NotFound { kms: self.name(), key: name.to_owned() };
        by_id.or_else(by_account).cloned().ok_or_else(not_found)
    }

    /// Makes a new version of a CMK.
    pub fn rotate(&self, actor: Actor, cmk: &Cmk) -> Result<Cmk, KmsError> {
        self.on_cmk(actor, Operation::Rotate, cmk, |kms, id| kms.rotate(id))
    }

    /// Changes the state of a CMK.
    pub fn change(&self, actor: Actor, cmk: &Cmk, change: Change) -> Result<Cmk, KmsError> {
        let operation = match change {
            Change::Enable => Operation::Enable,
            Change::Disable => Operation::Disable,
            Change::ScheduleDeletion { .. } => Operation::ScheduleDeletion,
            Change::CancelDeletion => Operation::CancelDeletion,
        };
        self.on_cmk(actor, operation, cmk, |kms, id| kms.change(id, change))
    }

    /// Writes a copy of the keys, sealed as they are.
    pub fn backup(&self, actor: Actor, to: &Path) -> Result<(), KmsError> {
        let done = self.once(|kms| kms.backup(to).map(|()| Answer::new((), None)));
        self.write(Event::new(actor, Operation::Backup, outcome(done.as_ref().err())))?;
        done.map(drop)
    }

    fn on_cmk(
        &self,
        actor: Actor,
        operation: Operation,
        cmk: &Cmk,
        act: impl Fn(&dyn KeyProvider, &CmkId) -> Result<Answer<Cmk>, KmsError>,
    ) -> Result<Cmk, KmsError> {
        // Once: a call whose answer was lost may have been carried out.
        let done = self.once(|kms| act(kms, &cmk.id));
        let now = done.as_ref().map_or(cmk, |answer| &answer.value);
        self.write(Event {
            account: Some(cmk.account.clone()),
            key: Some(cmk.id.to_string()),
            key_version: Some(now.newest()),
            outcome: outcome(done.as_ref().err()),
            request_id: done.as_ref().ok().and_then(|answer| answer.request_id.clone()),
            ..Event::new(actor, operation, Outcome::Done)
        })?;
        done.map(|answer| answer.value)
    }

    /// The service key of an account; it is made if there is none.
    pub fn service_key_of(&self, actor: Actor, account: &str) -> Result<Cmk, KmsError> {
        self.service_key(actor, &self.owner(account))
    }

    /// The service key of an account. That it was made is an operation of its own.
    fn service_key(&self, actor: Actor, owner: &Owner) -> Result<Cmk, KmsError> {
        let is_known = self.accounts().contains(&owner.account);
        let was_there = is_known || {
            let keys = self.keys()?;
            keys.iter().any(|cmk| cmk.creator == Creator::Service && cmk.account == owner.account)
        };
        let cmk = self.persist(|kms| kms.service_key(owner))?;
        if !was_there {
            self.write(Event {
                account: Some(owner.account.clone()),
                key: Some(cmk.value.id.to_string()),
                key_version: Some(cmk.value.newest()),
                request_id: cmk.request_id.clone(),
                ..Event::new(actor, Operation::CreateServiceKey, Outcome::Done)
            })?;
        }
        self.accounts().insert(owner.account.clone());
        Ok(cmk.value)
    }

    pub(super) fn kind(&self) -> ProviderKind {
        self.provider.kind()
    }

    pub(super) fn owner(&self, account: &str) -> Owner {
        Owner { region: self.region.clone(), account: account.to_owned() }
    }

    /// Refuses a key that this KMS cannot open, or that is somebody else's.
    fn check_home(&self, call: Call<'_>, wrapped: &WrappedKey) -> Result<(), KmsError> {
        if wrapped.provider != self.provider.kind() {
            return Err(KmsError::Unsupported {
                kms: self.name(),
                what: format!(
                    "open a key that was wrapped by a KMS of the kind \"{}\"; configure that one",
                    wrapped.provider
                ),
            });
        }
        let owner = self.owner(call.account);
        if wrapped.context.owner == owner {
            return Ok(());
        }
        Err(KmsError::Refused {
            kms: self.name(),
            what: format!("the key belongs to {}, and disk {} to {owner}", wrapped.context.owner, call.disk),
        })
    }

    /// Carries a call out, and tries again while the KMS is away.
    pub(super) fn persist<T>(
        &self,
        act: impl Fn(&dyn KeyProvider) -> Result<Answer<T>, KmsError>,
    ) -> Result<Answer<T>, KmsError> {
        let was_away = self.away_since().is_some_and(|since| since.elapsed() < STAYS_AWAY);
        let pauses = if was_away { &[][..] } else { &PAUSES };
        let begun = Instant::now();
        for pause in pauses {
            match self.once(&act) {
                Err(error) if error.is_retryable() && begun.elapsed() < TRIES_FOR => {
                    sleep(*pause);
                    self.retries.fetch_add(1, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        self.once(act)
    }

    pub(super) fn once<T>(
        &self,
        act: impl Fn(&dyn KeyProvider) -> Result<Answer<T>, KmsError>,
    ) -> Result<Answer<T>, KmsError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let done = act(&*self.provider);
        self.failures.fetch_add(u64::from(done.is_err()), Ordering::Relaxed);
        let is_away = done.as_ref().err().is_some_and(KmsError::is_retryable);
        let mut away = self.away_since();
        *away = is_away.then(Instant::now);
        done
    }

    pub(super) fn write(&self, event: Event) -> Result<(), KmsError> {
        self.audit.append(&event).map_err(|e| KmsError::Audit(e.to_string()))
    }

    pub(super) fn creating(&self) -> MutexGuard<'_, ()> {
        // Nothing is in it that a panic could leave half done.
        self.creating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accounts(&self) -> MutexGuard<'_, HashSet<String>> {
        self.accounts.lock().expect("no thread panics while it holds this lock")
    }

    fn away_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.away_since.lock().expect("no thread panics while it holds this lock")
    }
}

/// The generation of the key store when it was opened last, or restored since.
fn noted_generation(log: &Path) -> Result<Option<Generation>, KmsError> {
    let mut noted: Option<Record> = None;
    for operation in [Operation::Unlock, Operation::Restore] {
        let filter = Filter { operation: Some(operation), ..Filter::default() };
        let last = audit::last(log, &filter, 1).map_err(|e| KmsError::Audit(e.to_string()))?;
        noted = noted.into_iter().chain(last).max_by_key(|record| record.seq);
    }
    Ok(noted.and_then(|record| {
        Some(Generation { store: record.key?.parse().ok()?, number: record.request_id?.parse().ok()? })
    }))
}

/// What is written down when a key store is opened or restored.
pub fn generation_event(actor: Actor, operation: Operation, generation: &Generation) -> Event {
    Event {
        key: Some(generation.store.to_string()),
        request_id: Some(generation.number.to_string()),
        ..Event::new(actor, operation, Outcome::Done)
    }
}

/// A key by which disks may be made, attached and copied.
fn enabled(cmk: Cmk) -> Result<Cmk, KmsError> {
    match cmk.state {
        CmkState::Enabled => Ok(cmk),
        state => {
            let key = cmk.id.to_string();
            Err(KmsError::State { key, state, what: "its disks can be neither made, attached nor copied" })
        }
    }
}

pub(super) fn outcome(error: Option<&KmsError>) -> Outcome {
    error.map_or(Outcome::Done, |error| Outcome::Failed(error.to_string()))
}

fn event(call: Call<'_>, wrapped: Option<&WrappedKey>, error: Option<&KmsError>, request_id: Option<String>) -> Event {
    Event {
        actor: call.actor,
        operation: call.operation,
        account: Some(call.account.to_owned()),
        disk: Some(call.disk.to_owned()),
        lineage: wrapped.map(|wrapped| wrapped.context.lineage),
        key: wrapped.map(|wrapped| wrapped.cmk.to_string()),
        key_version: wrapped.map(|wrapped| wrapped.cmk_version),
        outcome: outcome(error),
        request_id,
    }
}
