//! Data of users, by keys of theirs.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..16 | the salt |
//! | then | the text as [`seal`](crate::kms::seal) made it |
//!
//! Each text is sealed under a key of its own, HKDF of the CMK version's material, the purpose, and the random salt: neither can it be taken for a wrapped
//! disk key, nor does it use up the nonces of the key that wraps those (`aead.rs`), however often users call. Authenticated with it are the context, the
//! CMK and the version.

use crate::crypto::scrub::scrub;
use crate::kms::{AeadError, CmkId, DataContext, KmsError, Plaintext, open, seal};
use crate::memory::Secret;

use super::body::{StoredCmk, Version};
use super::derive::{Key, SALT_BYTES, Use, derive};
use super::store::{EmbeddedStore, SEAL_BYTES, State};

type Salt = [u8; SALT_BYTES];

impl EmbeddedStore {
    /// Tells the version that sealed it.
    pub(super) fn encrypt_in(
        &self,
        state: &State,
        id: &CmkId,
        plain: &[u8],
        context: &DataContext,
    ) -> Result<(u32, Vec<u8>), KmsError> {
        let cmk = self.usable_by(state, id, context)?;
        let version = cmk.newest();
        let mut salt = Salt::default();
        getrandom::fill(&mut salt).map_err(KmsError::Random)?;
        let key = self.text_key(state, cmk, version, salt)?;
        let sealed = seal(&key, &authenticated(cmk, version, context), plain)?;
        Ok((version.number, [&salt[..], &sealed].concat()))
    }

    pub(super) fn decrypt_in(
        &self,
        state: &State,
        id: &CmkId,
        version: u32,
        sealed: &[u8],
        context: &DataContext,
    ) -> Result<Secret<Plaintext>, KmsError> {
        let cmk = self.usable_by(state, id, context)?;
        let not_authentic = || {
            let what = format!("version {version} of key {id}");
            KmsError::CipherText { kms: self.called(), what }
        };
        let version = cmk.versions.iter().find(|known| known.number == version).ok_or_else(not_authentic)?;
        let (salt, sealed) = sealed.split_first_chunk().ok_or_else(not_authentic)?;
        let len = sealed.len().checked_sub(SEAL_BYTES).ok_or_else(not_authentic)?;
        let key = self.text_key(state, cmk, version, *salt)?;
        let bound_to = authenticated(cmk, version, context);
        let plain = Secret::filled(|plain: &mut Plaintext| {
            let room = plain.room(len).ok_or_else(not_authentic)?;
            Ok(open(&key, &bound_to, sealed, room)?)
        });
        scrub();
        plain.map_err(|error| match error {
            KmsError::Aead(AeadError::NotAuthentic) => not_authentic(),
            other => other,
        })
    }

    /// A key of the context's owner, to be used. Nobody is told whether there is one of somebody else.
    fn usable_by<'a>(&self, state: &'a State, id: &CmkId, context: &DataContext) -> Result<&'a StoredCmk, KmsError> {
        let theirs = state.body.find(id).filter(|cmk| cmk.owner.is(&context.owner));
        theirs.ok_or_else(|| self.not_found(id)).and_then(|_| self.usable(state, id))
    }

    fn text_key(&self, state: &State, cmk: &StoredCmk, version: &Version, salt: Salt) -> Result<Key, KmsError> {
        let material = version.open(cmk.id, &state.material).map_err(|error| self.told(error))?;
        let of = Use::Data { cmk: cmk.id, version: version.number, salt };
        derive(&material, of).map_err(|error| self.told(error))
    }
}

