//! Accounts and access keys: made by the operator, never by their users. A secret is known by where it lies, and read when a request comes.

use super::backend::Caller;
use super::error::ApiError;
use super::rows::{AccessKey, Account};
use super::service::Cloud;
use crate::memory::Secret;
use crate::secrets::{SecretRef, SecretText};

/// Characters of an access key's identifier.
const LONGEST_ID: usize = 32;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Random characters of an identifier that we make.
const RANDOM: usize = 20;
const PREFIX: &str = "AK";
const OPERATOR: &str = "operator";
const SYSTEM: &str = "system";

impl Caller {
    /// The operator, as a process of this user and number.
    pub fn operator(account: &str, uid: u32, pid: i32) -> Self {
        Self { account: account.to_owned(), access_key: format!("{OPERATOR}/{uid}/{pid}") }
    }

    /// What happens by itself.
    pub fn system(account: &str) -> Self {
        Self { account: account.to_owned(), access_key: SYSTEM.to_owned() }
    }

    /// User and number of the process, if it is the operator's.
    pub fn as_operator(&self) -> Option<(u32, i32)> {
        let (uid, pid) = self.access_key.strip_prefix(OPERATOR)?.strip_prefix('/')?.split_once('/')?;
        Some((uid.parse().ok()?, pid.parse().ok()?))
    }

    /// Whether it is the operator.
    pub fn is_operator(&self) -> bool {
        self.as_operator().is_some()
    }

    /// Whether nobody has asked.
    pub fn is_system(&self) -> bool {
        self.access_key == SYSTEM
    }
}

fn refused(what: String) -> ApiError {
    ApiError::new("InvalidParameter", 400, what)
}

fn no_key(id: &str) -> ApiError {
    ApiError::new("NotFound", 404, format!("there is no access key {id}"))
}

impl Cloud {
    /// Takes over accounts that the configuration names.
    pub fn adopt_accounts<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), ApiError> {
        let created_at = self.now();
        self.store().change(|world| {
            for name in names {
                if !world.accounts.contains(name) {
                    world.accounts.put(name, Account { name: name.to_owned(), created_at, kms_opened: false });
                }
            }
            Ok(())
        })
    }

    /// Makes an account.
    pub fn add_account(&self, name: &str) -> Result<(), ApiError> {
        if self.store().read(|world| world.accounts.contains(name)) {
            return Err(ApiError::new("Exists", 409, format!("account {name} is there already")));
        }
        self.backend().add_account(name)?;
        self.adopt_accounts(std::iter::once(name))
    }

    /// Makes an access key; with an identifier of ours, if none is given. That its secret can be read is tried now.
    pub fn add_access_key(&self, account: &str, id: Option<&str>, secret: SecretRef) -> Result<AccessKey, ApiError> {
        let id = id.map_or_else(new_id, str::to_owned);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.len() > LONGEST_ID || !id.chars().all(fits) {
            return Err(refused(format!(
                "{id:?} is no identifier; use 1 to {LONGEST_ID} letters, digits, '-', '_' and '.'"
            )));
        }
        if id == SYSTEM || id == OPERATOR {
            return Err(refused(format!(
                "{id} would be taken for the {id} in the audit log; choose another identifier"
            )));
        }
        secret.read().map_err(|e| refused(e.to_string()))?;
        let key = AccessKey { id, account: account.to_owned(), secret, enabled: true, created_at: self.now() };
        self.store().change(|world| {
            if !world.accounts.contains(account) {
                return Err(ApiError::new("NotFound", 404, format!("there is no account {account}")));
            }
            if world.access_keys.contains(&key.id) {
                return Err(ApiError::new("Exists", 409, format!("access key {} is there already", key.id)));
            }
            world.access_keys.put(&key.id, key.clone());
            Ok(key)
        })
    }

    /// Access keys, of one account or of all.
    pub fn access_keys(&self, account: Option<&str>) -> Vec<AccessKey> {
        let wanted = |key: &&AccessKey| account.is_none_or(|account| key.account == account);
        self.store().read(|world| world.access_keys.rows().filter(wanted).cloned().collect())
    }

    /// Takes requests that a key has signed, or takes them no more.
    pub fn enable_access_key(&self, id: &str, enabled: bool) -> Result<AccessKey, ApiError> {
        self.store().change(|world| {
            let key = world.access_keys.get_mut(id).ok_or_else(|| no_key(id))?;
            key.enabled = enabled;
            Ok(key.clone())
        })
    }

    /// Forgets a key. Its secret stays where it lies.
    pub fn remove_access_key(&self, id: &str) -> Result<(), ApiError> {
        self.store().change(|world| world.access_keys.remove(id).map(drop).ok_or_else(|| no_key(id)))
    }

    /// A key with its secret, read now.
    pub fn open_access_key(&self, id: &str) -> Result<Option<(AccessKey, Secret<SecretText>)>, ApiError> {
        let Some(key) = self.store().read(|world| world.access_keys.get(id).cloned()) else { return Ok(None) };
        // What is wrong with it is the operator's affair, and is in the log; who asks learns only that it cannot be served now.
        let secret = key.secret.read().map_err(|e| {
            tracing::warn!("cloud: access key {id}: {e}");
            ApiError::unavailable("The request has failed due to a temporary failure of the server.")
        })?;
        Ok(Some((key, secret)))
    }
}

