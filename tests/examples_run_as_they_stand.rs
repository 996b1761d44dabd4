//! Every configuration in `examples/` starts a target that serves all its exports.

mod engine;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The names that follow `before` in a text, up to the next quote.
fn quoted_after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split('"').nth(1))
}

fn serve(example: &Path) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = dir.path().join("example.toml");
    // The one change: ports that are free here.
    let text = std::fs::read_to_string(example).expect("text");
    let text = text.replace(":4420\"]", ":0\"]").replace(":8480\"]", ":0\"]");
    std::fs::write(&config, &text).expect("written");
    let secrets = quoted_after(&text, "key_file = ").chain(quoted_after(&text, "passphrase = "));
    for (number, secret) in secrets.enumerate() {
        let path = dir.path().join(secret.trim_start_matches("file:"));
        std::fs::write(&path, engine::bytes_of(number as u64 + 1, 64)).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    }
    // What is there for clients, and how the report says so: an NBD export, a socket for a virtual machine, a namespace that a host sees, or the
    // cloud's API.
    let things = ["[[nbd.exports]]", "[[vhost_user.exports]]", "\nattached_to = [", "\n[cloud.api]"];
    let exports: usize = things.iter().map(|thing| text.matches(thing).count()).sum();
    let shown = |line: &str| {
        ["nbd export", "vhost_user ", ", seen by ", "cloud API listens"].iter().any(|words| line.contains(words))
    };
    let mut target = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["serve", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(target.stdout.take().expect("a pipe")).lines();
    let seen = lines.by_ref().map_while(Result::ok).filter(|line| shown(line)).take(exports).count();
    #[allow(unsafe_code)]
    // SAFETY: the call touches no memory; the child has not been waited for, so its pid is its own.
    unsafe {
        libc::kill(target.id() as i32, libc::SIGTERM)
    };
    let status = target.wait().expect("a child");
    assert!(exports > 0 && seen == exports, "{} exports of {exports}", seen);
    assert!(status.success(), "{status}");
}

#[test]
fn every_configuration_serves() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "toml") {
            println!("{}", entry.path().display());
            serve(&entry.path());
            found += 1;
        }
    }
    assert!(found >= 7);
}
