//! Pools, snapshots and clones are made, used and given up with the `strongroom` command, while a client writes.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
mod operator;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nbd_client::{Client, ENOSPC, FLUSH, READ};
use operator::{Target, command};
use serde_json::{Value, json};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A pool in a file with an encrypted disk that NBD exports.
const SITE: &str = "\
    [[account]]\nname = 'acme'\n\
    [[host]]\nname = 'web1'\naccount = 'acme'\nnqn = 'nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555'\n\
    [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '64M'\ncreate = true\n\
    [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n\
    [[disk]]\nname = 'vol0'\npool = 'p'\nsize = '16M'\nencryption = { key_file = 'k' }\n\
    [nvme_tcp]\nlisten = ['127.0.0.1:0']\n\
    [nbd]\nlisten = ['unix:n']\n[[nbd.exports]]\nname = 'vol0'\ndisk = 'vol0'\n";

/// A folder with a key.
fn folder() -> TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    make_key(&dir.path().join("k"), 1);
    dir
}

fn make_key(path: &Path, seed: u8) {
    std::fs::write(path, (0..64).map(|n| n ^ seed).collect::<Vec<u8>>()).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
}

fn client(target: &Target, export: &str) -> Client {
    Client::silent(&target.dir.path().join("n")).greet().go(export, false)
}

fn write(client: &mut Client, at: u64, byte: u8) {
    assert_eq!(client.write(0, at, &[byte; 8192]), 0);
}

/// The byte that fills 8 KiB there.
fn byte_at(client: &mut Client, at: u64) -> u8 {
    let reply = client.ask(READ, 0, at, 8192);
    assert_eq!(reply.error, 0);
    assert!(reply.data.iter().all(|byte| *byte == reply.data[0]), "8 KiB at {at} differ");
    reply.data[0]
}

fn json_of(target: &Target, args: &[&str]) -> Value {
    serde_json::from_str(&target.done(&[args, &["--json"]].concat())).expect("JSON")
}

