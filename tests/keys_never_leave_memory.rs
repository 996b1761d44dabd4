//! A disk's key is in no file, in no core dump, and nowhere in memory that can be read; once the disk is closed nothing of it is left, and nothing of
//! its plain text either.
//!
//! Root can always stop the process and make it give the key away. What is promised is: no file, no dump, no swap, no leftover.
//!
//! Each test first finds what it looks for where it is known to be.

mod common;
mod operator;
mod scanner;
mod vhost;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::nvme_client::{Digests, Host, NEW_CONTROLLER, Wish, blocks};
use operator::Target;
use scanner::{Needles, in_core_dump, in_files, in_process, may_look_into_processes};
use serde_json::json;
use strongroom::bench::vhost_user::RingKind;
use strongroom::kms::embedded::EmbeddedConfig;
use strongroom::kms::{WrappedKey, derive_xts_key};
use strongroom::reactor::allowed_cpus;
use tempfile::TempDir;
use vhost::guest::Guest;
use vhost::ring::Piece;

const SUBSYSTEM: &str = "nqn.2026-11.io.strongroom:acme";
const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:web1";
/// NVM Command Set 1.0, section 3.2.
const WRITE: u8 = 1;
const READ: u8 = 2;
const BLOCK: usize = 4096;
const VHOST_USER: &str = "[vhost_user]\ndirectory = 'v'\n";

/// Said to a child that only holds what it is told: see [`a_child_that_holds_what_it_is_told`].
const HOLD: &str = "STRONGROOM_TEST_HOLD";

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
}

/// Not a test: the process in which the scanner has to find everything.
#[test]
#[ignore = "is run as a child of the_scanner_finds_what_a_process_holds"]
fn a_child_that_holds_what_it_is_told() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let mut held = Vec::new();
    let mut input = std::io::stdin().lock();
    let mut length = [0; 8];
    input.read_exact(&mut length).expect("a length");
    held.resize(u64::from_le_bytes(length) as usize, 0);
    input.read_exact(&mut held).expect("what to hold");
    println!("holding");
    // Until the parent has seen enough.
    let _ = input.read(&mut length);
    std::hint::black_box(&held);
}

#[test]
fn the_scanner_finds_what_a_process_holds() {
    if !may_look_into_processes() {
        return;
    }
    let needles = Needles::default()
        .xts_key("key", &random())
        .secret("passphrase", b"correct horse battery staple")
        .text("marker", &random::<32>());
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_child_that_holds_what_it_is_told", "--ignored", "--nocapture"])
        .env(HOLD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    let forms = needles.all_forms();
    input.write_all(&(forms.len() as u64).to_le_bytes()).expect("sent");
    input.write_all(&forms).expect("sent");
    let mut output = child.stdout.take().expect("a pipe");
    let mut said = Vec::new();
    while !said.ends_with(b"holding\n") {
        let mut byte = [0];
        output.read_exact(&mut byte).expect("the child holds it");
        said.push(byte[0]);
    }
    let seen = in_process(&needles, child.id());
    assert_eq!(seen.kinds(), needles.count(), "not all needles were found in memory: {:?}", seen.unreadable);
    if let Some(seen) = in_core_dump(&needles, child.id()) {
        assert_eq!(seen.kinds(), needles.count(), "not all needles were found in a core dump");
    }
    drop(input);
    assert!(child.wait().expect("ended").success());
}

#[test]
fn the_scanner_finds_what_lies_in_files_across_its_pieces() {
    let needles = Needles::default().aes_key("key", &random());
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("deep")).expect("a folder");
    let mut content = vec![0; (1 << 20) - 100];
    content.extend(needles.all_forms());
    std::fs::write(folder.path().join("deep/file"), content).expect("written");
    assert_eq!(in_files(&needles, &[folder.path()]).kinds(), needles.count());
}

/// A target on two reactors, if the machine has as many cores, with an encrypted disk that a host sees over NVMe/TCP and as a virtual machine.
struct Scene {
    target: Target,
    address: SocketAddr,
    needles: Needles,
    marker: [u8; 32],
    reactors: usize,
    _keys: TempDir,
}

