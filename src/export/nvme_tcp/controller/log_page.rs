//! Get Log Page (Base section 5.16): what the controller has written down.
//!
//! A page is made whole and then cut, so an offset works the same for each. Reading one without "Retain Asynchronous Event" lets the event
//! that told of it happen again.

use std::collections::BTreeSet;

use zerocopy::{FromZeros, IntoBytes};

use super::super::subsystem::{LARGEST_TRANSFER, NAMESPACES, Subsystem};
use super::super::wire::command::Command;
use super::super::wire::identify::NVM_COMMAND_SET;
use super::super::wire::log_page::{self as wire, GetLogPage, effect, id};
use super::super::wire::opcode::{FABRICS, admin, io};
use super::super::wire::status::Status;
use super::events::Event;
use super::identify::{ANA_GROUP, firmware_revision};
use super::{Answer, Controller, Owner, features, smart};

const _: () = assert!(NAMESPACES as usize <= wire::CHANGED_NAMESPACES, "the Changed Namespace List holds them all");

/// The log pages of an I/O controller.
const IO_PAGES: [u8; 9] = [
    id::SUPPORTED,
    id::ERROR,
    id::SMART,
    id::FIRMWARE,
    id::CHANGED_NAMESPACES,
    id::EFFECTS,
    id::ANA,
    id::FEATURES,
    id::RESERVATION,
];
/// The log pages of a discovery controller.
const DISCOVERY_PAGES: [u8; 3] = [id::SUPPORTED, id::FEATURES, id::DISCOVERY];

impl Controller {
    pub(super) fn get_log_page(&self, command: &Command) -> Answer {
        let wanted = GetLogPage::from(command);
        if wanted.offset_is_index || wanted.offset % 4 != 0 || wanted.len > u64::from(LARGEST_TRANSFER) {
            return Status::INVALID_FIELD.final_one().into();
        }
        if u64::from(command.data.len.get()) < wanted.len {
            return Status::SGL_LENGTH_INVALID.final_one().into();
        }
        let page = match &self.owner {
            Owner::Subsystem(subsystem) => self.io_page(subsystem, &wanted, command.nsid.get()),
            Owner::Discovery(subsystems) => match wanted.page {
                id::SUPPORTED => Ok(supported(&DISCOVERY_PAGES)),
                id::FEATURES => Ok(features::page(features::DISCOVERY)),
                id::DISCOVERY => {
                    // Before the listing is made: a change from then on is a new event.
                    self.has_read(&wanted, Event::DiscoveryChanged);
                    Ok(subsystems.listing(&self.host).page(self.at))
                }
                _ => Err(Status::INVALID_LOG_PAGE.final_one()),
            },
        };
        match page {
            Ok(page) => match cut(page, &wanted) {
                Some(data) => Answer::with_data(command, data),
                None => Status::INVALID_FIELD.final_one().into(),
            },
            Err(status) => status.into(),
        }
    }

    fn has_read(&self, wanted: &GetLogPage, event: Event) {
        if !wanted.retain {
            self.state().events.clear(event);
        }
    }

    fn io_page(&self, subsystem: &Subsystem, wanted: &GetLogPage, nsid: u32) -> Result<Vec<u8>, Status> {
        match wanted.page {
            id::SUPPORTED => Ok(supported(&IO_PAGES)),
            id::ERROR => Ok(self.state().errors.page()),
            id::SMART => self.smart_page(subsystem, nsid),
            id::FIRMWARE => Ok(firmware()),
            id::CHANGED_NAMESPACES => Ok(self.changed_page(wanted)),
            id::EFFECTS if wanted.command_set == NVM_COMMAND_SET => Ok(effects()),
            id::EFFECTS => Err(Status::INVALID_FIELD.final_one()),
            id::ANA => Ok(self.ana_page(wanted.specific & wire::ANA_GROUPS_ONLY != 0)),
            id::FEATURES => Ok(features::page(features::IO)),
            id::RESERVATION => Ok(self.reservation_page(wanted)),
            _ => Err(Status::INVALID_LOG_PAGE.final_one()),
        }
    }

