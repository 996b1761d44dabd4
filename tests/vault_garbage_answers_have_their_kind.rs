//! Whatever answers in Vault's place, and however: nothing panics, nothing waits for ever, and the error says what kind of trouble it is.

#[path = "servers/authority.rs"]
mod authority;
#[path = "servers/hostile.rs"]
mod hostile;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use authority::Authority;
use hostile::Manner;
use rustls::version::{TLS12, TLS13};
use strongroom::kms::vault::VaultConfig;
use strongroom::kms::{CmkId, DiskKey, KeyContext, KeyProvider, KmsError, Owner, ProviderKind, WrappedKey};
use tempfile::TempDir;
use uuid::Uuid;

const LOOKUP: &str = r#"{"data":{"ttl":0,"renewable":false}}"#;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let token = dir.path().join("token");
        fs::write(&token, "hvs.token").expect("written");
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("mode set");
        Self(dir)
    }

    fn client(&self, address: &str) -> Box<dyn KeyProvider> {
        let ca = if address.starts_with("https") { "ca_file = 'ca.pem'" } else { "" };
        let text = format!("address = '{address}'\nauth = {{ token = 'file:token' }}\ntimeout_s = 1\n{ca}");
        let mut config: VaultConfig = toml::from_str(&text).expect("a configuration");
        config.resolve(self.0.path());
        config.open("r1").expect("a client")
    }

    fn plain(&self, address: SocketAddr) -> Box<dyn KeyProvider> {
        self.client(&format!("http://{address}"))
    }
}

fn wrapped() -> WrappedKey {
    let owner = Owner { region: "r1".to_owned(), account: "a".to_owned() };
    WrappedKey {
        provider: ProviderKind::Vault,
        cmk: CmkId("strongroom.r1.a".to_owned()),
        cmk_version: 1,
        context: KeyContext::disk(owner, Uuid::from_u128(1)),
        blob: b"vault:v1:AAAA".to_vec(),
    }
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A server that accepts the token, and answers everything else by this.
fn after_login(answer: Vec<u8>) -> impl Fn(&str) -> Vec<u8> + Send + Sync {
    move |head| if head.contains("lookup-self") { http("200 OK", LOOKUP) } else { answer.clone() }
}

fn unwrap_error(vault: &dyn KeyProvider) -> KmsError {
    vault.unwrap(&wrapped()).map(|_| ()).expect_err("nonsense")
}

fn kind(error: &KmsError) -> &'static str {
    match error {
        KmsError::Unavailable { .. } => "unavailable",
        KmsError::Refused { .. } => "refused",
        KmsError::Protocol { .. } => "protocol",
        KmsError::NotFound { .. } => "not found",
        KmsError::State { .. } => "state",
        KmsError::NotAuthentic { .. } => "not authentic",
        _ => "another one",
    }
}

