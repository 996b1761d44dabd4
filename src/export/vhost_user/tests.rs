//! Sessions as a front end and a driver see them: requests through rings of both kinds on a real reactor, to an encrypted disk in memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vhost::vhost_user::VhostUserBackendReqHandlerMut;
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserInflight, VhostUserMemoryRegion, VhostUserVringAddrFlags,
};

use crate::crypto::xts::{Kernel, SectorSize};
use crate::device::layer::{DelayConfig, LayerConfig};
use crate::device::{DeviceConfig, DeviceKind, SharedDevice, Size};
use crate::disk::reservation::{Access, AccessCell};
use crate::disk::{CommandKind, Consumer, Disk, Limits};
use crate::reactor::ReactorThread;
use crate::reactor::testing::{end, small_reactor};

use super::config_space::{self, feature};
use super::exported::{Exported, Owner, VhostUserDisk};
use super::reactors::Reactors;
use super::request::Status;
use super::ring::testing::{BYTES, DATA, Driver, FRONT_END, GUEST, Piece};
use super::ring::{Layout, RingFeatures};
use super::session::Session;
use super::shard::Shard;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = Status::Ok as u8;
const ERROR: u8 = Status::Error as u8;
const UNSUPPORTED: u8 = Status::Unsupported as u8;
/// What a status is before there is one.
const NOTHING: u8 = 0xEE;

/// In the memory for data: the header, the status, and the data itself.
const HEADER: u64 = DATA;
const STATUS: u64 = DATA + 64;
const BODY: u64 = DATA + 4096;
const MOST_BODY: usize = 128 << 10;

const DISK_BYTES: u64 = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// A disk, its reactor, and a front end with one queue.
struct Machine {
    reactor: ReactorThread,
    disk: Arc<Disk>,
    exported: Arc<Exported>,
    reactors: Arc<Reactors>,
    session: Session,
    driver: Driver,
    kick: File,
}

fn eventfd() -> File {
    // SAFETY: the call touches no memory of ours, and the descriptor that it makes belongs to nobody else.
    unsafe { File::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) }
}

fn disk(sector: SectorSize) -> Arc<Disk> {
    disk_with(sector, Vec::new())
}

fn disk_with(sector: SectorSize, layers: Vec<LayerConfig>) -> Arc<Disk> {
    let config = DeviceConfig {
        name: "d-abc".to_owned(),
        kind: DeviceKind::Memory,
        path: None,
        size: Some(Size(DISK_BYTES)),
        create: false,
        hugepages: Default::default(),
        layers,
    };
    let device = Arc::new(SharedDevice::open(&config).expect("opened"));
    Disk::with_random_key("d-abc", device, sector, Kernel::best()).expect("a disk")
}

const SPLIT: RingFeatures = RingFeatures { packed: false, indirect: true, event_index: false };
const PACKED: RingFeatures = RingFeatures { packed: true, indirect: true, event_index: false };

impl Machine {
    fn start(ring: RingFeatures, sector: SectorSize) -> Self {
        Self::start_with(ring, sector, |_| {})
    }

    fn start_with(ring: RingFeatures, sector: SectorSize, change: impl FnOnce(&mut VhostUserDisk)) -> Self {
        let reactor = small_reactor(0);
        let disk = disk(sector);
        let mut of = VhostUserDisk {
            disk: disk.clone(),
            path: "/nowhere.sock".into(),
            owner: Owner::Export("x".to_owned()),
            read_only: false,
            consumer: Consumer::new_one(),
            access: None,
        };
        change(&mut of);
        let exported = Exported::new(of, 2, 16);
        let reactors = Arc::new(Reactors::new(&[reactor.remote().clone()]));
        let (server, opened) = (reactors.server(), exported.clone());
        reactor.remote().call(move |reactor| {
            Shard::open(reactor, server);
            Shard::open_disk(server, &opened).expect("opened");
        });
        let session = Session::new(exported.clone(), reactors.clone());
        let driver = Driver::new(64, ring);
        let mut machine = Self { reactor, disk, exported, reactors, session, driver, kick: eventfd() };
        machine.connect(None);
        machine
    }