    /// SMART / Health Information of one namespace, or of all that the host sees: what other hosts do is not its business.
    fn smart_page(&self, subsystem: &Subsystem, nsid: u32) -> Result<Vec<u8>, Status> {
        let seen = self.namespaces();
        let namespaces = match nsid {
            0 | u32::MAX => &seen[..],
            one => {
                let at = seen.iter().position(|namespace| namespace.nsid() == one);
                let at = at.ok_or(Status::INVALID_NAMESPACE.final_one())?;
                &seen[at..=at]
            }
        };
        let errors = self.state().errors.count();
        Ok(smart::page(namespaces, subsystem.made(), errors).as_bytes().to_vec())
    }

    /// The Changed Namespace List (Base section 5.16.1.5): what was read is forgotten, unless the host asks to keep it.
    fn changed_page(&self, wanted: &GetLogPage) -> Vec<u8> {
        let mut state = self.state();
        let page = list(&state.changed);
        if !wanted.retain {
            state.changed.clear();
            state.events.clear(Event::NamespacesChanged);
        }
        page
    }

    /// Asymmetric Namespace Access (Base section 5.16.1.13): one group, in which everything is as near as it gets.
    fn ana_page(&self, groups_only: bool) -> Vec<u8> {
        let seen = self.namespaces();
        let listed = if groups_only { &[] } else { &seen[..] };
        let header = wire::AnaHeader { groups: 1.into(), ..wire::AnaHeader::new_zeroed() };
        let group = wire::AnaGroup {
            group: ANA_GROUP.into(),
            namespaces: (listed.len() as u32).into(),
            state: wire::ANA_OPTIMIZED,
            ..wire::AnaGroup::new_zeroed()
        };
        let mut page = [header.as_bytes(), group.as_bytes()].concat();
        page.extend(listed.iter().flat_map(|namespace| namespace.nsid().to_le_bytes()));
        page
    }

    /// The Reservation Notification log (Base section 5.16.1.26): the oldest notification, which then makes way for the next.
    fn reservation_page(&self, wanted: &GetLogPage) -> Vec<u8> {
        let mut state = self.state();
        let page = state.reservations.page().as_bytes().to_vec();
        if !wanted.retain {
            let more = state.reservations.read();
            state.events.clear(Event::ReservationLog);
            if more {
                state.events.raise(Event::ReservationLog);
            }
        }
        page
    }
}

/// The part of a page that the host wants; behind the end there are zeros. `None` if it begins behind the end (Base section 5.16, LPOL).
fn cut(page: Vec<u8>, wanted: &GetLogPage) -> Option<Vec<u8>> {
    let start = usize::try_from(wanted.offset).ok().filter(|&start| start <= page.len())?;
    let mut data = page;
    data.drain(..start);
    data.resize(wanted.len as usize, 0);
    Some(data)
}

fn supported(pages: &[u8]) -> Vec<u8> {
    let mut data = wire::Supported::new_zeroed();
    for &page in pages {
        data.pages[usize::from(page)] = 1.into();
    }
    data.as_bytes().to_vec()
}

fn firmware() -> Vec<u8> {
    let mut data = wire::Firmware { active: 1, ..wire::Firmware::new_zeroed() };
    data.revisions[0] = firmware_revision();
    data.as_bytes().to_vec()
}

fn list(namespaces: &BTreeSet<u32>) -> Vec<u8> {
    let mut page: Vec<u8> = namespaces.iter().flat_map(|nsid| nsid.to_le_bytes()).collect();
    page.resize(wire::CHANGED_NAMESPACES * 4, 0);
    page
}

