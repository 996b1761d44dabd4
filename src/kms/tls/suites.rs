//! Cipher suites whose plain text reaches our own memory only.
//!
//! `rustls` copies what it decrypts into vectors that it frees without wiping them, in its unbuffered interface too. So its cipher suites are wrapped
//! here: each record is decrypted in a buffer of ours, data goes on to the connection's [`Inbox`](super::inbox::Inbox), and `rustls` gets as many zeros in
//! its place. Both buffers are wiped. Everything else, all cryptography included, is that of AWS-LC as `rustls` uses it; what goes out is encrypted in
//! place there.

use std::sync::LazyLock;

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter,
    Tls12AeadAlgorithm, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, SupportedCipherSuite, Tls12CipherSuite,
    Tls13CipherSuite,
};
use zeroize::{Zeroize, Zeroizing};

use super::inbox::deliver;

/// A record's cipher text is no longer than this (RFC 5246 section 6.2.3; RFC 8446 section 5.2 allows less).
const MOST_RECORD: usize = (1 << 14) + 2048;

/// AWS-LC's provider, with all its cipher suites wrapped.
pub(super) fn provider() -> CryptoProvider {
    // Suites have to live for ever; this makes them once.
    static SUITES: LazyLock<Vec<SupportedCipherSuite>> =
        LazyLock::new(|| aws_lc_rs::default_provider().cipher_suites.into_iter().map(wrap).collect());
    CryptoProvider { cipher_suites: SUITES.clone(), ..aws_lc_rs::default_provider() }
}

fn wrap(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: common.confidentiality_limit,
    };
    match suite {
        SupportedCipherSuite::Tls12(it) => SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
            common: common(&it.common),
            prf_provider: it.prf_provider,
            kx: it.kx,
            sign: it.sign,
            aead_alg: Box::leak(Box::new(Wrapped12(it.aead_alg))),
        }))),
        SupportedCipherSuite::Tls13(it) => SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
            common: common(&it.common),
            hkdf_provider: it.hkdf_provider,
            aead_alg: Box::leak(Box::new(Wrapped13(it.aead_alg))),
            quic: None,
        }))),
    }
}

struct Wrapped12(&'static dyn Tls12AeadAlgorithm);

impl Tls12AeadAlgorithm for Wrapped12 {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        self.0.encrypter(key, iv, extra)
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        Decrypter::around(self.0.decrypter(key, iv))
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        _key: AeadKey,
        _iv: &[u8],
        _explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct Wrapped13(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Wrapped13 {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        self.0.encrypter(key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Decrypter::around(self.0.decrypter(key, iv))
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(&self, _key: AeadKey, _iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct Decrypter {
    inner: Box<dyn MessageDecrypter>,
    /// Where records are decrypted. It never grows.
    record: Zeroizing<Vec<u8>>,
}

impl Decrypter {
    fn around(inner: Box<dyn MessageDecrypter>) -> Box<dyn MessageDecrypter> {
        Box::new(Self { inner, record: Zeroizing::new(Vec::with_capacity(MOST_RECORD)) })
    }
}

impl MessageDecrypter for Decrypter {
    fn decrypt<'a>(&mut self, mut msg: InboundOpaqueMessage<'a>, seq: u64) -> Result<InboundPlainMessage<'a>, Error> {
        if msg.payload.len() > MOST_RECORD {
            return Err(Error::PeerSentOversizedRecord);
        }
        self.record.extend_from_slice(&msg.payload);
        let opaque = InboundOpaqueMessage::new(msg.typ, msg.version, &mut self.record);
        let sorted = self.inner.decrypt(opaque, seq).and_then(|plain| {
            // What is returned has to lie where the record lay: the library reckons with places.
            let place = msg.payload.get_mut(..plain.payload.len()).ok_or(Error::DecryptError)?;
            if plain.typ == ContentType::ApplicationData {
                deliver(plain.payload)?;
                place.fill(0);
            } else {
                // Handshakes and alerts are the library's own affair.
                place.copy_from_slice(plain.payload);
            }
            Ok((plain.typ, plain.version, plain.payload.len()))
        });
        // Also empties it.
        self.record.zeroize();
        let (typ, version, len) = sorted?;
        (msg.typ, msg.version) = (typ, version);
        Ok(msg.into_plain_message_range(0..len))
    }
}
