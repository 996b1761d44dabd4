//! What the KMS layer asks for, in terms of objects in a token.

use std::collections::BTreeMap;
use std::time::Instant;

use uuid::Builder;

use crate::crypto::scrub::scrub;
use crate::kms::{
    Answer, Change, Cmk, CmkId, CmkState, CmkVersion, Creator, DiskKey, KeyContext, KeyProvider, KmsError, Owner,
    ProviderKind, WrappedKey,
};
use crate::memory::Secret;

use super::Pkcs11Config;
use super::frame::{Frame, Garbled, WireError};
use super::label::{self, Versions};
use super::message::{self, Bound, Failure, Object, ObjectId, Request, SEALED_BYTES, SealedKey};
use super::process::{Helper, Trouble};
use super::seat::{Seat, SeatError};

const ID_BYTES: usize = size_of::<ObjectId>();
/// `CKA_ID`, then what the token has made.
const BLOB_BYTES: usize = ID_BYTES + SEALED_BYTES;
/// As much of a CMK's identity as a wrapped key holds.
const MOST_NAME: usize = 64;

/// A token as a KMS.
pub struct Pkcs11 {
    region: String,
    seat: Seat,
}

/// The keys of ours in the token, by name.
type Keys = BTreeMap<String, Versions>;

impl Pkcs11 {
    pub(super) fn new(config: Pkcs11Config, region: &str) -> Self {
        Self { region: region.to_owned(), seat: Seat::new(config) }
    }

    /// The process of the helper that waits for the next call, if there is one.
    pub fn helper_pid(&self) -> Option<u32> {
        self.seat.helper_pid()
    }

    fn call<T>(&self, call: impl Fn(&Helper, Instant) -> Result<T, Trouble>) -> Result<T, KmsError> {
        let outcome = self.seat.call(call);
        scrub();
        outcome.map_err(|error| self.explain(error))
    }

