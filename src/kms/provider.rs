//! What a KMS has to do for us: a small trait, and the words for master keys.
//!
//! Calls block, for as long as the provider's time-outs allow; they come from control threads. A provider does each call once: retries are the
//! caller's ([`super::Kms`]). An answer carries the number under which the KMS keeps the call, where it has one: the audit log notes it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::memory::Secret;

use super::DiskKey;
use super::context::{DataContext, KeyContext, Owner};
use super::data::Plaintext;
use super::embedded::Generation;
use super::error::KmsError;
use super::wrapped::{ProviderKind, WrappedKey};

/// The alias of the key that the system makes for each account, as the cloud's disk service names its own.
pub const SERVICE_KEY_ALIAS: &str = "alias/acs/ecs";

/// The identity of a CMK in its KMS: short text without spaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CmkId(pub String);

impl fmt::Display for CmkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who had a key made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Creator {
    /// The system, on the account's first encrypted disk: its user can neither disable nor delete it.
    Service,
    /// The account's user.
    User,
}

/// What may be done with a key (NIST SP 800-57 part 1, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CmkState {
    /// Everything.
    Enabled,
    /// Nothing, until it is enabled.
    Disabled,
    /// Nothing; it is destroyed at its time unless that is cancelled, after which it is disabled.
    PendingDeletion,
    /// It is no more. Only its name is left.
    Destroyed,
}

impl fmt::Display for CmkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::PendingDeletion => "pending deletion",
            Self::Destroyed => "destroyed",
        })
    }
}

/// A version of a CMK: new keys are wrapped by the newest one, and all open what they wrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CmkVersion {
    /// From 1 on.
    pub number: u32,
    /// When it was made, in seconds since 1970, if the KMS tells.
    pub created_at: Option<u64>,
}

/// A master key, without its material.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cmk {
    /// Its identity.
    pub id: CmkId,
    /// Its alias, if it has one.
    pub alias: Option<String>,
    /// The account that it belongs to.
    pub account: String,
    /// Who had it made.
    pub creator: Creator,
    /// What may be done with it.
    pub state: CmkState,
    /// Its versions, the oldest first; never empty.
    pub versions: Vec<CmkVersion>,
    /// When it was made, in seconds since 1970, if the KMS tells.
    pub created_at: Option<u64>,
    /// When it will be destroyed.
    pub deletion_at: Option<u64>,
}

impl Cmk {
    /// The version that wraps.
    pub fn newest(&self) -> u32 {
        self.versions.last().map_or(0, |version| version.number)
    }
}

/// A change of a key's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// To [`CmkState::Enabled`], from disabled.
    Enable,
    /// To [`CmkState::Disabled`], from enabled.
    Disable,
    /// To [`CmkState::PendingDeletion`], for so many days (7 to 366).
    ScheduleDeletion {
        /// The waiting period.
        days: u32,
    },
    /// Back from there, to disabled.
    CancelDeletion,
}

/// What a KMS has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// The number under which the KMS keeps the call.
    pub request_id: Option<String>,
}

impl<T> Answer<T> {
    /// An answer of a KMS that numbers its calls.
    pub fn new(value: T, request_id: impl Into<Option<String>>) -> Self {
        Self { value, request_id: request_id.into() }
    }

    /// The same call with something else made of its answer.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: f(self.value), request_id: self.request_id }
    }
}

/// How a KMS keeps the keys of accounts apart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServiceKeys(String);

impl ServiceKeys {
    /// The name of an owner's key in an outside KMS: the prefix, region and account, joined by `.`, which neither prefix nor region may have.
    pub fn name_for(&self, owner: &Owner) -> String {
        format!("{}.{}.{}", self.0, owner.region, owner.account)
    }

    /// The name of a key that an owner's user has made: `_` and a number stand before the account, and no account begins with a `_`.
    pub fn user_name_for(&self, owner: &Owner, number: u64) -> String {
        format!("{}.{}._{number:016x}.{}", self.0, owner.region, owner.account)
    }

    /// Who had the key of a name made, and whose it is, if it is one of the region.
    pub fn owner_of<'a>(&self, region: &str, name: &'a str) -> Option<(Creator, &'a str)> {
        let account = self.account_of(region, name)?;
        let Some(rest) = account.strip_prefix('_') else { return Some((Creator::Service, account)) };
        let (number, account) = rest.split_once('.')?;
        let digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        let fits = number.len() == 16 && number.chars().all(digit) && !account.is_empty();
        fits.then_some((Creator::User, account))
    }

    /// Whose key it is, if the name is that of a service key of the region.
    pub fn account_of<'a>(&self, region: &str, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&*self.0)?.strip_prefix('.')?.strip_prefix(region)?.strip_prefix('.')
    }
}

impl Default for ServiceKeys {
    fn default() -> Self {
        Self("strongroom".to_owned())
    }
}

