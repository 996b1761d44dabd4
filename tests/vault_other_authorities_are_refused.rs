//! Only a server whose certificate is signed by the configured authority, for the configured host, gets to see a token.

#[path = "servers/authority.rs"]
mod authority;
#[path = "servers/hostile.rs"]
mod hostile;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use authority::Authority;
use hostile::Manner;
use rustls::version::{TLS12, TLS13};
use strongroom::kms::vault::VaultConfig;
use strongroom::kms::{KeyProvider, KmsError};
use tempfile::TempDir;

fn client(dir: &Path, address: &str) -> Result<Box<dyn KeyProvider>, KmsError> {
    let text = format!("address = '{address}'\nca_file = 'ca.pem'\nauth = {{ token = 'file:token' }}");
    let mut config: VaultConfig = toml::from_str(&text).expect("a configuration");
    config.resolve(dir);
    config.open("r1")
}

fn put_token(dir: &Path, mode: u32) {
    let token = dir.join("token");
    fs::write(&token, "hvs.token").expect("written");
    fs::set_permissions(&token, fs::Permissions::from_mode(mode)).expect("mode set");
}

fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    put_token(dir.path(), 0o600);
    dir
}

/// A Vault that is well.
fn serve(files: &Authority) -> u16 {
    let health = r#"{"initialized":true,"sealed":false,"version":"1"}"#;
    let lookup = r#"{"data":{"ttl":0,"renewable":false}}"#;
    let answer = move |head: &str| {
        let body = if head.contains("health") { health } else { lookup };
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let config = hostile::tls(&files.cert, &files.key, &[&TLS13, &TLS12]);
    hostile::serve(Some(config), Manner::Whole, answer).port()
}

fn expect_distrust(dir: &Path, port: u16) {
    let error = client(dir, &format!("https://127.0.0.1:{port}")).expect("a client").health().expect_err("not trusted");
    assert!(matches!(&error, KmsError::Refused { .. }) && error.to_string().contains("ca_file"), "{error}");
}

#[test]
fn another_authority_and_another_name_are_refused() {
    let (trusted, other, misnamed) = (folder(), folder(), folder());
    let Some(files) = Authority::make(trusted.path()) else { return };
    let port = serve(&files);
    for host in ["127.0.0.1", "localhost"] {
        let vault = client(trusted.path(), &format!("https://{host}:{port}")).expect("a client");
        assert_eq!(vault.health().expect("healthy"), "version 1, unsealed");
    }
    Authority::make(other.path()).expect("made");
    expect_distrust(other.path(), port);
    let files = Authority::make_for("DNS:vault.example", misnamed.path()).expect("made");
    expect_distrust(misnamed.path(), serve(&files));
}

#[test]
fn a_configuration_that_cannot_be_safe_does_not_open() {
    let dir = folder();
    let refused = |address: &str| client(dir.path(), address).map(|_| ()).expect_err("refused").to_string();
    assert!(refused("http://vault.example:8200").contains("https"));
    assert!(refused("https://vault.example:8200").contains("ca.pem"), "no such file");
    let Some(_) = Authority::make(dir.path()) else { return };
    assert!(client(dir.path(), "https://vault.example:8200").is_ok(), "it opens without a network");
    put_token(dir.path(), 0o644);
    assert!(refused("https://vault.example:8200").contains("chmod"));
}
