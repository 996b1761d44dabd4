//! A KMIP 1.4 server as the KMS, over TLS with certificates on both sides.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `ttlv` | how items are written |
//! | `words` | the numbers of the specification |
//! | `message` | requests and answers |
//! | `link` | the connection, and how long it may take |
//! | `keys` | names and versions of keys |
//! | `blob` | what a wrapped key holds |
//!
//! The server encrypts and decrypts by AES-256-GCM; the context of a disk key is the additional data, so a wrapped key opens for its disk only. Master keys
//! never leave the server: Get is never called. KMIP has no re-wrap, so [`KeyProvider::rewrap`] has the disk key in locked memory here for a moment.
//!
//! The state of a key is asked for in the batch that decrypts: a key that was deactivated does not open anything, also at servers that would let it.

mod blob;
mod keys;
mod link;
mod message;
mod provider;
mod ttlv;
mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::{KeyProvider, KmsError, ServiceKeys};

use link::{Link, Server};
use provider::KmipProvider;

/// The port that IANA has given to KMIP.
const PORT: u16 = 5696;
const MOST_TIMEOUT_S: u32 = 300;

/// `[kms.kmip]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmipConfig {
    /// Host, or host and port; the port is 5696 if there is none.
    pub address: String,
    /// What the server's certificate has to name, if that is not the host of the address.
    pub server_name: Option<String>,
    /// The CA that has signed the server's certificate (PEM).
    pub ca_file: PathBuf,
    /// Our certificate (PEM).
    pub client_cert_file: PathBuf,
    /// Its private key (PEM), which nobody else may read.
    pub client_key_file: PathBuf,
    /// How the names of our keys begin.
    #[serde(default)]
    pub key_prefix: ServiceKeys,
    /// How long a connection, and a call, may take.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u32,
}

fn default_timeout_s() -> u32 {
    5
}

impl KmipConfig {
    /// Takes relative paths from this folder, which is that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.ca_file, &mut self.client_cert_file, &mut self.client_key_file] {
            *path = folder.join(&*path);
        }
    }

    /// Checks the configuration and its files. The server need not be there yet.
    pub fn open(&self, region: &str) -> Result<Box<dyn KeyProvider>, KmsError> {
        let (host, port) = split(&self.address)
            .ok_or_else(|| KmsError::Config(format!("kmip: address {:?} is not HOST or HOST:PORT", self.address)))?;
        let named = self.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(named.to_owned())
            .map_err(|_| KmsError::Config(format!("kmip: {named:?} cannot be what a certificate names")))?;
        if !(1..=MOST_TIMEOUT_S).contains(&self.timeout_s) {
            return Err(KmsError::Config(format!("kmip: timeout_s has to be from 1 to {MOST_TIMEOUT_S}")));
        }
        let link = Link::new(Server {
            name: format!("kmip {host}:{port}"),
            address: if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") },
            server_name,
            ca_file: self.ca_file.clone(),
            cert_file: self.client_cert_file.clone(),
            key_file: self.client_key_file.clone(),
            time_out: Duration::from_secs(self.timeout_s.into()),
        })?;
        Ok(Box::new(KmipProvider::new(link, region, self.key_prefix.clone())))
    }
}

/// Host and port; an IPv6 address with a port stands in brackets.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None if address.matches(':').count() > 1 => (address, None),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port != 0))?;
    (!host.is_empty()).then_some((host, port))
}

/// The entry of a fuzzer.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    use super::keys::Key;
    use super::message::{Call, MOST_ANSWER, Request, answer_bytes};
    use super::ttlv::Structure;

    /// Reads bytes as an answer to a batch. The first one says to how many calls.
    pub fn answer(bytes: &[u8]) {
        let Some((&[calls], answer)) = bytes.split_first_chunk() else { return };
        let calls: Vec<_> = (0..calls % 8).map(|_| Call::GetAttributes { id: "1" }).collect();
        let request = Request::new(*b"fuzzing!", &calls);
        if let Ok(Some(len)) = answer_bytes(answer) {
            assert!(len <= MOST_ANSWER, "an answer is longer than the room for it");
        }
        let Ok(outcomes) = request.read(answer) else { return };
        assert_eq!(outcomes.len(), calls.len(), "each call has its outcome");
        for payload in outcomes.into_iter().flatten() {
            let _ = Key::read(payload);
            touch(payload);
        }
    }

    fn touch(items: Structure<'_>) {
        for item in items.items() {
            let _ = (item.integer(), item.enumeration(), item.date(), item.text(), item.bytes());
            if let Ok(inner) = item.structure() {
                touch(inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports() {
        assert_eq!(split("kmip.example"), Some(("kmip.example", 5696)));
        assert_eq!(split("kmip.example:15696"), Some(("kmip.example", 15696)));
        assert_eq!(split("[::1]:7"), Some(("::1", 7)));
        assert_eq!(split("[::1]"), Some(("::1", 5696)));
        assert_eq!(split("fe80::1"), Some(("fe80::1", 5696)));
        for wrong in ["", ":5696", "host:", "host:0", "host:99999", "[::1", "[::1]x", "https://host"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_configuration_is_strict() {
        let text =
            "address = 'kmip.example'\nca_file = 'ca.pem'\nclient_cert_file = 'c.pem'\nclient_key_file = '/k.pem'\n";
        let mut config: KmipConfig = toml::from_str(text).expect("a configuration");
        config.resolve(Path::new("/etc/strongroom"));
        assert_eq!(config.ca_file, Path::new("/etc/strongroom/ca.pem"));
        assert_eq!(config.client_key_file, Path::new("/k.pem"));
        assert_eq!((config.timeout_s, config.key_prefix), (5, ServiceKeys::default()));
        assert!(toml::from_str::<KmipConfig>(&format!("{text}password = 'x'")).is_err());
        let without = toml::from_str::<KmipConfig>(&text.replace("client_cert_file", "# "));
        assert!(without.is_err_and(|e| e.to_string().contains("client_cert_file")));
    }
}