impl FromStr for ServiceKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if text.is_empty() || text.len() > 32 || !text.chars().all(fits) {
            return Err(format!("{text:?} cannot begin the names of keys; use 1 to 32 letters, digits, '-' and '_'"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ServiceKeys {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A KMS.
pub trait KeyProvider: Send + Sync {
    /// Which kind it is: wrapped keys say so.
    fn kind(&self) -> ProviderKind;

    /// What people call it: `key store /var/lib/strongroom/keys` or `vault https://vault:8200`. Errors begin with it.
    fn name(&self) -> String;

    /// Whether it would answer now, and a few words about it.
    fn health(&self) -> Result<String, KmsError>;

    /// The owner's service key; makes it if there is none.
    fn service_key(&self, owner: &Owner) -> Result<Answer<Cmk>, KmsError>;

    /// Makes a key for the user of an account. Where a user can have none, disks are wrapped by the service key.
    fn create_key(&self, owner: &Owner) -> Result<Answer<Cmk>, KmsError> {
        let what = format!("make keys for the user of {owner}; configure the embedded key store, or Vault, for that");
        Err(KmsError::Unsupported { kms: self.name(), what })
    }

    /// All keys that it keeps for us in the region.
    fn keys(&self) -> Result<Answer<Vec<Cmk>>, KmsError>;

    /// One key.
    fn key(&self, id: &CmkId) -> Result<Answer<Cmk>, KmsError>;

    /// Wraps a disk key by the newest version of a CMK, bound to the context.
    fn wrap(&self, cmk: &CmkId, key: &Secret<DiskKey>, context: &KeyContext) -> Result<Answer<WrappedKey>, KmsError>;

    /// Opens a wrapped key. What comes back lies in locked memory, and nothing else of it is left anywhere in the process.
    fn unwrap(&self, wrapped: &WrappedKey) -> Result<Answer<Secret<DiskKey>>, KmsError>;

    /// Wraps the same disk key by the newest version. Where the KMS can do that itself, the plain key stays there.
    fn rewrap(&self, wrapped: &WrappedKey) -> Result<Answer<WrappedKey>, KmsError>;

    /// Encrypts a user's data by the newest version of a CMK of the context's owner, bound to the context. Tells the version, and what it made: no more
    /// than Vault makes of [`MOST_PLAINTEXT`](super::MOST_PLAINTEXT) bytes.
    fn seal(&self, _cmk: &CmkId, _plain: &[u8], _context: &DataContext) -> Result<Answer<(u32, Vec<u8>)>, KmsError> {
        Err(no_data(self.name()))
    }

    /// Decrypts what [`KeyProvider::seal`] made. What comes back lies in locked memory, and nothing else of it is left anywhere in the process.
    fn open(
        &self,
        _cmk: &CmkId,
        _version: u32,
        _sealed: &[u8],
        _context: &DataContext,
    ) -> Result<Answer<Secret<Plaintext>>, KmsError> {
        Err(no_data(self.name()))
    }

    /// Makes a new version.
    fn rotate(&self, id: &CmkId) -> Result<Answer<Cmk>, KmsError>;

    /// Changes the state of a key; [`KmsError::Unsupported`] where that is the affair of the KMS's own operators.
    fn change(&self, id: &CmkId, change: Change) -> Result<Answer<Cmk>, KmsError>;

    /// Which state of its keys this is, where they are ours to keep: noted when they are opened, so that an older copy in their place is noticed.
    fn generation(&self) -> Option<Generation> {
        None
    }

    /// Refuses if its keys are older than what was noted, or other ones.
    fn check_generation(&self, _noted: &Generation) -> Result<(), KmsError> {
        Ok(())
    }

    /// Writes a copy of its keys, sealed as they are, where they are ours to copy.
    fn backup(&self, _to: &Path) -> Result<(), KmsError> {
        let what = "copy its keys for us; back it up by its own means".to_owned();
        Err(KmsError::Unsupported { kms: self.name(), what })
    }
}

/// Of a KMS that wraps the keys of disks only.
fn no_data(kms: String) -> KmsError {
    let what = "encrypt or decrypt the data of users; configure the embedded key store, or Vault, for that".to_owned();
    KmsError::Unsupported { kms, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_key_is_found_by_its_name() {
        let keys = ServiceKeys::default();
        let owner = Owner { region: "cn-hangzhou".to_owned(), account: "a-1".to_owned() };
        let name = keys.name_for(&owner);
        assert_eq!(name, "strongroom.cn-hangzhou.a-1");
        assert_eq!(keys.account_of("cn-hangzhou", &name), Some("a-1"));
        assert_eq!(keys.account_of("cn", "other.cn.a"), None);
        assert_eq!(keys.owner_of("cn-hangzhou", &name), Some((Creator::Service, "a-1")));
        assert!("a b".parse::<ServiceKeys>().is_err());
    }

    #[test]
    fn a_key_of_a_user_is_found_by_its_name_and_is_no_service_key() {
        let keys = ServiceKeys::default();
        for account in ["a", "a.b", "0123456789abcdef.a"] {
            let owner = Owner { region: "r".to_owned(), account: account.to_owned() };
            let (service, user) = (keys.name_for(&owner), keys.user_name_for(&owner, 0xAB));
            assert_eq!(user, format!("strongroom.r._00000000000000ab.{account}"));
            assert_eq!(keys.owner_of("r", &user), Some((Creator::User, account)));
            assert_eq!(keys.owner_of("r", &service), Some((Creator::Service, account)));
            assert_eq!(keys.owner_of("s", &user), None);
        }
        for other in ["_ab.a", "_00000000000000ab.", "_00000000000000ab", "_00000000000000AB.a", "_00000000000000abc.a"]
        {
            assert_eq!(keys.owner_of("r", &format!("strongroom.r.{other}")), None, "{other}");
        }
    }
}
