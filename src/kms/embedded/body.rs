//! The body: all CMKs, with the material of each version sealed on its own.
//!
//! Within the sealed body, material is sealed once more under the material key of the epoch, bound to its CMK and version. So the rest of
//! a CMK is ordinary data in memory, and only the one key has to lie in locked memory, however many CMKs there are.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::kms::{Cmk, CmkId, CmkState, CmkVersion, Creator, KEY_BYTES, Owner, SERVICE_KEY_ALIAS, open, seal};
use crate::memory::Secret;

use super::derive::{self, Key};
use super::error::{Part, StoreError};

/// Of sealed material: nonce, key, tag.
const SEALED: usize = 12 + KEY_BYTES + 16;

/// A version of a CMK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) created_at: u64,
    /// Sealed, in base64. A destroyed CMK has none.
    pub(super) material: Option<String>,
}

/// A CMK as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredCmk {
    pub(super) id: Uuid,
    pub(super) owner: StoredOwner,
    pub(super) alias: Option<String>,
    pub(super) creator: Creator,
    pub(super) state: CmkState,
    pub(super) created_at: u64,
    pub(super) deletion_at: Option<u64>,
    /// The oldest first; never empty.
    pub(super) versions: Vec<Version>,
}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredOwner {
    pub(super) region: String,
    pub(super) account: String,
}

impl StoredOwner {
    pub(super) fn is(&self, owner: &Owner) -> bool {
        self.region == owner.region && self.account == owner.account
    }
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    pub(super) cmks: Vec<StoredCmk>,
}

impl Body {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("such data has no keys but texts")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = |what| StoreError::damaged(Part::Body, what);
        let body: Self = serde_json::from_slice(bytes).map_err(|_| damaged("it is no list of keys"))?;
        for (at, cmk) in body.cmks.iter().enumerate() {
            if body.cmks[..at].iter().any(|other| other.id == cmk.id) {
                return Err(damaged("two keys have the same identity"));
            }
            if cmk.versions.is_empty() || !cmk.versions.is_sorted_by(|one, next| one.number < next.number) {
                return Err(damaged("the versions of a key are not in order"));
            }
        }
        Ok(body)
    }

    pub(super) fn find(&self, id: &CmkId) -> Option<&StoredCmk> {
        self.cmks.iter().find(|cmk| cmk.id.to_string() == id.0)
    }

    /// The same keys, their material under another material key.
    pub(super) fn move_to(&mut self, from: &Key, to: &Key) -> Result<(), StoreError> {
        for cmk in &mut self.cmks {
            for version in &mut cmk.versions {
                if version.material.is_some() {
                    version.material = Some(seal_material(to, cmk.id, version.number, &version.open(cmk.id, from)?)?);
                }
            }
        }
        Ok(())
    }
}

impl StoredCmk {
    /// A new service key with its first version.
    pub(super) fn service(owner: &Owner, now: u64, sealing: &Key) -> Result<Self, StoreError> {
        Ok(Self {
            alias: Some(SERVICE_KEY_ALIAS.to_owned()),
            creator: Creator::Service,
            ..Self::user(owner, now, sealing)?
        })
    }

    /// A new key of the account's user, with its first version.
    pub(super) fn user(owner: &Owner, now: u64, sealing: &Key) -> Result<Self, StoreError> {
        let id = new_id()?;
        Ok(Self {
            id,
            owner: StoredOwner { region: owner.region.clone(), account: owner.account.clone() },
            alias: None,
            creator: Creator::User,
            state: CmkState::Enabled,
            created_at: now,
            deletion_at: None,
            versions: vec![Version::new(id, 1, now, sealing)?],
        })
    }

    pub(super) fn newest(&self) -> &Version {
        self.versions.last().expect("decoding and making see to it")
    }

    /// Nothing but the name is left.
    pub(super) fn destroy(&mut self) {
        self.state = CmkState::Destroyed;
        self.versions.iter_mut().for_each(|version| version.material = None);
    }

