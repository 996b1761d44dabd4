//! Controller properties and what writing them sets off (Base sections 3.1.3, 3.5 and 3.6).

use super::super::subsystem::Limits;
use super::super::wire::fabrics::Property;
use super::super::wire::property::{cap, cc, crto, csts, size, vs};
use super::super::wire::status::Status;

/// How long a host waits for CSTS to follow CC, in 500 ms. A shutdown flushes disks, which is the only thing here that takes time.
const TIMEOUT_500MS: u16 = 30;
/// Queue entry sizes over fabrics: 64 and 16 bytes (Base section 3.3.1).
const IOSQES: u32 = 6;
const IOCQES: u32 = 4;

/// Controller Configuration and Status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties {
    cc: u32,
    csts: u32,
}

/// What a write sets off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The controller is ready.
    Ready,
    /// The controller was enabled in a way that it cannot work.
    Failed,
    /// The controller was reset.
    Reset,
    /// The host wants to shut the controller down.
    ShutDown,
}

impl Properties {
    /// Whether commands other than fabrics commands are served.
    pub(super) fn is_ready(&self) -> bool {
        self.csts == csts::RDY
    }

    /// Property Get (Base section 6.5).
    pub(super) fn get(&self, command: &Property, limits: &Limits) -> Result<u64, Status> {
        let (wanted, value) = match command.offset.get() {
            cap::OFFSET => (size::EIGHT, capabilities(limits)),
            vs::OFFSET => (size::FOUR, vs::NVME_2_0.into()),
            cc::OFFSET => (size::FOUR, self.cc.into()),
            csts::OFFSET => (size::FOUR, self.csts.into()),
            crto::OFFSET => (size::FOUR, TIMEOUT_500MS.into()),
            _ => return Err(Status::INVALID_FIELD.final_one()),
        };
        if command.attributes & 0b111 != wanted {
            return Err(Status::INVALID_FIELD.final_one());
        }
        Ok(value)
    }

    /// Property Set (Base section 6.6): only CC can be written.
    pub(super) fn set(&mut self, command: &Property, is_io: bool) -> Result<Change, Status> {
        let value = command.value.get() as u32;
        let writes_cc = command.offset.get() == cc::OFFSET && command.attributes & 0b111 == size::FOUR;
        if !writes_cc || cc::shn(value) == cc::SHN_RESERVED {
            return Err(Status::INVALID_FIELD.final_one());
        }
        let before = std::mem::replace(&mut self.cc, value);
        match (before & cc::EN != 0, value & cc::EN != 0) {
            (true, false) => {
                self.csts = 0;
                Ok(Change::Reset)
            }
            (false, true) if is_usable(value, is_io) => {
                self.csts = csts::RDY;
                Ok(Change::Ready)
            }
            (false, true) => {
                self.csts = csts::CFS;
                Ok(Change::Failed)
            }
            _ if cc::shn(value) != 0 && self.csts & (csts::SHST_OCCURRING | csts::SHST_COMPLETE) == 0 => {
                self.csts |= csts::SHST_OCCURRING;
                Ok(Change::ShutDown)
            }
            _ => Ok(Change::None),
        }
    }

    /// The shutdown is complete, or has failed in a way that the host has to know of. Says whether there was one: the controller may have
    /// been reset in the meantime.
    pub(super) fn shut_down(&mut self, failed: bool) -> bool {
        if self.csts & csts::SHST_OCCURRING == 0 {
            return false;
        }
        let fatal = if failed { csts::CFS } else { 0 };
        self.csts = self.csts & !csts::SHST_OCCURRING | csts::SHST_COMPLETE | fatal;
        true
    }
}

fn capabilities(limits: &Limits) -> u64 {
    u64::from(limits.queue_entries - 1)
        | cap::CQR
        | u64::from(TIMEOUT_500MS) << cap::TO_SHIFT
        | cap::CSS_NVM
        | cap::CSS_SETS
        | cap::CRMS_WITH_MEDIA
}

