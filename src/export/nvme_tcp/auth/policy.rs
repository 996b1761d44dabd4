//! What a host has to do before it is served: the secrets, and which hash functions and groups will do.

use serde::Deserialize;
use thiserror::Error;

use super::ffdhe::Group;
use super::hash::Hash;
use super::secret::{ChapSecret, ChapSecretError};
use crate::secrets::{SecretRef, SecretRefError};

/// How a host authenticates, in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// The host's secret, in the form `DHHC-1:…`.
    pub secret: SecretRef,
    /// The secret by which the controller authenticates to the host, if the host asks it to.
    pub controller_secret: Option<SecretRef>,
    /// The hash functions that will do, the preferred one first.
    #[serde(default = "all_hashes")]
    pub hashes: Vec<Hash>,
    /// The Diffie-Hellman groups that will do, the preferred one first.
    #[serde(default = "all_groups")]
    pub groups: Vec<Group>,
}

fn all_hashes() -> Vec<Hash> {
    Hash::ALL.to_vec()
}

/// The smallest group is preferred: each queue pays for the exchange when it connects, and a random secret of 32 bytes needs no
/// group to withstand guessing.
fn all_groups() -> Vec<Group> {
    let (null, fields) = Group::ALL.split_first().expect("there are groups");
    [fields, &[*null]].concat()
}

impl AuthConfig {
    /// With every hash function and group that we know.
    pub fn new(secret: SecretRef, controller_secret: Option<SecretRef>) -> Self {
        Self { secret, controller_secret, hashes: all_hashes(), groups: all_groups() }
    }
}

/// Why a host cannot be let in at all.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// A secret cannot be read.
    #[error("host {host}: {source}")]
    Reference {
        /// The host.
        host: String,
        /// What is wrong.
        source: SecretRefError,
    },
    /// What was read is no secret.
    #[error("host {host}: {reference} is no DH-HMAC-CHAP secret: {source}")]
    Secret {
        /// The host.
        host: String,
        /// Where it lies.
        reference: SecretRef,
        /// What is wrong.
        source: ChapSecretError,
    },
    /// A list is empty, or names something twice.
    #[error("host {host}: {list} has to name at least one, and each once")]
    List {
        /// The host.
        host: String,
        /// Which list.
        list: &'static str,
    },
}

/// A host's policy with its secrets read.
pub struct HostPolicy {
    /// The host.
    pub(super) host_nqn: String,
    /// The host's secret.
    pub(super) secret: ChapSecret,
    /// The controller's, for this host.
    pub(super) controller_secret: Option<ChapSecret>,
    hashes: Vec<Hash>,
    groups: Vec<Group>,
}

impl HostPolicy {
    /// Reads the secrets that the configuration refers to.
    pub fn load(host_nqn: &str, config: &AuthConfig) -> Result<Self, PolicyError> {
        let list = |list| PolicyError::List { host: host_nqn.to_owned(), list };
        if !each_once(&config.hashes) {
            return Err(list("hashes"));
        }
        if !each_once(&config.groups) {
            return Err(list("groups"));
        }
        Ok(Self {
            host_nqn: host_nqn.to_owned(),
            secret: read(host_nqn, &config.secret)?,
            controller_secret: config.controller_secret.as_ref().map(|from| read(host_nqn, from)).transpose()?,
            hashes: config.hashes.clone(),
            groups: config.groups.clone(),
        })
    }