    /// For people.
    pub(super) fn info(&self) -> Cmk {
        let version = |version: &Version| CmkVersion { number: version.number, created_at: Some(version.created_at) };
        Cmk {
            id: CmkId(self.id.to_string()),
            alias: self.alias.clone(),
            account: self.owner.account.clone(),
            creator: self.creator,
            state: self.state,
            versions: self.versions.iter().map(version).collect(),
            created_at: Some(self.created_at),
            deletion_at: self.deletion_at,
        }
    }
}

impl Version {
    /// A new one, of random material.
    pub(super) fn new(cmk: Uuid, number: u32, now: u64, sealing: &Key) -> Result<Self, StoreError> {
        let material = seal_material(sealing, cmk, number, &derive::random()?)?;
        Ok(Self { number, created_at: now, material: Some(material) })
    }

    /// The material, in locked memory.
    pub(super) fn open(&self, cmk: Uuid, sealing: &Key) -> Result<Key, StoreError> {
        let damaged = StoreError::damaged(Part::Body, "the material of a key does not open");
        let mut sealed = [0; SEALED];
        let text = self.material.as_deref().unwrap_or_default();
        let sealed = Base64::decode(text, &mut sealed).map_err(|_| damaged)?;
        Secret::filled(|material: &mut [u8; KEY_BYTES]| {
            Ok(open(sealing, &bound_to(cmk, self.number), sealed, material)?)
        })
    }
}

fn seal_material(sealing: &Key, cmk: Uuid, version: u32, material: &Key) -> Result<String, StoreError> {
    let sealed = seal(sealing, &bound_to(cmk, version), &**material)?;
    let mut text = [0; SEALED.div_ceil(3) * 4];
    Ok(Base64::encode(&sealed, &mut text).expect("it is as long as it has to be").to_owned())
}

fn bound_to(cmk: Uuid, version: u32) -> Vec<u8> {
    [b"strongroom cmk material\0", &cmk.as_bytes()[..], &version.to_le_bytes()].concat()
}

/// A random UUID (RFC 9562 section 5.4).
pub(super) fn new_id() -> Result<Uuid, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Secret::filled(|key: &mut [u8; KEY_BYTES]| {
            key.fill(byte);
            Ok::<_, StoreError>(())
        })
        .expect("locked memory")
    }

    fn body() -> Body {
        let owner = |account: &str| Owner { region: "local".to_owned(), account: account.to_owned() };
        let cmk = |account| StoredCmk::service(&owner(account), 5, &key(1)).expect("made");
        Body { cmks: vec![cmk("a"), cmk("b")] }
    }

    #[test]
    fn it_comes_back_and_moves_to_another_epoch() {
        let mut body = body();
        assert_eq!(Body::decode(&body.encode()).expect("decoded"), body);
        let before = body.clone();
        body.move_to(&key(1), &key(2)).expect("moved");
        for (old, new) in before.cmks.iter().zip(&body.cmks) {
            let (was, is) = (old.newest().open(old.id, &key(1)), new.newest().open(new.id, &key(2)));
            assert_eq!(*was.expect("opened"), *is.expect("opened"));
            assert!(new.newest().open(new.id, &key(1)).is_err());
        }
    }

    #[test]
    fn material_opens_for_its_key_and_version_only() {
        let body = body();
        let (a, b) = (&body.cmks[0], &body.cmks[1]);
        assert!(a.newest().open(b.id, &key(1)).is_err());
        let other = Version { number: 2, ..a.newest().clone() };
        assert!(other.open(a.id, &key(1)).is_err());
    }

    #[test]
    fn a_body_that_makes_no_sense_is_refused() {
        let good = body();
        let twice = Body { cmks: vec![good.cmks[0].clone(), good.cmks[0].clone()] };
        let mut none = good.clone();
        none.cmks[0].versions.clear();
        let mut unsorted = good.clone();
        let version = unsorted.cmks[0].versions[0].clone();
        unsorted.cmks[0].versions.push(version);
        for wrong in [twice.encode(), none.encode(), unsorted.encode(), b"{}".to_vec(), vec![0xFF]] {
            assert!(matches!(Body::decode(&wrong), Err(StoreError::Damaged { part: Part::Body, .. })));
        }
    }
}