impl Scene {
    /// `form` writes the key file; `prepare` has its way with the command.
    fn start(form: impl Fn(&[u8; 64]) -> Vec<u8>, prepare: impl FnOnce(&mut Command)) -> Self {
        let (key, marker) = (random(), random());
        let keys = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let key_file = keys.path().join("vol0.key");
        std::fs::write(&key_file, form(&key)).expect("written");
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        let cores: Vec<_> = allowed_cpus().iter().take(2).collect();
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let config = format!(
            "[reactor]\nmemory_mib = 16\nhugepages = 'never'\ncores = {cores:?}\n[control]\nsocket = 'c'\n\
             [[account]]\nname = 'acme'\n[[host]]\nname = 'web1'\naccount = 'acme'\nnqn = '{HOST}'\n\
             [[device]]\nname = 'file0'\nkind = 'file'\npath = 'vol0.img'\nsize = '16M'\ncreate = true\n\
             [[disk]]\nname = 'vol0'\ndevice = 'file0'\nencryption = {{ key_file = '{}' }}\naccount = 'acme'\n\
             attached_to = ['web1']\nnsid = 1\n[nvme_tcp]\nlisten = ['127.0.0.1:0']\nstate_dir = 'state'\n{VHOST_USER}",
            key_file.display()
        );
        let target = Target::start_command(dir, &config, prepare);
        let exports = target.client().result("export.list", json!({}));
        let address = exports["nvme_tcp"]["listen"][0].as_str().expect("an address").parse().expect("an address");
        let needles = Needles::default().xts_key("disk key", &key).text("plain text", &marker);
        Self { target, address, needles, marker, reactors: cores.len(), _keys: keys }
    }

    /// Writes and reads on every reactor: connections take turns.
    fn work(&self) {
        let wish = Wish {
            subsystem: SUBSYSTEM.to_owned(),
            host: HOST.to_owned(),
            host_id: [7; 16],
            controller: NEW_CONTROLLER,
            queue: 0,
            size: 31,
            keep_alive_ms: 0,
            attributes: 0,
            format: 0,
        };
        let mut admin = Host::initialized(self.address, Digests::NONE, 1);
        let controller = admin.become_admin(&wish);
        let mut queues: Vec<Host> = (1..=2 * self.reactors as u16)
            .map(|queue| {
                let mut host = Host::initialized(self.address, Digests::NONE, 4);
                let done = host.connect(&Wish { controller, queue, attributes: 4, ..wish.clone() });
                assert!(done.status.is_success(), "connect of queue {queue}: {}", done.status);
                host
            })
            .collect();
        let data = self.marker.repeat(32 * BLOCK / self.marker.len());
        for (host, start) in queues.iter_mut().zip((0..).step_by(1000)) {
            // In the capsule, asked for, and back.
            assert!(host.run(blocks(WRITE, start, 1), &data[..BLOCK]).status.is_success());
            assert!(host.run_asked(blocks(WRITE, start + 1, 32), &data).status.is_success());
            let back = host.fetch(blocks(READ, start, 33), 33 * BLOCK);
            assert!(back.status.is_success(), "read: {}", back.status);
            assert!(back.data.starts_with(&data), "read other bytes than were written");
        }
        self.work_as_a_guest(&data);
    }

    /// The cipher works in the guest's memory; a block that lies there in odd pieces goes through buffers of the target's.
    fn work_as_a_guest(&self, data: &[u8]) {
        let mut guest = Guest::connect(&self.target.socket().with_file_name("v/web1/vol0.sock"), RingKind::Split);
        for sector in [3000, 3001] {
            guest.write(sector * 8, data);
            assert!(guest.read(sector * 8, data.len()) == data, "read other bytes than were written");
        }
        for kind in [vhost::guest::OUT, vhost::guest::IN] {
            let [header, whole, status] = guest.chain(kind, 3000 * 8, BLOCK).try_into().expect("three pieces");
            let first = Piece { len: 1000, ..whole };
            let rest = Piece { guest: whole.guest + 1000, len: whole.len - 1000, ..whole };
            assert_eq!(guest.run(&[header, first, rest, status]).0, vhost::guest::OK);
        }
    }

