//! What users do with keys by the API: keys of their own, and small data that these encrypt. Each call is in the audit log before its result is
//! used, as everywhere in [`Kms`].
//!
//! A key of another account is no key: the answer is the same as if there were none.

use std::collections::BTreeMap;

use super::KmsError;
use super::audit::{Actor, Event, Operation, Outcome};
use super::context::DataContext;
use super::data::{DataBlob, DataKey, MOST_PLAINTEXT, OpenedData, Parts, Plaintext};
use super::provider::{Answer, Cmk, CmkId, CmkState, Creator};
use super::service::{Kms, outcome};

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
pub(super) fn recordable(key: &CmkId) -> Option<String> {
    let fits = key.0.len() <= MOST_NAME && key.0.chars().all(|c| c.is_ascii_graphic());
    fits.then(|| key.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::kms::audit::{self, AuditLog, AuditOptions, Filter, Record};
    use crate::kms::embedded::{EmbeddedConfig, EmbeddedStore, Unlock};
    use crate::kms::{Call, Change, FREE_CALLS, MOST_CIPHERTEXT};
    use crate::secrets::SecretRef;

    /// A KMS of the embedded kind, and a log.
    struct Scene {
        kms: Kms,
        log: PathBuf,
        actor: Actor,
        _dir: tempfile::TempDir,
    }

    fn scene() -> Scene {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let (root, log) = (dir.path().join("root.key"), dir.path().join("audit.log"));
        std::fs::write(&root, [0x9C; 32]).expect("written");
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        let unlock = Unlock::RootKey(SecretRef::File(root));
        let config = EmbeddedConfig { path: dir.path().join("keys.store"), unlock, create: true };
        let store = EmbeddedStore::open(&config, "r").expect("made");
        let audit = AuditLog::open_with(&log, AuditOptions::default()).expect("a log");
        let kms = Kms::open("r", Box::new(store), audit, &log).expect("opened");
        Scene { kms, log, actor: Actor::AccessKey("LTAI5t-1".parse().expect("an id")), _dir: dir }
    }

    impl Scene {
        fn create(&self, account: &str) -> CmkId {
            self.kms.create_key(self.actor, account).expect("made").id
        }

        /// What was written down last.
        fn last(&self, operation: Operation) -> Record {
            let filter = Filter { operation: Some(operation), ..Filter::default() };
            audit::last(&self.log, &filter, 1).expect("read").pop_back().expect("a record")
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_encrypted_is_decrypted_for_its_account_and_context_only() {
        let scene = scene();
        let Scene { kms, actor, .. } = &scene;
        let key = scene.create("a");
        let context = pairs(&[("b", "2"), ("a", "1")]);
        let blob = kms.encrypt(*actor, "a", &key, b"small data", &context).expect("encrypted");
        assert_eq!((&blob.key, blob.version), (&key, 1));
        let opened = kms.decrypt(*actor, "a", &blob.ciphertext, &pairs(&[("a", "1"), ("b", "2")])).expect("decrypted");
        assert_eq!((&**opened.plaintext, &opened.key, opened.version), (&b"small data"[..], &key, 1));

        for at in 0..blob.ciphertext.len() {
            for bit in 0..8 {
                let mut changed = blob.ciphertext.clone();
                changed[at] ^= 1 << bit;
                let error = kms.decrypt(*actor, "a", &changed, &context).err().expect("refused");
                // The key's name is the only part that may lead elsewhere.
                let fits = matches!(error, KmsError::CipherText { .. } | KmsError::NotFound { .. });
                assert!(fits, "byte {at}, bit {bit}: {error}");
            }
        }
        for context in [pairs(&[]), pairs(&[("a", "1")]), pairs(&[("a", "1"), ("b", "2 ")])] {
            let error = kms.decrypt(*actor, "a", &blob.ciphertext, &context).err().expect("refused");
            assert!(matches!(error, KmsError::CipherText { .. }), "{error}");
        }
        scene.create("b");
        let error = kms.decrypt(*actor, "b", &blob.ciphertext, &context).err().expect("refused");
        assert!(matches!(error, KmsError::NotFound { .. }), "{error}");
        for wild in [&b""[..], b"SRdb", &[0; MOST_CIPHERTEXT + 1]] {
            let error = kms.decrypt(*actor, "a", wild, &context).err().expect("refused");
            assert!(matches!(error, KmsError::CipherText { .. }), "{error}");
        }
    }

    #[test]
    fn a_data_key_comes_plain_and_encrypted() {
        let scene = scene();
        let Scene { kms, actor, .. } = &scene;
        let (key, none) = (scene.create("a"), pairs(&[]));
        kms.rotate(*actor, &kms.key_of("a", &key).expect("there")).expect("rotated");
        for bytes in [1, 16, 32, MOST_DATA_KEY] {
            let made = kms.generate_data_key(*actor, "a", &key, bytes, &none).expect("made");
            assert_eq!((made.plaintext.len(), made.blob.version), (bytes, 2));
            let opened = kms.decrypt(*actor, "a", &made.blob.ciphertext, &none).expect("decrypted");
            assert_eq!(&**opened.plaintext, &**made.plaintext);
        }
        let (one, other) =
            (kms.generate_data_key(*actor, "a", &key, 32, &none), kms.generate_data_key(*actor, "a", &key, 32, &none));
        assert_ne!(&**one.expect("made").plaintext, &**other.expect("made").plaintext);
        for bytes in [0, MOST_DATA_KEY + 1, usize::MAX] {
            let error = kms.generate_data_key(*actor, "a", &key, bytes, &none).err().expect("refused");
            assert!(matches!(error, KmsError::Unsupported { .. }), "{error}");
        }
        for plain in [&b""[..], &[0; MOST_PLAINTEXT + 1]] {
            let error = kms.encrypt(*actor, "a", &key, plain, &none).expect_err("refused");
            assert!(matches!(error, KmsError::Unsupported { .. }), "{error}");
        }
    }

    #[test]
    fn a_user_has_so_many_keys_and_no_more() {
        let scene = scene();
        let keys: Vec<_> = (0..MOST_USER_KEYS).map(|_| scene.create("a")).collect();
        let refused = scene.kms.create_key(scene.actor, "a").expect_err("one too many");
        assert!(matches!(refused, KmsError::LimitExceeded { most: MOST_USER_KEYS, .. }), "{refused}");
        scene.create("b");
        let last = scene.last(Operation::CreateKey);
        assert_eq!((last.account.as_deref(), &last.outcome), (Some("b"), &Outcome::Done));
        // The service key is not one of them, and one that waits for its end is.
        let disk = Call { actor: scene.actor, operation: Operation::CreateDisk, account: "a", disk: "d" };
        scene.kms.new_disk_key(disk, None).expect("made");
        let cmk = scene.kms.key_of("a", &keys[0]).expect("there");
        scene.kms.change(scene.actor, &cmk, Change::ScheduleDeletion { days: 7 }).expect("scheduled");
        assert!(matches!(scene.kms.create_key(scene.actor, "a"), Err(KmsError::LimitExceeded { .. })));
        let count = |creator| {
            let keys = scene.kms.keys().expect("told");
            keys.iter().filter(|cmk| cmk.account == "a" && cmk.creator == creator).count()
        };
        assert_eq!((count(Creator::User), count(Creator::Service)), (MOST_USER_KEYS, 1));
    }

    #[test]
    fn a_disk_is_made_by_an_enabled_key_of_its_account() {
        let scene = scene();
        let kms = &scene.kms;
        let (mine, foreign) = (scene.create("a"), scene.create("b"));
        let disk = |operation| Call { actor: scene.actor, operation, account: "a", disk: "d" };
        let made = kms.new_disk_key(disk(Operation::CreateDisk), Some(&mine)).expect("made");
        assert_eq!((&made.wrapped.cmk, made.wrapped.context.owner.account.as_str()), (&mine, "a"));
        let opened = kms.disk_key(disk(Operation::Attach), &made.wrapped).expect("opened");
        assert_eq!(opened.0, made.xts.0);
        for none in [&foreign, &CmkId("none".to_owned())] {
            let error = kms.new_disk_key(disk(Operation::CreateDisk), Some(none)).err().expect("refused");
            assert!(matches!(error, KmsError::NotFound { .. }), "{error}");
            assert_eq!(scene.last(Operation::CreateDisk).key, Some(none.0.clone()));
        }
        let change =
            |change| kms.change(scene.actor, &kms.key_of("a", &mine).expect("there"), change).expect("changed");
        for (to, state) in
            [(Change::Disable, CmkState::Disabled), (Change::ScheduleDeletion { days: 7 }, CmkState::PendingDeletion)]
        {
            change(to);
            let error = kms.new_disk_key(disk(Operation::CreateDisk), Some(&mine)).err().expect("refused");
            assert!(matches!(error, KmsError::State { state: is, .. } if is == state), "{error}");
        }
        assert!(kms.keys().expect("told").iter().all(|cmk| cmk.creator == Creator::User), "no service key was needed");
    }

    #[test]
    fn calls_of_the_api_are_written_down_and_counted() {
        let scene = scene();
        let Scene { kms, actor, .. } = &scene;
        let (key, none) = (scene.create("a"), pairs(&[]));
        let blob = kms.encrypt(*actor, "a", &key, b"small data", &none).expect("encrypted");
        kms.decrypt(*actor, "a", &blob.ciphertext, &none).expect("decrypted");
        kms.generate_data_key(*actor, "a", &key, 32, &none).expect("made");
        kms.decrypt(*actor, "a", &blob.ciphertext, &pairs(&[("x", "y")])).err().expect("refused");
        let wild = CmkId("no\nkey ".repeat(100_000));
        assert!(matches!(kms.encrypt(*actor, "a", &wild, b"x", &none), Err(KmsError::NotFound { .. })));

        let failed = scene.last(Operation::Encrypt);
        assert!(matches!(failed.outcome, Outcome::Failed(_)) && failed.key.is_none());
        let failed = scene.last(Operation::Decrypt);
        assert!(matches!(failed.outcome, Outcome::Failed(_)));
        assert_eq!((failed.key, failed.key_version), (Some(key.to_string()), Some(1)));
        let made = scene.last(Operation::GenerateDataKey);
        assert_eq!((made.actor, made.outcome, made.key), (*actor, Outcome::Done, Some(key.to_string())));
        assert_eq!(made.account.as_deref(), Some("a"));
        assert_eq!(scene.last(Operation::CreateKey).key_version, Some(1));

        let usage = audit::usage(&scene.log, FREE_CALLS).expect("counted");
        assert_eq!((usage.len(), usage[0].calls, usage[0].failed), (1, 5, 2));
        assert!(!usage[0].by_operation.contains_key(&Operation::CreateKey));
    }
}