    /// What QEMU says to a back end, up to the point where its queue runs.
    fn connect(&mut self, inflight: Option<(VhostUserInflight, File)>) {
        let RingFeatures { packed, indirect, event_index } = self.driver.features;
        let mut features = config_space::features(self.exported.of.read_only);
        for (is_wanted, feature) in
            [(packed, feature::RING_PACKED), (indirect, feature::INDIRECT_DESC), (event_index, feature::EVENT_IDX)]
        {
            features &= if is_wanted { u64::MAX } else { !feature };
        }
        let (session, driver) = (&mut self.session, &self.driver);
        session.set_features(features).expect("features");
        if let Some((about, file)) = &inflight {
            session.set_inflight_fd(about, file.try_clone().expect("a descriptor")).expect("taken over");
        }
        let region = VhostUserMemoryRegion::new(GUEST, BYTES, FRONT_END, 0);
        let file = driver.file.try_clone().expect("a descriptor");
        session.set_mem_table(&[region], vec![file], None).expect("memory");
        let Layout { size, descriptors, driver: available, device } = driver.layout();
        session.set_vring_num(0, size.into()).expect("a size");
        session.set_vring_base(0, driver.base()).expect("a base");
        let flags = VhostUserVringAddrFlags::empty();
        session.set_vring_addr(0, flags, descriptors, device, available, 0).expect("addresses");
        session.set_vring_call(0, Some(eventfd())).expect("a call");
        session.set_vring_kick(0, Some(self.kick.try_clone().expect("a descriptor"))).expect("a kick");
        session.set_vring_enable(0, true).expect("enabled");
    }

    fn offer(&mut self, kind: u32, sector: u64, body: Option<(usize, bool)>) {
        let mut header = Vec::from(kind.to_le_bytes());
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.driver.put(HEADER, &header);
        self.driver.put(STATUS, &[NOTHING]);
        let mut pieces: Vec<Piece> = vec![(GUEST + HEADER, 16, false)];
        if let Some((len, is_written)) = body {
            pieces.push((GUEST + BODY, len as u32, is_written));
        }
        pieces.push((GUEST + STATUS, 1, true));
        self.driver.offer(&pieces, None);
        self.kick.write_all(&1u64.to_ne_bytes()).expect("kicked");
    }

    /// Waits for the answer; its status, and how many bytes the guest is told were written.
    fn answer(&mut self, entries: u16) -> (u8, u32) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((_, written)) = self.driver.answer(|_| entries) {
                return (self.driver.get::<1>(STATUS)[0], written);
            }
            assert!(Instant::now() < deadline, "no answer");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn ask(&mut self, kind: u32, sector: u64, body: Option<(usize, bool)>) -> (u8, u32) {
        self.offer(kind, sector, body);
        self.answer(if body.is_some() { 3 } else { 2 })
    }

    fn write(&mut self, sector: u64, bytes: &[u8]) -> u8 {
        self.driver.put(BODY, bytes);
        self.ask(OUT, sector, Some((bytes.len(), false))).0
    }

    fn read(&mut self, sector: u64, len: usize) -> (u8, Vec<u8>) {
        self.driver.put(BODY, &vec![0xAA; len]);
        let (status, written) = self.ask(IN, sector, Some((len, true)));
        assert_eq!(written as usize, if status == OK { len + 1 } else { 1 });
        let mut bytes = vec![0; len];
        for (n, chunk) in bytes.chunks_mut(512).enumerate() {
            chunk.copy_from_slice(&self.driver.get::<512>(BODY + 512 * n as u64));
        }
        (status, bytes)
    }

