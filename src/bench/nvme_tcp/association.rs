//! A controller of the target: its admin queue, what it can do, and the namespace that is loaded (Base sections 3.5.1, 5.17, 5.18, 5.27).

use std::time::{Duration, Instant};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::export::nvme_tcp::wire::command::{Command, Sgl, sgl};
use crate::export::nvme_tcp::wire::fabrics::{Property, connect};
use crate::export::nvme_tcp::wire::property::{cap, cc, csts, size};
use crate::export::nvme_tcp::wire::{feature, identify, opcode};

use super::address::{Address, Host};
use super::error::NvmeTcpError;
use super::frame::Digests;
use super::link::{Link, QueueRequest};

/// After this time without a sign of life the target ends the association.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// Entries of the admin queue.
const ADMIN_ENTRIES: u32 = 32;
/// CC: enabled, NVM Command Set, I/O queue entries of 2^6 and 2^4 bytes (Base section 3.1.3.5).
const ENABLED: u32 = cc::EN | 6 << 16 | 4 << 20;
/// The unit of CAP.TO (Base section 3.1.3.1).
const READY_UNIT: Duration = Duration::from_millis(500);
/// How often CSTS is read while the controller becomes ready.
const READY_POLL: Duration = Duration::from_millis(5);
/// Bytes of a submission queue entry, in units of IOCCSZ (Base section 5.17.2.1).
const COMMAND_UNITS: u32 = 4;

/// A controller of our own.
pub(super) struct Association {
    link: Link,
    id: u16,
    next_queue: u16,
    queues_left: u32,
    last_sign: Instant,
    /// What it can do.
    pub(super) limits: Limits,
}

/// What a controller can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Entries of the longest queue.
    pub(super) entries: u32,
    /// Commands that a queue may have in flight.
    pub(super) commands: u32,
    /// Bytes of the largest transfer.
    pub(super) transfer: u64,
    /// Bytes of data that a capsule of an I/O queue may carry.
    pub(super) in_capsule: u64,
}

/// The namespace that is loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Namespace {
    pub(super) id: u32,
    pub(super) sectors: u64,
    pub(super) sector_bytes: u64,
}

impl Association {
    /// Makes a controller and enables it, and asks for as many I/O queues as it gives, at most `queues`.
    pub(super) fn open(to: &Address, host: &Host, digests: Digests, queues: u32) -> Result<Self, NvmeTcpError> {
        let mut link = Link::open(&to.endpoint, 0, digests)?;
        let request = QueueRequest {
            number: 0,
            entries: ADMIN_ENTRIES,
            controller: connect::NEW_CONTROLLER,
            keep_alive: KEEP_ALIVE,
        };
        let id = link.connect(to, host, &request)?;
        let capabilities = enable(&mut link)?;
        let limits = limits(&mut link, capabilities)?;
        let queues_left = ask_for_queues(&mut link, queues)?;
        Ok(Self { link, id, next_queue: 1, queues_left, last_sign: Instant::now(), limits })
    }

    /// The next I/O queue, if the controller gives one more.
    pub(super) fn queue(
        &mut self,
        to: &Address,
        host: &Host,
        digests: Digests,
        entries: u32,
    ) -> Result<Option<Link>, NvmeTcpError> {
        if self.queues_left == 0 {
            return Ok(None);
        }
        let number = self.next_queue;
        let mut link = Link::open(&to.endpoint, number, digests)?;
        link.connect(to, host, &QueueRequest { number, entries, controller: self.id, keep_alive: Duration::ZERO })?;
        (self.next_queue, self.queues_left) = (number + 1, self.queues_left - 1);
        Ok(Some(link))
    }

    /// The namespace with an identifier, or the first one that this host sees.
    pub(super) fn namespace(&mut self, id: Option<u32>) -> Result<Namespace, NvmeTcpError> {
        let list = identify(&mut self.link, identify::cns::ACTIVE_NAMESPACES, 0)?;
        let active: Vec<u32> = list
            .chunks_exact(4)
            .map(|id| u32::from_le_bytes(id.try_into().expect("four bytes")))
            .take_while(|id| *id != 0)
            .collect();
        let id = match id {
            Some(id) if !active.contains(&id) => {
                return Err(NvmeTcpError::Config(format!("namespace {id} is not visible; those that are: {active:?}")));
            }
            Some(id) => id,
            None => *active.first().ok_or_else(|| {
                NvmeTcpError::Config("this host sees no namespace in the subsystem; is it the right --host-nqn?".into())
            })?,
        };
        let data = identify(&mut self.link, identify::cns::NAMESPACE, id)?;
        let namespace = identify::Namespace::ref_from_bytes(&data).expect("as long");
        // Bits 3:0 and 6:5 name the format in use (NVM section 4.1.5.1, FLBAS).
        let format = namespace.flbas & 0xF | namespace.flbas >> 1 & 0x30;
        let format = namespace.lba_formats[usize::from(format)];
        if !(9..=16).contains(&format.data) || format.metadata.get() != 0 {
            return Err(NvmeTcpError::Config(format!(
                "namespace {id} has sectors of 2^{} bytes and {} bytes of metadata, which this load generator does not do",
                format.data, format.metadata
            )));
        }
        Ok(Namespace { id, sectors: namespace.nsze.get(), sector_bytes: 1 << format.data })
    }

