//! A disk has a socket for each host that it is attached to, and for each export that an operator has written down, as long as that is so: attaching
//! makes it, detaching ends its session and takes it away, and a killed target finds its sockets again. What cannot be is refused with the remedy.

mod target;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use target::{Client, Disk, MIB, Target};

const ONE: Disk = Disk { name: "one", sector_size: 4096, bytes: 8 * MIB, shared: false, attached_to: &["vm1"] };
const TWO: Disk = Disk { name: "two", sector_size: 512, bytes: 8 * MIB, shared: true, attached_to: &[] };
const OPEN: Disk = Disk { name: "open", sector_size: 512, bytes: 8 * MIB, shared: false, attached_to: &[] };

const MORE: &str =
    "[vhost_user]\ndirectory = 'v'\n[[vhost_user.exports]]\nname = 'ops'\ndisk = 'open'\nread_only = true";
/// `VIRTIO_BLK_F_RO`, `VIRTIO_BLK_F_DISCARD`, `VIRTIO_F_VERSION_1` (virtio 1.2, sections 5.2.3 and 6).
const READ_ONLY: u64 = 1 << 5;
const DISCARD: u64 = 1 << 13;
const VERSION_1: u64 = 1 << 32;

fn clients() -> [Client<'static>; 2] {
    ["vm1", "vm2"].map(|name| Client { name, nqn: format!("nqn.2014-08.org.example:{name}"), secrets: None })
}

/// A front end that has asked for the features: `VHOST_USER_GET_FEATURES`.
fn connect(path: &Path) -> (UnixStream, u64) {
    let mut socket = UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    socket.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).expect("sent");
    let mut answer = [0; 20];
    socket.read_exact(&mut answer).expect("an answer");
    (socket, u64::from_le_bytes(answer[12..].try_into().expect("eight bytes")))
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// What a command that has to fail says.
fn refused(target: &Target, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    let output = command.args(args).arg("--socket").arg(target.file("control.sock")).output().expect("it runs");
    assert!(!output.status.success(), "{args:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn sockets_come_and_go_with_attachments() {
    let mut target = Target::start_with(&clients(), &[ONE, TWO, OPEN], MORE);
    let path = |name: &str| target.file(&format!("v/{name}.sock"));
    let (one, two, other, ops) = (path("vm1/one"), path("vm1/two"), path("vm2/two"), path("ops"));
    assert!(is_socket(&one) && is_socket(&ops) && !is_socket(&two));
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&one), mode(&target.file("v")), mode(&target.file("v/vm1"))), (0o600, 0o700, 0o700));

    let (session, features) = connect(&one);
    assert_eq!(features & (READ_ONLY | DISCARD | VERSION_1), DISCARD | VERSION_1);
    assert_eq!(connect(&ops).1 & (READ_ONLY | DISCARD | VERSION_1), READ_ONLY | VERSION_1);
    let list = target.control(&["export", "list"]);
    assert!(list.contains("vm1/one.sock: disk one, read-write, unix pid"), "{list}");
    assert!(list.contains("ops.sock: disk open, read-only"), "{list}");
    assert!(target.control(&["disk", "show", "one"]).contains("vm1/one.sock"));

    for host in ["vm1", "vm2"] {
        target.attach(TWO.name, host);
    }
    assert!(is_socket(&two) && is_socket(&other));
    let (mut first, mut second) = (connect(&two).0, connect(&other).0);
    target.detach(TWO.name, "vm1");
    assert!(!is_socket(&two) && is_socket(&other));
    assert_eq!(first.read(&mut [0]).expect("the end"), 0, "the session goes on");
    second.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).expect("sent");
    second.read_exact(&mut [0; 20]).expect("the other session goes on");
    target.detach(TWO.name, "vm2");
    assert!(!is_socket(&other) && !target.file("v/vm2").exists(), "an empty folder is left");

    drop(session);
    target.kill();
    assert!(is_socket(&target.file("v/vm1/one.sock")), "what a killed target leaves");
    target.restart();
    connect(&target.file("v/vm1/one.sock"));
}

#[test]
fn a_second_front_end_waits_until_the_first_has_gone() {
    let target = Target::start_with(&clients(), &[ONE], "[vhost_user]\ndirectory = 'v'");
    let one = target.file("v/vm1/one.sock");
    let (first, _) = connect(&one);
    let second = std::thread::spawn(move || connect(&one).1);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!second.is_finished(), "both are served");
    drop(first);
    assert_ne!(second.join().expect("served"), 0);
}

#[test]
fn what_a_guest_has_is_not_taken_from_under_it() {
    let target = Target::start_with(&clients(), &[ONE, OPEN], MORE);
    let wanted = [
        (&["disk", "remove", "open"][..], "the vhost-user export \"ops\""),
        (&["disk", "remove", "one"], "detach it first from: vm1"),
        (&["disk", "attach", "one", "--host", "vm2"], "not shared"),
        (&["disk", "attach", "open", "--host", "vm2"], "vhost-user export \"ops\" at once"),
    ];
    for (args, why) in wanted {
        let said = refused(&target, args);
        assert!(said.contains(why), "{args:?}: {said}");
    }
}

/// A front end that says what is no message ends its own session, and the socket serves the next one.
#[test]
fn nonsense_ends_its_own_session() {
    let target = Target::start_with(&clients(), &[ONE], "[vhost_user]\ndirectory = 'v'");
    let one = target.file("v/vm1/one.sock");
    let nonsense: [&[u8]; 5] = [
        &[0xFF; 12],
        // A version that there is not; a length that no message has; a request that nobody knows; half of a message.
        &[1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 1, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF],
        &[99, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &[8, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 1],
    ];
    for words in nonsense {
        let (mut socket, _) = connect(&one);
        socket.write_all(words).expect("sent");
        socket.shutdown(std::net::Shutdown::Write).expect("shut down");
        let mut rest = Vec::new();
        // A connection that was cut with bytes unread is reset.
        let end = socket.read_to_end(&mut rest);
        assert!(end.is_ok() || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset), "it hangs");
    }
    connect(&one);
}