/// Whether a controller can work as configured: pages of 4 KiB, round robin, a command set that is there, and entries as they are.
fn is_usable(value: u32, is_io: bool) -> bool {
    let entries = !is_io || (cc::iosqes(value) == IOSQES && cc::iocqes(value) == IOCQES);
    let sets = matches!(cc::css(value), cc::CSS_NVM | cc::CSS_ALL);
    entries && sets && cc::mps(value) == 0 && cc::ams(value) == 0 && value & cc::CRIME == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    /// What Linux writes: EN, 64-byte and 16-byte entries.
    const ENABLE: u32 = 0x0046_0001;

    fn command(offset: u32, attributes: u8, value: u32) -> Property {
        let mut command = Property::new_zeroed();
        command.offset = offset.into();
        command.attributes = attributes;
        command.value = u64::from(value).into();
        command
    }

    fn write(properties: &mut Properties, value: u32) -> Result<Change, Status> {
        properties.set(&command(cc::OFFSET, 0, value), true)
    }

    fn csts_of(properties: &Properties) -> u64 {
        properties.get(&command(csts::OFFSET, 0, 0), &Limits::default()).expect("readable")
    }

    #[test]
    fn capabilities_say_what_is_there() {
        let limits = Limits { queue_entries: 128, ..Limits::default() };
        let cap = Properties::default().get(&command(cap::OFFSET, 1, 0), &limits).expect("readable");
        assert_eq!(cap & 0xFFFF, 127, "MQES");
        assert_eq!(cap >> 16 & 1, 1, "CQR");
        assert_eq!(cap >> 24 & 0xFF, 30, "TO");
        assert_eq!(cap >> 37 & 0xFF, 0b0100_0001, "CSS");
        assert_eq!(cap >> 48 & 0xFF, 0, "only pages of 4 KiB");
        assert_eq!(cap >> 59 & 0b11, 0b01, "CRMS");
        assert_eq!(Properties::default().get(&command(vs::OFFSET, 0, 0), &limits), Ok(0x0002_0000));
    }

    #[test]
    fn a_wrong_size_or_offset_is_refused() {
        let (mut properties, limits) = (Properties::default(), Limits::default());
        for (offset, attributes) in [(cap::OFFSET, 0), (cc::OFFSET, 1), (csts::OFFSET, 2), (0x20, 0), (4, 0), (!0, 0)] {
            let refused = Err(Status::INVALID_FIELD.final_one());
            assert_eq!(properties.get(&command(offset, attributes, 0), &limits), refused, "{offset:x}");
        }
        for (offset, attributes) in [(cap::OFFSET, 1), (cc::OFFSET, 1), (csts::OFFSET, 0), (0x20, 0)] {
            assert!(properties.set(&command(offset, attributes, 1), true).is_err(), "{offset:x}");
        }
        assert_eq!(properties, Properties::default());
    }

    #[test]
    fn enabling_resetting_and_shutting_down_show_in_the_status() {
        let mut properties = Properties::default();
        assert_eq!(write(&mut properties, ENABLE), Ok(Change::Ready));
        assert!(properties.is_ready());
        assert_eq!(write(&mut properties, ENABLE), Ok(Change::None));
        assert_eq!(write(&mut properties, ENABLE | 1 << 14), Ok(Change::ShutDown));
        assert_eq!(csts_of(&properties), 0b0101, "under way");
        assert_eq!(write(&mut properties, ENABLE | 1 << 14), Ok(Change::None), "once");
        assert!(properties.shut_down(false));
        assert_eq!(csts_of(&properties), 0b1001, "complete");
        assert!(!properties.is_ready());
        assert_eq!(write(&mut properties, ENABLE & !1), Ok(Change::Reset));
        assert_eq!(csts_of(&properties), 0);
        assert!(!properties.shut_down(false));
        assert_eq!(csts_of(&properties), 0, "a reset ended the shutdown");
    }

    #[test]
    fn what_cannot_work_is_a_fatal_status() {
        for wrong in [
            0x0000_0001,
            0x0045_0001,
            0x0056_0001,
            ENABLE | 1 << 7,
            ENABLE | 1 << 11,
            ENABLE | 0b111 << 4,
            ENABLE | 1 << 24,
        ] {
            let mut properties = Properties::default();
            assert_eq!(write(&mut properties, wrong), Ok(Change::Failed), "{wrong:x}");
            assert_eq!(csts_of(&properties), u64::from(csts::CFS));
            assert_eq!(write(&mut properties, 0), Ok(Change::Reset), "and can be left again");
        }
        assert_eq!(write(&mut Properties::default(), 3 << 14), Err(Status::INVALID_FIELD.final_one()));
        let mut discovery = Properties::default();
        assert_eq!(
            discovery.set(&command(cc::OFFSET, 0, 1), false),
            Ok(Change::Ready),
            "no I/O queues, no entry sizes"
        );
        assert_eq!(write(&mut Properties::default(), ENABLE | 0b110 << 4), Ok(Change::Ready), "all command sets");
    }
}