/// Waits until no client has a disk any more: the target learns of it a moment later.
fn until_left(target: &Target) {
    let deadline = std::time::Instant::now() + operator::PATIENCE;
    while json_of(target, &["export", "list"])["nbd"]["connections"] != 0 {
        assert!(std::time::Instant::now() < deadline, "the client is still there");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_snapshot_keeps_what_was_there_and_the_disk_goes_back_to_it() {
    let target = Target::start_in(folder(), SITE);
    let mut nbd = client(&target, "vol0");
    write(&mut nbd, 0, 1);
    write(&mut nbd, MIB, 2);
    let said = target.done(&["snapshot", "create", "vol0", "monday"]);
    assert_eq!(said, "snapshot vol0@monday created: 16 MiB\n");
    write(&mut nbd, MIB, 3);
    write(&mut nbd, 2 * MIB, 4);
    assert!(target.done(&["snapshot", "list", "vol0"]).contains("vol0@monday"));
    let listed = json_of(&target, &["snapshot", "list"]);
    assert_eq!((&listed[0]["name"], &listed[0]["pool"]), (&json!("vol0@monday"), &json!("p")));

    let refused = target.refused(&["snapshot", "rollback", "vol0", "monday"]);
    assert!(refused.contains("vol0 is used by a client over NBD; disconnect first"), "{refused}");
    drop(nbd);
    until_left(&target);
    let said = target.done(&["snapshot", "rollback", "vol0", "monday"]);
    assert!(said.starts_with("disk vol0 rolled back to monday: 16 MiB"), "{said}");
    let mut nbd = client(&target, "vol0");
    assert_eq!([0, MIB, 2 * MIB].map(|at| byte_at(&mut nbd, at)), [1, 2, 0]);

    for (args, why) in [
        (&["snapshot", "create", "vol0", "monday"][..], "vol0@monday"),
        (&["snapshot", "create", "vol0", "a b"], "\"a b\" is no name"),
        (&["snapshot", "create", "vol9", "x"], "there is no disk vol9; the disks are: vol0"),
        (&["snapshot", "delete", "vol0"], "write it as disk@snapshot"),
        (&["snapshot", "delete", "vol0@never"], "no pool has vol0@never"),
    ] {
        let refused = target.refused(args);
        assert!(refused.contains(why), "{args:?}: {refused}");
    }
    target.done(&["snapshot", "delete", "vol0@monday"]);
    assert_eq!(target.done(&["snapshot", "list"]), "there are no snapshots\n");
    assert_eq!(byte_at(&mut nbd, MIB), 2);
    drop(nbd);
    target.stop();
}

#[test]
fn a_difference_tells_what_to_copy() {
    let target = Target::start_in(folder(), SITE);
    let mut nbd = client(&target, "vol0");
    write(&mut nbd, 0, 1);
    write(&mut nbd, 8192, 2);
    write(&mut nbd, MIB, 2);
    target.done(&["snapshot", "create", "vol0", "a"]);
    write(&mut nbd, 2 * MIB, 4);
    assert_eq!(nbd.ask(nbd_client::TRIM, 0, MIB, 8192).error, 0);
    assert_eq!(nbd.ask(FLUSH, 0, 0, 0).error, 0);
    target.done(&["snapshot", "create", "vol0", "b"]);
    let range = |offset: u64, length: u64, kind: &str| json!({"offset": offset, "length": length, "kind": kind});
    let all = json_of(&target, &["snapshot", "diff", "vol0@a"]);
    assert_eq!(all["ranges"], json!([range(0, 16384, "data"), range(MIB, 8192, "data")]));
    let since = json_of(&target, &["snapshot", "diff", "vol0@a", "vol0@b"]);
    assert_eq!(since["ranges"], json!([range(MIB, 8192, "zero"), range(2 * MIB, 8192, "data")]));
    assert_eq!(target.done(&["snapshot", "diff", "vol0@b", "vol0"]), "nothing differs\n");
    // In pieces, as programs ask.
    let piece = target.client().result("snapshot.diff", json!({"from": "vol0@a", "to": "vol0", "limit": 1}));
    assert_eq!((&piece["ranges"], &piece["next_offset"]), (&json!([range(MIB, 8192, "zero")]), &json!(2 * MIB)));
    assert!(target.refused(&["snapshot", "diff", "vol0@c", "vol0"]).contains("no pool has vol0@c"));
    drop(nbd);
    target.stop();
}

#[test]
fn a_clone_has_the_content_and_the_key_and_a_life_of_its_own() {
    let target = Target::start_in(folder(), SITE);
    let mut nbd = client(&target, "vol0");
    write(&mut nbd, MIB, 7);
    target.done(&["snapshot", "create", "vol0", "base"]);
    write(&mut nbd, MIB, 8);
    let clone = ["disk", "create", "copy", "--pool", "p", "--from-snapshot", "vol0@base"];
    for (more, why) in [
        (&["--encryption", "none"][..], "encryption"),
        (&["--sector-size", "512"], "sector_size"),
        (&["--key-file", "/nowhere"], "/nowhere"),
    ] {
        let refused = target.refused(&[&clone[..], more].concat());
        assert!(refused.contains(why) && refused.contains("copy"), "{more:?}: {refused}");
    }
    assert!(!target.done(&["pool", "show", "p"]).contains("copy"), "nothing is left of what was refused");
    let said = target.done(&[&clone[..], &["--account", "acme"]].concat());
    assert!(said.starts_with("disk copy created: 16 MiB") && said.contains("configuration"), "{said}");
    assert!(target.refused(&clone).contains("disk copy is there twice"));
    let shown = json_of(&target, &["disk", "show", "copy"]);
    assert_eq!((&shown["volume"]["made_from"], &shown["encryption"]), (&json!("vol0@base"), &json!("aes-256-xts")));
    target.done(&["disk", "attach", "copy", "--host", "web1"]);
    assert!(target.refused(&["disk", "delete", "copy"]).contains("detach it first from: web1"));
    target.done(&["disk", "detach", "copy", "--host", "web1"]);
    target.done(&["disk", "remove", "copy"]);
    assert!(target.done(&["pool", "show", "p"]).contains("copy"), "a volume stays when its disk is closed");
    assert!(target.refused(&clone).contains("disk add --pool"));
    let key = target.dir.path().join("k");
    target.done(&["disk", "add", "copy", "--pool", "p", "--key-file", key.to_str().expect("text")]);

    drop(nbd);
    let dir = target.stop();
    // The clone as the configuration has it after a restart; and one that is made at the start.
    let more = "[[nbd.exports]]\nname = 'copy'\ndisk = 'copy'\n[[nbd.exports]]\nname = 'second'\ndisk = 'second'\n\
        [[disk]]\nname = 'copy'\npool = 'p'\nfrom_snapshot = 'vol0@base'\n\
        [[disk]]\nname = 'second'\npool = 'p'\nfrom_snapshot = 'vol0@base'\n";
    let target = Target::start_in(dir, &(SITE.to_owned() + more));
    let mut disks = ["vol0", "copy", "second"].map(|export| client(&target, export));
    assert_eq!(disks.each_mut().map(|nbd| byte_at(nbd, MIB)), [8, 7, 7]);
    write(&mut disks[1], MIB, 9);
    assert_eq!(disks.each_mut().map(|nbd| byte_at(nbd, MIB)), [8, 9, 7]);
    drop(disks);
    assert!(target.refused(&["disk", "delete", "copy"]).contains("NBD export"));
    target.stop();
}

#[test]
fn a_client_that_is_connected_sees_a_disk_grow_and_nobody_sees_it_shrink() {
    let target = Target::start_in(folder(), SITE);
    let mut nbd = client(&target, "vol0");
    assert_ne!(nbd.write(0, 16 * MIB, &[5; 8192]), 0, "behind the end");
    let said = target.done(&["disk", "resize", "vol0", "32M"]);
    assert!(said.starts_with("disk vol0 resized: 32 MiB"), "{said}");
    write(&mut nbd, 16 * MIB, 5);
    assert_eq!(byte_at(&mut nbd, 16 * MIB), 5);
    let refused = target.refused(&["disk", "resize", "vol0", "8M"]);
    assert!(refused.contains("--shrink"), "{refused}");
    let refused = target.refused(&["disk", "resize", "vol0", "8M", "--shrink"]);
    assert!(refused.contains("over NBD; disconnect first"), "{refused}");
    drop(nbd);
    until_left(&target);
    target.done(&["disk", "resize", "vol0", "8M", "--shrink"]);
    assert_eq!(json_of(&target, &["disk", "show", "vol0"])["size_bytes"], 8 * MIB);
    let mut nbd = client(&target, "vol0");
    assert_ne!(nbd.write(0, 8 * MIB, &[5; 8192]), 0, "behind the end");
    target.done(&["disk", "resize", "vol0", "32M"]);
    assert_eq!(byte_at(&mut nbd, 16 * MIB), 0, "what was cut off is gone");
    drop(nbd);
    let dir = target.stop();
    // The file still says 16 MiB: the volume is larger, and its own size counts.
    let target = Target::start_in(dir, SITE);
    assert_eq!(json_of(&target, &["disk", "show", "vol0"])["size_bytes"], 32 * MIB);
    target.stop();
}

#[test]
fn a_pool_that_is_full_says_so_and_goes_on_when_it_was_grown() {
    let target = Target::start_in(folder(), &SITE.replace("'16M'", "'1G'"));
    let mut nbd = client(&target, "vol0");
    let chunk = vec![6; 512 << 10];
    let full = (0..200).find(|n| nbd.write(0, n * chunk.len() as u64, &chunk) == ENOSPC).expect("64 MiB are not 100");
    assert!(full > 80, "{full} of 128");
    assert_eq!(byte_at(&mut nbd, 0), 6, "what is there is served");
    assert_eq!(nbd.ask(FLUSH, 0, 0, 0).error, 0);
    let pool = &json_of(&target, &["pool", "list"])[0];
    assert_eq!((&pool["low_space"], &pool["name"]), (&json!(true), &json!("p")), "{pool}");
    assert!(target.done(&["pool", "list"]).contains("LOW ON SPACE"));
    assert!(target.done(&["stat"]).contains("pool p is low on space"));
    until(|| target.log().contains("pool p is low on space"));
    target.done(&["pool", "grow", "p", "--size", "128M"]);
    assert_eq!(nbd.write(0, full * chunk.len() as u64, &chunk), 0);
    assert_eq!(json_of(&target, &["pool", "show", "p"])["low_space"], false);
    until(|| target.log().contains("pool p has enough space again"));
    drop(nbd);
    target.stop();
}

fn until(mut happened: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + operator::PATIENCE;
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "waited in vain");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn pools_and_disks_come_and_go_at_run_time() {
    let target = Target::start_in(folder(), SITE);
    let path = target.dir.path().join("second");
    let path = path.to_str().expect("text");
    let said = target.done(&["pool", "add", "q", "--path", path, "--create", "--size", "32M"]);
    assert!(said.starts_with("pool q added: 32 MiB") && said.contains("configuration"), "{said}");
    let create = ["disk", "create", "vol1", "--pool", "q", "--size", "1G", "--encryption", "none"];
    target.done(&create);
    assert!(target.done(&["disk", "list"]).contains("vol1"));
    assert!(target.refused(&["pool", "remove", "q"]).contains("remove them first: vol1"));
    for (args, why) in [
        (&["disk", "create", "vol2", "--pool", "r", "--size", "1G", "--encryption", "none"][..], "the pools are: p, q"),
        (&["pool", "add", "q", "--path", path], "q is there twice"),
        (&["pool", "show", "r"], "there is no pool r; the pools are: p, q"),
        (&["disk", "resize", "vol9", "2G"], "there is no disk vol9"),
    ] {
        let refused = target.refused(args);
        assert!(refused.contains(why), "{args:?}: {refused}");
    }
    target.done(&["disk", "delete", "vol1"]);
    assert!(!target.done(&["pool", "show", "q"]).contains("vol1"));
    target.done(&create);
    target.done(&["disk", "remove", "vol1"]);
    target.done(&["pool", "remove", "q"]);
    assert!(!target.done(&["pool", "list"]).contains('q'));
    // Without a target: the pool is there, with its volume.
    let nobody = target.dir.path().join("nobody");
    let (out, err, code) = command(&["pool", "show", "--path", path], &nobody);
    assert!(code == 0 && out.contains("vol1"), "{out}{err}");
    let (out, err, code) = command(&["pool", "check", path], &nobody);
    assert!(code == 0 && out.contains("clean"), "{out}{err}");
    let (_, err, code) = command(&["pool", "check", target.dir.path().join("pool").to_str().expect("text")], &nobody);
    assert!(code == 3 && err.contains("in use by process"), "{err}");
    target.done(&["pool", "add", "q", "--path", path]);
    assert!(target.done(&["pool", "show", "q"]).contains("vol1"));
    target.stop();
}

#[test]
fn a_pool_is_made_without_a_target_and_never_over_something_else() {
    let dir = folder();
    let nobody = dir.path().join("nobody");
    let path = dir.path().join("pool");
    let path = path.to_str().expect("text");
    let (_, err, code) = command(&["pool", "create", path], &nobody);
    assert!(code == 1 && err.contains("--size makes a file"), "{err}");
    let (out, err, code) = command(&["pool", "create", path, "--size", "64M", "--journal", "2M"], &nobody);
    assert!(code == 0 && out.contains("is a pool now: 64 MiB"), "{out}{err}");
    let (_, err, code) = command(&["pool", "create", path], &nobody);
    assert!(code == 1 && err.contains("not blank"), "{err}");
    let other = dir.path().join("other");
    std::fs::write(&other, vec![7; 8 << 20]).expect("written");
    let other = other.to_str().expect("text");
    let (_, err, code) = command(&["pool", "create", other], &nobody);
    assert!(code == 1 && err.contains("not blank"), "{err}");
    let (_, err, code) = command(&["pool", "check", other], &nobody);
    assert_eq!(code, 3, "{err}");
    let (out, err, code) = command(&["pool", "create", other, "--overwrite", "--json"], &nobody);
    assert_eq!(code, 0, "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON")["size_bytes"], 8 * MIB);
    let target = Target::start_in(dir, SITE);
    assert!(target.done(&["pool", "show", "p"]).contains("vol0"));
    target.stop();
}

#[test]
fn what_cannot_be_opened_is_offline_and_everything_else_is_served() {
    let dir = folder();
    std::fs::write(dir.path().join("pool"), vec![7; 64 << 20]).expect("written");
    let more = "[[device]]\nname = 'm'\nkind = 'memory'\nsize = '4M'\nhugepages = 'never'\n\
        [[disk]]\nname = 'plain'\ndevice = 'm'\nencryption = 'none'\n\
        [[nbd.exports]]\nname = 'plain'\ndisk = 'plain'\n";
    let target = Target::start_in(dir, &(SITE.to_owned() + more));
    for wanted in
        ["pool p: OFFLINE", "disk vol0: OFFLINE", "read-write, OFFLINE", "create = true formats a blank device"]
    {
        assert!(target.report.contains(wanted), "{wanted:?} is not in:\n{}", target.report);
    }
    let mut nbd = client(&target, "plain");
    write(&mut nbd, 0, 1);
    drop(nbd);
    let pool = &json_of(&target, &["pool", "list"])[0];
    assert!(pool["offline"].as_str().expect("a reason").contains("something else"), "{pool}");
    assert!(target.done(&["disk", "list"]).contains("OFFLINE"));
    assert!(target.done(&["disk", "show", "vol0"]).contains("pool p: device f holds something else"));
    assert!(target.refused(&["snapshot", "create", "vol0", "x"]).contains("disk vol0 is offline"));
    let (kind, _) = target.client().refusal("disk.resize", json!({"name": "vol0", "size": "1G"}));
    assert_eq!(kind, "offline");
    target.done(&["stat"]);
    target.stop();
}

#[test]
fn contradictions_with_what_a_volume_is_stop_the_start() {
    let dir = Target::start_in(folder(), SITE).stop();
    make_key(&dir.path().join("other"), 2);
    let start = |config: &str| {
        let path = dir.path().join("wrong.toml");
        std::fs::write(&path, format!("[reactor]\nmemory_mib = 16\nhugepages = 'never'\n{config}")).expect("written");
        let (_, err, code) = command(&["serve", "--config", path.to_str().expect("text")], &dir.path().join("c"));
        assert_eq!(code, 1, "{err}");
        err
    };
    for (from, to, wanted) in [
        ("'16M'", "'32M'", "strongroom disk resize"),
        ("size = '16M'", "size = '16M'\nsector_size = 512", "sector_size"),
        ("{ key_file = 'k' }", "'none'", "encryption"),
        ("{ key_file = 'k' }", "{ key_file = 'k', tweak_unit = '512' }", "tweak_unit"),
        ("{ key_file = 'k' }", "{ key_file = 'other' }", "key"),
    ] {
        let error = start(&SITE.replace(from, to));
        assert!(error.contains("vol0") && error.contains(wanted), "{wanted}: {error}");
    }
    let missing =
        SITE.replace("[nvme_tcp]", "[[disk]]\nname='w'\npool='p'\nfrom_snapshot='a@b'\nencryption='none'\n[nvme_tcp]");
    assert!(start(&missing).contains("a@b"));
    let missing = SITE.replace("[nvme_tcp]", "[[disk]]\nname='w'\npool='p'\nencryption='none'\n[nvme_tcp]");
    assert!(start(&missing).contains("give it a size or a snapshot"));
    // And nothing was spoilt.
    Target::start_in(dir, SITE).stop();
}

#[test]
fn a_disk_in_a_pool_can_be_measured() {
    let dir = folder();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, format!("[reactor]\nmemory_mib = 16\nhugepages = 'never'\n{SITE}")).expect("written");
    let config = config.to_str().expect("text");
    for _ in 0..2 {
        let bench = ["bench", "--config", config, "--disk", "vol0", "--rw", "randrw", "--verify", "--runtime", "0.2"];
        let (out, err, code) = command(&[&bench[..], &["--ramp", "0", "--json"]].concat(), Path::new("nobody"));
        assert_eq!(code, 0, "{err}");
        let result: Value = serde_json::from_str(&out).expect("JSON");
        assert!(result["errors"] == 0 && result["write"]["ios"].as_u64() > Some(0), "{result}");
    }
}