#[test]
fn each_status_and_each_text_has_its_kind() {
    let errors = |text: &str| format!(r#"{{"errors":["{text}"]}}"#);
    let short = r#"{"request_id":"1","data":{"plaintext":"AAAA"}}"#;
    let escaped = r#"{"request_id":"1","data":{"plaintext":"\u0041AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}"#;
    let cases = [
        ("200 OK", "", "protocol"),
        ("200 OK", "<html>", "protocol"),
        ("200 OK", "{}", "protocol"),
        ("200 OK", r#"{"data":null}"#, "protocol"),
        ("200 OK", r#"{"data":{"plaintext":7}}"#, "protocol"),
        ("200 OK", short, "protocol"),
        ("200 OK", escaped, "protocol"),
        ("200 OK", "\u{0}\u{1}", "protocol"),
        ("302 Found", "", "protocol"),
        ("400 Bad Request", &errors("cipher: message authentication failed"), "not authentic"),
        ("400 Bad Request", &errors("encryption key not found"), "not found"),
        ("400 Bad Request", &errors("refusing to use soft-deleted key"), "state"),
        ("400 Bad Request", &errors("ciphertext or signature version is disallowed by policy (too old)"), "state"),
        ("400 Bad Request", "what?", "refused"),
        ("403 Forbidden", &errors("permission denied"), "refused"),
        ("404 Not Found", &errors(""), "not found"),
        ("405 Method Not Allowed", "", "refused"),
        ("429 Too Many Requests", "", "unavailable"),
        ("473 Standby", "", "unavailable"),
        ("500 Internal Server Error", "<html>", "unavailable"),
        ("502 Bad Gateway", "", "unavailable"),
        ("503 Service Unavailable", &errors("Vault is sealed"), "unavailable"),
        ("999 What", "", "unavailable"),
    ];
    let folder = Folder::new();
    for (status, body, expected) in cases {
        let address = hostile::serve(None, Manner::Whole, after_login(http(status, body)));
        let vault = folder.plain(address);
        let error = unwrap_error(&*vault);
        assert_eq!(kind(&error), expected, "{status} {body}: {error}");
        assert!(!error.to_string().contains("hvs.token"), "{error}");
        // All other calls have to bear it too.
        let owner = wrapped().context.owner;
        let key = DiskKey::random().expect("a key");
        assert!(vault.service_key(&owner).is_err(), "{status} {body}");
        assert!(vault.wrap(&wrapped().cmk, &key, &wrapped().context).is_err(), "{status} {body}");
        assert!(vault.rewrap(&wrapped()).is_err(), "{status} {body}");
        assert!(vault.rotate(&wrapped().cmk).is_err(), "{status} {body}");
        let _ = (vault.keys(), vault.health());
    }
}

#[test]
fn what_is_no_http_has_its_kind() {
    let head = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\nZZ\r\n");
    let cut = format!("{head}Content-Length: 100\r\n\r\n{{");
    let long = format!("{head}X: {}\r\n\r\n", "x".repeat(100_000));
    let huge = [format!("{head}Content-Length: 3000000\r\n\r\n").into_bytes(), vec![b' '; 3_000_000]].concat();
    let cases = [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), "protocol"),
        (vec![0xff; 5000], "protocol"),
        (chunked.into_bytes(), "protocol"),
        (long.into_bytes(), "protocol"),
        (huge, "protocol"),
        (cut.into_bytes(), "unavailable"),
        (Vec::new(), "unavailable"),
    ];
    let folder = Folder::new();
    for (answer, expected) in cases {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        let address = hostile::serve(None, Manner::Close, after_login(answer));
        let error = unwrap_error(&*folder.plain(address));
        assert_eq!(kind(&error), expected, "{shown:?}: {error}");
    }
}

#[test]
fn a_slow_or_silent_or_absent_server_is_unavailable_in_time() {
    let folder = Folder::new();
    for manner in [Manner::Drip, Manner::Silence] {
        let address = hostile::serve(None, manner, |_| b"HTTP/1.1 200 OK\r\nX: ".to_vec());
        let error = unwrap_error(&*folder.plain(address));
        assert!(error.to_string().contains("no answer within 1 s"), "{error}");
        assert_eq!(kind(&error), "unavailable");
    }
    assert_eq!(kind(&unwrap_error(&*folder.plain(hostile::nobody()))), "unavailable");
}

#[test]
fn tls_bears_the_same() {
    let folder = Folder::new();
    let Some(files) = Authority::make(folder.0.path()) else { return };
    let client = |address: SocketAddr| folder.client(&format!("https://{address}"));

    // Both versions of TLS carry answers that are right, also in many records.
    let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let right = format!(r#"{{"request_id":"7","more":"{}","data":{{"plaintext":"{key}"}}}}"#, "x".repeat(50_000));
    for version in [&TLS12, &TLS13] {
        let config = hostile::tls(&files.cert, &files.key, &[version]);
        let address = hostile::serve(Some(config), Manner::Whole, after_login(http("200 OK", &right)));
        let vault = client(address);
        for _ in 0..3 {
            let opened = vault.unwrap(&wrapped()).expect("opened");
            assert_eq!((opened.value.0, opened.request_id.as_deref()), ([1; 32], Some("7")));
        }
    }

    let config = hostile::tls(&files.cert, &files.key, &[&TLS13, &TLS12]);
    for (manner, answer, expected) in [
        (Manner::Close, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "unavailable"),
        (Manner::Close, "nonsense\r\n\r\n", "protocol"),
        (Manner::Drip, "HTTP/1.1 200 OK\r\nX: ", "unavailable"),
        (Manner::Silence, "", "unavailable"),
    ] {
        let address = hostile::serve(Some(config.clone()), manner, |_| answer.as_bytes().to_vec());
        let error = unwrap_error(&*client(address));
        assert_eq!(kind(&error), expected, "{answer:?}: {error}");
    }

    // What is no TLS at all, or breaks off in it.
    for (bytes, expected) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "protocol"),
        (vec![0x16, 3, 3, 0xff, 0xff], "protocol"),
        ([vec![0x16, 3, 3, 0x40, 0], vec![0; 0x4000]].concat(), "protocol"),
        (vec![0x15, 3, 3, 0, 2, 2, 40], "refused"),
        (Vec::new(), "unavailable"),
    ] {
        let error = unwrap_error(&*client(hostile::serve_bytes(bytes.clone())));
        assert_eq!(kind(&error), expected, "{bytes:02x?}: {error}");
    }
}