    /// Sends Keep Alive if half of the time has gone by since the last one.
    pub(super) fn keep_alive_if_due(&mut self) -> Result<(), NvmeTcpError> {
        if self.last_sign.elapsed() < KEEP_ALIVE / 2 {
            return Ok(());
        }
        self.last_sign = Instant::now();
        self.link.command("Keep Alive", admin(opcode::admin::KEEP_ALIVE), &[]).map(|_| ())
    }
}

fn enable(link: &mut Link) -> Result<u64, NvmeTcpError> {
    let capabilities = property(link, "Property Get of CAP", &get(cap::OFFSET, size::EIGHT))?;
    let set = Property {
        fabrics_type: opcode::fabrics::PROPERTY_SET,
        value: u64::from(ENABLED).into(),
        ..get(cc::OFFSET, size::FOUR)
    };
    property(link, "Property Set of CC", &set)?;
    let patience = READY_UNIT * (capabilities >> cap::TO_SHIFT & 0xFF).max(1) as u32;
    let start = Instant::now();
    loop {
        let status = property(link, "Property Get of CSTS", &get(csts::OFFSET, size::FOUR))? as u32;
        if status & csts::CFS != 0 {
            return Err(NvmeTcpError::Config("the controller reports a fatal status (CSTS.CFS)".to_owned()));
        }
        if status & csts::RDY != 0 {
            return Ok(capabilities);
        }
        if start.elapsed() > patience {
            return Err(NvmeTcpError::Config(format!("the controller is not ready after {patience:?}")));
        }
        std::thread::sleep(READY_POLL);
    }
}

fn limits(link: &mut Link, capabilities: u64) -> Result<Limits, NvmeTcpError> {
    let data = identify(link, identify::cns::CONTROLLER, 0)?;
    let controller = identify::Controller::ref_from_bytes(&data).expect("as long");
    // MDTS is in units of the smallest memory page, 2^(12 + CAP.MPSMIN); 0 is no limit (Base section 5.17.2.1).
    let page = 12 + (capabilities >> 48 & 0xF) as u32;
    let transfer = match controller.mdts {
        0 => u64::MAX,
        mdts => 1_u64.checked_shl(page + u32::from(mdts)).unwrap_or(u64::MAX),
    };
    // Data that does not begin right behind the command is left to R2T.
    let units = if controller.icdoff.get() == 0 { controller.ioccsz.get() } else { 0 };
    Ok(Limits {
        entries: (capabilities & 0xFFFF) as u32 + 1,
        commands: match controller.maxcmd.get() {
            0 => u32::MAX,
            most => most.into(),
        },
        transfer,
        in_capsule: u64::from(units.saturating_sub(COMMAND_UNITS)) * 16,
    })
}

fn ask_for_queues(link: &mut Link, queues: u32) -> Result<u32, NvmeTcpError> {
    let wanted = queues.clamp(1, 0xFFFE) - 1;
    let command = Command {
        cdw10: u32::from(feature::id::QUEUES).into(),
        cdw11: (wanted << 16 | wanted).into(),
        ..admin(opcode::admin::SET_FEATURES)
    };
    let (completion, _) = link.command("Set Features, Number of Queues", command, &[])?;
    let given = completion.result.get() as u32;
    Ok((given & 0xFFFF).min(given >> 16) + 1)
}

fn identify(link: &mut Link, cns: u8, namespace: u32) -> Result<Vec<u8>, NvmeTcpError> {
    let command = Command {
        nsid: namespace.into(),
        cdw10: u32::from(cns).into(),
        data: Sgl { len: (identify::LEN as u32).into(), identifier: sgl::TRANSPORT, ..Sgl::default() },
        ..admin(opcode::admin::IDENTIFY)
    };
    let (_, data) = link.command("Identify", command, &[])?;
    match data.len() {
        identify::LEN => Ok(data),
        len => Err(NvmeTcpError::protocol(0, format!("Identify data of {len} bytes"))),
    }
}

fn admin(opcode: u8) -> Command {
    Command { opcode, ..Command::default() }
}

fn get(offset: u32, size: u8) -> Property {
    Property {
        opcode: opcode::FABRICS,
        fabrics_type: opcode::fabrics::PROPERTY_GET,
        attributes: size,
        offset: offset.into(),
        ..Property::new_zeroed()
    }
}

fn property(link: &mut Link, name: &'static str, property: &Property) -> Result<u64, NvmeTcpError> {
    let command = Command::read_from_bytes(property.as_bytes()).expect("as long");
    link.command(name, command, &[]).map(|(completion, _)| completion.result.get())
}