fn authenticated(cmk: &StoredCmk, version: &Version, context: &DataContext) -> Vec<u8> {
    let label = b"strongroom data 1\0";
    [label, &cmk.id.as_bytes()[..], &version.number.to_le_bytes(), &context.encode()].concat()
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::sign::Signer;
    use openssl::symm::{Cipher, decrypt_aead};
    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;
    use crate::kms::embedded::testing::config;
    use crate::kms::{Change, CmkState, Creator, DiskKey, KeyContext, KeyProvider, MOST_PLAINTEXT, Owner, WrappedKey};
    use crate::kms::{KEY_BYTES, ProviderKind};

    fn owner(account: &str) -> Owner {
        Owner { region: "local".to_owned(), account: account.to_owned() }
    }

    fn context(account: &str, pairs: &[(&str, &str)]) -> DataContext {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        DataContext { owner: owner(account), pairs: pairs.collect() }
    }

    fn store() -> (TempDir, EmbeddedStore, CmkId) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = EmbeddedStore::open(&config(dir.path()), "local").expect("made");
        let cmk = store.create_key(&owner("a")).expect("made").value;
        assert_eq!(
            (cmk.creator, cmk.state, cmk.alias, cmk.account),
            (Creator::User, CmkState::Enabled, None, "a".into())
        );
        (dir, store, cmk.id)
    }

    #[test]
    fn it_is_hkdf_and_gcm_as_others_compute_them() {
        let (_dir, store, id) = store();
        store.rotate(&id).expect("rotated");
        let context = context("a", &[("disk", "d-1")]);
        let (version, sealed) = store.seal(&id, b"small data", &context).expect("sealed").value;
        assert_eq!((version, sealed.len()), (2, 16 + 12 + 10 + 16));

        let state = store.state();
        let cmk = state.body.find(&id).expect("there");
        let material = cmk.newest().open(cmk.id, &state.material).expect("opened");
        let (salt, rest) = sealed.split_at(16);
        let (nonce, rest) = rest.split_at(12);
        let (text, tag) = rest.split_at(rest.len() - 16);
        // RFC 5869 section 2.3: T(1) = HMAC(PRK, info | 1).
        let label = [b"strongroom cmk 1: data\0", &cmk.id.as_bytes()[..], &[2, 0, 0, 0], salt, &[1]].concat();
        let prk = PKey::hmac(&*material).expect("a key");
        let mut hmac = Signer::new(MessageDigest::sha256(), &prk).expect("HMAC");
        let key = hmac.sign_oneshot_to_vec(&label).expect("a key");
        let aad = [b"strongroom data 1\0", &cmk.id.as_bytes()[..], &[2, 0, 0, 0], &context.encode()].concat();
        let plain = decrypt_aead(Cipher::aes_256_gcm(), &key, Some(nonce), &aad, text, tag).expect("opened");
        assert_eq!(plain, b"small data");
    }

    #[test]
    fn data_opens_by_its_key_version_and_context_only() {
        let (_dir, store, id) = store();
        let bound_to = context("a", &[("x", "1")]);
        for plain in [&b"s"[..], &[0x5A; MOST_PLAINTEXT]] {
            let (version, sealed) = store.seal(&id, plain, &bound_to).expect("sealed").value;
            assert_eq!(&**store.open(&id, version, &sealed, &bound_to).expect("opened").value, plain);
            assert_ne!(store.seal(&id, plain, &bound_to).expect("sealed").value.1, sealed);
        }
        let (version, sealed) = store.seal(&id, b"small data", &bound_to).expect("sealed").value;
        let sibling = store.create_key(&owner("a")).expect("made").value.id;
        store.rotate(&id).expect("rotated");
        let refused = |id: &CmkId, version, sealed: &[u8], context: &DataContext| {
            let error = store.open(id, version, sealed, context).map(drop).expect_err("refused");
            assert!(matches!(error, KmsError::CipherText { .. }), "{error}");
        };
        refused(&sibling, version, &sealed, &bound_to);
        refused(&id, 2, &sealed, &bound_to);
        refused(&id, 3, &sealed, &bound_to);
        for pairs in [&[][..], &[("x", "2")], &[("X", "1")], &[("x", "1"), ("y", "")]] {
            refused(&id, version, &sealed, &context("a", pairs));
        }
        for at in 0..sealed.len() {
            let mut sealed = sealed.clone();
            sealed[at] ^= 1;
            refused(&id, version, &sealed, &bound_to);
            refused(&id, version, &sealed[..at], &bound_to);
        }
        refused(&id, version, &[0; MOST_PLAINTEXT + 100], &bound_to);
        assert_eq!(&**store.open(&id, version, &sealed, &bound_to).expect("old versions open").value, b"small data");
    }

    #[test]
    fn a_key_of_another_owner_is_no_key() {
        let (_dir, store, id) = store();
        let (version, sealed) = store.seal(&id, b"small data", &context("a", &[])).expect("sealed").value;
        let mut elsewhere = context("a", &[]);
        elsewhere.owner.region = "other".to_owned();
        for foreign in [context("b", &[]), elsewhere] {
            let error = store.seal(&id, b"x", &foreign).expect_err("refused");
            assert!(matches!(error, KmsError::NotFound { .. }), "{error}");
            let error = store.open(&id, version, &sealed, &foreign).map(drop).expect_err("refused");
            assert!(matches!(error, KmsError::NotFound { .. }), "{error}");
        }
    }

    #[test]
    fn no_data_is_taken_for_a_disk_key_nor_the_other_way_round() {
        let (_dir, store, id) = store();
        let key = DiskKey::random().expect("a key");
        let disk = KeyContext::disk(owner("a"), Uuid::from_u128(1));
        let wrapped = store.wrap(&id, &key, &disk).expect("wrapped").value;
        let data = context("a", &[]);
        let (version, sealed) = store.seal(&id, &[7; KEY_BYTES], &data).expect("sealed").value;
        for blob in [&sealed[..], &sealed[16..]] {
            let taken = WrappedKey { blob: blob.to_vec(), ..wrapped.clone() };
            assert_eq!(taken.provider, ProviderKind::Embedded);
            assert!(matches!(store.unwrap(&taken), Err(KmsError::NotAuthentic { .. })));
        }
        for blob in [wrapped.blob.clone(), [&[0; 16], &wrapped.blob[..]].concat()] {
            let opened = store.open(&id, version, &blob, &data);
            assert!(matches!(opened, Err(KmsError::CipherText { .. })));
        }
    }

    #[test]
    fn only_an_enabled_key_is_used() {
        let (_dir, store, id) = store();
        let data = context("a", &[]);
        let (version, sealed) = store.seal(&id, b"small data", &data).expect("sealed").value;
        let is_shut = |state| {
            for refused in [store.seal(&id, b"x", &data).map(drop), store.open(&id, version, &sealed, &data).map(drop)]
            {
                assert!(matches!(refused, Err(KmsError::State { state: is, .. }) if is == state), "{refused:?}");
            }
        };
        store.change(&id, Change::Disable).expect("disabled");
        is_shut(CmkState::Disabled);
        store.change(&id, Change::ScheduleDeletion { days: 7 }).expect("scheduled");
        is_shut(CmkState::PendingDeletion);
        // As the API cancels: the key is enabled afterwards.
        store.change(&id, Change::CancelDeletion).expect("cancelled");
        store.change(&id, Change::Enable).expect("enabled");
        assert_eq!(&**store.open(&id, version, &sealed, &data).expect("opened").value, b"small data");
    }
}
