//! A disk's key is made with the disk, goes with its snapshots and clones, is in memory only while somebody has the disk, survives rotation and
//! re-wrapping of its master key, and is destroyed with the last that holds it; every step of it stands in the audit log.

mod keeper;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
mod operator;

use keeper::{audit, byte_at, client, folder, json_of, site, until, write};
use operator::Target;

const MIB: u64 = 1 << 20;

#[test]
fn a_key_is_in_memory_only_while_somebody_has_the_disk() {
    let target = Target::start_in(folder(), &site(""));
    target.done(&["disk", "create", "d", "--pool", "p", "--size", "16M", "--encryption", "kms", "--account", "acme"]);
    let state = || json_of(&target, &["disk", "show", "d"])["state"].as_str().expect("text").to_owned();
    assert_eq!(state(), "detached");
    assert!(target.done(&["disk", "list"]).contains("detached"));
    target.done(&["disk", "attach", "d", "--host", "web1"]);
    let nsid = json_of(&target, &["disk", "show", "d"])["nsid"].clone();
    assert_eq!((state().as_str(), nsid.is_u64()), ("open", true));
    // Also with the disk attached, and without it.
    target.done(&["snapshot", "create", "d", "one"]);
    target.done(&["disk", "detach", "d", "--host", "web1"]);
    assert_eq!(state(), "detached");
    target.done(&["snapshot", "create", "d", "two"]);
    target.done(&["snapshot", "rollback", "d", "one"]);
    target.done(&["disk", "resize", "d", "32M"]);
    assert_eq!(json_of(&target, &["disk", "show", "d"])["size_bytes"], 32 << 20);
    target.done(&["disk", "attach", "d", "--host", "web1"]);
    assert_eq!(json_of(&target, &["disk", "show", "d"])["nsid"], nsid, "it has another identifier than before");
    let operations: Vec<_> = audit(&target).into_iter().map(|(operation, _)| operation).collect();
    let expected = [
        "unlock",
        "create_service_key",
        "create_disk",
        "attach",
        "snapshot",
        "detach",
        "snapshot",
        "rollback",
        "attach",
    ];
    assert_eq!(operations, expected);
}

#[test]
fn the_last_holder_of_a_key_takes_it_along() {
    let target = Target::start_in(folder(), &site(""));
    target.done(&["disk", "create", "d", "--pool", "p", "--size", "16M", "--encryption", "kms", "--account", "acme"]);
    target.done(&["snapshot", "create", "d", "s"]);
    // What a clone is encrypted with follows from its source.
    target.done(&["disk", "create", "c", "--pool", "p", "--from-snapshot", "d@s", "--account", "acme"]);
    let wraps = || json_of(&target, &["key", "show", "acme"])["wraps"].as_array().expect("a list").len();
    assert_eq!(wraps(), 3);
    // Somebody else's.
    let refused =
        target.refused(&["disk", "create", "e", "--pool", "p", "--from-snapshot", "d@s", "--account", "umbrella"]);
    assert!(refused.contains("belongs to account acme"), "{refused}");
    let destroyed = || audit(&target).iter().filter(|(operation, _)| operation == "destroy_key").count();
    target.done(&["disk", "delete", "d"]);
    target.done(&["snapshot", "delete", "d@s"]);
    assert_eq!((wraps(), destroyed()), (1, 0));
    target.done(&["disk", "delete", "c"]);
    assert_eq!((wraps(), destroyed()), (0, 1));
    target.done(&["audit", "verify", target.dir.path().join("audit.log").to_str().expect("text")]);
}

#[test]
fn what_was_written_is_there_after_rotation_rewrap_and_restart() {
    let disk = "[[disk]]\nname = 'd'\npool = 'p'\nsize = '16M'\nencryption = 'kms'\naccount = 'acme'\n\
                [nbd]\nlisten = ['unix:n']\n[[nbd.exports]]\nname = 'd'\ndisk = 'd'\n";
    let target = Target::start_in(folder(), &site(disk));
    write(&mut client(&target, "d"), MIB, 7);
    target.done(&["snapshot", "create", "d", "s"]);
    let version = |target: &Target| {
        let key = json_of(target, &["key", "show", "acme"]);
        (key["versions"].as_array().expect("a list").len(), key["wraps_by_old_version"].as_u64().expect("a number"))
    };
    assert_eq!(version(&target), (1, 0));
    target.done(&["key", "rotate", "acme"]);
    assert_eq!(version(&target), (2, 2));
    assert!(target.done(&["key", "rewrap"]).starts_with("1 disk keys wrapped anew, 0 were up to date"));
    assert_eq!(version(&target), (2, 0));
    assert!(target.done(&["key", "rewrap", "acme"]).starts_with("0 disk keys wrapped anew, 1 were up to date"));
    let target = Target::start_in(target.stop(), &site(disk));
    assert_eq!(byte_at(&mut client(&target, "d"), MIB), 7);
    assert_eq!(version(&target), (2, 0));
}