    /// What has to be gone when the disk is closed, and when the target has ended.
    fn end(self) {
        let Self { target, needles, .. } = self;
        target.done(&["disk", "detach", "vol0", "--host", "web1"]);
        target.done(&["disk", "remove", "vol0"]);
        in_process(&needles, target.pid()).expect_nothing("in memory, with the disk closed");
        if let Some(seen) = in_core_dump(&needles, target.pid()) {
            seen.expect_nothing("in a core dump, with the disk closed");
        }
        let folder = target.stop();
        in_files(&needles, &[folder.path(), Path::new("/dev/shm")]).expect_nothing("in files");
    }
}

/// The configuration of a target whose KMS is the key store; the passphrase lies elsewhere.
fn kms_site(passphrase: &Path) -> String {
    let cores: Vec<_> = allowed_cpus().iter().take(2).collect();
    format!(
        "[reactor]\nmemory_mib = 16\nhugepages = 'never'\ncores = {cores:?}\n[control]\nsocket = 'c'\n\
         [[account]]\nname = 'acme'\n[[host]]\nname = 'web1'\naccount = 'acme'\nnqn = '{HOST}'\n\
         [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '64M'\ncreate = true\n\
         [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n\
         [kms.embedded]\npath = 'keys.store'\ncreate = true\nunlock = {{ passphrase = 'file:{}' }}\n\
         [nvme_tcp]\nlisten = ['127.0.0.1:0']\nstate_dir = 'state'\n{VHOST_USER}",
        passphrase.display()
    )
}

/// The disk key that lies wrapped in a pool, and what is derived from it: opened as the target opens it, with copies of what it has.
fn unwrapped(folder: &Path, passphrase: &Path) -> ([u8; 32], [u8; 64]) {
    let copy = tempfile::tempdir().expect("a folder");
    for name in ["keys.store", "keys.store.generation"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).expect("copied");
    }
    let text = format!("path = 'keys.store'\nunlock = {{ passphrase = 'file:{}' }}", passphrase.display());
    let mut config: EmbeddedConfig = toml::from_str(&text).expect("a configuration");
    config.resolve(copy.path());
    let store = config.open("local").expect("the store opens");
    let pool = std::fs::read(folder.join("pool")).expect("read");
    let at = pool.windows(4).position(|bytes| bytes == b"SRwk").expect("a wrapped key");
    // `src/kms/wrapped.rs`: three names and the blob follow the figure.
    let figure = &pool[at..at + 32];
    let names: usize = figure[6..9].iter().map(|len| usize::from(*len)).sum();
    let len = 32 + names + usize::from(u16::from_le_bytes([figure[10], figure[11]]));
    let wrapped = WrappedKey::decode(&pool[at..at + len]).expect("a wrapped key");
    let key = store.unwrap(&wrapped).expect("it opens").value;
    let pair = derive_xts_key(&key).expect("derived");
    (key.0, pair.0)
}

/// A disk whose key a KMS keeps, from its making to the end of the target.
fn follow_a_kms_key(prepare: fn(&mut Command), inspect_open: impl Fn(&scanner::Report)) {
    let secrets = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let passphrase = secrets.path().join("passphrase");
    std::fs::write(&passphrase, "one that nobody else has").expect("written");
    std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let target = Target::start_command(dir, &kms_site(&passphrase), prepare);
    let mut said = target.done(&[
        "disk",
        "create",
        "vol0",
        "--pool",
        "p",
        "--size",
        "16M",
        "--encryption",
        "kms",
        "--account",
        "acme",
    ]);
    let dir = target.stop();
    let (disk_key, pair) = unwrapped(dir.path(), &passphrase);
    let marker: [u8; 32] = random();
    let needles = Needles::default()
        .secret("disk key", &disk_key)
        .xts_key("derived key", &pair)
        .secret("passphrase", b"one that nobody else has")
        .text("plain text", &marker);

    let target = Target::start_command(dir, &kms_site(&passphrase), prepare);
    said += &target.done(&["disk", "add", "vol0", "--pool", "p", "--encryption", "kms", "--account", "acme"]);
    said += &target.done(&["disk", "attach", "vol0", "--host", "web1"]);
    let exports = target.client().result("export.list", json!({}));
    let address = exports["nvme_tcp"]["listen"][0].as_str().expect("an address").parse().expect("an address");
    let reactors = allowed_cpus().len().min(2);
    let scene = Scene { target, address, needles, marker, reactors, _keys: secrets };
    scene.work();
    let Scene { target, needles, .. } = &scene;
    said += &target.done(&["snapshot", "create", "vol0", "s"]);
    inspect_open(&in_process(needles, target.pid()));
    said += &target.done(&["key", "rotate", "acme"]);
    said += &target.done(&["key", "rewrap"]);
    said += &target.done(&["disk", "detach", "vol0", "--host", "web1"]);
    in_process(needles, target.pid()).expect_nothing("in memory, with the disk detached");
    if let Some(seen) = in_core_dump(needles, target.pid()) {
        seen.expect_nothing("in a core dump, with the disk detached");
    }
    said += &target.done(&["key", "list", "--json"]);
    said += &target.log();
    let Scene { target, needles, .. } = scene;
    let folder = target.stop();
    // All that was answered and logged, too.
    std::fs::write(folder.path().join("said"), said).expect("written");
    in_files(&needles, &[folder.path(), Path::new("/dev/shm")]).expect_nothing("in files");
}

