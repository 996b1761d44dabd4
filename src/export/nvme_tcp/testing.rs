//! What the unit tests of subsystems and controllers share: an inventory with one account, and a host that connects and asks.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::crypto::xts::SectorSize;
use crate::device::{DeviceConfig, DeviceKind, SharedDevice, Size};
use crate::disk::Disk;

use super::auth::HostPolicy;
use super::controller::{Admin, Answer, Controller, EndCause, EndQueue};
use super::subsystem::{
    ConnectRefusal, Connected, DISCOVERY_NQN, Host, Limits, Namespace, NamespaceOptions, Nqn, Subsystem, Subsystems,
};
use super::wire::command::Command;
use super::wire::fabrics::{Connect, ConnectData, Property};
use super::wire::opcode::{FABRICS, admin, fabrics};
use super::wire::property::cc;
use super::wire::status::Status;

pub(super) const ACCOUNT: &str = "acc";
pub(super) const REACHED_AT: &str = "127.0.0.1:4420";
/// What Linux writes to CC: enabled, entries of 64 and 16 bytes.
pub(super) const ENABLE: u32 = 0x0046_0001;

/// A disk that stores nothing.
pub(super) fn disk(name: &str, sector: SectorSize) -> Arc<Disk> {
    let config = DeviceConfig {
        name: name.to_owned(),
        kind: DeviceKind::Null,
        path: None,
        size: Some(Size(1 << 30)),
        create: false,
        hugepages: Default::default(),
        layers: Vec::new(),
    };
    Disk::plain(name, Arc::new(SharedDevice::open(&config).expect("opened")), sector).expect("a disk")
}

pub(super) fn nqn(host: &str) -> Nqn {
    format!("nqn.2014-08.org.example:{host}").parse().expect("an NQN")
}

/// What a host has to do that has to authenticate.
pub(super) fn policy(name: &str) -> Arc<HostPolicy> {
    Arc::new(HostPolicy::example(nqn(name).as_str()))
}

pub(super) fn host(name: &str) -> Host {
    Host { name: name.to_owned(), nqn: nqn(name), id: None, authentication: None }
}

/// What ended a queue, if something did.
#[derive(Default)]
pub(super) struct Ended(Mutex<Vec<EndCause>>);

impl Ended {
    pub(super) fn causes(&self) -> Vec<EndCause> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl EndQueue for Ended {
    fn end(&self, why: EndCause) {
        self.0.lock().expect("not poisoned").push(why);
    }

    fn peer(&self) -> &str {
        "test"
    }
}

/// An inventory with one account, which lets the hosts `a` and `b` in.
pub(super) struct World {
    pub(super) subsystems: Arc<Subsystems>,
    pub(super) subsystem: Arc<Subsystem>,
}

impl World {
    pub(super) fn new() -> Self {
        let addresses = vec![REACHED_AT.parse().expect("an address")];
        let subsystems = Subsystems::new("eu-1", addresses, Limits::default());
        let subsystem = subsystems.add_subsystem(ACCOUNT).expect("added");
        for name in ["a", "b"] {
            subsystems.add_host(ACCOUNT, host(name)).expect("let in");
        }
        Self { subsystems, subsystem }
    }

    /// Adds a disk with 4096-byte sectors.
    pub(super) fn add(&self, name: &str, shared: bool) -> Arc<Namespace> {
        self.add_with(name, shared, SectorSize::B4096)
    }

    pub(super) fn add_with(&self, name: &str, shared: bool, sector: SectorSize) -> Arc<Namespace> {
        let mut uuid = [0x11; 16];
        uuid[..name.len()].copy_from_slice(name.as_bytes());
        let options = NamespaceOptions { nsid: None, uuid, shared, reservation_capabilities: 0xFE };
        self.subsystem.add_namespace(disk(name, sector), options).expect("added")
    }

    /// A controller of this host that is ready.
    pub(super) fn ready(&self, host: &str) -> Asking {
        let asking = Asking::new(self, &Wish::of(host)).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        asking.enable();
        asking
    }

    /// A discovery controller of this host that is ready.
    pub(super) fn discovering(&self, host: &str) -> Asking {
        let wish = Wish { subsystem: DISCOVERY_NQN.to_owned(), ..Wish::of(host) };
        let asking = Asking::new(self, &wish).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        asking.enable();
        asking
    }
}

/// A Connect that fits, to be spoilt.
#[derive(Clone)]
pub(super) struct Wish {
    pub(super) subsystem: String,
    pub(super) host: String,
    pub(super) host_id: [u8; 16],
    pub(super) controller_id: u16,
    pub(super) queue_id: u16,
    pub(super) queue_size: u16,
    pub(super) keep_alive_ms: u32,
    pub(super) attributes: u8,
    pub(super) record_format: u16,
}

impl Wish {
    pub(super) fn of(host: &str) -> Self {
        Self {
            subsystem: Nqn::of_account(ACCOUNT).expect("fits").to_string(),
            host: nqn(host).to_string(),
            host_id: [host.as_bytes()[0]; 16],
            controller_id: 0xFFFF,
            queue_id: 0,
            queue_size: 31,
            keep_alive_ms: 5000,
            attributes: 0,
            record_format: 0,
        }
    }

