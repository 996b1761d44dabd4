//! What users do with keys by the API: keys of their own, and small data that these encrypt. Each call is in the audit log before its result is
//! used, as everywhere in [`Kms`].
//!
//! A key of another account is no key: the answer is the same as if there were none.

use std::collections::BTreeMap;

use super::audit::{Actor, Event, Operation, Outcome};
use super::context::DataContext;
use super::data::{DataBlob, DataKey, MOST_PLAINTEXT, OpenedData, Parts, Plaintext};
use super::provider::{Answer, Cmk, CmkId, CmkState, Creator};
use super::service::{Kms, outcome};
use super::KmsError;

/// Keys that a user may have in a region, besides the service key; one that was destroyed counts no more.
pub const MOST_USER_KEYS: usize = 200;
/// Bytes of the longest data key.
pub const MOST_DATA_KEY: usize = 1024;
/// Bytes of a key's name that are written down: what a user gives as one may be anything.
const MOST_NAME: usize = 64;

/// What a user says of its data, and has to say again.
type Pairs = BTreeMap<String, String>;

impl Kms {
    /// Makes a key for the account's user.
    pub fn create_key(&self, actor: Actor, account: &str) -> Result<Cmk, KmsError> {
        // Otherwise two calls at once would make one too many.
        let _one_at_a_time = self.creating();
        // Once: a call whose answer was lost may have been carried out.
        let made = self.check_room(account).and_then(|()| self.once(|kms| kms.create_key(&self.owner(account))));
        let mut event = about(actor, Operation::CreateKey, account);
        if let Ok(answer) = &made {
            event.key = Some(answer.value.id.to_string());
            event.key_version = Some(answer.value.newest());
        }
        self.record(event, made)
    }

    /// A key of an account.
    pub fn key_of(&self, account: &str, id: &CmkId) -> Result<Cmk, KmsError> {
        let cmk = self.persist(|kms| kms.key(id))?.value;
        match cmk.account == account {
            true => Ok(cmk),
            false => Err(KmsError::NotFound { kms: self.name(), key: id.to_string() }),
        }
    }

    /// Encrypts 1 to [`MOST_PLAINTEXT`] bytes by the newest version of a key of the account.
    pub fn encrypt(
        &self,
        actor: Actor,
        account: &str,
        key: &CmkId,
        plaintext: &[u8],
        context: &Pairs,
    ) -> Result<DataBlob, KmsError> {
        let sealed = self.seal_data(account, key, plaintext, context);
        let mut event = Event { key: recordable(key), ..about(actor, Operation::Encrypt, account) };
        event.key_version = sealed.as_ref().ok().map(|answer| answer.value.version);
        self.record(event, sealed)
    }

    /// A random key of 1 to [`MOST_DATA_KEY`] bytes for the user's own use, plain and encrypted as by [`Kms::encrypt`].
    pub fn generate_data_key(
        &self,
        actor: Actor,
        account: &str,
        key: &CmkId,
        bytes: usize,
        context: &Pairs,
    ) -> Result<DataKey, KmsError> {
        let made = self.make_data_key(account, key, bytes, context);
        let mut event = Event { key: recordable(key), ..about(actor, Operation::GenerateDataKey, account) };
        event.key_version = made.as_ref().ok().map(|answer| answer.value.blob.version);
        self.record(event, made)
    }

    /// Decrypts what [`Kms::encrypt`] or [`Kms::generate_data_key`] made for this account, in this region, with the same context.
    pub fn decrypt(
        &self,
        actor: Actor,
        account: &str,
        ciphertext: &[u8],
        context: &Pairs,
    ) -> Result<OpenedData, KmsError> {
        let mut event = about(actor, Operation::Decrypt, account);
        let opened = match Parts::decode(ciphertext) {
            Ok(parts) => {
                event.key = recordable(&parts.key);
                event.key_version = Some(parts.version);
                self.open_data(account, parts, context)
            }
            Err(what) => Err(KmsError::CipherText { kms: self.name(), what: what.to_owned() }),
        };
        self.record(event, opened)
    }