#[test]
fn nothing_of_a_kms_key_is_left_after_detach() {
    if !may_look_into_processes() {
        return;
    }
    follow_a_kms_key(
        |_| (),
        |open| {
            assert!(
                open.found.iter().any(|(name, _)| name == "plain text"),
                "the scan does not see the target's buffers"
            );
            let whole = |name: &str| name != "plain text" && !name.contains("round key");
            if open.secret_regions > 0 {
                assert!(!open.found.iter().any(|(name, _)| whole(name)), "a key can be read: {:?}", open.found);
            }
        },
    );
}

/// The other place for secrets, where root can see that the keys are there while the disk is attached.
#[test]
#[cfg(target_arch = "x86_64")]
fn nothing_of_a_kms_key_is_left_after_detach_where_the_kernel_has_no_memfd_secret() {
    if !may_look_into_processes() {
        return;
    }
    follow_a_kms_key(scanner::without_memfd_secret, |open| {
        let there = |wanted: &str| open.found.iter().any(|(name, _)| name == wanted);
        assert!(there("derived key") && there("derived key, data half, round key 7"), "{:?}", open.found);
        assert!(!there("disk key") && !there("passphrase"), "what is derived from is needed no more");
    });
}

fn raw(key: &[u8; 64]) -> Vec<u8> {
    key.to_vec()
}

fn hex(key: &[u8; 64]) -> Vec<u8> {
    key.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

#[test]
fn nothing_of_a_closed_disk_is_left() {
    if !may_look_into_processes() {
        return;
    }
    for form in [raw, hex] {
        let scene = Scene::start(form, |_| ());
        scene.work();
        // The connections have ended; the disk is open.
        let seen = in_process(&scene.needles, scene.target.pid());
        let (text, keys): (Vec<_>, Vec<_>) = seen.found.iter().partition(|(name, _)| name == "plain text");
        assert!(!text.is_empty(), "the scan does not see the target's buffers: {:?}", seen.unreadable);
        // While a disk works, its round keys pass through registers and the stack of its reactors; the key itself never does.
        let whole = |name: &str| name.starts_with("disk key") && !name.contains("round key");
        if seen.secret_regions > 0 {
            assert!(!keys.iter().any(|(name, _)| whole(name)), "an open disk's key can be read: {keys:?}");
            eprintln!("of the open disk {} round keys are on stacks and in buffers", keys.len());
        } else {
            eprintln!("this kernel has no memfd_secret: root can read the keys of open disks");
        }
        scene.end();
    }
}

/// The other place for secrets, where root can see that they come and go.
#[test]
#[cfg(target_arch = "x86_64")]
fn nothing_of_a_closed_disk_is_left_where_the_kernel_has_no_memfd_secret() {
    if !may_look_into_processes() {
        return;
    }
    let scene = Scene::start(raw, scanner::without_memfd_secret);
    scene.work();
    let seen = in_process(&scene.needles, scene.target.pid());
    assert_eq!(seen.secret_regions, 0);
    for name in ["disk key", "disk key, data half, round key 7", "disk key, tweak half, round key 14"] {
        assert!(seen.found.iter().any(|(found, _)| found == name), "{name} is not where it has to be");
    }
    scene.end();
}