/// Commands Supported and Effects (Base section 5.16.1.6).
fn effects() -> Vec<u8> {
    let mut data = wire::Effects::new_zeroed();
    for opcode in [
        admin::GET_LOG_PAGE,
        admin::IDENTIFY,
        admin::ABORT,
        admin::SET_FEATURES,
        admin::GET_FEATURES,
        admin::ASYNC_EVENT_REQUEST,
        admin::KEEP_ALIVE,
        FABRICS,
    ] {
        data.admin[usize::from(opcode)] = (effect::SUPPORTED | effect::SCOPE_CONTROLLER).into();
    }
    for opcode in [
        io::FLUSH,
        io::READ,
        io::COMPARE,
        io::VERIFY,
        io::RESERVATION_REGISTER,
        io::RESERVATION_REPORT,
        io::RESERVATION_ACQUIRE,
        io::RESERVATION_RELEASE,
    ] {
        data.io[usize::from(opcode)] = (effect::SUPPORTED | effect::SCOPE_NAMESPACE).into();
    }
    for opcode in [io::WRITE, io::WRITE_ZEROES, io::DATASET_MANAGEMENT] {
        let changes = effect::SUPPORTED | effect::CHANGES_CONTENT | effect::SCOPE_NAMESPACE;
        data.io[usize::from(opcode)] = changes.into();
    }
    data.io[usize::from(FABRICS)] = (effect::SUPPORTED | effect::SCOPE_CONTROLLER).into();
    data.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{World, command, data, done};
    use super::super::Failure;
    use super::*;

    #[test]
    fn a_page_is_read_in_pieces() {
        let world = World::new();
        let asking = world.ready("a");
        let whole = asking.log(id::FIRMWARE, 0, 512).expect("read");
        assert_eq!(whole[0], 1);
        assert_eq!(whole[8..16], firmware_revision());
        let read = |offset: u64, dwords: u32| {
            let dwords = [(dwords - 1) << 16 | u32::from(id::FIRMWARE), 0, offset as u32, (offset >> 32) as u32, 0];
            data(asking.answer(admin::GET_LOG_PAGE, 0, dwords))
        };
        assert_eq!(read(8, 2), Ok(whole[8..16].to_vec()));
        assert_eq!(read(508, 2), Ok(vec![0; 8]), "zeros behind the end");
        assert_eq!(read(512, 1), Ok(vec![0; 4]));
        for offset in [516, 6, 1 << 32] {
            assert_eq!(read(offset, 1), Err(Status::INVALID_FIELD.final_one()), "{offset}");
        }
        assert_eq!(read(0, 65536), Ok([&whole[..], &vec![0; LARGEST_TRANSFER as usize - 512]].concat()));
        let too_long = asking.answer(admin::GET_LOG_PAGE, 0, [id::FIRMWARE.into(), 1, 0, 0, 0]);
        assert_eq!(too_long.status, Status::INVALID_FIELD.final_one());
        let by_index = asking.answer(admin::GET_LOG_PAGE, 0, [0x1_0003, 0, 0, 0, 1 << 23]);
        assert_eq!(by_index.status, Status::INVALID_FIELD.final_one());
        let short = command(admin::GET_LOG_PAGE, 0, [0x1_0003, 0, 0, 0, 0], 7);
        assert_eq!(done(asking.controller.admin(&short, &[])).status, Status::SGL_LENGTH_INVALID.final_one());
    }

    #[test]
    fn the_pages_that_are_listed_are_there_and_no_other() {
        let world = World::new();
        for (asking, first) in [(world.ready("a"), id::ERROR), (world.discovering("a"), id::FEATURES)] {
            let listed = asking.log(id::SUPPORTED, 0, 1024).expect("read");
            assert_eq!(listed[usize::from(first) * 4], 1);
            for page in 0..=255u8 {
                let there = asking.log(page, 0, 4);
                match listed[usize::from(page) * 4] {
                    1 => assert!(there.is_ok(), "{page:x}"),
                    _ => assert_eq!(there, Err(Status::INVALID_LOG_PAGE.final_one()), "{page:x}"),
                }
            }
        }
    }

    #[test]
    fn commands_that_are_supported_have_effects() {
        let asking = World::new().ready("a");
        let page = asking.log(id::EFFECTS, 0, 4096).expect("read");
        let of = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(of(4 * usize::from(admin::IDENTIFY)) & 0b11, 0b01);
        assert_eq!(of(1024 + 4 * usize::from(io::READ)) & 0b11, 0b01);
        assert_eq!(of(1024 + 4 * usize::from(io::WRITE)) & 0b11, 0b11);
        assert_eq!(of(1024 + 4 * 0x04), 0, "Write Uncorrectable is not there");
        let other_set = asking.answer(admin::GET_LOG_PAGE, 0, [id::EFFECTS.into(), 0, 0, 0, 2 << 24]);
        assert_eq!(other_set.status, Status::INVALID_FIELD.final_one());
        let features = asking.log(id::FEATURES, 0, 1024).expect("read");
        assert_eq!(features[0x0F * 4..][..4], (1u32 | 1 << 21).to_le_bytes());
        assert_eq!(features[0x82 * 4..][..4], (1u32 | 1 << 20).to_le_bytes());
        assert_eq!(features[0x10 * 4..][..4], [0; 4]);
    }

    #[test]
    fn changed_namespaces_are_listed_until_they_are_read() {
        let world = World::new();
        let asking = world.ready("a");
        for name in ["d0", "d1"] {
            world.subsystem.attach(world.add(name, false).nsid(), "a").expect("attached");
        }
        world.subsystem.detach(1, "a").expect("detached");
        let retained = asking.answer(admin::GET_LOG_PAGE, 0, [0x3FF_8004, 0, 0, 0, 0]);
        let mut wanted = vec![1, 0, 0, 0, 2, 0, 0, 0];
        wanted.resize(4096, 0);
        assert_eq!(data(retained), Ok(wanted.clone()));
        assert_eq!(asking.log(id::CHANGED_NAMESPACES, 0, 4096), Ok(wanted));
        assert_eq!(asking.log(id::CHANGED_NAMESPACES, 0, 4096), Ok(vec![0; 4096]));
    }

    #[test]
    fn all_namespaces_are_in_one_optimized_group() {
        let world = World::new();
        let asking = world.ready("a");
        for name in ["d0", "d1"] {
            world.subsystem.attach(world.add(name, false).nsid(), "a").expect("attached");
        }
        let page = asking.log(id::ANA, 0, 56).expect("read");
        assert_eq!(page[8..10], [1, 0]);
        assert_eq!(page[16..24], [1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(page[32], 1);
        assert_eq!(page[48..], [1, 0, 0, 0, 2, 0, 0, 0]);
        let groups = asking.answer(admin::GET_LOG_PAGE, 0, [0xB_010C, 0, 0, 0, 0]);
        assert_eq!(data(groups).expect("read")[16..24], [1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn smart_data_is_of_what_the_host_sees() {
        let world = World::new();
        let asking = world.ready("a");
        world.subsystem.attach(world.add("d0", false).nsid(), "a").expect("attached");
        world.subsystem.attach(world.add("d1", false).nsid(), "b").expect("attached");
        let status = Status::LBA_OUT_OF_RANGE;
        let failure = Failure { queue_id: 1, cid: 2, opcode: 2, status, lba: 3, nsid: 1, parameter: 0xFFFF };
        asking.controller.count_error(&failure);
        for nsid in [0, 1, u32::MAX] {
            let page = asking.log(id::SMART, nsid, 512).expect("read");
            assert_eq!((page[0], page[3], page[176]), (0, 100, 1), "{nsid}");
        }
        assert_eq!(asking.log(id::SMART, 2, 512), Err(Status::INVALID_NAMESPACE.final_one()));
        assert_eq!(asking.log(id::ERROR, 0, 64).expect("read")[..4], [1, 0, 0, 0]);
    }
}