    /// A policy with the secret of an example, which is nobody's.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn example(host_nqn: &str) -> Self {
        let secret = ChapSecret::parse(b"DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:");
        Self::for_tests(host_nqn, secret.expect("a secret"), None, all_hashes(), all_groups())
    }

    /// A policy whose secrets come from nowhere.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn for_tests(
        host_nqn: &str,
        secret: ChapSecret,
        controller_secret: Option<ChapSecret>,
        hashes: Vec<Hash>,
        groups: Vec<Group>,
    ) -> Self {
        Self { host_nqn: host_nqn.to_owned(), secret, controller_secret, hashes, groups }
    }

    /// The preferred hash function among those offered.
    pub(super) fn choose_hash(&self, offered: &[u8]) -> Option<Hash> {
        self.hashes.iter().copied().find(|hash| offered.contains(&hash.id()))
    }

    /// The preferred group among those offered.
    pub(super) fn choose_group(&self, offered: &[u8]) -> Option<Group> {
        self.groups.iter().copied().find(|group| offered.contains(&group.id()))
    }
}

fn each_once<T: PartialEq>(list: &[T]) -> bool {
    !list.is_empty() && list.iter().enumerate().all(|(index, item)| !list[..index].contains(item))
}

fn read(host_nqn: &str, reference: &SecretRef) -> Result<ChapSecret, PolicyError> {
    let host = || host_nqn.to_owned();
    let text = reference.read().map_err(|source| PolicyError::Reference { host: host(), source })?;
    ChapSecret::parse(text.as_bytes()).map_err(|source| PolicyError::Secret {
        host: host(),
        reference: reference.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SECRET: &str = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:\n";

    fn load(config: &str, file: &str) -> Result<HostPolicy, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("psk");
        std::fs::write(&path, file).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        let mut config: AuthConfig = toml::from_str(config).map_err(|e| e.message().to_owned())?;
        config.secret.resolve(dir.path());
        config.controller_secret.iter_mut().for_each(|secret| secret.resolve(dir.path()));
        HostPolicy::load("nqn.host", &config).map_err(|e| e.to_string())
    }

    #[test]
    fn everything_will_do_unless_said_otherwise() {
        let policy = load("secret = 'file:psk'", SECRET).expect("a policy");
        assert!(policy.controller_secret.is_none());
        assert_eq!(policy.choose_hash(&[1, 2, 3]), Some(Hash::Sha512));
        assert_eq!(policy.choose_hash(&[1, 9]), Some(Hash::Sha256));
        assert_eq!(policy.choose_group(&[0, 5, 1]), Some(Group::Ffdhe2048));
        assert_eq!(policy.choose_group(&[0, 9]), Some(Group::Null));
        assert_eq!((policy.choose_hash(&[]), policy.choose_group(&[])), (None, None));
    }

    #[test]
    fn lists_limit_and_order_what_is_chosen() {
        let text = "secret = 'file:psk'\ncontroller_secret = 'file:psk'\nhashes = ['sha256', 'sha384']\ngroups = ['ffdhe8192']";
        let policy = load(text, SECRET).expect("a policy");
        assert!(policy.controller_secret.is_some());
        assert_eq!((policy.choose_hash(&[3, 2, 1]), policy.choose_hash(&[3])), (Some(Hash::Sha256), None));
        assert_eq!((policy.choose_group(&[0, 1, 5]), policy.choose_group(&[0])), (Some(Group::Ffdhe8192), None));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_host_and_without_the_secret() {
        for (config, file, wanted) in [
            ("secret = 'file:other'", SECRET, "host nqn.host: secret file:"),
            ("secret = 'file:psk'", "AAECAwQ", "is no DH-HMAC-CHAP secret"),
            ("secret = 'file:psk'\nhashes = []", SECRET, "host nqn.host: hashes"),
            ("secret = 'file:psk'\ngroups = ['null', 'null']", SECRET, "host nqn.host: groups"),
            ("secret = 'file:psk'\nhashes = ['md5']", SECRET, "md5"),
            ("secret = 'file:psk'\nhash = ['sha256']", SECRET, "hash"),
            ("secret = 'AAECAwQ'", SECRET, "where it lies"),
            ("", SECRET, "secret"),
        ] {
            let error = load(config, file).map(|_| ()).expect_err(config);
            assert!(error.contains(wanted) && !error.contains("AAECAwQ"), "{config}: {error}");
        }
    }
}
