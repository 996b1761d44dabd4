//! Log pages (Base section 5.16.1) and the fields of Get Log Page (Base section 5.16).

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::command::Command;

/// Log Page Identifiers (Base Figure "Log Page Identifiers").
pub mod id {
    /// Supported Log Pages.
    pub const SUPPORTED: u8 = 0x00;
    /// Error Information.
    pub const ERROR: u8 = 0x01;
    /// SMART / Health Information.
    pub const SMART: u8 = 0x02;
    /// Firmware Slot Information.
    pub const FIRMWARE: u8 = 0x03;
    /// Changed Namespace List.
    pub const CHANGED_NAMESPACES: u8 = 0x04;
    /// Commands Supported and Effects.
    pub const EFFECTS: u8 = 0x05;
    /// Asymmetric Namespace Access.
    pub const ANA: u8 = 0x0C;
    /// Feature Identifiers Supported and Effects.
    pub const FEATURES: u8 = 0x12;
    /// Discovery.
    pub const DISCOVERY: u8 = 0x70;
    /// Reservation Notification.
    pub const RESERVATION: u8 = 0x80;
}

/// What a Get Log Page command asks for (Base section 5.16, Figures "Get Log Page - Command Dword 10" to "14").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetLogPage {
    /// [`id`].
    pub page: u8,
    /// Log Specific Field.
    pub specific: u8,
    /// Retain Asynchronous Event: what was reported stays as it is.
    pub retain: bool,
    /// Bytes that the host wants; NUMD counts dwords from 0.
    pub len: u64,
    /// Where in the page to begin.
    pub offset: u64,
    /// Whether the offset counts entries instead of bytes.
    pub offset_is_index: bool,
    /// Command Set Identifier.
    pub command_set: u8,
}

impl From<&Command> for GetLogPage {
    fn from(command: &Command) -> Self {
        let (d10, d11, d14) = (command.cdw10.get(), command.cdw11.get(), command.cdw14.get());
        let dwords = u64::from(d11 & 0xFFFF) << 16 | u64::from(d10 >> 16);
        Self {
            page: d10 as u8,
            specific: (d10 >> 8) as u8 & 0x7F,
            retain: d10 & 1 << 15 != 0,
            len: (dwords + 1) * 4,
            offset: u64::from(command.cdw13.get()) << 32 | u64::from(command.cdw12.get()),
            offset_is_index: d14 & 1 << 23 != 0,
            command_set: (d14 >> 24) as u8,
        }
    }
}

/// Supported Log Pages (Base section 5.16.1.1): a dword for each identifier.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Supported {
    /// Bit 0: supported. Bit 1: the offset may be an index.
    pub pages: [le::U32; 256],
}
const _: () = assert!(size_of::<Supported>() == 1024);

/// An entry of the Error Information log (Base section 5.16.1.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ErrorEntry {
    /// How many errors there were with this one; 0 = no entry.
    pub count: le::U64,
    /// The queue.
    pub queue_id: le::U16,
    /// The command.
    pub cid: le::U16,
    /// The status field.
    pub status: le::U16,
    /// Byte (bits 7:0) and bit (bits 10:8) of the parameter that is wrong; FFFFh if none is.
    pub parameter: le::U16,
    /// The first logical block that had the error.
    pub lba: le::U64,
    /// The namespace.
    pub nsid: le::U32,
    /// Vendor specific log page; 0 = none.
    pub vendor_page: u8,
    /// Transport type.
    pub transport: u8,
    /// Command Set Indicator.
    pub command_set: u8,
    /// The command's opcode.
    pub opcode: u8,
    /// Command specific information.
    pub specific: le::U64,
    /// Transport specific information.
    pub transport_specific: le::U16,
    /// Reserved.
    pub reserved42: [u8; 21],
    /// The format of this entry; 1 says that the opcode is there.
    pub version: u8,
}
const _: () = assert!(size_of::<ErrorEntry>() == 64);

/// No parameter of the command is wrong.
pub const NO_PARAMETER: u16 = 0xFFFF;

