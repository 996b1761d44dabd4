//! TLS to a KMS outside: who is trusted, who we say we are, and a connection that leaves nothing of what went through it in memory.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `suites` | cipher suites whose plain text reaches our own memory only |
//! | `inbox` | the memory where a connection's data arrives |
//! | `socket` | a socket whose calls end at a deadline |
//! | `stream` | the connection |
//!
//! The server's certificate is always checked, against the authorities of a file and nobody else: a KMS has an authority of its own more often than a
//! public one. AWS-LC does the cryptography, as everywhere in [`crate::kms`]. Nothing of a session is kept for a later one: one that is resumed would go
//! on with a certificate that was replaced.

mod inbox;
mod socket;
mod stream;
mod suites;

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::secrets::SecretRef;

use super::KmsError;

pub(crate) use socket::TimedSocket;
pub(crate) use stream::TlsStream;

/// Whom a client of a KMS trusts, and perhaps who it is.
#[derive(Clone)]
pub(crate) struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// From the authorities, and from its own certificate and key if it has to show any; all of them are PEM files.
    pub(crate) fn new(ca_file: &Path, identity: Option<(&Path, &Path)>) -> Result<Self, KmsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(suites::provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| KmsError::Config(format!("TLS cannot be used: {e}")))?
            .with_root_certificates(authorities(ca_file)?);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(|e| wrong(cert, &format!("it does not go with the key {}: {e}", key.display())))?,
        };
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }
}

fn wrong(path: &Path, what: &str) -> KmsError {
    KmsError::Config(format!("{}: {what}", path.display()))
}

fn authorities(path: &Path) -> Result<RootCertStore, KmsError> {
    let mut store = RootCertStore::empty();
    for authority in certificates(path)? {
        store.add(authority).map_err(|e| wrong(path, &format!("a certificate in it is no authority's: {e}")))?;
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KmsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    match read {
        Ok(all) if all.is_empty() => Err(wrong(path, "there is no certificate (PEM) in it")),
        Ok(all) => Ok(all),
        Err(e) => Err(wrong(path, &format!("its certificates cannot be read: {e}"))),
    }
}

/// Its text lies in locked memory only, and the file has to be private.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, KmsError> {
    let text = SecretRef::File(path.to_owned()).read().map_err(|e| KmsError::Config(e.to_string()))?;
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|e| wrong(path, &format!("the private key cannot be read: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_none_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("ca.pem");
        let error = TlsClient::new(&missing, None).map(|_| ()).expect_err("no file").to_string();
        assert!(error.contains("ca.pem"), "{error}");
        std::fs::write(&missing, "no certificate").expect("written");
        let error = TlsClient::new(&missing, None).map(|_| ()).expect_err("no certificate").to_string();
        assert!(error.contains("ca.pem") && error.contains("no certificate"), "{error}");
    }
}
