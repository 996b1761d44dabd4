//! Identify (Base section 5.17, NVM section 4.1.5): what the controller and its namespaces are like.
//!
//! Sizes are what the target keeps, not what looks well: a host plans its I/O by them.

use zerocopy::{FromZeros, IntoBytes};

use super::super::subsystem::{
    ABORTS, EVENT_REQUESTS, LARGEST_FUSED, LARGEST_TRANSFER, NAMESPACES, Namespace, Nqn, Subsystem,
};
use super::super::wire::command::Command;
use super::super::wire::event::enabled;
use super::super::wire::identify::{self as wire, cns, controller, descriptor, namespace};
use super::super::wire::property::vs;
use super::super::wire::status::Status;
use super::{Answer, Controller, Owner, errors, keep_alive};

/// Bytes that are best written, and discarded, together: a page of the devices below.
const PREFERRED_BYTES: u64 = 4096;
/// Seconds in which an ANA state would change; none ever does, but 0 is not allowed (Base section 5.17.2.1, ANATT).
const ANA_TRANSITION_S: u8 = 1;
/// The one ANA group.
pub(super) const ANA_GROUP: u32 = 1;
/// NSIDs from here on do not name a namespace (Base section 3.2.1).
const LAST_LISTED_AFTER: u32 = 0xFFFF_FFFD;

const MODEL: &[u8] = b"Strongroom";
/// MDTS counts in powers of two of the smallest page.
const MDTS: u8 = (LARGEST_TRANSFER / 4096).trailing_zeros() as u8;
const _: () = assert!(4096 << MDTS == LARGEST_TRANSFER);

/// The version of the program, padded with spaces.
pub(super) fn firmware_revision() -> [u8; 8] {
    padded(env!("CARGO_PKG_VERSION").as_bytes())
}

fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut field = [b' '; N];
    let len = text.len().min(N);
    field[..len].copy_from_slice(&text[..len]);
    field
}

/// Blocks, as a field that counts from 0.
fn zero_based(blocks: u64) -> u16 {
    u16::try_from(blocks.max(1) - 1).unwrap_or(u16::MAX)
}

impl Controller {
    pub(super) fn identify(&self, command: &Command) -> Answer {
        let what = command.cdw10.get() as u8;
        let command_set = (command.cdw11.get() >> 24) as u8;
        let nsid = command.nsid.get();
        if matches!(self.owner, Owner::Discovery(_)) && what != cns::CONTROLLER {
            return Status::INVALID_FIELD.final_one().into();
        }
        let of_set = matches!(what, cns::NAMESPACE_OF_SET | cns::CONTROLLER_OF_SET | cns::ACTIVE_NAMESPACES_OF_SET);
        if of_set && command_set != wire::NVM_COMMAND_SET {
            return Status::INVALID_FIELD.final_one().into();
        }
        let data = match what {
            cns::NAMESPACE => self.about(nsid, |namespace| namespace_data(namespace).as_bytes().to_vec()),
            cns::CONTROLLER => Ok(self.controller_data().as_bytes().to_vec()),
            cns::ACTIVE_NAMESPACES | cns::ACTIVE_NAMESPACES_OF_SET => self.active_after(nsid),
            cns::DESCRIPTORS => self.sees(nsid).map(|it| descriptors(&it)).ok_or(Status::INVALID_NAMESPACE.final_one()),
            // No protection information, no storage tags, and no limits but MDTS: all fields are 0 (NVM sections 4.1.5.3 and 4.1.5.4).
            cns::NAMESPACE_OF_SET => self.about(nsid, |_| vec![0; wire::LEN]),
            cns::CONTROLLER_OF_SET => Ok(vec![0; wire::LEN]),
            cns::NAMESPACE_OF_ANY_SET => self.about(nsid, |it| independent_data(it).as_bytes().to_vec()),
            cns::COMMAND_SETS => Ok(command_sets()),
            _ => Err(Status::INVALID_FIELD.final_one()),
        };
        data.map_or_else(Answer::from, |data| Answer::with_data(command, data))
    }

    /// Data about a namespace; zeros for one that the host does not see, as for one that is not active (Base section 5.17.2.2).
    fn about(&self, nsid: u32, data: impl FnOnce(&Namespace) -> Vec<u8>) -> Result<Vec<u8>, Status> {
        if !(1..=NAMESPACES).contains(&nsid) {
            return Err(Status::INVALID_NAMESPACE.final_one());
        }
        Ok(self.sees(nsid).map_or_else(|| vec![0; wire::LEN], |namespace| data(&namespace)))
    }

