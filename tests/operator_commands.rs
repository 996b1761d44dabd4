//! Operators see and change a running target with the `strongroom` command, and learn what was refused and why.

mod operator;

use std::process::{Command, Stdio};

use operator::{Target, command};
use serde_json::Value;

const SITE: &str = "\
    [[account]]\nname = 'acme'\n\
    [[host]]\nname = 'web1'\naccount = 'acme'\nnqn = 'nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555'\n\
    dhchap_secret = 'file:secret'\n\
    [[device]]\nname = 'm0'\nkind = 'memory'\nsize = '4M'\nhugepages = 'never'\n\
    [[disk]]\nname = 'vol0'\ndevice = 'm0'\nencryption = 'none'\n\
    [nbd]\nlisten = ['unix:n']\n[[nbd.exports]]\nname = 'vol0'\ndisk = 'vol0'\n";

/// A target with a host that authenticates; its secret must be seen nowhere.
fn target() -> Target {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, SECRET).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    Target::start_in(dir, SITE)
}

/// Printed by `nvme gen-dhchap-key -m 0 -s 000102…`.
const SECRET: &str = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:\n";
const SECRET_CORE: &str = "AAECAwQF";

/// The cells of the line that begins with this word.
fn cells<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(first));
    line.unwrap_or_else(|| panic!("no {first} in:\n{table}"))
        .split("  ")
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect()
}

#[test]
fn disks_come_grow_and_go() {
    let target = target();
    assert_eq!(
        cells(&target.done(&["disk", "list"]), "vol0"),
        ["vol0", "4 MiB", "4096", "none", "-", "-", "-", "vol0", "-", "-"]
    );
    let file = target.dir.path().join("blocks");
    let file = file.to_str().expect("text");
    let add = ["disk", "add", "vol1", "--path", file, "--size", "1M", "--create", "--encryption", "none"];
    let said = target.done(&[&add[..], &["--account", "acme"]].concat());
    assert!(said.starts_with("disk vol1 added: 1 MiB, attached to no host\n") && said.contains("restart"), "{said}");
    assert!(target.refused(&add).contains("disk vol1 is there twice") || target.refused(&add).contains("device vol1"));
    assert!(target.done(&["disk", "resize", "vol1", "2M"]).contains("2 MiB"));
    let shown = target.done(&["disk", "show", "vol1"]);
    assert!(shown.contains("2 MiB (2097152 bytes)") && shown.contains("account      acme"), "{shown}");
    let shown: Value = serde_json::from_str(&target.done(&["disk", "show", "vol1", "--json"])).expect("JSON");
    assert_eq!(shown["size_bytes"], 2 << 20);
    target.done(&["disk", "remove", "vol1"]);
    assert!(std::fs::metadata(file).is_ok_and(|meta| meta.len() == 2 << 20), "the content stays");
    assert!(!target.done(&["disk", "list"]).contains("vol1"));
    // The file is free again.
    target.done(&["disk", "add", "vol2", "--path", file, "--encryption", "none"]);
    target.stop();
}