    /// A request with one range.
    fn ask_for_range(&mut self, kind: u32, sector: u64, count: u32, flags: u32) -> u8 {
        let mut range = Vec::from(sector.to_le_bytes());
        range.extend(count.to_le_bytes());
        range.extend(flags.to_le_bytes());
        self.driver.put(BODY, &range);
        self.ask(kind, 0, Some((range.len(), false))).0
    }

    fn commands(&self, kind: CommandKind) -> u64 {
        self.disk.stats().tally(kind).commands
    }

    /// Ends everything; no task may be left on the reactor.
    fn end(mut self) {
        self.session.end();
        let server = self.reactors.server();
        self.reactor.remote().call(move |_| Shard::close(server));
        end([self.reactor]);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 512) as u8).collect()
}

#[test]
fn what_a_guest_writes_it_reads_and_its_memory_is_left_alone() {
    for ring in [SPLIT, PACKED] {
        for sector in [SectorSize::B512, SectorSize::B4096] {
            let mut machine = Machine::start(ring, sector);
            let text = pattern(MOST_BODY);
            assert_eq!(machine.write(64, &text), OK);
            assert_eq!(machine.driver.get::<4096>(BODY)[..], text[..4096], "a write changed the guest's memory");
            assert_eq!(machine.read(64, MOST_BODY), (OK, text.clone()));
            assert_eq!(machine.read(72, 4096), (OK, text[4096..8192].to_vec()));
            assert_eq!(machine.ask(FLUSH, 0, None), (OK, 1));
            machine.end();
        }
    }
}

#[test]
fn what_is_no_request_is_refused_and_changes_nothing() {
    for ring in [SPLIT, PACKED] {
        let mut machine = Machine::start(ring, SectorSize::B4096);
        assert_eq!(machine.write(0, &pattern(4096)), OK);
        let last = DISK_BYTES / 512;
        assert_eq!(machine.write(1, &[1; 4096]), ERROR, "not at a sector of the disk");
        assert_eq!(machine.write(0, &[1; 512]), ERROR, "not a whole sector");
        assert_eq!(machine.write(last, &[1; 4096]), ERROR, "behind the end");
        assert_eq!(machine.write(u64::MAX, &[1; 4096]), ERROR);
        assert_eq!(machine.read(last - 1, 4096).0, ERROR);
        assert_eq!(machine.ask(77, 0, None), (UNSUPPORTED, 1));
        assert_eq!(machine.ask(DISCARD, 0, None).0, ERROR, "no ranges");
        assert_eq!(machine.ask_for_range(DISCARD, last, 8, 0), ERROR);
        assert_eq!(machine.ask_for_range(DISCARD, 0, 8, 1), UNSUPPORTED);
        assert_eq!(machine.ask_for_range(WRITE_ZEROES, 0, 8, 2), UNSUPPORTED);
        assert_eq!(machine.ask_for_range(WRITE_ZEROES, 4, 8, 0), ERROR);
        assert_eq!(machine.read(0, 4096), (OK, pattern(4096)));
        machine.end();
    }
}

#[test]
fn a_request_without_a_header_is_answered_with_an_error() {
    let mut machine = Machine::start(SPLIT, SectorSize::B512);
    machine.driver.put(STATUS, &[NOTHING]);
    machine.driver.offer(&[(GUEST + HEADER, 8, false), (GUEST + STATUS, 1, true)], None);
    machine.kick.write_all(&1u64.to_ne_bytes()).expect("kicked");
    assert_eq!(machine.answer(2), (ERROR, 1));
    machine.end();
}

#[test]
fn ranges_are_discarded_and_zeroed() {
    let mut machine = Machine::start(PACKED, SectorSize::B512);
    assert_eq!(machine.write(0, &pattern(16384)), OK);
    assert_eq!(machine.ask_for_range(WRITE_ZEROES, 8, 8, 0), OK);
    assert_eq!(machine.ask_for_range(WRITE_ZEROES, 24, 8, 1), OK);
    let mut wanted = pattern(16384);
    wanted[4096..8192].fill(0);
    wanted[12288..].fill(0);
    assert_eq!(machine.read(0, 16384), (OK, wanted));
    assert_eq!(machine.ask_for_range(DISCARD, 0, 8, 0), OK);
    assert_eq!((machine.commands(CommandKind::Discard), machine.commands(CommandKind::WriteZeroes)), (1, 2));
    machine.end();
}

