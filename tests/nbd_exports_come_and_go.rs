//! NBD exports are added and removed while the server runs and others are under load: who asks finds those that there are, nobody loses a byte, and
//! an export that has clients stays.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::nbd_client::{Client, DISC, FLUSH, OPT_GO, READ};
use common::random::Random;
use common::{Target, device, encrypted, have, run, wait_for};
use strongroom::crypto::xts::SectorSize;
use strongroom::disk::Disk;
use strongroom::export::nbd::{NbdConfig, NbdError, NbdExportConfig, NbdServer};

const MEMORY: &str = "kind = 'memory'\nsize = '4 MiB'\nhugepages = 'never'";
const OPT_LIST: u32 = 3;
const ERR_UNKNOWN: u32 = (1 << 31) + 6;
const BLOCK: usize = 4096;

fn disk(target: &Target, name: &str) -> Arc<Disk> {
    encrypted(name, &device(&target.dir, MEMORY), SectorSize::B4096)
}

fn export(name: &str, disk: &str) -> NbdExportConfig {
    toml::from_str(&format!("name = '{name}'\ndisk = '{disk}'")).expect("an export")
}

fn client(target: &Target) -> Client {
    Client::silent(&target.socket()).greet()
}

/// Replies of type 2 (`NBD_REP_SERVER`), one for each export.
fn listed(target: &Target) -> usize {
    let mut client = client(target);
    client.option(OPT_LIST, &[]);
    client.option_replies().iter().filter(|&&kind| kind == 2).count()
}

/// How `NBD_OPT_GO` for an export is answered at last.
fn answer_to(target: &Target, export: &str) -> u32 {
    let mut client = client(target);
    client.option(OPT_GO, &[&(export.len() as u32).to_be_bytes(), export.as_bytes(), &[0, 0]].concat());
    *client.option_replies().last().expect("an answer")
}

#[test]
fn exports_are_found_while_they_are_there() {
    let target = Target::start_even_empty(tempfile::tempdir().expect("a directory"), 2);
    let server = target.server();
    assert_eq!((listed(&target), answer_to(&target, "a"), answer_to(&target, "")), (0, ERR_UNKNOWN, ERR_UNKNOWN));

    // A client that is still in its handshake sees the change at once.
    let early = client(&target);
    server.add_export(&export("a", "d0"), &disk(&target, "d0")).expect("added");
    assert_eq!((listed(&target), server.exports()), (1, vec!["a".to_owned()]));
    let mut early = early.go("a", true);
    assert_eq!(early.write(0, 0, &[7; BLOCK]), 0);
    let mut other = client(&target).go("", true);
    assert_eq!(other.ask(READ, 0, 0, BLOCK as u32).data, [7; BLOCK]);

    let twice = server.add_export(&export("a", "d1"), &disk(&target, "d1")).expect_err("refused").to_string();
    assert!(twice.contains("the name is taken"), "{twice}");
    let in_use = server.remove_export("a").expect_err("refused");
    assert!(matches!(in_use, NbdError::InUse { clients: 2, .. }), "{in_use}");
    assert_eq!(early.ask(READ, 0, 0, BLOCK as u32).data, [7; BLOCK], "a refused removal changes nothing");

    early.request(DISC, 0, 0, 0, &[]);
    drop((early, other));
    wait_for("the connections to end", || server.connections() == 0);
    server.remove_export("a").expect("removed");
    assert!(matches!(server.remove_export("a"), Err(NbdError::NoExport(_))));
    assert_eq!((listed(&target), answer_to(&target, "a")), (0, ERR_UNKNOWN));

    // The same name, another disk.
    server.add_export(&export("a", "d1"), &disk(&target, "d1")).expect("added");
    let mut client = client(&target).go("a", false);
    assert_ne!(client.ask(READ, 0, 0, BLOCK as u32).data, [7; BLOCK]);
    drop(client);
    target.expect_idle();
    target.stop();
}

#[test]
fn only_who_asks_for_it_gets_a_server_without_exports() {
    let dir = tempfile::tempdir().expect("a directory");
    let config: NbdConfig = toml::from_str("listen = ['tcp:127.0.0.1:0']").expect("a configuration");
    let refused = NbdServer::start(&config, &[], &[]).err().expect("refused").to_string();
    assert!(refused.contains("there are no exports"), "{refused}");
    Target::start_even_empty(dir, 1).stop();
}