    /// The namespaces behind an identifier, in order (Base section 5.17.2.4).
    fn active_after(&self, nsid: u32) -> Result<Vec<u8>, Status> {
        if nsid > LAST_LISTED_AFTER {
            return Err(Status::INVALID_NAMESPACE.final_one());
        }
        let view = self.namespaces();
        let after = view.iter().map(|namespace| namespace.nsid()).filter(|&id| id > nsid);
        let mut list: Vec<u8> = after.take(wire::LEN / 4).flat_map(u32::to_le_bytes).collect();
        list.resize(wire::LEN, 0);
        Ok(list)
    }

    fn controller_data(&self) -> wire::Controller {
        let limits = self.owner.limits();
        let common = wire::Controller {
            serial: self.owner.serial(),
            model: padded(MODEL),
            firmware: firmware_revision(),
            mdts: MDTS,
            controller_id: self.id.into(),
            version: vs::NVME_2_0.into(),
            acl: (ABORTS - 1) as u8,
            aerl: (EVENT_REQUESTS - 1) as u8,
            kas: keep_alive::GRANULARITY_100MS.into(),
            ctratt: (controller::LONG_HOST_ID | controller::TRAFFIC_KEEPS_ALIVE).into(),
            maxcmd: limits.queue_entries.into(),
            sgls: (controller::SGL | controller::SGL_OFFSET | controller::SGL_TRANSPORT).into(),
            subnqn: self.owner.nqn().to_field(),
            ..wire::Controller::new_zeroed()
        };
        match &self.owner {
            Owner::Subsystem(_) => wire::Controller {
                cmic: controller::SEVERAL_PORTS | controller::SEVERAL_CONTROLLERS | controller::REPORTS_ANA,
                oaes: enabled::NAMESPACE_ATTRIBUTES.into(),
                kind: controller::IO,
                frmw: controller::ONE_FIXED_FIRMWARE,
                lpa: controller::SMART_OF_NAMESPACE
                    | controller::EFFECTS
                    | controller::EXTENDED_LOG
                    | controller::SUPPORTED_PAGES,
                elpe: (errors::ENTRIES - 1) as u8,
                anatt: ANA_TRANSITION_S,
                anacap: controller::ANA_OPTIMIZED | controller::ANA_GROUP_FIXED,
                anagrpmax: ANA_GROUP.into(),
                nanagrpid: 1.into(),
                sqes: 0x66,
                cqes: 0x44,
                nn: NAMESPACES.into(),
                mnan: NAMESPACES.into(),
                oncs: (controller::COMPARE
                    | controller::DATASET_MANAGEMENT
                    | controller::WRITE_ZEROES
                    | controller::SAVE_AND_SELECT
                    | controller::RESERVATIONS
                    | controller::VERIFY)
                    .into(),
                fuses: controller::COMPARE_AND_WRITE.into(),
                vwc: controller::CACHE_PRESENT | controller::FLUSHES_ALL,
                // One block, whatever its size: two writes may interleave block by block.
                awun: 0.into(),
                awupf: 0.into(),
                // In the largest blocks: it has to hold for each format.
                acwu: zero_based(u64::from(LARGEST_FUSED) / 4096).into(),
                ioccsz: ((64 + limits.in_capsule_data) / 16).into(),
                iorcsz: 1.into(),
                msdbd: 1,
                ..common
            },
            Owner::Discovery(_) => wire::Controller {
                oaes: enabled::DISCOVERY_LOG.into(),
                kind: controller::DISCOVERY,
                lpa: controller::EXTENDED_LOG | controller::SUPPORTED_PAGES,
                ..common
            },
        }
    }
}

impl Owner {
    pub(super) fn nqn(&self) -> Nqn {
        match self {
            Self::Subsystem(subsystem) => subsystem.nqn().clone(),
            Self::Discovery(_) => Nqn::discovery(),
        }
    }

    fn serial(&self) -> [u8; 20] {
        match self {
            Self::Subsystem(subsystem) => *Subsystem::serial(subsystem),
            Self::Discovery(subsystems) => subsystems.discovery_serial(),
        }
    }
}

