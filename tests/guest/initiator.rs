//! The kernel's initiator in a guest: `nvme` commands as a person would type them, and where the kernel put the result.
//!
//! Disks are found by their size: the kernel numbers namespaces as it meets them, so tests give each disk a size of its own.

use std::time::Duration;

use serde_json::Value;

use super::agent::{Answer, Running};
use super::{Guest, HOST};

/// The NQN of every discovery subsystem (Base 2.0, section 4.5).
pub const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// For loads: guests compute slowly.
const LONG: Duration = Duration::from_secs(600);

/// A port that a guest connects to.
#[derive(Clone, Copy, Debug)]
pub struct Portal {
    address: &'static str,
    port: u16,
}

impl Portal {
    /// A port on the loopback of this machine.
    pub fn here(port: u16) -> Self {
        Self { address: HOST, port }
    }

    fn options(self) -> String {
        format!("-t tcp -a {} -s {}", self.address, self.port)
    }
}

impl Guest {
    /// The NQNs of the subsystems that the target shows to this host.
    pub fn discover(&self, portal: Portal) -> Vec<String> {
        let found = self.json(&format!("discover {}", portal.options()));
        let records = found["records"].as_array().cloned().unwrap_or_default();
        let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
        records.iter().filter(|r| text(r, "subtype") == "nvme subsystem").map(|r| text(r, "subnqn")).collect()
    }

    /// The one subsystem that the target shows to this host.
    pub fn discover_one(&self, portal: Portal) -> String {
        let found = self.discover(portal);
        let [nqn] = found.as_slice() else { panic!("{}: one subsystem wanted, found {found:?}", self.host.name) };
        nqn.clone()
    }

    /// Connects, and gives the controller's name, such as `nvme0`.
    pub fn connect(&self, portal: Portal, nqn: &str, more: &str) -> String {
        self.try_connect(portal, nqn, more).success();
        let live = format!(
            "for c in /sys/class/nvme/nvme*; do [[ $(<$c/subsysnqn) = {nqn} && $(<$c/state) = live ]] && echo ${{c##*/}}; done | grep ."
        );
        let found = self.wait_for("the controller to be live", &live);
        found.trim().to_owned()
    }

    /// Connects, if the target lets it.
    pub fn try_connect(&self, portal: Portal, nqn: &str, more: &str) -> Answer {
        self.attempt(&format!("nvme connect {} -n {nqn} {more}", portal.options()))
    }

    /// Disconnects from everything.
    pub fn disconnect(&self) {
        self.sh("nvme disconnect-all");
        self.wait_for("the controllers to go", "! ls -d /sys/class/nvme/nvme* 2>/dev/null");
    }

    /// Waits for the disk of this many bytes, and gives its path, such as `/dev/nvme0n1`.
    pub fn disk(&self, bytes: u64) -> String {
        let found = self.wait_for(&format!("a disk of {bytes} bytes"), &sized(bytes));
        format!("/dev/{}", found.trim())
    }

    /// Waits until there is no disk of this many bytes.
    pub fn wait_without_disk(&self, bytes: u64) {
        self.wait_for(&format!("the disk of {bytes} bytes to go"), &format!("! {{ {}; }}", sized(bytes)));
    }

    /// The namespace identifier of a disk.
    pub fn nsid(&self, disk: &str) -> u64 {
        let name = disk.trim_start_matches("/dev/");
        self.sh(&format!("cat /sys/block/{name}/nsid")).trim().parse().expect("a number")
    }

    /// What an `nvme` command says, as JSON.
    pub fn json(&self, command: &str) -> Value {
        let out = self.sh(&format!("nvme {command} -o json"));
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("nvme {command}: not JSON ({error}): {out}"))
    }

    /// Writes and reads at random and checks every block by CRC32C; `options` names sizes.
    pub fn fio_verify(&self, disk: &str, options: &str) {
        self.finish(self.start_fio_verify(disk, options)).success();
    }

    /// The same, going on while the test does something else.
    pub fn start_fio_verify(&self, disk: &str, options: &str) -> Running {
        let fixed =
            "--direct=1 --ioengine=libaio --rw=randrw --verify=crc32c --verify_fatal=1 --verify_state_save=0 --minimal";
        self.start(LONG, &format!("fio --name=verify --filename={disk} {fixed} {options}"))
    }

    /// Checks that the kernel has complained of nothing.
    pub fn expect_no_complaint(&self) {
        let complaint =
            "I/O error|Buffer I/O|BUG:|WARNING:|Oops|blocked for more|EXT4-fs error|nvme.*(timeout|digest|failed)";
        let said = self.attempt(&format!("dmesg | grep -E '{complaint}'"));
        assert_eq!(said.out, "", "{}: the kernel complains", self.host.name);
    }
}

/// A script that prints the name of the disk with so many bytes, or fails. `nvme0c0n1` is one path to a disk, not the disk.
fn sized(bytes: u64) -> String {
    format!(
        "for f in /sys/block/nvme*/size; do [[ $f =~ /(nvme[0-9]+n[0-9]+)/ && $(<$f) = {} ]] && echo ${{BASH_REMATCH[1]}}; done | grep .",
        bytes / 512
    )
}