#[test]
fn a_disk_tells_its_name() {
    let mut machine = Machine::start(SPLIT, SectorSize::B512);
    assert_eq!(machine.ask(GET_ID, 0, Some((20, true))), (OK, 21));
    assert_eq!(machine.driver.get::<20>(BODY), *b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(machine.ask(GET_ID, 0, Some((2, true))), (OK, 3), "as much as there is room for");
    machine.end();
}

#[test]
fn a_disk_that_is_read_only_is_not_written() {
    let mut machine = Machine::start_with(SPLIT, SectorSize::B512, |of| of.read_only = true);
    assert_eq!(machine.write(0, &[1; 512]), ERROR);
    assert_eq!(machine.ask_for_range(DISCARD, 0, 8, 0), ERROR);
    assert_eq!(machine.ask_for_range(WRITE_ZEROES, 0, 8, 0), ERROR);
    assert_eq!((machine.read(0, 512).0, machine.ask(FLUSH, 0, None).0), (OK, OK));
    assert_eq!(machine.commands(CommandKind::Write), 0);
    machine.end();
}

#[test]
fn reservations_of_others_bind_a_guest() {
    let cell = Arc::new(AccessCell::new(Access::READ));
    let mut machine = Machine::start_with(PACKED, SectorSize::B512, |of| of.access = Some(cell.clone()));
    assert_eq!(
        (machine.read(0, 512).0, machine.write(0, &[1; 512]), machine.ask(FLUSH, 0, None).0),
        (OK, ERROR, ERROR)
    );
    cell.set(Access::NONE);
    assert_eq!(machine.read(0, 512).0, ERROR);
    cell.set(Access::FULL);
    assert_eq!(machine.write(0, &[1; 512]), OK);
    machine.end();
}

#[test]
fn who_takes_a_guests_rights_can_wait_for_its_requests() {
    let cell = Arc::new(AccessCell::new(Access::FULL));
    let slow = LayerConfig::Delay(DelayConfig { write_us: 200_000, ..DelayConfig::default() });
    let mut machine = Machine::start_with(SPLIT, SectorSize::B512, |of| {
        of.disk = disk_with(SectorSize::B512, vec![slow]);
        of.access = Some(cell.clone());
    });
    let drain = |machine: &Machine| {
        let cell = cell.clone();
        machine.reactor.remote().run(move |_| async move { cell.drain().await });
    };
    drain(&machine);
    let status = |machine: &Machine| machine.driver.get::<1>(STATUS)[0];
    loop {
        machine.offer(OUT, 0, Some((512, false)));
        std::thread::sleep(Duration::from_millis(50));
        cell.set(Access::NONE);
        drain(&machine);
        let at_once = status(&machine);
        let (in_the_end, _) = machine.answer(3);
        match (at_once, in_the_end) {
            (OK, OK) => break,
            // On a busy machine the request may come too late to be let in.
            (_, ERROR) => cell.set(Access::FULL),
            other => panic!("a write was at work after all: {other:?}"),
        }
    }
    machine.end();
}

#[test]
fn without_a_cache_each_write_is_flushed() {
    let mut machine = Machine::start(SPLIT, SectorSize::B512);
    let set = |machine: &mut Machine, mode: u8| {
        machine.session.set_config(32, &[mode], VhostUserConfigFlags::WRITABLE).expect("set");
        assert_eq!(machine.session.get_config(32, 1, VhostUserConfigFlags::empty()).expect("told"), [mode]);
    };
    assert_eq!((machine.write(0, &[1; 512]), machine.commands(CommandKind::Flush)), (OK, 0));
    set(&mut machine, 0);
    let before = machine.commands(CommandKind::Flush);
    assert_eq!(before, 1, "what was written before");
    assert_eq!((machine.write(0, &[2; 512]), machine.commands(CommandKind::Flush)), (OK, before + 1));
    set(&mut machine, 1);
    assert_eq!((machine.write(0, &[3; 512]), machine.commands(CommandKind::Flush)), (OK, before + 1));
    machine.end();
}

#[test]
fn a_queue_is_stopped_and_goes_on_where_it_was() {
    for ring in [SPLIT, PACKED] {
        let mut machine = Machine::start(ring, SectorSize::B512);
        assert_eq!(machine.write(0, &pattern(512)), OK);
        let base = machine.session.get_vring_base(0).expect("stopped").num;
        machine.session.set_vring_base(0, base).expect("a base");
        machine.offer(IN, 0, Some((512, true)));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(machine.driver.get::<1>(STATUS)[0], NOTHING, "a queue that was stopped serves");
        let kick = machine.kick.try_clone().expect("a descriptor");
        machine.session.set_vring_kick(0, Some(kick)).expect("started");
        assert_eq!(machine.answer(3), (OK, 513));
        machine.session.set_vring_enable(0, false).expect("stopped");
        machine.session.set_vring_enable(0, true).expect("started");
        assert_eq!(machine.read(0, 512), (OK, pattern(512)));
        machine.end();
    }
}

#[test]
fn memory_comes_and_goes_while_a_queue_runs() {
    let mut machine = Machine::start(PACKED, SectorSize::B512);
    let more = super::ring::testing::memfd(1 << 16);
    let region = |guest| vhost::vhost_user::message::VhostUserSingleMemoryRegion::new(guest, 1 << 16, guest << 4, 0);
    let there = 0x4000_0000;
    machine.session.add_mem_region(&region(there), more.try_clone().expect("a descriptor"), None).expect("added");
    machine.session.add_mem_region(&region(there), more, None).expect_err("it is there already");
    assert_eq!(machine.write(0, &pattern(512)), OK);
    machine.session.remove_mem_region(&region(there)).expect("removed");
    machine.session.remove_mem_region(&region(there)).expect_err("it is gone");
    assert_eq!(machine.read(0, 512), (OK, pattern(512)));
    machine.end();
}

/// Requests that wait for the disk's limits when the disk is taken away are never answered, and begin again with the next session.
#[test]
fn requests_of_a_disk_that_is_taken_away_are_kept() {
    for ring in [SPLIT, PACKED] {
        let mut machine = Machine::start(ring, SectorSize::B512);
        let base = machine.session.get_vring_base(0).expect("stopped").num;
        assert_eq!(base, machine.driver.base());
        let wanted = VhostUserInflight::new(0, 0, 2, 64);
        let (about, file) = machine.session.get_inflight_fd(&wanted).expect("made");
        let again = |file: &File| Some((about, file.try_clone().expect("a descriptor")));
        machine.connect(again(&file));
        // What is let through at once is spent first.
        machine.disk.set_limits(Some(Limits { iops: 1, bytes_per_second: 0, burst: Duration::from_secs(1) }));
        for _ in 0..2 {
            assert_eq!(machine.write(0, &[7; 512]), OK);
        }
        machine.offer(IN, 0, Some((512, true)));
        std::thread::sleep(Duration::from_millis(50));
        machine.exported.withdraw();
        machine.session.end();
        assert_eq!(machine.driver.get::<1>(STATUS)[0], NOTHING, "answered after all");

        machine.disk.set_limits(None);
        let of = machine.exported.of.clone();
        machine.exported = Exported::new(of, 2, 16);
        let (server, opened) = (machine.reactors.server(), machine.exported.clone());
        machine.reactor.remote().call(move |_| Shard::open_disk(server, &opened)).expect("opened");
        machine.session = Session::new(machine.exported.clone(), machine.reactors.clone());
        machine.connect(again(&file));
        assert_eq!(machine.answer(3), (OK, 513));
        machine.end();
    }
}