/// Identify Namespace (NVM section 4.1.5.1).
fn namespace_data(it: &Namespace) -> wire::Namespace {
    let block = it.block_bytes();
    let preferred = zero_based(PREFERRED_BYTES / block);
    let mut data = wire::Namespace {
        nsze: it.blocks().into(),
        ncap: it.blocks().into(),
        nuse: it.blocks().into(),
        nsfeat: namespace::OWN_ATOMICITY | namespace::PREFERRED_SIZES,
        nmic: shared(it),
        rescap: it.reservation_capabilities(),
        dlfeat: namespace::WRITE_ZEROES_DEALLOCATES,
        nacwu: zero_based(u64::from(LARGEST_FUSED) / block).into(),
        nvmcap: u128::from(it.blocks() * block).into(),
        npwg: preferred.into(),
        npwa: preferred.into(),
        npdg: preferred.into(),
        npda: preferred.into(),
        nows: preferred.into(),
        anagrpid: ANA_GROUP.into(),
        nguid: it.nguid(),
        ..wire::Namespace::new_zeroed()
    };
    data.lba_formats[0].data = block.trailing_zeros() as u8;
    data
}

fn shared(it: &Namespace) -> u8 {
    if it.is_shared() { namespace::SHARED } else { 0 }
}

/// I/O Command Set Independent Identify Namespace (Base section 5.17.2.8).
fn independent_data(it: &Namespace) -> wire::IndependentNamespace {
    wire::IndependentNamespace {
        nmic: shared(it),
        rescap: it.reservation_capabilities(),
        anagrpid: ANA_GROUP.into(),
        nstat: wire::NAMESPACE_READY,
        ..wire::IndependentNamespace::new_zeroed()
    }
}

/// The Namespace Identification Descriptor list (Base section 5.17.2.3).
fn descriptors(it: &Namespace) -> Vec<u8> {
    let mut list = Vec::with_capacity(wire::LEN);
    for (kind, id) in [
        (descriptor::UUID, it.uuid().as_slice()),
        (descriptor::NGUID, it.nguid().as_slice()),
        (descriptor::COMMAND_SET, &[wire::NVM_COMMAND_SET]),
    ] {
        let header = wire::DescriptorHeader { kind, len: id.len() as u8, reserved2: [0; 2] };
        list.extend_from_slice(header.as_bytes());
        list.extend_from_slice(id);
    }
    list.resize(wire::LEN, 0);
    list
}

