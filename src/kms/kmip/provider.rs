//! What the provider does, call by call.

use crate::crypto::scrub::scrub;
use crate::kms::{
    Answer, Change, Cmk, CmkId, CmkState, Creator, DiskKey, KEY_BYTES, KeyContext, KeyProvider, KmsError, Owner,
    ProviderKind, SERVICE_KEY_ALIAS, ServiceKeys, WrappedError, WrappedKey,
};
use crate::memory::Secret;

use super::blob::{Blob, MOST_ID};
use super::keys::{self, Ask, Key, MOST_VERSIONS, State, Version, version_name};
use super::link::Link;
use super::message::{Call, NONCE_BYTES, Refusal, Request, TAG_BYTES, VERSION, printable};
use super::ttlv::{Structure, TtlvError};
use super::words::{reason, tag};

/// What a wrapped key has room for.
const MOST_NAME: usize = 64;

/// A KMIP server.
pub struct KmipProvider {
    link: Link,
    region: String,
    names: ServiceKeys,
}

/// What became of a wrapped key.
struct Opened {
    /// By which key.
    id: String,
    /// The state of that.
    state: State,
    /// The disk key, or why it does not open.
    key: Result<Secret<DiskKey>, Refusal>,
    request_id: String,
}

/// What one batch has brought, and the number of the request.
type Brought<T> = (Vec<Result<T, Refusal>>, String);

impl KmipProvider {
    /// At the end of this link.
    pub fn new(link: Link, region: &str, names: ServiceKeys) -> Self {
        Self { link, region: region.to_owned(), names }
    }

