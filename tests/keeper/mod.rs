//! What the tests of keys share: a target with a pool and the embedded key store.
#![allow(dead_code, reason = "each test file uses its part")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::nbd_client::{Client, READ};
use crate::operator::{PATIENCE, Target};

/// The passphrase of the key store.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// A configuration with two accounts, a host of the first, a pool `p` and a key store; `more` follows.
pub fn site(more: &str) -> String {
    let host = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555";
    format!(
        "[[account]]\nname = 'acme'\n[[account]]\nname = 'umbrella'\n\
         [[host]]\nname = 'web1'\naccount = 'acme'\nnqn = '{host}'\n\
         [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '128M'\ncreate = true\n\
         [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n\
         [kms]\naudit_log = 'audit.log'\n\
         [kms.embedded]\npath = 'keys.store'\ncreate = true\nunlock = {{ passphrase = 'file:passphrase' }}\n\
         [nvme_tcp]\nlisten = ['127.0.0.1:0']\n{more}"
    )
}

/// A folder with the passphrase.
pub fn folder() -> TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    write_secret(&dir.path().join("passphrase"), PASSPHRASE.as_bytes());
    dir
}

/// A file that only its owner may read.
pub fn write_secret(path: &Path, content: &[u8]) {
    std::fs::write(path, content).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
}

/// A client of an export.
pub fn client(target: &Target, export: &str) -> Client {
    Client::silent(&target.dir.path().join("n")).greet().go(export, false)
}

/// Writes 8 KiB of a byte.
pub fn write(client: &mut Client, at: u64, byte: u8) {
    assert_eq!(client.write(0, at, &[byte; 8192]), 0);
}

/// The byte that fills 8 KiB there.
pub fn byte_at(client: &mut Client, at: u64) -> u8 {
    let reply = client.ask(READ, 0, at, 8192);
    assert_eq!(reply.error, 0);
    assert!(reply.data.iter().all(|byte| *byte == reply.data[0]), "8 KiB at {at} differ");
    reply.data[0]
}

/// What a command says as JSON.
pub fn json_of(target: &Target, args: &[&str]) -> Value {
    serde_json::from_str(&target.done(&[args, &["--json"]].concat())).expect("JSON")
}

/// The operations in the audit log of a target, with their outcomes.
pub fn audit(target: &Target) -> Vec<(String, String)> {
    let log = std::fs::read_to_string(target.dir.path().join("audit.log")).expect("a log");
    let records = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    records.map(|record| (text(&record["operation"]), text(&record["outcome"]))).collect()
}

/// Waits until something has happened.
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