    pub(super) fn io(host: &str, controller_id: u16, queue_id: u16) -> Self {
        Self { controller_id, queue_id, queue_size: 127, keep_alive_ms: 0, ..Self::of(host) }
    }

    pub(super) fn connect(&self, world: &World, queue: Arc<Ended>, now: Instant) -> Result<Connected, ConnectRefusal> {
        let mut command = Connect::new_zeroed();
        command.opcode = FABRICS;
        command.fabrics_type = fabrics::CONNECT;
        command.record_format = self.record_format.into();
        command.queue_id = self.queue_id.into();
        command.queue_size = self.queue_size.into();
        command.keep_alive_ms = self.keep_alive_ms.into();
        command.attributes = self.attributes;
        let mut data = ConnectData::new_zeroed();
        data.host_id = self.host_id;
        data.controller_id = self.controller_id.into();
        data.subsystem_nqn[..self.subsystem.len()].copy_from_slice(self.subsystem.as_bytes());
        data.host_nqn[..self.host.len()].copy_from_slice(self.host.as_bytes());
        world.subsystems.connect(&command, &data, REACHED_AT.parse().expect("an address"), queue, now)
    }

    pub(super) fn refused(&self, world: &World) -> (Status, u64) {
        let outcome = self.connect(world, Arc::default(), Instant::now());
        let refusal = outcome.err().expect("refused");
        (refusal.status, refusal.result)
    }
}

/// A host with an Admin queue.
pub(super) struct Asking {
    pub(super) controller: Arc<Controller>,
    pub(super) ended: Arc<Ended>,
}

impl Asking {
    pub(super) fn new(world: &World, wish: &Wish) -> Result<Self, ConnectRefusal> {
        let ended = Arc::new(Ended::default());
        let connected = wish.connect(world, ended.clone(), Instant::now())?;
        Ok(Self { controller: connected.controller, ended })
    }

    pub(super) fn property_set(&self, offset: u32, value: u32) -> Admin {
        let mut command = Property::new_zeroed();
        command.opcode = FABRICS;
        command.fabrics_type = fabrics::PROPERTY_SET;
        command.offset = offset.into();
        command.value = u64::from(value).into();
        self.controller.admin(&Command::read_from_bytes(command.as_bytes()).expect("64 bytes"), &[])
    }

    pub(super) fn property_get(&self, offset: u32) -> u64 {
        let mut command = Property::new_zeroed();
        command.opcode = FABRICS;
        command.fabrics_type = fabrics::PROPERTY_GET;
        command.offset = offset.into();
        let command = Command::read_from_bytes(command.as_bytes()).expect("64 bytes");
        done(self.controller.admin(&command, &[])).result
    }

    pub(super) fn enable(&self) {
        assert_eq!(done(self.property_set(cc::OFFSET, ENABLE)), Answer::result(0));
    }

    /// A command with room for 1 MiB of data.
    pub(super) fn ask(&self, opcode: u8, nsid: u32, dwords: [u32; 5]) -> Admin {
        self.controller.admin(&command(opcode, nsid, dwords, 1 << 20), &[])
    }

    pub(super) fn answer(&self, opcode: u8, nsid: u32, dwords: [u32; 5]) -> Answer {
        done(self.ask(opcode, nsid, dwords))
    }

    pub(super) fn identify(&self, cns: u8, nsid: u32) -> Result<Vec<u8>, Status> {
        data(self.answer(admin::IDENTIFY, nsid, [cns.into(), 0, 0, 0, 0]))
    }

    /// Reads a log page from its beginning and lets its event happen again.
    pub(super) fn log(&self, page: u8, nsid: u32, len: u32) -> Result<Vec<u8>, Status> {
        let dword10 = (len / 4 - 1) << 16 | u32::from(page);
        data(self.answer(admin::GET_LOG_PAGE, nsid, [dword10, 0, 0, 0, 0]))
    }

    pub(super) fn set_feature(&self, feature: u8, nsid: u32, value: u32) -> Admin {
        self.ask(admin::SET_FEATURES, nsid, [feature.into(), value, 0, 0, 0])
    }

    pub(super) fn get_feature(&self, feature: u8, nsid: u32) -> Result<u64, Status> {
        let answer = self.answer(admin::GET_FEATURES, nsid, [feature.into(), 0, 0, 0, 0]);
        if answer.status.is_success() { Ok(answer.result) } else { Err(answer.status) }
    }
}

pub(super) fn command(opcode: u8, nsid: u32, dwords: [u32; 5], room: u32) -> Command {
    let [cdw10, cdw11, cdw12, cdw13, cdw14] = dwords.map(Into::into);
    let mut command = Command { opcode, nsid: nsid.into(), cdw10, cdw11, cdw12, cdw13, cdw14, ..Command::default() };
    command.flags = 0x40;
    command.data.len = room.into();
    command
}

pub(super) fn done(admin: Admin) -> Answer {
    match admin {
        Admin::Done(answer) => answer,
        _ => panic!("the command has no answer yet"),
    }
}

pub(super) fn data(answer: Answer) -> Result<Vec<u8>, Status> {
    if answer.status.is_success() { Ok(answer.data.expect("data")) } else { Err(answer.status) }
}