#[test]
fn a_held_disk_is_not_taken_away() {
    let target = Target::start_even_empty(tempfile::tempdir().expect("a directory"), 1);
    let server = target.server();
    server.add_export(&export("a", "d0"), &disk(&target, "d0")).expect("added");
    let Ok(held) = server.hold("d0") else { panic!("nobody has it") };
    let busy = server.remove_export("a").expect_err("refused").to_string();
    assert!(busy.contains("just being changed"), "{busy}");
    drop(held);
    server.remove_export("a").expect("removed");
    // Nobody has what is not there.
    assert!(server.hold("d0").is_ok(), "no export of it");
    target.stop();
}

/// Writes and reads random blocks until it is told to stop; each block has to be as it was written.
fn load(mut client: Client, seed: u64, is_over: &AtomicBool, rounds: &AtomicUsize) {
    let mut random = Random(seed);
    let mut blocks = vec![None; 256];
    while !is_over.load(Ordering::Relaxed) {
        let number = (random.next() % 256) as usize;
        let fill = random.next() as u8;
        assert_eq!(client.write(0, (number * BLOCK) as u64, &[fill; BLOCK]), 0);
        blocks[number] = Some(fill);
        let number = (random.next() % 256) as usize;
        let read = client.ask(READ, 0, (number * BLOCK) as u64, BLOCK as u32);
        assert_eq!(read.error, 0);
        if let Some(fill) = blocks[number] {
            assert!(read.data.iter().all(|&byte| byte == fill), "block {number} is not as it was written");
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn others_under_load_notice_nothing() {
    let target = Target::start_even_empty(tempfile::tempdir().expect("a directory"), 2);
    let server = target.server();
    server.add_export(&export("stays0", "s0"), &disk(&target, "s0")).expect("added");
    server.add_export(&export("stays1", "s1"), &disk(&target, "s1")).expect("added");
    let (is_over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..2 {
            let client = client(&target).go(&format!("stays{number}"), true);
            let (is_over, rounds) = (&is_over, &rounds);
            scope.spawn(move || load(client, number + 1, is_over, rounds));
        }
        for round in 0..15u8 {
            let name = format!("d{round}");
            server.add_export(&export("goes", &name), &disk(&target, &name)).expect("added");
            let mut guest = client(&target).go("goes", round % 2 == 0);
            assert_eq!(guest.write(0, 0, &[round; BLOCK]), 0);
            assert_eq!(guest.ask(READ, 0, 0, BLOCK as u32).data, [round; BLOCK]);
            assert_eq!(guest.ask(FLUSH, 0, 0, 0).error, 0);
            guest.request(DISC, 0, 0, 0, &[]);
            drop(guest);
            wait_for("the guest to go", || server.connections() == 2);
            let before = rounds.load(Ordering::Relaxed);
            server.remove_export("goes").expect("removed");
            assert_eq!(answer_to(&target, "goes"), ERR_UNKNOWN);
            wait_for("the others to go on", || rounds.load(Ordering::Relaxed) > before);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.exports(), ["stays0", "stays1"]);
    target.expect_idle();
    target.stop();
}

#[test]
fn nbdinfo_lists_what_there_is() {
    if !have(&["nbdinfo"]) {
        return;
    }
    let target = Target::start_even_empty(tempfile::tempdir().expect("a directory"), 1);
    let names = || {
        let list = run("nbdinfo", &["--list", "--json", &target.unix_uri("")]);
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let exports = list["exports"].as_array().cloned().unwrap_or_default();
        exports.iter().map(|export| export["export-name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert!(names().is_empty());
    for name in ["a", "b"] {
        target.server().add_export(&export(name, name), &disk(&target, name)).expect("added");
    }
    assert_eq!(names(), ["a", "b"]);
    wait_for("nbdinfo to go", || target.server().connections() == 0);
    target.server().remove_export("a").expect("removed");
    assert_eq!(names(), ["b"]);
    target.expect_idle();
    target.stop();
}
