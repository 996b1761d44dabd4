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