#[test]
fn a_disabled_key_opens_nothing_and_closes_nothing() {
    let disk = "[[disk]]\nname = 'd'\npool = 'p'\nsize = '16M'\nencryption = 'kms'\naccount = 'acme'\n\
                [nbd]\nlisten = ['unix:n']\n[[nbd.exports]]\nname = 'd'\ndisk = 'd'\n";
    let target = Target::start_in(folder(), &site(disk));
    let mut nbd = client(&target, "d");
    write(&mut nbd, 0, 1);
    let refused = target.refused(&["key", "disable", "acme"]);
    assert!(refused.contains("service key") && refused.contains("--service-key-too"), "{refused}");
    target.done(&["key", "disable", "acme", "--service-key-too"]);
    write(&mut nbd, 0, 2);
    assert_eq!(byte_at(&mut nbd, 0), 2);
    for args in [
        &["snapshot", "create", "d", "s"][..],
        &["disk", "create", "e", "--pool", "p", "--size", "16M", "--encryption", "kms", "--account", "acme"],
    ] {
        let refused = target.refused(args);
        assert!(refused.contains("is disabled"), "{refused}");
    }
    assert!(json_of(&target, &["pool", "show", "p"])["contents"].as_array().expect("a list").len() == 1);
    target.done(&["key", "enable", "acme"]);
    target.done(&["snapshot", "create", "d", "s"]);
    target.done(&["key", "schedule-deletion", "acme", "--days", "7", "--service-key-too"]);
    assert!(target.refused(&["snapshot", "create", "d", "t"]).contains("pending deletion"));
    target.done(&["key", "cancel-deletion", "acme"]);
    assert!(target.done(&["key", "show", "acme"]).contains("disabled"));
    let failed = audit(&target).into_iter().filter(|(_, outcome)| outcome != "done").count();
    assert_eq!(failed, 3);
}

#[test]
fn disks_wait_for_a_kms_that_is_away_and_open_by_themselves() {
    let disk = "[[disk]]\nname = 'd'\npool = 'p'\nsize = '16M'\nencryption = 'kms'\naccount = 'acme'\n\
                [[disk]]\nname = 'h'\npool = 'p'\nsize = '1M'\nencryption = 'kms'\naccount = 'acme'\nattached_to = ['web1']\n\
                [[disk]]\nname = 'plain'\npool = 'p'\nsize = '1M'\nencryption = 'none'\n\
                [nbd]\nlisten = ['unix:n']\n[[nbd.exports]]\nname = 'd'\ndisk = 'd'\n[[nbd.exports]]\nname = 'plain'\ndisk = 'plain'\n";
    let target = Target::start_in(folder(), &site(disk));
    write(&mut client(&target, "d"), MIB, 9);
    let dir = target.stop();
    let passphrase = dir.path().join("passphrase");
    let right = std::fs::read(&passphrase).expect("read");
    std::fs::write(&passphrase, "another one").expect("written");
    let target = Target::start_in(dir, &site(disk));
    let shown = json_of(&target, &["disk", "show", "d"]);
    assert_eq!(shown["state"], "offline");
    assert!(shown["offline"].as_str().expect("a reason").contains("passphrase"), "{shown}");
    // Others are served, and calls that need the KMS fail.
    write(&mut client(&target, "plain"), 0, 1);
    let refused = target.refused(&[
        "disk",
        "create",
        "e",
        "--pool",
        "p",
        "--size",
        "1M",
        "--encryption",
        "kms",
        "--account",
        "acme",
    ]);
    assert!(refused.contains("passphrase"), "{refused}");
    std::fs::write(&passphrase, right).expect("written");
    until("the disk is served", || json_of(&target, &["disk", "show", "d"])["state"] == "open");
    assert_eq!(byte_at(&mut client(&target, "d"), MIB), 9);
    until("the other one is a namespace", || !json_of(&target, &["disk", "show", "h"])["nsid"].is_null());
}

#[test]
fn an_older_key_store_is_noticed_and_a_backup_is_restored() {
    let target = Target::start_in(folder(), &site(""));
    target.done(&["disk", "create", "d", "--pool", "p", "--size", "16M", "--encryption", "kms", "--account", "acme"]);
    let backup = target.dir.path().join("backup");
    let backup = backup.to_str().expect("text");
    target.done(&["key", "backup", backup]);
    let files = ["keys.store", "keys.store.generation"];
    let read = |dir: &std::path::Path| files.map(|name| std::fs::read(dir.join(name)).expect("read"));
    let before = read(target.dir.path());
    target.done(&["key", "rotate", "acme"]);
    let dir = Target::start_in(target.stop(), &site("")).stop();
    for (name, bytes) in files.iter().zip(&before) {
        std::fs::write(dir.path().join(name), bytes).expect("written");
    }
    // Both files are put back; the audit log knows of a newer store.
    let target = Target::start_in(dir, &site(""));
    let said = target.refused(&["key", "list"]);
    assert!(said.contains("older") || said.contains("generation"), "{said}");
    let dir = target.stop();
    let config = dir.path().join("target.toml");
    let config = config.to_str().expect("text");
    let (out, err, code) =
        operator::command(&["key", "restore", backup, "--config", config, "--lose-newer"], dir.path());
    assert_eq!((code, out.contains("restored")), (0, true), "{out}{err}");
    let (out, ..) = operator::command(&["kms", "unlock", "list", "--config", config], dir.path());
    assert!(out.contains("passphrase"), "{out}");
    assert!(target_lists_keys(dir), "the restored store does not open");
}

/// Whether a target that is started in the folder has its keys.
fn target_lists_keys(dir: tempfile::TempDir) -> bool {
    let target = Target::start_in(dir, &site(""));
    target.run(&["key", "list"]).2 == 0
}
