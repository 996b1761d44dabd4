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
