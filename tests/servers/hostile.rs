//! A server that answers as it is told, over TLS or not: every connection gets the same bytes, in the same way.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

/// How the answer comes.
#[derive(Clone, Copy)]
pub enum Manner {
    /// In one piece; then the connection waits for the next request.
    Whole,
    /// In one piece; then the connection is closed.
    Close,
    /// A byte at a time, without end.
    Drip,
    /// Never.
    Silence,
}

/// Serves until the process ends. `answer` gets the head of the request's first line.
pub fn serve(
    tls: Option<Arc<ServerConfig>>,
    manner: Manner,
    answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (tls, answer) = (tls.clone(), answer.clone());
            std::thread::spawn(move || match tls {
                None => converse(socket, manner, &*answer),
                Some(config) => {
                    let connection = ServerConnection::new(config).expect("a connection");
                    converse(StreamOwned::new(connection, socket), manner, &*answer);
                }
            });
        }
    });
    address
}

/// Answers every connection by these bytes at once, whatever comes.
pub fn serve_bytes(bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(&bytes);
        }
    });
    address
}

/// With a certificate, for these versions of TLS.
pub fn tls(cert: &Path, key: &Path, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let cert = CertificateDer::from_pem_file(cert).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![cert], key).expect("a configuration"))
}

fn converse(mut stream: impl Read + Write, manner: Manner, answer: &dyn Fn(&str) -> Vec<u8>) {
    while let Some(head) = request(&mut stream) {
        let bytes = answer(&head);
        let sent = match manner {
            Manner::Whole | Manner::Close => stream.write_all(&bytes).and_then(|()| stream.flush()),
            Manner::Silence => {
                std::thread::sleep(Duration::from_secs(60));
                return;
            }
            Manner::Drip => bytes.iter().cycle().try_for_each(|byte| {
                std::thread::sleep(Duration::from_millis(20));
                stream.write_all(&[*byte]).and_then(|()| stream.flush())
            }),
        };
        if sent.is_err() || matches!(manner, Manner::Close) {
            return;
        }
    }
}

/// Reads a request; gives back its first line.
fn request(stream: &mut impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = |line: &str| line.to_lowercase().strip_prefix("content-length: ").and_then(|n| n.parse().ok());
            let wanted: usize = head.lines().find_map(length).unwrap_or(0);
            if body.len() >= wanted {
                return head.lines().next().map(str::to_owned);
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => bytes.extend(&piece[..read]),
            _ => return None,
        }
    }
}

/// Whether anybody listens there is decided by the kernel: nobody does.
pub fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}
