//! `[kms.vault]` of the configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderValue, Uri};

use crate::kms::tls::TlsClient;
use crate::kms::{KeyProvider, KmsError, ServiceKeys};
use crate::secrets::SecretRef;

use super::http::Http;
use super::session::Sessions;
use super::transit::Vault;
use super::transport::Dialer;

/// Where Vault is, and how we log in to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// `https://HOST:PORT`. Without TLS only on this very machine.
    pub address: String,
    /// The namespace, where there are some.
    pub namespace: Option<String>,
    /// Where the Transit engine is mounted.
    #[serde(default = "default_mount")]
    pub mount: String,
    /// The credentials.
    pub auth: VaultAuth,
    /// The authorities that may have signed the server's certificate (PEM).
    pub ca_file: Option<PathBuf>,
    /// How long a call may take, with all of its requests.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// What the names of our keys begin with.
    #[serde(default)]
    pub key_prefix: ServiceKeys,
}

/// How we log in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "AuthTable")]
pub enum VaultAuth {
    /// By AppRole.
    AppRole {
        /// The role.
        role_id: SecretRef,
        /// Its secret.
        secret_id: SecretRef,
    },
    /// By a token that somebody else has made for us; it should be a periodic one, which can be renewed for ever.
    Token(SecretRef),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthTable {
    role_id: Option<SecretRef>,
    secret_id: Option<SecretRef>,
    token: Option<SecretRef>,
}

impl TryFrom<AuthTable> for VaultAuth {
    type Error = &'static str;

    fn try_from(table: AuthTable) -> Result<Self, &'static str> {
        match table {
            AuthTable { role_id: Some(role_id), secret_id: Some(secret_id), token: None } => {
                Ok(Self::AppRole { role_id, secret_id })
            }
            AuthTable { role_id: None, secret_id: None, token: Some(token) } => Ok(Self::Token(token)),
            _ => Err("auth needs role_id and secret_id, or token"),
        }
    }
}

fn default_mount() -> String {
    "transit".to_owned()
}

fn default_timeout_s() -> u64 {
    5
}

impl VaultAuth {
    fn references(&mut self) -> Vec<&mut SecretRef> {
        match self {
            Self::AppRole { role_id, secret_id } => vec![role_id, secret_id],
            Self::Token(token) => vec![token],
        }
    }
}

impl VaultConfig {
    /// Takes relative paths from this folder, which is that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        if let Some(file) = &mut self.ca_file {
            *file = folder.join(&*file);
        }
        self.auth.references().into_iter().for_each(|reference| reference.resolve(folder));
    }

    /// A client; it talks to nobody before it is used.
    pub fn open(&self, region: &str) -> Result<Box<dyn KeyProvider>, KmsError> {
        let wrong = |what: String| KmsError::Config(format!("vault: {what}"));
        let (address, is_https) = checked_address(&self.address).map_err(wrong)?;
        let tls = match (&self.ca_file, is_https) {
            (Some(file), true) => Some(TlsClient::new(file, None)?),
            (None, true) => return Err(wrong("ca_file has to name the authorities of its certificate".to_owned())),
            (_, false) => None,
        };
        if !is_path(&self.mount) {
            return Err(wrong(format!("mount {:?} is no path of an engine", self.mount)));
        }
        if !(1..=60).contains(&self.timeout_s) {
            return Err(wrong(format!("timeout_s is {}, and has to be 1 to 60", self.timeout_s)));
        }
        let namespace = self.namespace.as_deref().map(HeaderValue::from_str).transpose();
        let namespace = namespace.map_err(|_| wrong("namespace is no text".to_owned()))?;
        // A reference that leads nowhere is told now, and not at the first disk.
        for reference in self.auth.clone().references() {
            reference.read().map_err(|e| wrong(e.to_string()))?;
        }
        let timeout = Duration::from_secs(self.timeout_s);
        Ok(Box::new(Vault {
            http: Http::new(&address, namespace, timeout, Dialer { tls }),
            sessions: Sessions::new(self.auth.clone()),
            mount: self.mount.clone(),
            keys: self.key_prefix.clone(),
            region: region.to_owned(),
        }))
    }
}

/// The address without a slash at its end, and whether it is HTTPS.
fn checked_address(address: &str) -> Result<(String, bool), String> {
    let uri: Uri = address.parse().map_err(|e| format!("address {address:?}: {e}"))?;
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || !uri.path().trim_end_matches('/').is_empty() || uri.query().is_some() || address.contains('@')
    {
        return Err(format!("address {address:?} has to be https://HOST:PORT"));
    }
    let is_https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") if is_loopback(host) => false,
        Some("http") => return Err(format!("address {address:?}: keys go over https only, but on this very machine")),
        _ => return Err(format!("address {address:?} has to begin with https://")),
    };
    Ok((address.trim_end_matches('/').to_owned(), is_https))
}

/// An address, and no name: names may be made to lead anywhere.
fn is_loopback(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// What may stand in a path of the API as it is.
fn is_path(text: &str) -> bool {
    !text.is_empty() && text.split('/').all(is_segment)
}

/// A part of such a path, as the names of keys are.
pub(super) fn is_segment(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && !text.starts_with('.') && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_over_tls_or_stay_on_the_machine() {
        for good in ["https://vault.example:8200", "https://[::1]:8200/", "http://127.0.0.1:8200", "http://[::1]:1"] {
            assert!(checked_address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://vault.example:8200",
            "http://localhost:8200",
            "vault:8200",
            "https://",
            "ftp://127.0.0.1",
            "https://a/v1",
            "https://u:p@a",
        ] {
            assert!(checked_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mount_is_a_path() {
        assert!(is_path("transit") && is_path("team-a/transit"));
        assert!(!is_path("") && !is_path("/transit") && !is_path("a/../b") && !is_path("a b") && !is_path("a?b"));
    }

    #[test]
    fn credentials_are_of_one_kind_and_unknown_words_are_refused() {
        let parse = |auth: &str| toml::from_str::<VaultConfig>(&format!("address = 'https://a'\n{auth}"));
        let config = parse("auth = { role_id = 'file:r', secret_id = 'file:s' }").expect("a configuration");
        assert_eq!((config.mount.as_str(), config.timeout_s), ("transit", 5));
        assert!(parse("auth = { token = 'credential:t' }").is_ok());
        for bad in [
            "",
            "auth = { role_id = 'file:r' }",
            "auth = { token = 'file:t', role_id = 'file:r', secret_id = 'file:s' }",
            "auth = { token = 'hvs.secret' }",
            "auth = { token = 'file:t' }\nverify = false",
        ] {
            let error = parse(bad).expect_err("refused");
            assert!(!error.message().contains("hvs.secret"), "{error}");
        }
    }

    #[test]
    fn relative_paths_are_those_of_the_configuration() {
        let text = "address = 'https://a'\nca_file = 'ca.pem'\nauth = { token = 'file:t' }";
        let mut config: VaultConfig = toml::from_str(text).expect("a configuration");
        config.resolve(Path::new("/etc/strongroom"));
        assert_eq!(config.ca_file.as_deref(), Some(Path::new("/etc/strongroom/ca.pem")));
        assert_eq!(config.auth, VaultAuth::Token(SecretRef::File("/etc/strongroom/t".into())));
    }
}