/// SMART / Health Information (Base section 5.16.1.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Smart {
    /// Critical Warning.
    pub critical_warning: u8,
    /// Composite Temperature in kelvin.
    pub temperature: le::U16,
    /// Available Spare, in percent.
    pub available_spare: u8,
    /// Available Spare Threshold, in percent.
    pub spare_threshold: u8,
    /// Percentage Used.
    pub percentage_used: u8,
    /// Endurance Group Critical Warning Summary.
    pub endurance_warning: u8,
    /// Reserved.
    pub reserved7: [u8; 25],
    /// Thousands of 512 bytes read, rounded up.
    pub data_units_read: le::U128,
    /// Thousands of 512 bytes written, rounded up.
    pub data_units_written: le::U128,
    /// Read commands.
    pub host_reads: le::U128,
    /// Write commands.
    pub host_writes: le::U128,
    /// Minutes in which I/O was under way.
    pub busy_minutes: le::U128,
    /// Power cycles.
    pub power_cycles: le::U128,
    /// Power-on hours.
    pub power_on_hours: le::U128,
    /// Unsafe shutdowns.
    pub unsafe_shutdowns: le::U128,
    /// Unrecovered media and data integrity errors.
    pub media_errors: le::U128,
    /// Entries that the Error Information log ever had.
    pub error_entries: le::U128,
    /// Temperatures and their times.
    pub temperatures: [u8; 40],
    /// Reserved.
    pub reserved232: [u8; 280],
}
const _: () = assert!(size_of::<Smart>() == 512);

/// Firmware Slot Information (Base section 5.16.1.4).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Firmware {
    /// Active Firmware Info: the slot in bits 2:0.
    pub active: u8,
    /// Reserved.
    pub reserved1: [u8; 7],
    /// Revisions in slots 1 to 7.
    pub revisions: [[u8; 8]; 7],
    /// Reserved.
    pub reserved64: [u8; 448],
}
const _: () = assert!(size_of::<Firmware>() == 512);

/// Namespaces in the Changed Namespace List (Base section 5.16.1.5).
pub const CHANGED_NAMESPACES: usize = 1024;

/// Commands Supported and Effects (Base section 5.16.1.6).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Effects {
    /// Admin commands by opcode.
    pub admin: [le::U32; 256],
    /// I/O commands by opcode.
    pub io: [le::U32; 256],
    /// Reserved.
    pub reserved2048: [u8; 2048],
}
const _: () = assert!(size_of::<Effects>() == 4096);

/// What a command does (Base Figure "Commands Supported and Effects Data Structure").
pub mod effect {
    /// Command Supported.
    pub const SUPPORTED: u32 = 1 << 0;
    /// Logical Block Content Change.
    pub const CHANGES_CONTENT: u32 = 1 << 1;
    /// Scope: the namespace.
    pub const SCOPE_NAMESPACE: u32 = 1 << 20;
    /// Scope: the controller.
    pub const SCOPE_CONTROLLER: u32 = 1 << 21;
}

/// The beginning of the Asymmetric Namespace Access log (Base section 5.16.1.13).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AnaHeader {
    /// Changes since the controller was reset.
    pub changes: le::U64,
    /// Groups that follow.
    pub groups: le::U16,
    /// Reserved.
    pub reserved10: [u8; 6],
}
const _: () = assert!(size_of::<AnaHeader>() == 16);

/// An ANA Group Descriptor; namespace identifiers follow (Base section 5.16.1.13).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AnaGroup {
    /// The group.
    pub group: le::U32,
    /// Namespace identifiers that follow.
    pub namespaces: le::U32,
    /// Changes of this group.
    pub changes: le::U64,
    /// The state in bits 3:0.
    pub state: u8,
    /// Reserved.
    pub reserved17: [u8; 15],
}
const _: () = assert!(size_of::<AnaGroup>() == 32);

/// ANA state: Optimized.
pub const ANA_OPTIMIZED: u8 = 0x01;
/// Log Specific Field of the ANA log, Return Groups Only: without namespace identifiers.
pub const ANA_GROUPS_ONLY: u8 = 1 << 0;

/// Feature Identifiers Supported and Effects (Base section 5.16.1.18): a dword for each feature.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Features {
    /// [`effect`] bits; the scopes are the same.
    pub features: [le::U32; 256],
}
const _: () = assert!(size_of::<Features>() == 1024);

/// The beginning of the Discovery log (Base section 5.16.1.23).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DiscoveryHeader {
    /// Generation Counter.
    pub generation: le::U64,
    /// Number of Records.
    pub records: le::U64,
    /// Record Format; 0.
    pub format: le::U16,
    /// Reserved.
    pub reserved18: [u8; 1006],
}
const _: () = assert!(size_of::<DiscoveryHeader>() == 1024);

