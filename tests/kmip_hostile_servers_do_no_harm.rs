//! Whatever a server answers over TLS, a call ends in time with an error: garbage, answers cut anywhere, answers without end, and answers drop by drop.

#[path = "servers/pykmip.rs"]
mod pykmip;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pykmip::Certificates;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use strongroom::kms::{KeyProvider, KmsError};

const PATIENCE: Duration = Duration::from_secs(60);

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// Serves each connection by a function, until the process ends.
fn serve(certificates: &Certificates, serve: impl Fn(Tls) + Send + Sync + 'static) -> u16 {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.path("ca.pem")).expect("a CA")).expect("a CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().expect("a verifier");
    let chain = vec![CertificateDer::from_pem_file(certificates.path("server.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config =
        Arc::new(config.with_client_cert_verifier(clients).with_single_cert(chain, key).expect("a configuration"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let (config, serve) = (config.clone(), serve.clone());
            std::thread::spawn(move || {
                let tls = ServerConnection::new(config).expect("a connection");
                serve(StreamOwned::new(tls, tcp));
            });
        }
    });
    port
}

fn provider(certificates: &Certificates, port: u16) -> Box<dyn KeyProvider> {
    let mut config = certificates.client(port);
    config.timeout_s = 1;
    config.open("local").expect("a provider")
}

fn item(tag: u32, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = tag.to_be_bytes()[1..].to_vec();
    bytes.push(kind);
    bytes.extend((value.len() as u32).to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// The first item of a tag, anywhere: good enough for our own requests.
fn find(bytes: &[u8], tag: u32) -> Vec<u8> {
    let at = bytes.windows(3).position(|window| window == &tag.to_be_bytes()[1..]).expect("there");
    let len = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes")) as usize;
    bytes[at + 8..at + 8 + len].to_vec()
}

fn request(tls: &mut Tls) -> Option<Vec<u8>> {
    let mut header = [0; 8];
    tls.read_exact(&mut header).ok()?;
    let mut rest = vec![0; u32::from_be_bytes(header[4..].try_into().expect("four bytes")) as usize];
    tls.read_exact(&mut rest).ok()?;
    Some([&header[..], &rest].concat())
}

/// The answer to a request of one call.
fn answer(request: &[u8], payload: &[u8]) -> Vec<u8> {
    let version = [item(0x42006A, 2, &1i32.to_be_bytes()), item(0x42006B, 2, &4i32.to_be_bytes())].concat();
    let header = item(0x42007A, 1, &item(0x420069, 1, &version));
    let id = item(0x420093, 8, &find(request, 0x420093));
    let batch = [id, item(0x42007F, 5, &0u32.to_be_bytes()), item(0x42007C, 1, payload)].concat();
    item(0x42007B, 1, &[header, item(0x42000F, 1, &batch)].concat())
}

fn versions() -> Vec<u8> {
    item(0x420069, 1, &[item(0x42006A, 2, &1i32.to_be_bytes()), item(0x42006B, 2, &4i32.to_be_bytes())].concat())
}

/// Agrees on the version, then answers the next call as told.
fn after_agreement(certificates: &Certificates, reply: impl Fn(&[u8], &mut Tls) + Send + Sync + 'static) -> u16 {
    serve(certificates, move |mut tls| {
        let Some(first) = request(&mut tls) else { return };
        if tls.write_all(&answer(&first, &versions())).is_err() {
            return;
        }
        while let Some(next) = request(&mut tls) {
            reply(&next, &mut tls);
        }
    })
}

fn vendor() -> Vec<u8> {
    item(0x42009D, 7, b"a test server")
}

#[test]
fn the_small_server_is_understood() {
    let certificates = Certificates::make();
    let port = after_agreement(&certificates, |request, tls| {
        // In pieces, so that records and messages do not coincide.
        for piece in answer(request, &vendor()).chunks(3) {
            tls.write_all(piece).and_then(|()| tls.flush()).expect("written");
        }
    });
    let kms = provider(&certificates, port);
    for _ in 0..2 {
        assert!(kms.health().expect("healthy").contains("a test server"));
    }
}

#[test]
fn garbage_and_cut_answers_are_errors() {
    let certificates = Certificates::make();
    let whole = answer(&[&[0x42, 0, 0x93, 8, 0, 0, 0, 10][..], &[0; 10]].concat(), &vendor()).len();
    let turn = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let turns = whole + 300;
    let port = after_agreement(&certificates, move |request, tls| {
        let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut bytes = answer(request, &vendor());
        if turn < whole {
            bytes.truncate(turn);
        } else {
            // Each byte of the first part wrong; also one more than there should be.
            let at = (turn - whole) % (whole + 1);
            match bytes.get_mut(at) {
                Some(byte) => *byte ^= 0x81,
                None => bytes.push(0),
            }
        }
        let _ = tls.write_all(&bytes);
        tls.conn.send_close_notify();
        let _ = tls.flush();
        let _ = tls.sock.shutdown(std::net::Shutdown::Both);
    });
    let kms = provider(&certificates, port);
    let mut errors = 0;
    for _ in (0..turns).step_by(2) {
        match kms.health() {
            Err(KmsError::Unavailable { .. } | KmsError::Protocol { .. }) => errors += 1,
            // A byte that nobody reads, or that is text.
            Ok(_) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(errors > whole / 4, "only {errors} errors");
}

#[test]
fn noise_after_the_handshake_is_an_error() {
    let certificates = Certificates::make();
    let port = serve(&certificates, |mut tls| {
        let _ = request(&mut tls);
        let _ = tls.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    assert!(matches!(provider(&certificates, port).health(), Err(KmsError::Protocol { .. })));
    let port = serve(&certificates, |mut tls| {
        let _ = request(&mut tls);
        let _ = tls.sock.write_all(&[0xFF; 4096]);
    });
    assert!(matches!(provider(&certificates, port).health(), Err(KmsError::Protocol { .. })));
    // No TLS at all.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let _ = tcp.write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    assert!(provider(&certificates, port).health().is_err());
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let certificates = Certificates::make();
    let begin = |len: u32| [&[0x42, 0, 0x7B, 1][..], &len.to_be_bytes()].concat();
    for len in [65_528, u32::MAX] {
        let port = after_agreement(&certificates, move |_, tls| {
            let _ = tls.write_all(&begin(len));
            while tls.write_all(&[0x42; 1 << 14]).is_ok() {}
        });
        let error = provider(&certificates, port).health().expect_err("too long");
        assert!(matches!(error, KmsError::Protocol { .. }), "{error}");
    }
}

#[test]
fn an_answer_drop_by_drop_ends_at_the_limit() {
    let certificates = Certificates::make();
    let port = after_agreement(&certificates, |request, tls| {
        for byte in answer(request, &vendor()) {
            if tls.write_all(&[byte]).and_then(|()| tls.flush()).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    let begun = Instant::now();
    let error = provider(&certificates, port).health().expect_err("too slow");
    assert!(matches!(error, KmsError::Unavailable { .. }), "{error}");
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_server_of_another_version_is_named_so() {
    let certificates = Certificates::make();
    let port = serve(&certificates, |mut tls| {
        let Some(first) = request(&mut tls) else { return };
        let _ = tls.write_all(&answer(&first, &[]));
        let _ = request(&mut tls);
    });
    let error = provider(&certificates, port).health().expect_err("another version");
    assert!(matches!(error, KmsError::Unsupported { .. }) && error.to_string().contains("1.4"), "{error}");
}
