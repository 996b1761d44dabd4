//! Get Features and Set Features (Base sections 5.15 and 5.27, NVM section 4.1.3).
//!
//! No feature can be saved: a controller lives as long as its association. What a host sets is there until the controller is reset.

use std::collections::BTreeMap;

use zerocopy::{FromZeros, IntoBytes};

use super::super::subsystem::Limits;
use super::super::wire::command::Command;
use super::super::wire::event::enabled;
use super::super::wire::feature::{HOST_BEHAVIOR_LEN, SAVE, Select, capability, id};
use super::super::wire::log_page::{Features as FeaturesPage, ReservationNotice, effect};
use super::super::wire::status::Status;
use super::answer::Then;
use super::{Admin, Answer, Controller, Flush, Owner};

/// The features of an I/O controller.
pub(super) const IO: &[u8] = &[
    id::ARBITRATION,
    id::POWER,
    id::TEMPERATURE,
    id::ERROR_RECOVERY,
    id::WRITE_CACHE,
    id::QUEUES,
    id::ATOMICITY,
    id::EVENTS,
    id::KEEP_ALIVE,
    id::HOST_BEHAVIOR,
    id::HOST_ID,
    id::RESERVATION_MASK,
    id::RESERVATION_PERSISTENCE,
];
/// The features of a discovery controller.
pub(super) const DISCOVERY: &[u8] = &[id::EVENTS, id::KEEP_ALIVE];

/// Arbitration: a burst without limit. Round robin is all there is, so weights mean nothing.
const NO_BURST_LIMIT: u32 = 0b111;
/// Error Recovery: report reads of deallocated blocks (DULBE); no namespace can (NSFEAT).
const DULBE: u32 = 1 << 16;
/// Temperature Threshold: all sensors, of which there is one, the composite temperature.
const ALL_SENSORS: u32 = 0xF;
/// Get Host Identifier: the 128-bit form (EXHID), which is the only one over fabrics (Base section 5.27.1.25).
const EXTENDED_HOST_ID: u32 = 1 << 0;
/// Host Behavior Support: retry delays, extended telemetry, LBA format extension; each 0 or 1.
const BEHAVIORS: usize = 3;
/// NSID: all namespaces.
const ALL_NAMESPACES: u32 = u32::MAX;

/// What the host has set.
#[derive(Clone, Debug)]
pub(super) struct Features {
    arbitration: u32,
    over_temperature: u16,
    under_temperature: u16,
    error_recovery: u32,
    atomicity: u32,
    pub(super) write_cache: bool,
    events: u32,
    pub(super) keep_alive_ms: u32,
    behaviors: [u8; BEHAVIORS],
    /// I/O queues that the host may connect.
    pub(super) io_queues: u16,
    /// Masked reservation notifications of namespaces; 0 where there is no entry.
    reservation_masks: BTreeMap<u32, u32>,
}

impl Features {
    pub(super) fn new(limits: &Limits, keep_alive_ms: u32) -> Self {
        Self {
            arbitration: NO_BURST_LIMIT,
            over_temperature: 0xFFFF,
            under_temperature: 0,
            error_recovery: 0,
            atomicity: 0,
            write_cache: true,
            events: 0,
            keep_alive_ms,
            behaviors: [0; BEHAVIORS],
            io_queues: limits.io_queues,
            reservation_masks: BTreeMap::new(),
        }
    }

    /// Whether the host wants to hear of this.
    pub(super) fn wants_event(&self, bit: u32) -> bool {
        self.events & bit != 0
    }

    /// Whether the host wants to hear of what became of its reservations (Base section 5.27.1.26: a bit for each type).
    pub(super) fn wants_notice(&self, nsid: u32, what: ReservationNotice) -> bool {
        self.reservation_masks.get(&nsid).is_none_or(|mask| mask & 1 << what as u32 == 0)
    }

