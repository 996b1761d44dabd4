//! Two hosts share one disk, and its reservations bind both: who holds one keeps the other out, who is preempted learns it.
//! Base 2.0, section 8.19.

mod guest;
mod target;

use guest::agent::Answer;
use guest::{Guest, Host, Image, Portal};
use target::{Client, Disk, MIB, Target};

const ONE: Host = Host { name: "vm1", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0001" };
const TWO: Host = Host { name: "vm2", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0002" };
const SHARED: Disk =
    Disk { name: "shared", sector_size: 4096, bytes: 64 * MIB, shared: true, attached_to: &["vm1", "vm2"] };
const OWN: Disk = Disk { name: "own", sector_size: 4096, bytes: 48 * MIB, shared: false, attached_to: &["vm1"] };

/// Reservation types (Base 2.0, figure "Reservation Type Encoding").
const WRITE_EXCLUSIVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 2;
const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 3;

#[test]
fn two_kernels_share_a_disk() {
    let Some(image) = Image::take() else { return };
    let [one, two] = image.boot(2, [ONE, TWO]);
    let clients = [ONE, TWO].map(|host| Client { name: host.name, nqn: host.nqn(), secrets: None });
    let mut target = Target::start(&clients, &[SHARED, OWN]);
    let portal = Portal::here(target.port());
    let nqn = one.discover_one(portal);
    let options = "-i 2 --ctrl-loss-tmo=600 --reconnect-delay=1 --keep-alive-tmo=5";
    let [one, two] = [&one, &two].map(|vm| {
        vm.connect(portal, &nqn, options);
        Node { vm, disk: vm.disk(SHARED.bytes) }
    });
    one.vm.disk(OWN.bytes);
    two.vm.wait_without_disk(OWN.bytes);
    assert_eq!(one.vm.json(&format!("id-ns {}", one.disk))["nmic"], 1);

    // What one writes the other reads.
    one.write('a').success();
    assert_eq!(two.read(), "a");
    two.write('b').success();
    assert_eq!(one.read(), "b");

    one.nvme("resv-register --nrkey=0xa1 --rrega=0");
    two.nvme("resv-register --nrkey=0xb2 --rrega=0");
    one.acquire(WRITE_EXCLUSIVE, 0xa1);
    assert_eq!(
        two.report(),
        (WRITE_EXCLUSIVE.into(), vec![(ONE, 0xa1, true), (TWO, 0xb2, false)].into_iter().map(seen).collect())
    );
    assert_conflict(&two.write('c'));
    assert_conflict(&two.attempt("resv-acquire --crkey=0xb2 --rtype=2 --racqa=0"));
    assert_eq!(two.read(), "b");
    one.write('d').success();
    one.nvme("resv-release --crkey=0xa1 --rtype=1 --rrela=0");
    two.write('e').success();

    // Exclusive access keeps readers out as well.
    one.acquire(EXCLUSIVE_ACCESS, 0xa1);
    assert_conflict(&two.try_read());
    // Preempting takes the reservation over and ends the other's registration; the other learns it from the notification log.
    two.nvme("resv-acquire --crkey=0xb2 --prkey=0xa1 --rtype=3 --racqa=1");
    assert_eq!(one.report(), (WRITE_EXCLUSIVE_REGISTRANTS.into(), vec![seen((TWO, 0xb2, true))]));
    assert_conflict(&one.write('f'));
    assert_eq!(one.read(), "e");
    two.write('g').success();
    // A registrant may write.
    one.nvme("resv-register --nrkey=0xa3 --rrega=0");
    one.write('h').success();

    // Registered to outlast a power loss, it does.
    one.nvme("resv-register --crkey=0xa3 --nrkey=0xa4 --rrega=2 --cptpl=3");
    let before = two.report();
    target.kill();
    target.restart();
    assert_eq!(two.read(), "h");
    assert_eq!(two.report(), before);
    one.write('i').success();

    // Clearing ends the reservation and all registrations.
    two.nvme("resv-release --crkey=0xb2 --rtype=3 --rrela=1");
    assert_eq!(one.report(), (0, vec![]));
    one.write('j').success();
    assert_eq!(two.read(), "j");
    [one, two].iter().for_each(|node| node.vm.disconnect());
}

/// A registrant in a report: host identifier, key, whether it holds the reservation.
type Registrant = (String, u64, bool);

/// A host identifier as `nvme` prints it: without dashes.
fn seen((host, key, holds): (Host, u64, bool)) -> Registrant {
    (host.id.replace('-', ""), key, holds)
}

/// A guest and its path to the shared disk.
struct Node<'a> {
    vm: &'a Guest,
    disk: String,
}

impl Node<'_> {
    fn attempt(&self, command: &str) -> Answer {
        let (name, options) = command.split_once(' ').expect("a command and its options");
        self.vm.attempt(&format!("nvme {name} {} -n {} {options}", self.disk, self.vm.nsid(&self.disk)))
    }

    fn nvme(&self, command: &str) {
        self.attempt(command).success();
    }

    fn acquire(&self, kind: u8, key: u64) {
        self.nvme(&format!("resv-acquire --crkey={key:#x} --rtype={kind} --racqa=0"));
    }

    /// Type of the reservation, and all registrants in the order of their keys.
    fn report(&self) -> (u64, Vec<Registrant>) {
        let report = self.vm.json(&format!("resv-report {} -n {} --eds", self.disk, self.vm.nsid(&self.disk)));
        let mut registrants: Vec<_> = report["regctlext"].as_array().into_iter().flatten().map(registrant).collect();
        registrants.sort_by_key(|registrant| registrant.1);
        (report["rtype"].as_u64().expect("a type"), registrants)
    }

    /// Fills the first block with a letter.
    fn write(&self, letter: char) -> Answer {
        self.vm.attempt(&format!(
            "head -c 4096 /dev/zero | tr '\\0' {letter} | dd of={} bs=4k oflag=direct iflag=fullblock",
            self.disk
        ))
    }

    fn try_read(&self) -> Answer {
        self.vm.attempt(&format!("dd if={} bs=4k count=1 iflag=direct | tr -s a-z", self.disk))
    }

    fn read(&self) -> String {
        self.try_read().success().out
    }
}

fn registrant(entry: &serde_json::Value) -> Registrant {
    let host = entry["hostid"].as_str().expect("text").to_owned();
    (host, entry["rkey"].as_u64().expect("a key"), entry["rcsts"].as_u64().expect("a status") & 1 == 1)
}

/// The kernel turns a conflict into EBADE ("Invalid exchange"); `nvme` names it.
fn assert_conflict(answer: &Answer) {
    assert_ne!(answer.code, 0, "no conflict");
    assert!(
        ["Invalid exchange", "Reservation Conflict"]
            .iter()
            .any(|words| answer.err.contains(words) || answer.out.contains(words)),
        "failed, but not for the reservation: {answer:?}"
    );
}
