//! Where the cloud API listens, and its limits, as they are written in the configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::secrets::{SecretRef, SecretRefError};

/// Where the cloud API listens, and its limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudHttpConfig {
    /// Addresses with ports; port 0 is any free one.
    pub listen: Vec<SocketAddr>,
    /// Makes the connections TLS; without it, only addresses of this machine itself may be listened on.
    #[serde(default)]
    pub tls: Option<CloudTlsConfig>,
    /// What each account may ask in a second, on average; 0 is any number.
    #[serde(default = "default_requests_per_second")]
    pub requests_per_second: u32,
    /// Connections at once; one more is closed as it comes.
    #[serde(default = "default_most_connections")]
    pub most_connections: u32,
}

/// Who the server says that it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudTlsConfig {
    /// Its certificate and those up to the authority, in PEM.
    pub certificate: PathBuf,
    /// Where the private key lies, in PEM.
    pub key: SecretRef,
}

fn default_requests_per_second() -> u32 {
    100
}

fn default_most_connections() -> u32 {
    256
}

/// Why the cloud API cannot be served.
#[derive(Debug, Error)]
pub enum CloudHttpError {
    /// The configuration contradicts itself.
    #[error("cloud API: {0}")]
    Config(String),
    /// An address cannot be had.
    #[error("cloud API: cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// The private key cannot be read.
    #[error("cloud API: {0}")]
    Key(#[from] SecretRefError),
    /// The certificate or the key is none, or they do not go together.
    #[error("cloud API: {path}: {what}")]
    Tls {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Nonces cannot be remembered.
    #[error("cloud API: {path}: {source}; nonces of requests are remembered there, so make it writable")]
    Nonces {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// A thread or its event loop cannot be had.
    #[error("cloud API: a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

impl CloudHttpConfig {
    /// Takes relative paths from this folder, which is that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        if let Some(tls) = &mut self.tls {
            tls.certificate = folder.join(&tls.certificate);
            tls.key.resolve(folder);
        }
    }

    /// What has to hold before anything is started.
    pub fn check(&self) -> Result<(), CloudHttpError> {
        let wrong = |what: String| Err(CloudHttpError::Config(what));
        if self.listen.is_empty() {
            return wrong("listen is empty; name an address such as \"127.0.0.1:8080\"".to_owned());
        }
        if self.most_connections == 0 {
            return wrong("most_connections is 0, and nobody could connect; leave it out or allow some".to_owned());
        }
        // Signatures keep requests from being changed, not from being read, and answers are not signed at all.
        match self.listen.iter().find(|address| !address.ip().is_loopback()) {
            Some(address) if self.tls.is_none() => wrong(format!(
                "{address} can be reached from other machines, and answers would cross the network in plain; \
                 add tls = {{ certificate = \"…\", key = \"file:…\" }}, or listen on 127.0.0.1 behind a proxy that speaks TLS"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CloudHttpConfig, String> {
        toml::from_str::<CloudHttpConfig>(text).map_err(|e| e.to_string())
    }

    #[test]
    fn only_tls_leaves_this_machine() {
        for (text, wanted) in [
            ("listen = []", "listen is empty"),
            ("listen = ['127.0.0.1:0']\nmost_connections = 0", "most_connections is 0"),
            ("listen = ['127.0.0.1:80', '0.0.0.0:80']", "0.0.0.0:80 can be reached"),
            ("listen = ['[::]:80']", "add tls"),
            ("listen = ['192.0.2.1:80']", "add tls"),
        ] {
            let error = read(text).expect("read").check().expect_err(text).to_string();
            assert!(error.contains(wanted), "{error}");
        }
        for text in [
            "listen = ['127.0.0.1:0', '[::1]:0', '127.1.2.3:80']",
            "listen = ['0.0.0.0:443']\ntls = { certificate = 'c.pem', key = 'file:k.pem' }",
        ] {
            read(text).expect("read").check().expect(text);
        }
    }

    #[test]
    fn unknown_keys_are_refused_and_a_key_in_the_place_of_its_reference_is_not_shown() {
        assert!(read("listen = []\ncolour = 1").expect_err("refused").contains("colour"));
        let error = read("listen = []\ntls = { certificate = 'c', key = 'MIIEs3cret' }").expect_err("refused");
        assert!(error.contains("file:PATH"), "{error}");
    }

    #[test]
    fn paths_are_taken_from_the_folder_of_the_configuration() {
        let mut config = read("listen = []\ntls = { certificate = 'c.pem', key = 'file:k.pem' }").expect("read");
        config.resolve(Path::new("/etc/strongroom"));
        let tls = config.tls.expect("there");
        assert_eq!(tls.certificate, Path::new("/etc/strongroom/c.pem"));
        assert_eq!(tls.key, SecretRef::File("/etc/strongroom/k.pem".into()));
        assert_eq!((config.requests_per_second, config.most_connections), (100, 256));
    }
}