fn new_id() -> String {
    let mut random = [0u8; RANDOM];
    getrandom::fill(&mut random).expect("the kernel gives random bytes on every machine that we run on");
    PREFIX.chars().chain(random.map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::testing::Site;

    fn secret(folder: &std::path::Path) -> SecretRef {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("secret");
        std::fs::write(&path, "s3cret").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("closed to others");
        SecretRef::File(path)
    }

    #[test]
    fn an_access_key_outlives_the_process_without_its_secret() {
        let (site, folder) = (Site::new(), tempfile::tempdir().expect("a folder"));
        let cloud = site.open();
        let made = cloud.add_access_key("acme", None, secret(folder.path())).expect("made");
        let (key, text) = site.open().open_access_key(&made.id).expect("readable").expect("there");
        assert_eq!((key.account.as_str(), text.as_bytes()), ("acme", &b"s3cret"[..]));
        assert!(!serde_json::to_string(&key).expect("JSON").contains("s3cret"));
        assert!(!cloud.enable_access_key(&made.id, false).expect("there").enabled);
        cloud.remove_access_key(&made.id).expect("there");
        assert!(cloud.open_access_key(&made.id).expect("readable").is_none());
    }

    #[test]
    fn keys_that_cannot_be_are_refused() {
        let (site, folder) = (Site::new(), tempfile::tempdir().expect("a folder"));
        let (cloud, secret) = (site.open(), secret(folder.path()));
        for (account, id) in [("nobody", None), ("acme", Some("a b")), ("acme", Some("operator")), ("acme", Some(""))] {
            cloud.add_access_key(account, id, secret.clone()).expect_err("refused");
        }
        cloud.add_access_key("acme", None, SecretRef::File("/nowhere".into())).expect_err("it cannot be read");
        cloud.add_access_key("acme", Some("k"), secret.clone()).expect("made");
        assert_eq!(cloud.add_access_key("other", Some("k"), secret).expect_err("twice").code, "Exists");
    }

    #[test]
    fn the_operator_is_told_from_access_keys() {
        assert_eq!(Caller::operator("a", 0, 7).as_operator(), Some((0, 7)));
        assert!(!Caller { account: "a".to_owned(), access_key: "AKX".to_owned() }.is_operator());
        assert!(Caller::system("a").is_system());
    }

    #[test]
    fn accounts_are_made_once() {
        let site = Site::new();
        let cloud = site.open();
        cloud.add_account("new").expect("made");
        assert!(site.target().accounts.contains("new"));
        assert_eq!(cloud.add_account("new").expect_err("twice").code, "Exists");
        cloud.adopt_accounts(["new", "more"].into_iter()).expect("taken over");
        assert!(site.open().store().read(|world| world.accounts.contains("more")));
    }
}
