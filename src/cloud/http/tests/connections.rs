//! Connections: keep-alive, limits, hostile clients, TLS, and the end.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::config::CloudHttpConfig;
use super::super::connection::Limits;
use super::super::server::CloudServer;
use super::super::signature::canonical;
use super::super::testing::{Dummy, signed};

const LONG: Duration = Duration::from_secs(60);

fn config(more: &str) -> CloudHttpConfig {
    toml::from_str(&format!("listen = ['127.0.0.1:0', '[::1]:0']\n{more}")).expect("a configuration")
}

fn start(more: &str, limits: Limits) -> CloudServer {
    let service = Dummy::new();
    let state = service.state().to_owned();
    CloudServer::start_with(&config(more), &state, service, limits).expect("a server")
}

/// Limits that hostile clients reach soon.
fn impatient() -> Limits {
    let soon = Duration::from_millis(200);
    Limits { handshake: soon, head: soon, body: soon, write: soon }
}

fn patient() -> Limits {
    Limits { handshake: LONG, head: LONG, body: LONG, write: LONG }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("connected");
    socket.set_read_timeout(Some(LONG)).expect("set");
    socket
}

fn get(action: &str) -> String {
    let query = canonical::query(&signed("GET", "2014-05-26", &[("Format", "JSON"), ("Action", action)]));
    format!("GET /?{query} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// The head and the body of one answer.
fn answer(socket: &mut impl Read) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text").to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    socket.read_exact(&mut body).expect("a body");
    (head, String::from_utf8(body).expect("text"))
}

fn ask(socket: &mut (impl Read + Write), request: &str) -> (String, String) {
    socket.write_all(request.as_bytes()).expect("sent");
    answer(socket)
}

/// Whether the server has closed the connection, perhaps after some bytes.
fn ends(mut socket: TcpStream) -> bool {
    match socket.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(e) => matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}

#[test]
fn a_connection_serves_many_requests_and_all_addresses_are_served() {
    let server = start("", patient());
    assert_eq!(server.addresses().len(), 2);
    for address in server.addresses() {
        let mut socket = connect(*address);
        for _ in 0..3 {
            let (head, body) = ask(&mut socket, &get("Echo"));
            assert!(head.starts_with("http/1.1 200") && head.contains("x-acs-request-id: "), "{head}");
            assert!(body.contains("\"Account\":\"acme\""), "{body}");
        }
        drop(socket);
    }
    assert!(server.stop(LONG));
}

#[test]
fn a_bug_of_an_operation_is_an_internal_error() {
    let server = start("", patient());
    let mut socket = connect(server.addresses()[0]);
    let (head, body) = ask(&mut socket, &get("Panic"));
    assert!(head.starts_with("http/1.1 500") && body.contains("\"InternalError\""), "{head}{body}");
    assert!(ask(&mut socket, &get("Echo")).0.starts_with("http/1.1 200"));
}

#[test]
fn what_is_too_large_is_refused() {
    let server = start("", patient());
    let body = "a".repeat((64 << 10) + 1);
    let request = format!("POST /?Format=JSON HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut socket = connect(server.addresses()[0]);
    let (head, body) = ask(&mut socket, &request);
    assert!(head.starts_with("http/1.1 400") && head.contains("connection: close"), "{head}");
    assert!(body.contains("longer than 65536 bytes"), "{body}");
    let mut socket = connect(server.addresses()[0]);
    let (head, _) = ask(&mut socket, &format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "a".repeat(80 << 10)));
    assert!(head.starts_with("http/1.1 431"), "{head}");
    // The largest plain text of a key service, each of its characters encoded.
    let large = format!("GET /?Plaintext={}&Format=JSON HTTP/1.1\r\nHost: h\r\n\r\n", "%2B".repeat(8 << 10));
    assert!(ask(&mut connect(server.addresses()[0]), &large).1.contains("MissingParameter"));
}

#[test]
fn clients_that_do_nothing_or_little_lose_their_place() {
    let server = start("most_connections = 1", impatient());
    let address = server.addresses()[0];
    let long = get("Long");
    let begun = ["", "GET /?a=1 HTTP/1.1\r\nHos", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\na=", &long];
    // None of them reads what it is answered, and none goes by itself.
    let mut held = Vec::new();
    for begun in begun {
        let mut socket = in_the_only_place(address);
        // It may have been given up already.
        let _ = socket.write_all(begun.as_bytes());
        held.push(socket);
    }
    in_the_only_place(address);
}

#[test]
fn a_client_that_says_nothing_from_the_start_is_closed() {
    let server = start("", impatient());
    assert!(ends(connect(server.addresses()[0])));
}

/// A connection that was served, once whoever had the place before has lost it.
fn in_the_only_place(address: SocketAddr) -> TcpStream {
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        let mut socket = connect(address);
        let sent = socket.write_all(get("Echo").as_bytes());
        if sent.is_ok() && matches!(socket.peek(&mut [0]), Ok(1)) {
            answer(&mut socket);
            return socket;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the place is still taken");
}

#[test]
fn more_connections_than_there_are_places_are_closed() {
    let server = start("most_connections = 1", patient());
    let mut first = connect(server.addresses()[0]);
    ask(&mut first, &get("Echo"));
    assert!(ends(connect(server.addresses()[0])));
    assert!(ask(&mut first, &get("Echo")).0.starts_with("http/1.1 200"));
}

#[test]
fn a_stop_ends_idle_clients_at_once_and_waits_for_no_other_longer_than_it_shall() {
    let server = start("", patient());
    let mut idle = connect(server.addresses()[0]);
    ask(&mut idle, &get("Echo"));
    assert!(server.stop(LONG));
    assert!(ends(idle));

    let server = start("", patient());
    let mut stuck = connect(server.addresses()[0]);
    stuck.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\na=").expect("sent");
    // Its request has to have been seen.
    ask(&mut connect(server.addresses()[0]), &get("Echo"));
    assert!(!server.stop(Duration::from_millis(100)));
    assert!(ends(stuck));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let server = start("", patient());
    let taken = server.addresses()[0];
    let mut config = config("");
    config.listen = vec![taken];
    let service = Dummy::new();
    let state = service.state().to_owned();
    let error = CloudServer::start(&config, &state, service).expect_err("taken").to_string();
    assert!(error.contains(&taken.to_string()), "{error}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = CloudServer::start(&config(""), "/nonexistent".as_ref(), Dummy::new()).expect_err("no folder");
    assert!(error.to_string().contains("/nonexistent/nonces"), "{error}");
}

mod tls {
    use super::*;

    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    use tempfile::TempDir;

    /// A folder with a certificate that has signed itself; none where there is no `openssl`.
    fn certificate() -> Option<TempDir> {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["server", "other"] {
            let arguments = format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.pem -days 2 \
                 -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
            );
            let Ok(output) = Command::new("openssl").args(arguments.split_whitespace()).current_dir(&dir).output()
            else {
                eprintln!("SKIPPED: openssl is not installed");
                return None;
            };
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let key = dir.path().join(format!("{name}.key"));
            std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        }
        Some(dir)
    }

    fn with(dir: &Path, certificate: &str, key: &str) -> CloudHttpConfig {
        let mut config = config(&format!("tls = {{ certificate = '{certificate}', key = 'file:{key}' }}"));
        config.resolve(dir);
        config
    }

    #[test]
    fn requests_come_through_it() {
        let Some(dir) = certificate() else { return };
        let service = Dummy::new();
        let state = service.state().to_owned();
        let server = with(dir.path(), "server.pem", "server.key");
        let server = CloudServer::start_with(&server, &state, service, patient()).expect("a server");
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_file(dir.path().join("server.pem")).expect("a certificate");
        roots.add(own).expect("trusted");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::new(client), name).expect("a client");
        let mut stream = StreamOwned::new(connection, connect(server.addresses()[0]));
        assert!(ask(&mut stream, &get("Echo")).1.contains("acme"));
        // Who does not speak TLS gets no answer of the service.
        let mut plain = connect(server.addresses()[0]);
        plain.write_all(get("Echo").as_bytes()).expect("sent");
        let mut got = Vec::new();
        let _ = plain.read_to_end(&mut got);
        assert!(!got.starts_with(b"HTTP"), "{got:?}");
    }

    #[test]
    fn what_cannot_be_used_is_named_and_a_key_is_not_shown() {
        let Some(dir) = certificate() else { return };
        std::fs::write(dir.path().join("none.pem"), "nothing").expect("written");
        for (certificate, key, wanted) in [
            ("missing.pem", "server.key", "missing.pem"),
            ("none.pem", "server.key", "no certificate"),
            ("server.pem", "missing.key", "missing.key"),
            ("server.pem", "other.key", "does not go with the key"),
            ("server.pem", "server.pem", "chmod 600"),
        ] {
            let service = Dummy::new();
            let state = service.state().to_owned();
            let error = CloudServer::start(&with(dir.path(), certificate, key), &state, service);
            let error = error.expect_err("refused").to_string();
            assert!(error.contains(wanted) && !error.contains("BEGIN"), "{error}");
        }
    }
}