/// A Discovery log entry (Base section 5.16.1.23).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DiscoveryEntry {
    /// Transport Type.
    pub transport: u8,
    /// Address Family.
    pub family: u8,
    /// Subsystem Type.
    pub kind: u8,
    /// Transport Requirements.
    pub requirements: u8,
    /// Port ID.
    pub port_id: le::U16,
    /// Controller ID; FFFFh = the dynamic controller model.
    pub controller_id: le::U16,
    /// Entries of the Admin queue.
    pub admin_entries: le::U16,
    /// Entry Flags.
    pub flags: le::U16,
    /// Reserved.
    pub reserved12: [u8; 20],
    /// Transport Service Identifier, padded with spaces: the port.
    pub service: [u8; 32],
    /// Reserved.
    pub reserved64: [u8; 192],
    /// The subsystem's name, padded with zeros.
    pub nqn: [u8; 256],
    /// Transport Address, padded with spaces.
    pub address: [u8; 256],
    /// Transport Specific Address Subtype; for TCP the security type in byte 0.
    pub transport_specific: [u8; 256],
}
const _: () = assert!(size_of::<DiscoveryEntry>() == 1024);

/// Values of a [`DiscoveryEntry`] (Base section 5.16.1.23).
pub mod discovery {
    /// Transport Type: TCP.
    pub const TCP: u8 = 3;
    /// Address Family: IPv4.
    pub const IPV4: u8 = 1;
    /// Address Family: IPv6.
    pub const IPV6: u8 = 2;
    /// Subsystem Type: an NVM subsystem.
    pub const NVM: u8 = 2;
    /// Subsystem Type: the discovery subsystem that gave this log.
    pub const SELF: u8 = 3;
    /// Transport Requirements: a secure channel is not required.
    pub const NOT_SECURE: u8 = 0b10;
    /// Transport Requirements: SQ flow control may be disabled.
    pub const NO_SQ_FLOW_CONTROL: u8 = 1 << 2;
    /// Entry Flags: explicit persistent connections are supported (EPCSD).
    pub const PERSISTENT: u16 = 1 << 1;
    /// Entry Flags: all entries of the same subsystem's ports have the same information (DUPRETINFO).
    pub const SAME_EVERYWHERE: u16 = 1 << 0;
}

/// The Reservation Notification log (Base section 5.16.1.26).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ReservationPage {
    /// Log Page Count; 0 in an empty page.
    pub count: le::U64,
    /// [`ReservationNotice`]; 0 in an empty page.
    pub kind: u8,
    /// Pages that wait behind this one; at most 255.
    pub available: u8,
    /// Reserved.
    pub reserved10: [u8; 2],
    /// The namespace.
    pub nsid: le::U32,
    /// Reserved.
    pub reserved16: Reserved48,
}
const _: () = assert!(size_of::<ReservationPage>() == 64);

/// Reserved bytes; arrays of this length have no `Default`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Reserved48([u8; 48]);

impl Default for Reserved48 {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Reservation Notification Log Page Type (Base section 5.16.1.26).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReservationNotice {
    /// The host's registration was preempted.
    RegistrationPreempted = 1,
    /// A reservation was released.
    ReservationReleased = 2,
    /// The host's reservation was preempted.
    ReservationPreempted = 3,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn fields_lie_where_the_figures_say() {
        assert_eq!(offset_of!(ErrorEntry, lba), 16);
        assert_eq!(offset_of!(ErrorEntry, vendor_page), 28);
        assert_eq!(offset_of!(ErrorEntry, specific), 32);
        assert_eq!(offset_of!(ErrorEntry, version), 63);
        assert_eq!(offset_of!(Smart, data_units_read), 32);
        assert_eq!(offset_of!(Smart, media_errors), 160);
        assert_eq!(offset_of!(Smart, temperatures), 192);
        assert_eq!(offset_of!(Firmware, revisions), 8);
        assert_eq!(offset_of!(DiscoveryEntry, service), 32);
        assert_eq!(offset_of!(DiscoveryEntry, nqn), 256);
        assert_eq!(offset_of!(DiscoveryEntry, address), 512);
        assert_eq!(offset_of!(ReservationPage, nsid), 12);
    }

    #[test]
    fn a_command_is_read_from_all_its_dwords() {
        let command = Command {
            cdw10: 0x0003_8170.into(),
            cdw11: 0x0000_0001.into(),
            cdw12: 0x0000_0010.into(),
            cdw13: 0x0000_0002.into(),
            cdw14: 0x0080_0000.into(),
            ..Command::default()
        };
        let wanted = GetLogPage {
            page: 0x70,
            specific: 1,
            retain: true,
            len: (0x1_0003 + 1) * 4,
            offset: 0x2_0000_0010,
            offset_is_index: true,
            command_set: 0,
        };
        assert_eq!(GetLogPage::from(&command), wanted);
    }
}