    /// Sends a batch, and takes out of each answer what is wanted.
    fn ask<T>(
        &self,
        calls: &[Call<'_>],
        read: impl Fn(usize, Structure<'_>) -> Result<T, KmsError>,
    ) -> Result<Brought<T>, KmsError> {
        let mut number = [0; 8];
        getrandom::fill(&mut number).map_err(KmsError::Random)?;
        let request = Request::new(number, calls);
        let answer = self.link.exchange(&request)?;
        let outcomes = request.read(&answer).map_err(|e| self.nonsense(e))?;
        let read = |(place, outcome): (usize, Result<Structure<'_>, Refusal>)| match outcome {
            Ok(payload) => read(place, payload).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        };
        let brought = outcomes.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok((brought, request.id()))
    }

    /// One call that has to succeed.
    fn ask_one<T>(
        &self,
        call: Call<'_>,
        key: &str,
        read: impl Fn(Structure<'_>) -> Result<T, TtlvError>,
    ) -> Result<Answer<T>, KmsError> {
        let read = |_, payload: Structure<'_>| read(payload).map_err(|e| self.nonsense(e));
        let (brought, id) = self.ask(&[call], read)?;
        match brought.into_iter().next() {
            Some(Ok(value)) => Ok(Answer::new(value, id)),
            Some(Err(refusal)) => Err(self.refusal(refusal, key)),
            None => Err(self.nonsense("an empty answer")),
        }
    }

    fn nonsense(&self, what: impl ToString) -> KmsError {
        KmsError::Protocol { kms: self.name(), what: what.to_string() }
    }

    /// A refusal in our words.
    fn refusal(&self, Refusal { reason, text }: Refusal, key: &str) -> KmsError {
        let kms = self.name();
        match reason {
            reason::ITEM_NOT_FOUND => KmsError::NotFound { kms, key: key.to_owned() },
            reason::PERMISSION_DENIED | reason::AUTHENTICATION_NOT_SUCCESSFUL => {
                KmsError::Refused { kms, what: format!("{text} ({key})") }
            }
            reason::OPERATION_NOT_SUPPORTED | reason::FEATURE_NOT_SUPPORTED => {
                KmsError::Unsupported { kms, what: format!("do what it has to ({text})") }
            }
            // Another node makes it at this moment.
            reason::GENERAL_FAILURE | reason::OBJECT_ALREADY_EXISTS => KmsError::Unavailable { kms, what: text },
            _ => KmsError::Protocol { kms, what: format!("{text} (reason {reason:#x}, {key})") },
        }
    }

    /// The versions of a key of ours; there is at least one.
    fn versions(&self, cmk: &CmkId) -> Result<Vec<Version>, KmsError> {
        let versions = match self.names.account_of(&self.region, &cmk.0) {
            Some(_) => keys::versions(self, &cmk.0)?,
            None => Vec::new(),
        };
        if versions.is_empty() {
            return Err(KmsError::NotFound { kms: self.name(), key: cmk.0.clone() });
        }
        Ok(versions)
    }

    /// A key in our words.
    fn cmk(&self, id: CmkId, account: &str, versions: &[Version]) -> Cmk {
        let used = used(versions);
        Cmk {
            id,
            alias: Some(SERVICE_KEY_ALIAS.to_owned()),
            account: account.to_owned(),
            creator: Creator::Service,
            state: used.last().map_or(CmkState::Destroyed, |version| version.key.state.cmk()),
            versions: used.iter().map(Version::cmk).collect(),
            created_at: used.first().and_then(|version| version.key.created_at),
            deletion_at: None,
        }
    }

    /// Creates and activates a version.
    fn make(&self, cmk: &str, number: u32) -> Result<String, KmsError> {
        if number > MOST_VERSIONS {
            return Err(self.too_many("versions of one key"));
        }
        let name = version_name(cmk, number);
        let read = |payload: Structure<'_>| Ok(payload.need(tag::UNIQUE_IDENTIFIER)?.text()?.to_owned());
        let created = self.ask_one(Call::Create { name: &name }, &name, read)?;
        self.activate(&created.value, &name)
    }

    /// A server may have activated the key itself; that is as good.
    fn activate(&self, id: &str, name: &str) -> Result<String, KmsError> {
        let calls = [Call::Activate { id }, Call::GetAttributes { id }];
        let (outcomes, request_id) = self.ask(&calls, |place, payload| match place {
            0 => Ok(None),
            _ => Key::read(payload).map(Some).map_err(|e| self.nonsense(e)),
        })?;
        let Ok([activated, Ok(Some(key))]) = <[_; 2]>::try_from(outcomes) else {
            return Err(self.nonsense(format!("key {name} has no attributes")));
        };
        match activated {
            Err(refusal) if key.state != State::Active => Err(self.refusal(refusal, name)),
            _ => Ok(request_id),
        }
    }

    /// Wraps by the newest version.
    fn seal(&self, cmk: &CmkId, key: &Secret<DiskKey>, context: &KeyContext) -> Result<Answer<WrappedKey>, KmsError> {
        let versions = self.versions(cmk)?;
        let version = newest_active(cmk, &versions)?;
        let id = &version.key.id;
        if id.len() > MOST_ID {
            return Err(self.nonsense(format!("the identifier of {cmk} has more than {MOST_ID} bytes")));
        }
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(KmsError::Random)?;
        let call = Call::Encrypt { id, data: &key.0, nonce: &nonce, context: &context.encode() };
        let sealed = self.ask_one(call, &cmk.0, |payload| {
            if payload.find(tag::IV_COUNTER_NONCE).is_some_and(|used| used.bytes() != Ok(&nonce[..])) {
                return Err(TtlvError("it used another nonce than it was given"));
            }
            let text = payload.need(tag::DATA)?.bytes()?.try_into();
            let text: [u8; KEY_BYTES] = text.map_err(|_| TtlvError("the cipher text has another length"))?;
            let tag = payload.need(tag::AUTHENTICATION_TAG)?.bytes()?.try_into();
            let tag: [u8; TAG_BYTES] = tag.map_err(|_| TtlvError("the tag has another length"))?;
            Ok(Blob { id: id.clone(), nonce, tag, text })
        })?;
        Ok(sealed.map(|blob| WrappedKey {
            provider: ProviderKind::Kmip,
            cmk: cmk.clone(),
            cmk_version: version.number,
            context: context.clone(),
            blob: blob.encode(),
        }))
    }

    fn open(&self, wrapped: &WrappedKey) -> Result<Answer<Secret<DiskKey>>, KmsError> {
        if wrapped.provider != ProviderKind::Kmip {
            let what = format!("open what a KMS of kind {} wrapped; configure that one", wrapped.provider);
            return Err(KmsError::Unsupported { kms: self.name(), what });
        }
        let damaged = WrappedError::Damaged("it is not what a KMIP server gave");
        let blob = Blob::decode(&wrapped.blob).ok_or(damaged)?;
        let opened = match self.decrypt(&blob.id, &blob, wrapped)? {
            Some(opened) => opened,
            None => self.decrypt_by_name(&blob, wrapped)?,
        };
        if opened.state != State::Active {
            return Err(in_state(&wrapped.cmk, wrapped.cmk_version, opened.state));
        }
        match opened.key {
            Ok(key) => Ok(Answer::new(key, opened.request_id)),
            Err(refusal) => Err(self.unopened(refusal, &opened.id, wrapped)),
        }
    }

    /// The key's state, and the disk key or why it does not open; nothing if there is no such key.
    fn decrypt(&self, id: &str, blob: &Blob, wrapped: &WrappedKey) -> Result<Option<Opened>, KmsError> {
        enum Part {
            Key(Key),
            Plain(Secret<DiskKey>),
        }
        let Blob { nonce, tag, text, .. } = blob;
        let context = wrapped.context.encode();
        let calls = [Call::GetAttributes { id }, Call::Decrypt { id, data: text, nonce, context: &context, tag }];
        let (outcomes, request_id) = self.ask(&calls, |place, payload| match place {
            0 => Key::read(payload).map(Part::Key).map_err(|e| self.nonsense(e)),
            _ => self.read_disk_key(payload).map(Part::Plain),
        })?;
        let Ok([key, plain]) = <[_; 2]>::try_from(outcomes) else {
            return Err(self.nonsense("it leaves a call without an answer"));
        };
        let state = match key {
            Ok(Part::Key(key)) => key.state,
            Ok(Part::Plain(_)) => return Err(self.nonsense("it answers another call")),
            Err(refusal) if refusal.reason == reason::ITEM_NOT_FOUND => return Ok(None),
            Err(refusal) => return Err(self.refusal(refusal, &wrapped.cmk.0)),
        };
        let plain = match plain {
            Ok(Part::Plain(plain)) => Ok(plain),
            Ok(Part::Key(_)) => return Err(self.nonsense("it answers another call")),
            Err(refusal) => Err(refusal),
        };
        Ok(Some(Opened { id: id.to_owned(), state, key: plain, request_id }))
    }

    /// A server that was restored elsewhere may have given its keys other identifiers, but not other names.
    fn decrypt_by_name(&self, blob: &Blob, wrapped: &WrappedKey) -> Result<Opened, KmsError> {
        let versions = keys::versions(self, &wrapped.cmk.0)?;
        let same = versions.iter().find(|version| version.number == wrapped.cmk_version && version.key.id != blob.id);
        let outcome = match same {
            Some(version) => self.decrypt(&version.key.id, blob, wrapped)?,
            None => None,
        };
        outcome.ok_or_else(|| in_state(&wrapped.cmk, wrapped.cmk_version, State::Destroyed))
    }

    fn read_disk_key(&self, payload: Structure<'_>) -> Result<Secret<DiskKey>, KmsError> {
        let data = payload.need(tag::DATA).and_then(|data| data.bytes());
        let data = data.map_err(|e| self.nonsense(e))?;
        Secret::filled(|key: &mut DiskKey| match data.len() {
            KEY_BYTES => {
                key.0.copy_from_slice(data);
                Ok(())
            }
            _ => Err(self.nonsense("what it decrypted is no disk key")),
        })
    }

    /// Why an active key has not opened it. Some servers say no more than that it failed; whether they can decrypt at all then tells which of the two it is.
    fn unopened(&self, refusal: Refusal, id: &str, wrapped: &WrappedKey) -> KmsError {
        let what = refusal.text.clone();
        let damaged = KmsError::NotAuthentic { kms: self.name(), what };
        match refusal.reason {
            reason::CRYPTOGRAPHIC_FAILURE => damaged,
            reason::GENERAL_FAILURE | reason::INVALID_FIELD | 0 if self.can_open(id) => damaged,
            _ => self.refusal(refusal, &wrapped.cmk.0),
        }
    }

    /// Lets the server encrypt and decrypt something that is no secret.
    fn can_open(&self, id: &str) -> bool {
        let (data, context) = ([0; KEY_BYTES], b"strongroom probe");
        let mut nonce = [0; NONCE_BYTES];
        if getrandom::fill(&mut nonce).is_err() {
            return false;
        }
        let sealed = self.ask_one(Call::Encrypt { id, data: &data, nonce: &nonce, context }, id, |payload| {
            let tag = payload.need(tag::AUTHENTICATION_TAG)?.bytes()?.try_into();
            let tag: [u8; TAG_BYTES] = tag.map_err(|_| TtlvError("the tag has another length"))?;
            Ok((payload.need(tag::DATA)?.bytes()?.to_vec(), tag))
        });
        let Ok(Answer { value: (text, tag), .. }) = sealed else { return false };
        let call = Call::Decrypt { id, data: &text, nonce: &nonce, context, tag: &tag };
        self.ask_one(call, id, |payload| Ok(payload.need(tag::DATA)?.bytes()? == data)).is_ok_and(|same| same.value)
    }
}

impl Ask for KmipProvider {
    type Error = KmsError;

    fn locate(&self, calls: &[Call<'_>]) -> Result<Vec<Result<Vec<String>, Refusal>>, KmsError> {
        let read = |_, payload: Structure<'_>| {
            let ids = payload.items().filter(|item| item.tag == tag::UNIQUE_IDENTIFIER);
            let ids: Result<_, _> = ids.map(|id| id.text().map(str::to_owned)).collect();
            ids.map_err(|e| self.nonsense(e))
        };
        Ok(self.ask(calls, read)?.0)
    }

    fn attributes(&self, ids: &[String]) -> Result<Vec<Result<Key, Refusal>>, KmsError> {
        let calls: Vec<_> = ids.iter().map(|id| Call::GetAttributes { id }).collect();
        Ok(self.ask(&calls, |_, payload| Key::read(payload).map_err(|e| self.nonsense(e)))?.0)
    }

    fn refused(&self, refusal: Refusal) -> KmsError {
        self.refusal(refusal, "of ours")
    }

    fn too_many(&self, what: &str) -> KmsError {
        KmsError::Unsupported { kms: self.name(), what: format!("be used with so many {what}; use another key_prefix") }
    }
}

impl KeyProvider for KmipProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Kmip
    }

    fn name(&self) -> String {
        self.link.name().to_owned()
    }

    fn health(&self) -> Result<String, KmsError> {
        let vendor = self.ask_one(Call::Query, "", |payload| {
            payload.find(tag::VENDOR_IDENTIFICATION).map(|vendor| vendor.text().map(printable)).transpose()
        })?;
        let vendor = vendor.value.unwrap_or_else(|| "a server of unknown make".to_owned());
        Ok(format!("{vendor}, KMIP {}.{}", VERSION.0, VERSION.1))
    }

    fn service_key(&self, owner: &Owner) -> Result<Answer<Cmk>, KmsError> {
        let name = self.names.name_for(owner);
        if name.len() > MOST_NAME {
            let what = format!("kmip: {name} has more than {MOST_NAME} bytes; use a shorter key_prefix");
            return Err(KmsError::Config(what));
        }
        let mut request_id = None;
        let mut versions = keys::versions(self, &name)?;
        let is_new = match versions.as_slice() {
            [] => true,
            all => all.iter().all(|version| version.key.state == State::PreActive),
        };
        if is_new {
            // Without an activation somebody was cut off here before.
            request_id = Some(match versions.first() {
                Some(version) => self.activate(&version.key.id, &name)?,
                None => self.make(&name, 1)?,
            });
            // Another node may have made one at the same time.
            versions = keys::versions(self, &name)?;
        }
        Ok(Answer::new(self.cmk(CmkId(name), &owner.account, &versions), request_id))
    }

    fn keys(&self) -> Result<Answer<Vec<Cmk>>, KmsError> {
        let all = keys::all(self)?;
        let ours = all.iter().filter_map(|(name, versions)| {
            let account = self.names.account_of(&self.region, name)?;
            Some(self.cmk(CmkId(name.clone()), account, versions))
        });
        Ok(Answer::new(ours.collect(), None))
    }

    fn key(&self, id: &CmkId) -> Result<Answer<Cmk>, KmsError> {
        let versions = self.versions(id)?;
        let account = self.names.account_of(&self.region, &id.0).unwrap_or_default();
        Ok(Answer::new(self.cmk(id.clone(), account, &versions), None))
    }

    fn wrap(&self, cmk: &CmkId, key: &Secret<DiskKey>, context: &KeyContext) -> Result<Answer<WrappedKey>, KmsError> {
        let sealed = self.seal(cmk, key, context);
        scrub();
        sealed
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<Answer<Secret<DiskKey>>, KmsError> {
        let opened = self.open(wrapped);
        scrub();
        opened
    }

    fn rewrap(&self, wrapped: &WrappedKey) -> Result<Answer<WrappedKey>, KmsError> {
        let key = self.unwrap(wrapped)?.value;
        self.wrap(&wrapped.cmk, &key, &wrapped.context)
    }

    fn rotate(&self, id: &CmkId) -> Result<Answer<Cmk>, KmsError> {
        let versions = self.versions(id)?;
        let newest = newest_active(id, &versions)?.number;
        let next = newest + 1;
        // One that was made but not activated is what is left of a rotation that was cut off.
        let begun = versions.iter().find(|version| version.number == next);
        let request_id = match begun {
            Some(version) => self.activate(&version.key.id, &version_name(&id.0, next))?,
            None => self.make(&id.0, next)?,
        };
        Ok(Answer::new(self.key(id)?.value, request_id))
    }

    fn change(&self, id: &CmkId, _change: Change) -> Result<Answer<Cmk>, KmsError> {
        let what = format!(
            "change the state of {id} for us: its operators do that, with Revoke, Destroy and Activate on the keys named {}, {} and so on",
            version_name(&id.0, 1),
            version_name(&id.0, 2),
        );
        Err(KmsError::Unsupported { kms: self.name(), what })
    }
}

/// Those that were ever activated, or all if none was.
fn used(versions: &[Version]) -> &[Version] {
    let last = versions.iter().rposition(|version| version.key.state != State::PreActive);
    last.map_or(versions, |last| &versions[..=last])
}

/// The version that wraps.
fn newest_active<'a>(cmk: &CmkId, versions: &'a [Version]) -> Result<&'a Version, KmsError> {
    match used(versions).last() {
        Some(version) if version.key.state == State::Active => Ok(version),
        Some(version) => Err(in_state(cmk, version.number, version.key.state)),
        None => Err(in_state(cmk, 1, State::Destroyed)),
    }
}

fn in_state(cmk: &CmkId, version: u32, state: State) -> KmsError {
    KmsError::State { key: version_name(&cmk.0, version), state: state.cmk(), what: state.why() }
}