    /// Asks for one answer, and takes from it what is wanted.
    fn ask<T>(
        &self,
        request: &Request<'_>,
        take: impl Fn(message::Answer<'_>) -> Result<T, Trouble>,
    ) -> Result<T, KmsError> {
        self.call(|helper, until| {
            helper.ask(request, until)?;
            take(decode(&*helper.hear(until)?)?)
        })
    }

    /// The keys of the region whose name begins so, as they are in the token now.
    fn find(&self, prefix: &str) -> Result<Keys, KmsError> {
        self.call(|helper, until| {
            helper.ask(&Request::List { prefix }, until)?;
            let mut keys = Keys::new();
            loop {
                match decode(&*helper.hear(until)?)? {
                    message::Answer::Key { object } => {
                        if let Some((name, version)) = label::parse(object.label) {
                            keys.entry(name.to_owned()).or_default().add(version, *object.id);
                        }
                    }
                    message::Answer::Done => return Ok(keys),
                    _ => return Err(Trouble::Nonsense("another answer than a key")),
                }
            }
        })
    }

    /// The versions of one CMK of this region.
    fn versions(&self, id: &CmkId) -> Result<Versions, KmsError> {
        self.account_of(id)?;
        self.find(&label::prefix(&id.0))?.remove(&id.0).ok_or_else(|| self.not_found(&id.0))
    }

    fn account_of<'a>(&self, id: &'a CmkId) -> Result<&'a str, KmsError> {
        let account = self.seat.config().key_prefix.account_of(&self.region, &id.0);
        account.ok_or_else(|| self.not_found(&id.0))
    }

    fn not_found(&self, key: &str) -> KmsError {
        KmsError::NotFound { kms: self.name(), key: key.to_owned() }
    }

    fn describe(&self, id: &CmkId, versions: &Versions) -> Result<Cmk, KmsError> {
        Ok(Cmk {
            id: id.clone(),
            alias: Some(crate::kms::SERVICE_KEY_ALIAS.to_owned()),
            account: self.account_of(id)?.to_owned(),
            creator: Creator::Service,
            state: CmkState::Enabled,
            versions: versions.numbers().map(|number| CmkVersion { number, created_at: None }).collect(),
            created_at: None,
            deletion_at: None,
        })
    }

    /// Makes an object for a version, and looks which one counts: another target may have made one too.
    fn make(&self, id: &CmkId, version: u32) -> Result<Cmk, KmsError> {
        let mut bytes = ObjectId::default();
        getrandom::fill(&mut bytes).map_err(KmsError::Random)?;
        let object_id = Builder::from_random_bytes(bytes).into_uuid().into_bytes();
        let label = label::label(&id.0, version);
        self.call(|helper, until| {
            helper.have_done(&Request::Generate { object: Object { label: &label, id: &object_id } }, until)
        })?;
        self.describe(id, &self.versions(id)?)
    }

    fn explain(&self, error: SeatError) -> KmsError {
        let unavailable = |what: String| KmsError::Unavailable { kms: self.name(), what };
        let timeout_s = self.seat.config().timeout_s;
        match error {
            SeatError::Helper(trouble) => self.explain_trouble(trouble),
            SeatError::Busy => unavailable(format!("calls before this one took all of its {timeout_s} s")),
            SeatError::Pin(error) => self.refused(error.to_string()),
            SeatError::KnownWrongPin => self.refused(self.wrong_pin("it was refused before, and is not tried again")),
        }
    }

    fn explain_trouble(&self, trouble: Trouble) -> KmsError {
        let unavailable = |what: String| KmsError::Unavailable { kms: self.name(), what };
        let timeout_s = self.seat.config().timeout_s;
        match trouble {
            Trouble::Failed { failure, what } => self.explain_failure(failure, what),
            Trouble::NotStarted(error) => unavailable(format!("its helper process cannot be started: {error}")),
            Trouble::Ended(ending) => unavailable(ending.to_string()),
            Trouble::TimedOut => unavailable(format!("no answer within {timeout_s} s; its helper process was killed")),
            Trouble::Nonsense(what) => KmsError::Protocol { kms: self.name(), what: what.to_owned() },
            Trouble::Wire(WireError::Memory(error)) => KmsError::Memory(error),
            Trouble::Wire(WireError::Garbled(error)) => {
                KmsError::Protocol { kms: self.name(), what: error.to_string() }
            }
            Trouble::Wire(error) => unavailable(error.to_string()),
        }
    }

    fn explain_failure(&self, failure: Failure, what: String) -> KmsError {
        let kms = self.name();
        match failure {
            Failure::Config => KmsError::Config(format!("pkcs11: {what}")),
            Failure::Unavailable => KmsError::Unavailable { kms, what },
            Failure::Refused => self.refused(what),
            Failure::WrongPin => self.refused(self.wrong_pin(&what)),
            Failure::NotFound => KmsError::NotFound { kms, key: what },
            Failure::NotAuthentic => KmsError::NotAuthentic { kms, what },
            Failure::Unsupported => KmsError::Unsupported { kms, what },
            Failure::Nonsense => KmsError::Protocol { kms, what },
        }
    }

    fn refused(&self, what: String) -> KmsError {
        KmsError::Refused { kms: self.name(), what }
    }

    fn wrong_pin(&self, why: &str) -> String {
        format!(
            "the PIN in {} is wrong ({why}); put the right one there before the token locks",
            self.seat.config().pin
        )
    }

    fn blob<'a>(&self, wrapped: &'a WrappedKey) -> Result<(&'a ObjectId, &'a SealedKey), KmsError> {
        let what = || format!("{} version {}: its length is wrong", wrapped.cmk, wrapped.cmk_version);
        let damaged = || KmsError::NotAuthentic { kms: self.name(), what: what() };
        let (id, sealed) = wrapped.blob.split_first_chunk::<ID_BYTES>().ok_or_else(damaged)?;
        Ok((id, sealed.try_into().map_err(|_| damaged())?))
    }

    fn wrapped(
        &self,
        cmk: &CmkId,
        (version, id): (u32, ObjectId),
        sealed: &SealedKey,
        context: &KeyContext,
    ) -> WrappedKey {
        let mut blob = Vec::with_capacity(BLOB_BYTES);
        blob.extend(id);
        blob.extend(sealed);
        let context = context.clone();
        WrappedKey { provider: ProviderKind::Pkcs11, cmk: cmk.clone(), cmk_version: version, context, blob }
    }
}

