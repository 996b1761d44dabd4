//! Who the server says that it is. AWS-LC does the cryptography, as everywhere here.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{default_provider, sign};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroize;

use super::config::{CloudHttpError, CloudTlsConfig};

/// Reads the certificate and the key.
pub(super) fn acceptor(config: &CloudTlsConfig) -> Result<TlsAcceptor, CloudHttpError> {
    let path = &config.certificate;
    let wrong = |what: String| CloudHttpError::Tls { path: path.clone(), what };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(|all| all.collect::<Result<Vec<_>, _>>())
        .map_err(|e| wrong(format!("its certificates cannot be read: {e}")))?;
    if certificates.is_empty() {
        return Err(wrong("there is no certificate (PEM) in it".to_owned()));
    }
    let text = config.key.read()?;
    let mut key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| wrong(format!("its private key {} is no PEM", config.key)))?;
    let signing = sign::any_supported_type(&key);
    key.zeroize();
    let signing = signing.map_err(|e| wrong(format!("its private key {} cannot be used: {e}", config.key)))?;
    let certified = CertifiedKey::new(certificates, signing);
    certified.keys_match().map_err(|e| wrong(format!("it does not go with the key {}: {e}", config.key)))?;
    let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(format!("TLS cannot be used: {e}")))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}