/// The Identify I/O Command Set data: combination 0 has the NVM Command Set (Base section 5.17.2.21).
fn command_sets() -> Vec<u8> {
    let mut data = vec![0; wire::LEN];
    data[0] = 1 << wire::NVM_COMMAND_SET;
    data
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{World, command, data, done};
    use super::super::super::wire::opcode::admin;
    use super::*;
    use crate::crypto::xts::SectorSize;

    fn number(data: &[u8], at: usize, len: usize) -> u64 {
        data[at..at + len].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    #[test]
    fn the_controller_tells_its_limits() {
        let world = World::new();
        let asking = world.ready("a");
        let data = asking.identify(0x01, 0).expect("told");
        assert_eq!(data[4..24], world.subsystem.serial()[..]);
        assert_eq!(data[24..64], padded::<40>(b"Strongroom"));
        for (at, len, wanted) in [
            (76, 1, 0b1011),
            (77, 1, 6),
            (78, 2, u64::from(asking.controller.id())),
            (80, 4, 0x20000),
            (92, 4, 1 << 8),
            (96, 4, 0b0100_0001),
            (111, 1, 1),
            (256, 2, 0),
            (258, 1, 3),
            (259, 1, 3),
            (260, 1, 3),
            (261, 1, 0b10_0111),
            (262, 1, 63),
            (320, 2, 10),
            (343, 1, 0b0100_0001),
            (344, 4, 1),
            (348, 4, 1),
            (512, 2, 0x4466),
            (514, 2, 128),
            (516, 4, 1024),
            (520, 2, 0b1011_1101),
            (522, 2, 1),
            (525, 1, 0b111),
            (526, 4, 0),
            (532, 2, 0),
            (536, 4, 0x30_0001),
            (540, 4, 1024),
            (1792, 4, (64 + 8192) / 16),
            (1796, 4, 1),
            (1803, 1, 1),
        ] {
            assert_eq!(number(&data, at, len), wanted, "byte {at}");
        }
        assert_eq!(data[768..768 + 30], *b"nqn.2026-11.io.strongroom:acc\0");
    }

    #[test]
    fn a_namespace_tells_its_geometry() {
        let world = World::new();
        let (large, small) = (world.add("d0", true), world.add_with("d1", false, SectorSize::B512));
        for namespace in [&large, &small] {
            world.subsystem.attach(namespace.nsid(), "a").expect("attached");
        }
        let asking = world.ready("a");
        let data = asking.identify(0x00, 1).expect("told");
        for (at, len, wanted) in [
            (0, 8, 1 << 18),
            (8, 8, 1 << 18),
            (16, 8, 1 << 18),
            (24, 1, 0b1_0010),
            (30, 1, 1),
            (31, 1, 0xFE),
            (33, 1, 0b1000),
            (34, 4, 0),
            (38, 2, 0),
            (48, 8, 1 << 30),
            (64, 8, 0),
            (72, 2, 0),
            (92, 4, 1),
            (120, 8, 0),
            (128, 4, 12 << 16),
        ] {
            assert_eq!(number(&data, at, len), wanted, "byte {at}");
        }
        assert_eq!(data[104..120], large.uuid());
        let data = asking.identify(0x00, 2).expect("told");
        for (at, len, wanted) in
            [(0, 8, 1 << 21), (30, 1, 0), (38, 2, 7), (64, 8, 0x0007_0007_0007_0007), (72, 2, 7), (128, 4, 9 << 16)]
        {
            assert_eq!(number(&data, at, len), wanted, "byte {at}");
        }
        let data = asking.identify(0x08, 1).expect("told");
        assert_eq!(data[..15], [0, 1, 0xFE, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_namespace_of_another_host_looks_like_none() {
        let world = World::new();
        let namespace = world.add("d0", false);
        world.subsystem.attach(namespace.nsid(), "b").expect("attached");
        let asking = world.ready("a");
        for cns in [0x00, 0x05, 0x08] {
            assert_eq!(asking.identify(cns, 1), Ok(vec![0; 4096]), "{cns:x}");
            for nsid in [0, 1025, u32::MAX] {
                assert_eq!(asking.identify(cns, nsid), Err(Status::INVALID_NAMESPACE.final_one()), "{cns:x} {nsid:x}");
            }
        }
        assert_eq!(asking.identify(0x03, 1), Err(Status::INVALID_NAMESPACE.final_one()));
        assert_eq!(asking.identify(0x02, 0), Ok(vec![0; 4096]));
    }

    #[test]
    fn lists_begin_behind_the_namespace_that_is_named() {
        let world = World::new();
        for name in ["d0", "d1", "d2"] {
            world.subsystem.attach(world.add(name, false).nsid(), "a").expect("attached");
        }
        let asking = world.ready("a");
        for cns in [0x02, 0x07] {
            assert_eq!(asking.identify(cns, 0).expect("told")[..16], [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(asking.identify(cns, 2).expect("told")[..8], [3, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(asking.identify(cns, 0xFFFF_FFFD), Ok(vec![0; 4096]));
            assert!(asking.identify(cns, 0xFFFF_FFFE).is_err() && asking.identify(cns, 0xFFFF_FFFF).is_err());
        }
        let uuid = world.subsystem.namespaces()[0].0.uuid();
        let wanted = [&[3, 16, 0, 0][..], &uuid, &[2, 16, 0, 0], &uuid, &[4, 1, 0, 0, 0], &[0; 4]].concat();
        assert_eq!(asking.identify(0x03, 1).expect("told")[..wanted.len()], wanted);
        assert_eq!(asking.identify(0x1C, 0).expect("told")[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let world = World::new();
        let asking = world.ready("a");
        let invalid = Err(Status::INVALID_FIELD.final_one());
        for cns in [0x04, 0x09, 0x10, 0x15, 0x1B, 0x1D, 0xFF] {
            assert_eq!(asking.identify(cns, 1), invalid, "{cns:x}");
        }
        for cns in [0x05, 0x06, 0x07] {
            let answer = asking.answer(admin::IDENTIFY, 1, [cns, 2 << 24, 0, 0, 0]);
            assert_eq!(data(answer), invalid, "zoned namespaces");
        }
        let short = command(admin::IDENTIFY, 0, [1, 0, 0, 0, 0], 4095);
        assert_eq!(done(asking.controller.admin(&short, &[])).status, Status::SGL_LENGTH_INVALID.final_one());
        assert_eq!(world.discovering("a").identify(0x02, 0), invalid);
    }

    #[test]
    fn a_discovery_controller_says_what_it_is() {
        let data = World::new().discovering("stranger").identify(0x01, 0).expect("told");
        assert_eq!((data[111], number(&data, 92, 4), number(&data, 516, 4)), (2, 1 << 31, 0));
        assert_eq!(data[768..768 + 37], *b"nqn.2014-08.org.nvmexpress.discovery\0");
    }
}