impl KeyProvider for Pkcs11 {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Pkcs11
    }

    fn name(&self) -> String {
        format!("PKCS#11 token {}", self.seat.config().token)
    }

    fn health(&self) -> Result<String, KmsError> {
        self.ask(&Request::Health, |answer| match answer {
            message::Answer::About { text } => Ok(text.to_owned()),
            _ => Err(Trouble::Nonsense("another answer than what it is")),
        })
    }

    fn service_key(&self, owner: &Owner) -> Result<Answer<Cmk>, KmsError> {
        let id = CmkId(self.seat.config().key_prefix.name_for(owner));
        if id.0.len() > MOST_NAME {
            let what = format!(
                "pkcs11: the key of {owner} would be called {id}: longer than {MOST_NAME} bytes; shorten key_prefix"
            );
            return Err(KmsError::Config(what));
        }
        self.account_of(&id)?;
        let cmk = match self.versions(&id) {
            Ok(versions) => self.describe(&id, &versions),
            Err(KmsError::NotFound { .. }) => self.make(&id, 1),
            Err(error) => Err(error),
        };
        Ok(Answer::new(cmk?, None))
    }

    fn keys(&self) -> Result<Answer<Vec<Cmk>>, KmsError> {
        let all = Owner { region: self.region.clone(), account: String::new() };
        let keys = self.find(&self.seat.config().key_prefix.name_for(&all))?;
        let described: Result<Vec<_>, _> =
            keys.into_iter().map(|(name, versions)| self.describe(&CmkId(name), &versions)).collect();
        Ok(Answer::new(described?, None))
    }

    fn key(&self, id: &CmkId) -> Result<Answer<Cmk>, KmsError> {
        Ok(Answer::new(self.describe(id, &self.versions(id)?)?, None))
    }

    fn wrap(&self, cmk: &CmkId, key: &Secret<DiskKey>, context: &KeyContext) -> Result<Answer<WrappedKey>, KmsError> {
        let newest = self.versions(cmk)?.newest().ok_or_else(|| self.not_found(&cmk.0))?;
        let (label, aad) = (label::label(&cmk.0, newest.0), additional_data(context, newest.0));
        let with = Bound { object: Object { label: &label, id: &newest.1 }, context: &aad };
        let sealed = self.ask(&Request::Wrap { with, key: &key.0 }, take_sealed)?;
        Ok(Answer::new(self.wrapped(cmk, newest, &sealed, context), None))
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<Answer<Secret<DiskKey>>, KmsError> {
        let (id, sealed) = self.blob(wrapped)?;
        let label = label::label(&wrapped.cmk.0, wrapped.cmk_version);
        let aad = additional_data(&wrapped.context, wrapped.cmk_version);
        let with = Bound { object: Object { label: &label, id }, context: &aad };
        let key = self.ask(&Request::Unwrap { with, sealed }, |answer| match answer {
            message::Answer::Plain { key } => keep(key),
            _ => Err(Trouble::Nonsense("another answer than a key")),
        })?;
        Ok(Answer::new(key, None))
    }

    fn rewrap(&self, wrapped: &WrappedKey) -> Result<Answer<WrappedKey>, KmsError> {
        let (id, sealed) = self.blob(wrapped)?;
        let newest = self.versions(&wrapped.cmk)?.newest().ok_or_else(|| self.not_found(&wrapped.cmk.0))?;
        let (old_label, new_label) =
            (label::label(&wrapped.cmk.0, wrapped.cmk_version), label::label(&wrapped.cmk.0, newest.0));
        let (old_aad, new_aad) =
            (additional_data(&wrapped.context, wrapped.cmk_version), additional_data(&wrapped.context, newest.0));
        let from = Bound { object: Object { label: &old_label, id }, context: &old_aad };
        let to = Bound { object: Object { label: &new_label, id: &newest.1 }, context: &new_aad };
        let sealed = self.ask(&Request::Rewrap { from, sealed, to }, take_sealed)?;
        Ok(Answer::new(self.wrapped(&wrapped.cmk, newest, &sealed, &wrapped.context), None))
    }

    fn rotate(&self, id: &CmkId) -> Result<Answer<Cmk>, KmsError> {
        let (newest, _) = self.versions(id)?.newest().ok_or_else(|| self.not_found(&id.0))?;
        let next = newest.checked_add(1).ok_or_else(|| self.refused(format!("{id} has no version left")))?;
        Ok(Answer::new(self.make(id, next)?, None))
    }

    fn change(&self, id: &CmkId, _: Change) -> Result<Answer<Cmk>, KmsError> {
        self.versions(id)?;
        let what = format!(
            "change the state of {id}: PKCS#11 has no states; use the token's own tools on the objects labelled {id}-vN: take \
             CKA_ENCRYPT and CKA_DECRYPT away to disable it, destroy them to delete it for ever"
        );
        Err(KmsError::Unsupported { kms: self.name(), what })
    }
}

fn decode(frame: &Frame) -> Result<message::Answer<'_>, Trouble> {
    message::Answer::decode(frame).map_err(|error: Garbled| Trouble::Wire(error.into()))
}

fn take_sealed(answer: message::Answer<'_>) -> Result<SealedKey, Trouble> {
    match answer {
        message::Answer::Sealed { sealed } => Ok(*sealed),
        _ => Err(Trouble::Nonsense("another answer than a wrapped key")),
    }
}

fn keep(key: &[u8; crate::kms::KEY_BYTES]) -> Result<Secret<DiskKey>, Trouble> {
    let kept = Secret::filled(|place: &mut DiskKey| {
        place.0.copy_from_slice(key);
        Ok::<_, WireError>(())
    });
    kept.map_err(Trouble::Wire)
}

/// The context, and the version of the CMK that a key is wrapped by.
fn additional_data(context: &KeyContext, version: u32) -> Vec<u8> {
    let mut bytes = context.encode();
    bytes.extend(version.to_le_bytes());
    bytes
}
