//! Linux guests for tests with the kernel's own initiator: built from Debian packages, run by QEMU without KVM, driven over a serial port.
//!
//! `build` makes kernel and root file system, `init` is the guest's first process and answers commands ([`agent`]), [`machine`] runs
//! QEMU, [`qmp`] changes the machine while it runs, [`initiator`] is what the guest is for. A guest reaches the loopback of this machine at
//! [`HOST`] (QEMU's user network: no root, no bridge).
//!
//! Guests are slow to boot and slow to compute: one guest serves many checks, and tests of one binary take turns (an [`Image`] is
//! given to one at a time). Where QEMU or the packages cannot be had, [`Image::take`] says so on stderr and gives nothing.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

pub mod agent;
mod disk;
mod initiator;
mod machine;
mod qmp;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use initiator::Portal;
pub use machine::{FREE_SLOT, Guest, Host, VhostUser};
pub use qmp::Monitor;

/// Where a guest finds the loopback of this machine.
pub const HOST: &str = "10.0.2.2";

/// The exit code of `build` for "the packages cannot be had".
const CANNOT: i32 = 77;

static TURN: Mutex<()> = Mutex::new(());

/// Kernel and root file system, and the turn to boot them.
pub struct Image {
    folder: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Image {
    /// Waits for its turn and builds what is not built yet. Nothing, with the reason on stderr, where guests are not possible.
    pub fn take() -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = Command::new(machine::QEMU).arg("--version").stdout(Stdio::null()).status() {
            eprintln!("SKIPPED: {} cannot be run: {error}", machine::QEMU);
            return None;
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/build");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("guest");
        let built = Command::new("timeout").arg("1500").arg(&source).arg(&folder).output().expect("bash and timeout");
        let words = String::from_utf8_lossy(&built.stderr);
        if built.status.code() == Some(CANNOT) {
            eprintln!("SKIPPED: {words}");
            return None;
        }
        assert!(built.status.success(), "{}: {}\n{words}", source.display(), built.status);
        Some(Self { folder, _turn: turn })
    }

    /// Boots guests side by side, each with the identity of a host and `cpus` processors.
    pub fn boot<const N: usize>(&self, cpus: usize, hosts: [Host; N]) -> [Guest; N] {
        let guests = hosts.map(|host| Guest::power_on(&self.folder, cpus, host, &[]));
        guests.iter().for_each(Guest::wait_until_ready);
        guests
    }

    /// Boots one guest with disks of its own over vhost-user; their targets have to listen.
    pub fn boot_with(&self, cpus: usize, host: Host, disks: &[VhostUser]) -> Guest {
        let guest = Guest::power_on(&self.folder, cpus, host, disks);
        guest.wait_until_ready();
        guest
    }
}