    fn check_room(&self, account: &str) -> Result<(), KmsError> {
        let is_theirs =
            |cmk: &&Cmk| cmk.creator == Creator::User && cmk.account == account && cmk.state != CmkState::Destroyed;
        match self.keys()?.iter().filter(is_theirs).count() {
            0..MOST_USER_KEYS => Ok(()),
            _ => Err(KmsError::LimitExceeded { account: account.to_owned(), most: MOST_USER_KEYS }),
        }
    }

    fn seal_data(
        &self,
        account: &str,
        key: &CmkId,
        plaintext: &[u8],
        context: &Pairs,
    ) -> Result<Answer<DataBlob>, KmsError> {
        if !(1..=MOST_PLAINTEXT).contains(&plaintext.len()) {
            let what = format!("encrypt {} bytes at once; give it 1 to {MOST_PLAINTEXT}", plaintext.len());
            return Err(KmsError::Unsupported { kms: self.name(), what });
        }
        let context = self.data_context(account, context);
        let Answer { value: (version, sealed), request_id } = self.persist(|kms| kms.seal(key, plaintext, &context))?;
        let parts = Parts { provider: self.kind(), key: key.clone(), version, sealed: &sealed };
        let ciphertext = parts.encode().ok_or_else(|| {
            let what = format!("what it made of {} bytes is too long", plaintext.len());
            KmsError::Protocol { kms: self.name(), what }
        })?;
        Ok(Answer { value: DataBlob { key: key.clone(), version, ciphertext }, request_id })
    }

    fn make_data_key(
        &self,
        account: &str,
        key: &CmkId,
        bytes: usize,
        context: &Pairs,
    ) -> Result<Answer<DataKey>, KmsError> {
        if !(1..=MOST_DATA_KEY).contains(&bytes) {
            let what = format!("make a data key of {bytes} bytes; take 1 to {MOST_DATA_KEY}");
            return Err(KmsError::Unsupported { kms: self.name(), what });
        }
        let plaintext = Plaintext::random(bytes)?;
        let sealed = self.seal_data(account, key, &plaintext, context)?;
        Ok(sealed.map(|blob| DataKey { plaintext, blob }))
    }

    fn open_data(&self, account: &str, parts: Parts<'_>, context: &Pairs) -> Result<Answer<OpenedData>, KmsError> {
        let Parts { provider, key, version, sealed } = parts;
        if provider != self.kind() {
            let what = format!("a KMS of the kind \"{provider}\" has made it; configure that one");
            return Err(KmsError::CipherText { kms: self.name(), what });
        }
        let context = self.data_context(account, context);
        let opened = self.persist(|kms| kms.open(&key, version, sealed, &context))?;
        Ok(opened.map(|plaintext| OpenedData { key, version, plaintext }))
    }

    fn data_context(&self, account: &str, pairs: &Pairs) -> DataContext {
        DataContext { owner: self.owner(account), pairs: pairs.clone() }
    }

    /// Writes down what came of a call: without that nobody gets its result.
    fn record<T>(&self, event: Event, done: Result<Answer<T>, KmsError>) -> Result<T, KmsError> {
        let request_id = done.as_ref().ok().and_then(|answer| answer.request_id.clone());
        self.write(Event { outcome: outcome(done.as_ref().err()), request_id, ..event })?;
        done.map(|answer| answer.value)
    }
}

fn about(actor: Actor, operation: Operation, account: &str) -> Event {
    Event { account: Some(account.to_owned()), ..Event::new(actor, operation, Outcome::Done) }
}

/// A key's name, if it could be one.
fn recordable(key: &CmkId) -> Option<String> {
    let fits = key.0.len() <= MOST_NAME && key.0.chars().all(|c| c.is_ascii_graphic());
    fits.then(|| key.to_string())
}