    /// Dword 0 for a feature whose value is a number of the whole controller.
    fn dword(&self, feature: u8, dword11: u32) -> Result<u32, Status> {
        let queues = u32::from(self.io_queues - 1);
        Ok(match feature {
            id::ARBITRATION => self.arbitration,
            id::POWER => 0,
            id::TEMPERATURE => match threshold(dword11)? {
                Threshold::Over => self.over_temperature.into(),
                Threshold::Under => self.under_temperature.into(),
            },
            id::ERROR_RECOVERY => self.error_recovery,
            id::WRITE_CACHE => self.write_cache.into(),
            id::QUEUES => queues << 16 | queues,
            id::ATOMICITY => self.atomicity,
            id::EVENTS => self.events,
            id::KEEP_ALIVE => self.keep_alive_ms,
            id::HOST_BEHAVIOR | id::HOST_ID => 0,
            _ => return Err(Status::INVALID_FIELD.final_one()),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Threshold {
    Over,
    Under,
}

/// Bits 21:20 choose the threshold, bits 19:16 the sensor.
fn threshold(dword11: u32) -> Result<Threshold, Status> {
    match (dword11 >> 20 & 0b11, dword11 >> 16 & 0xF) {
        (0, 0 | ALL_SENSORS) => Ok(Threshold::Over),
        (1, 0 | ALL_SENSORS) => Ok(Threshold::Under),
        _ => Err(Status::INVALID_FIELD.final_one()),
    }
}

fn is_namespace_specific(feature: u8) -> bool {
    matches!(feature, id::RESERVATION_MASK | id::RESERVATION_PERSISTENCE)
}

fn is_changeable(feature: u8) -> bool {
    feature != id::HOST_ID
}

/// Feature Identifiers Supported and Effects (Base section 5.16.1.18).
pub(super) fn page(features: &[u8]) -> Vec<u8> {
    let mut data = FeaturesPage::new_zeroed();
    for &feature in features {
        let scope = if is_namespace_specific(feature) { effect::SCOPE_NAMESPACE } else { effect::SCOPE_CONTROLLER };
        data.features[usize::from(feature)] = (effect::SUPPORTED | scope).into();
    }
    data.as_bytes().to_vec()
}

impl Controller {
    fn has_feature(&self, feature: u8) -> bool {
        let all = if matches!(self.owner, Owner::Subsystem(_)) { IO } else { DISCOVERY };
        all.contains(&feature)
    }

    /// Get Features (Base section 5.15).
    pub(super) fn get_features(&self, command: &Command) -> Result<Admin, Status> {
        let invalid = Status::INVALID_FIELD.final_one();
        let (dword10, dword11, nsid) = (command.cdw10.get(), command.cdw11.get(), command.nsid.get());
        let feature = dword10 as u8;
        let select = Select::from_dword(dword10).filter(|_| self.has_feature(feature)).ok_or(invalid)?;
        if select == Select::Supported {
            let specific = if is_namespace_specific(feature) { capability::NAMESPACE_SPECIFIC } else { 0 };
            let changeable = if is_changeable(feature) { capability::CHANGEABLE } else { 0 };
            return Ok(Answer::result(specific | changeable).into());
        }
        if is_namespace_specific(feature) {
            if nsid == ALL_NAMESPACES {
                return Err(invalid);
            }
            let namespace = self.sees(nsid).ok_or(Status::INVALID_NAMESPACE.final_one())?;
            return Ok(match (feature, select) {
                (_, Select::Default | Select::Saved) => Answer::result(0).into(),
                (id::RESERVATION_PERSISTENCE, _) => Admin::GetPersistence(namespace),
                _ => Answer::result(self.state().features.reservation_masks.get(&nsid).copied().unwrap_or(0)).into(),
            });
        }
        // Nothing can be saved, so the saved value is the default (Base section 5.15.1).
        let current = self.state().features.clone();
        let features = match select {
            Select::Current => current,
            _ => Features::new(self.owner.limits(), self.connected_keep_alive_ms),
        };
        let result = features.dword(feature, dword11)?;
        match feature {
            id::HOST_ID if dword11 & EXTENDED_HOST_ID == 0 => Err(invalid),
            id::HOST_ID => Ok(Answer::with_data(command, self.host_id.0.to_vec()).into()),
            id::HOST_BEHAVIOR => {
                let mut data = features.behaviors.to_vec();
                data.resize(HOST_BEHAVIOR_LEN, 0);
                Ok(Answer::with_data(command, data).into())
            }
            _ => Ok(Answer::result(result).into()),
        }
    }

    /// Set Features (Base section 5.27).
    pub(super) fn set_features(&self, command: &Command, data: &[u8]) -> Result<Admin, Status> {
        let invalid = Status::INVALID_FIELD.final_one();
        let (dword10, value, nsid) = (command.cdw10.get(), command.cdw11.get(), command.nsid.get());
        let feature = dword10 as u8;
        if !self.has_feature(feature) {
            return Err(invalid);
        }
        if dword10 & SAVE != 0 {
            return Err(Status::FEATURE_NOT_SAVEABLE.final_one());
        }
        if is_namespace_specific(feature) {
            return self.set_of_namespaces(feature, nsid, value);
        }
        if nsid != 0 && nsid != ALL_NAMESPACES {
            return Err(Status::FEATURE_NOT_NAMESPACE_SPECIFIC.final_one());
        }
        let mut state = self.state();
        match feature {
            id::ARBITRATION => state.features.arbitration = value,
            // There is one power state.
            id::POWER if value & 0x1F != 0 => return Err(invalid),
            id::POWER => {}
            id::TEMPERATURE => match threshold(value)? {
                Threshold::Over => state.features.over_temperature = value as u16,
                Threshold::Under => state.features.under_temperature = value as u16,
            },
            id::ERROR_RECOVERY if value & DULBE != 0 => return Err(invalid),
            id::ERROR_RECOVERY => state.features.error_recovery = value & 0xFFFF,
            id::WRITE_CACHE => {
                let off = value & 1 == 0;
                let was_on = std::mem::replace(&mut state.features.write_cache, !off);
                self.set_write_through(off);
                if off && was_on {
                    drop(state);
                    return Ok(Admin::Flush(Flush { namespaces: self.namespaces(), then: Then::WriteThrough }));
                }
            }
            id::QUEUES => {
                let (submission, completion) = (value as u16, (value >> 16) as u16);
                if submission == 0xFFFF || completion == 0xFFFF {
                    return Err(invalid);
                }
                // "after initialization … and prior to the creation of I/O queues" (Base section 5.27.1.5).
                if state.queues.has_io() {
                    return Err(Status::SEQUENCE_ERROR.final_one());
                }
                // A submission queue has a completion queue of its own over fabrics.
                let wanted = submission.min(completion) + 1;
                state.features.io_queues = wanted.min(self.owner.limits().io_queues);
                return Ok(Answer::result(state.features.dword(feature, 0)?).into());
            }
            id::ATOMICITY => state.features.atomicity = value & 1,
            id::EVENTS => {
                let known = match self.owner {
                    Owner::Subsystem(_) => enabled::CRITICAL_WARNINGS | enabled::NAMESPACE_ATTRIBUTES,
                    Owner::Discovery(_) => enabled::DISCOVERY_LOG,
                };
                if value & !known != 0 {
                    return Err(invalid);
                }
                state.features.events = value;
            }
            // The TCP transport needs the timer (TCP section 3.1): it cannot be turned off while the controller is in use.
            id::KEEP_ALIVE if value == 0 => return Err(Status::KEEP_ALIVE_INVALID.final_one()),
            id::KEEP_ALIVE => {
                state.features.keep_alive_ms = value;
                self.keep_alive.run(value);
            }
            id::HOST_BEHAVIOR => state.features.behaviors = behaviors(data)?,
            // It came with Connect (Base section 5.27.1.25).
            _ => return Err(Status::SEQUENCE_ERROR.final_one()),
        }
        Ok(Answer::result(0).into())
    }

    /// Features of a namespace, or of all that the host sees.
    fn set_of_namespaces(&self, feature: u8, nsid: u32, value: u32) -> Result<Admin, Status> {
        let namespaces = match nsid {
            ALL_NAMESPACES => self.namespaces().to_vec(),
            one => vec![self.sees(one).ok_or(Status::INVALID_NAMESPACE.final_one())?],
        };
        if feature == id::RESERVATION_PERSISTENCE {
            return Ok(Admin::SetPersistence { namespaces, persists: value & 1 != 0 });
        }
        let mut state = self.state();
        for namespace in namespaces {
            state.features.reservation_masks.insert(namespace.nsid(), value & RESERVATION_MASKS);
        }
        Ok(Answer::result(0).into())
    }
}

/// The notification types that can be masked.
const RESERVATION_MASKS: u32 = 1 << ReservationNotice::RegistrationPreempted as u32
    | 1 << ReservationNotice::ReservationReleased as u32
    | 1 << ReservationNotice::ReservationPreempted as u32;

/// Host Behavior Support (Base section 5.27.1.18).
fn behaviors(data: &[u8]) -> Result<[u8; BEHAVIORS], Status> {
    if data.len() != HOST_BEHAVIOR_LEN {
        return Err(Status::SGL_LENGTH_INVALID.final_one());
    }
    let values: [u8; BEHAVIORS] = std::array::from_fn(|at| data[at]);
    if values.iter().any(|&value| value > 1) {
        return Err(Status::INVALID_FIELD.final_one());
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::super::super::testing::{Asking, Wish, World, command, data, done};
    use super::super::super::wire::opcode::admin;
    use super::*;

    const INVALID: Status = Status::INVALID_FIELD.final_one();

    fn set(asking: &Asking, feature: u8, value: u32) -> Status {
        done(asking.set_feature(feature, 0, value)).status
    }

    /// Get Features with a Select field.
    fn select(asking: &Asking, select: u32, feature: u8, nsid: u32) -> Answer {
        asking.answer(admin::GET_FEATURES, nsid, [select << 8 | u32::from(feature), 0, 0, 0, 0])
    }

    #[test]
    fn values_are_kept_until_the_controller_is_reset() {
        let world = World::new();
        let asking = world.ready("a");
        for (feature, value, default) in [
            (id::ARBITRATION, 3, 7),
            (id::TEMPERATURE, 0x0150, 0xFFFF),
            (id::ERROR_RECOVERY, 5, 0),
            (id::ATOMICITY, 1, 0),
            (id::EVENTS, 0x1FF, 0),
            (id::KEEP_ALIVE, 9000, 5000),
        ] {
            assert_eq!(asking.get_feature(feature, 0), Ok(default), "{feature:x}");
            assert_eq!(set(&asking, feature, value), Status::SUCCESS, "{feature:x}");
            assert_eq!(asking.get_feature(feature, 0), Ok(value.into()), "{feature:x}");
            for saved in [1, 2] {
                assert_eq!(select(&asking, saved, feature, 0), Answer::result(default as u32), "{feature:x}");
            }
            assert_eq!(select(&asking, 3, feature, 0), Answer::result(0b100), "{feature:x}");
            assert_eq!(select(&asking, 4, feature, 0).status, INVALID, "{feature:x}");
        }
        done(asking.property_set(0x14, 0));
        asking.enable();
        assert_eq!(asking.get_feature(id::EVENTS, 0), Ok(0));
        assert_eq!(asking.get_feature(id::KEEP_ALIVE, 0), Ok(5000));
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        let world = World::new();
        let asking = world.ready("a");
        for (feature, value, status) in [
            (id::POWER, 1, INVALID),
            (id::TEMPERATURE, 1 << 16, INVALID),
            (id::TEMPERATURE, 2 << 20, INVALID),
            (id::ERROR_RECOVERY, 1 << 16, INVALID),
            (id::EVENTS, 1 << 9, INVALID),
            (id::EVENTS, 1 << 31, INVALID),
            (id::KEEP_ALIVE, 0, Status::KEEP_ALIVE_INVALID.final_one()),
            (id::QUEUES, 0xFFFF, INVALID),
            (id::QUEUES, 0xFFFF_0000, INVALID),
            (id::HOST_ID, 1, Status::SEQUENCE_ERROR.final_one()),
            (0x00, 0, INVALID),
            (0x08, 0, INVALID),
            (0x09, 0, INVALID),
            (0x0E, 0, INVALID),
            (0x84, 0, INVALID),
        ] {
            assert_eq!(set(&asking, feature, value), status, "{feature:x} {value:x}");
        }
        assert_eq!(asking.get_feature(0x08, 0), Err(INVALID));
        let saved = asking.answer(admin::SET_FEATURES, 0, [SAVE | u32::from(id::ARBITRATION), 0, 0, 0, 0]);
        assert_eq!(saved.status, Status::FEATURE_NOT_SAVEABLE.final_one());
        let of_namespace = done(asking.set_feature(id::ARBITRATION, 1, 0)).status;
        assert_eq!(of_namespace, Status::FEATURE_NOT_NAMESPACE_SPECIFIC.final_one());
        assert!(done(asking.set_feature(id::ARBITRATION, u32::MAX, 0)).status.is_success());
    }

    #[test]
    fn queues_are_granted_before_there_are_any() {
        let world = World::new();
        let asking = world.ready("a");
        assert_eq!(asking.get_feature(id::QUEUES, 0), Ok(63 << 16 | 63));
        assert_eq!(done(asking.set_feature(id::QUEUES, 0, 0x03E7_03E7)), Answer::result(63 << 16 | 63), "at most 64");
        assert_eq!(done(asking.set_feature(id::QUEUES, 0, 0x0003_0001)), Answer::result(1 << 16 | 1));
        let connect =
            |queue| Wish::io("a", asking.controller.id(), queue).connect(&world, Arc::default(), Instant::now());
        assert!(connect(3).is_err() && connect(2).is_ok());
        assert_eq!(set(&asking, id::QUEUES, 0), Status::SEQUENCE_ERROR.final_one());
        asking.controller.queue_ended(2);
        assert_eq!(done(asking.set_feature(id::QUEUES, 0, 0)), Answer::result(0));
    }

    #[test]
    fn turning_the_cache_off_flushes_first() {
        let world = World::new();
        world.subsystem.attach(world.add("d0", false).nsid(), "a").expect("attached");
        let asking = world.ready("a");
        assert!(!asking.controller.write_through());
        let Admin::Flush(flush) = asking.set_feature(id::WRITE_CACHE, 0, 0) else { panic!("no flush") };
        assert_eq!(flush.namespaces.len(), 1);
        assert!(asking.controller.write_through(), "from before the flush on");
        let failed = Status::WRITE_FAULT;
        assert_eq!(asking.controller.flushed(&flush, Err(failed)).status, failed);
        assert_eq!(asking.controller.flushed(&flush, Ok(())), Answer::result(0));
        assert_eq!(asking.get_feature(id::WRITE_CACHE, 0), Ok(0));
        assert_eq!(set(&asking, id::WRITE_CACHE, 0), Status::SUCCESS, "nothing to flush");
        assert_eq!(set(&asking, id::WRITE_CACHE, 1), Status::SUCCESS);
        assert!(!asking.controller.write_through());
    }

    #[test]
    fn features_of_namespaces_are_of_those_that_the_host_sees() {
        let world = World::new();
        world.subsystem.attach(world.add("d0", true).nsid(), "a").expect("attached");
        world.subsystem.attach(world.add("d1", true).nsid(), "a").expect("attached");
        world.subsystem.attach(world.add("d2", true).nsid(), "b").expect("attached");
        let asking = world.ready("a");
        let mask = id::RESERVATION_MASK;
        assert!(done(asking.set_feature(mask, 1, u32::MAX)).status.is_success());
        assert_eq!((asking.get_feature(mask, 1), asking.get_feature(mask, 2)), (Ok(0b1110), Ok(0)));
        assert!(done(asking.set_feature(mask, u32::MAX, 1 << 3)).status.is_success());
        assert_eq!((asking.get_feature(mask, 1), asking.get_feature(mask, 2)), (Ok(1 << 3), Ok(1 << 3)));
        assert_eq!(asking.get_feature(mask, u32::MAX), Err(INVALID));
        for nsid in [0, 3, 9] {
            let invalid = Status::INVALID_NAMESPACE.final_one();
            assert_eq!(done(asking.set_feature(mask, nsid, 0)).status, invalid, "{nsid}");
            assert_eq!(asking.get_feature(mask, nsid), Err(invalid), "{nsid}");
        }
        let persistence = id::RESERVATION_PERSISTENCE;
        assert_eq!(select(&asking, 3, persistence, 1), Answer::result(0b110));
        assert_eq!(select(&asking, 1, persistence, 1), Answer::result(0));
        let get = asking.ask(admin::GET_FEATURES, 2, [persistence.into(), 0, 0, 0, 0]);
        assert!(matches!(get, Admin::GetPersistence(namespace) if namespace.nsid() == 2));
        let set = asking.set_feature(persistence, u32::MAX, 1);
        assert!(matches!(set, Admin::SetPersistence { namespaces, persists: true } if namespaces.len() == 2));
    }

    #[test]
    fn the_host_identifier_is_that_of_connect() {
        let asking = World::new().ready("a");
        let get = |exhid| asking.answer(admin::GET_FEATURES, 0, [id::HOST_ID.into(), exhid, 0, 0, 0]);
        assert_eq!(data(get(1)), Ok(vec![b'a'; 16]));
        assert_eq!(get(0).status, INVALID, "64 bits");
        assert_eq!(select(&asking, 3, id::HOST_ID, 0), Answer::result(0), "not changeable");
    }

    #[test]
    fn host_behavior_is_data() {
        let asking = World::new().ready("a");
        let set = |data: &[u8]| {
            let command = command(admin::SET_FEATURES, 0, [id::HOST_BEHAVIOR.into(), 0, 0, 0, 0], 512);
            done(asking.controller.admin(&command, data)).status
        };
        let mut behavior = vec![0; 512];
        behavior[0] = 1;
        assert_eq!(set(&behavior), Status::SUCCESS);
        assert_eq!(data(select(&asking, 0, id::HOST_BEHAVIOR, 0)), Ok(behavior.clone()));
        assert_eq!(data(select(&asking, 1, id::HOST_BEHAVIOR, 0)), Ok(vec![0; 512]));
        behavior[1] = 2;
        assert_eq!(set(&behavior), INVALID);
        assert_eq!(set(&behavior[..511]), Status::SGL_LENGTH_INVALID.final_one());
        assert_eq!(set(&[]), Status::SGL_LENGTH_INVALID.final_one());
    }

    #[test]
    fn a_discovery_controller_has_only_its_own() {
        let asking = World::new().discovering("a");
        assert_eq!(set(&asking, id::EVENTS, 1 << 31), Status::SUCCESS);
        assert_eq!(set(&asking, id::EVENTS, 1 << 8), INVALID);
        assert_eq!(set(&asking, id::KEEP_ALIVE, 1000), Status::SUCCESS);
        assert_eq!(set(&asking, id::QUEUES, 0), INVALID);
        assert_eq!(asking.get_feature(id::WRITE_CACHE, 0), Err(INVALID));
    }
}