#[test]
fn an_encrypted_disk_is_added_with_its_key_file() {
    use std::os::unix::fs::PermissionsExt;
    let target = target();
    let key = target.dir.path().join("k");
    std::fs::write(&key, (0..64).collect::<Vec<u8>>()).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("mode set");
    let add = ["disk", "add", "vol1", "--kind", "memory", "--size", "1M", "--key-file", key.to_str().expect("text")];
    assert!(target.refused(&add).contains("chmod 600"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    target.done(&add);
    assert_eq!(cells(&target.done(&["disk", "list"]), "vol1")[3], "aes-256-xts");
    target.stop();
}

#[test]
fn accounts_and_hosts_come_and_go_and_secrets_are_never_shown() {
    let target = target();
    assert_eq!(cells(&target.done(&["host", "list"]), "web1")[..3], ["web1", "acme", "yes"]);
    target.done(&["account", "add", "other"]);
    let secret = target.dir.path().join("secret");
    let reference = format!("file:{}", secret.display());
    let add =
        ["host", "add", "db1", "--account", "other", "--nqn", "nqn.2014-08.org.nvmexpress:db1", "--dhchap-secret"];
    let error = target.refused(&[&add[..], &[SECRET.trim()]].concat());
    assert!(error.contains("file:PATH") && !error.contains(SECRET_CORE), "{error}");
    target.done(&[&add[..], &[&reference]].concat());
    assert_eq!(cells(&target.done(&["account", "list"]), "other"), ["other", "db1", "-", "-"]);
    let all = [target.done(&["host", "list"]), target.done(&["host", "list", "--json"]), target.log()].concat();
    assert!(all.contains("db1") && !all.contains(SECRET_CORE), "{all}");
    target.done(&["host", "remove", "db1"]);
    assert!(target.refused(&["host", "remove", "db1"]).contains("there is no host db1; the hosts are: web1"));
    target.stop();
}

#[test]
fn exports_and_the_log_level_are_shown() {
    let target = target();
    let exports = target.done(&["export", "list"]);
    assert!(exports.contains("nbd on unix:") && exports.contains("\"vol0\": disk vol0, read-write"), "{exports}");
    assert_eq!(target.done(&["log-level"]), "info\n");
    target.done(&["log-level", "debug"]);
    assert_eq!(target.done(&["log-level"]), "debug\n");
    assert!(target.refused(&["log-level", "loud"]).contains("no level"));
    target.stop();
}

#[test]
fn statistics_are_totals_or_rates() {
    let target = target();
    let totals = target.done(&["stat"]);
    assert_eq!(cells(&totals, "vol0")[1], "0", "{totals}");
    let rates = target.done(&["stat", "vol0", "--interval", "0.05", "--count", "2"]);
    assert_eq!(rates.matches("r/s").count(), 2, "{rates}");
    let lines = target.done(&["stat", "--interval", "0.05", "--count", "2", "--json"]);
    for line in lines.lines() {
        let stat: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(stat[0]["name"], "vol0");
    }
    assert!(target.refused(&["stat", "vol9"]).contains("there is no disk vol9"));
    target.stop();
}

#[test]
fn any_method_can_be_called_and_all_are_listed() {
    let target = target();
    let info: Value = serde_json::from_str(&target.done(&["rpc", "target.info"])).expect("JSON");
    assert_eq!(info["pid"], target.pid());
    let vol0: Value = serde_json::from_str(&target.done(&["rpc", "disk.show", r#"{"name": "vol0"}"#])).expect("JSON");
    assert_eq!(vol0["name"], "vol0");
    assert!(target.refused(&["rpc", "disk.unplug"]).contains("there is no method \"disk.unplug\""));
    let listed: Value = serde_json::from_str(&target.done(&["rpc", "--list", "--json"])).expect("JSON");
    assert_eq!(listed.to_string(), target.client().result("rpc.list", serde_json::json!({})).to_string());
    let text = target.done(&["rpc", "--list"]);
    for method in listed.as_array().expect("an array") {
        assert!(text.contains(&format!("\n{}: ", method["name"].as_str().expect("a name"))), "{text}");
    }
    target.stop();
}

#[test]
fn who_asks_nobody_is_told_so_and_wrong_usage_is_another_code() {
    let dir = tempfile::tempdir().expect("a directory");
    let nobody = dir.path().join("nobody");
    let (_, error, code) = command(&["disk", "list"], &nobody);
    assert!(code == 1 && error.contains("no target listens on") && error.contains("--socket"), "{error}");
    for wrong in [&["disk"][..], &["disk", "add", "x"], &["stat", "--interval", "never"], &["rpc"], &["rpc", "x", "{"]]
    {
        let (_, error, code) = command(wrong, &nobody);
        assert_eq!(code, 2, "{wrong:?}: {error}");
    }
    let (out, _, code) = command(&["rpc", "--list"], &nobody);
    assert!(code == 0 && out.contains("disk.attach"), "the list needs no target");
}

#[test]
fn a_reader_that_has_gone_is_no_reason_to_panic() {
    let target = target();
    let mut child = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["stat", "--interval", "0.01", "--count", "20"])
        .env("STRONGROOM_SOCKET", target.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    target.stop();
}

#[test]
fn a_disk_is_attached_to_a_host_and_taken_from_it() {
    let target = Target::start(
        &(SITE.replace("dhchap_secret = 'file:secret'\n", "") + "[nvme_tcp]\nlisten = ['127.0.0.1:0']\n"),
    );
    let add = ["disk", "add", "vol1", "--kind", "memory", "--size", "1M", "--encryption", "none", "--account", "acme"];
    target.done(&[&add[..], &["--shared", "--nsid", "3"]].concat());
    let said = target.done(&["disk", "attach", "vol1", "--host", "web1"]);
    assert!(said.starts_with("disk vol1 attached: 1 MiB, attached to web1\n"), "{said}");
    let row = target.done(&["disk", "list"]);
    assert_eq!(
        cells(&row, "vol1"),
        ["vol1", "1 MiB", "4096", "none", "acme", "3", "web1 (shared)", "-", "-", "-"],
        "{row}"
    );
    let exports = target.done(&["export", "list"]);
    assert!(exports.contains("namespace 3: disk vol1, 1 MiB, shared, seen by web1"), "{exports}");
    assert_eq!(target.done(&["export", "connections"]), "no host is connected\n");
    assert!(target.refused(&["disk", "remove", "vol1"]).contains("detach it first from: web1"));
    target.done(&["disk", "detach", "vol1", "--host", "web1"]);
    target.done(&["disk", "remove", "vol1"]);
    target.stop();
}
