//! Identify data (Base section 5.17.2, NVM section 4.1.5).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// All Identify data has this many bytes.
pub const LEN: usize = 4096;

/// Controller or Namespace Structure: what is asked for (Base Figure "Identify - CNS Values").
pub mod cns {
    /// Identify Namespace.
    pub const NAMESPACE: u8 = 0x00;
    /// Identify Controller.
    pub const CONTROLLER: u8 = 0x01;
    /// Active Namespace ID list.
    pub const ACTIVE_NAMESPACES: u8 = 0x02;
    /// Namespace Identification Descriptor list.
    pub const DESCRIPTORS: u8 = 0x03;
    /// I/O Command Set specific Identify Namespace.
    pub const NAMESPACE_OF_SET: u8 = 0x05;
    /// I/O Command Set specific Identify Controller.
    pub const CONTROLLER_OF_SET: u8 = 0x06;
    /// I/O Command Set specific Active Namespace ID list.
    pub const ACTIVE_NAMESPACES_OF_SET: u8 = 0x07;
    /// I/O Command Set Independent Identify Namespace.
    pub const NAMESPACE_OF_ANY_SET: u8 = 0x08;
    /// Identify I/O Command Set.
    pub const COMMAND_SETS: u8 = 0x1C;
}

/// Identify Controller (Base section 5.17.2.1). Fields of features that this target does not have are reserved areas here.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Controller {
    /// PCI Vendor ID; 0 over fabrics.
    pub vendor: le::U16,
    /// PCI Subsystem Vendor ID.
    pub subsystem_vendor: le::U16,
    /// Serial Number.
    pub serial: [u8; 20],
    /// Model Number, padded with spaces.
    pub model: [u8; 40],
    /// Firmware Revision, padded with spaces.
    pub firmware: [u8; 8],
    /// Recommended Arbitration Burst.
    pub rab: u8,
    /// IEEE OUI Identifier.
    pub ieee: [u8; 3],
    /// Controller Multi-Path I/O and Namespace Sharing Capabilities.
    pub cmic: u8,
    /// Maximum Data Transfer Size: 2 to this power of 4096 bytes.
    pub mdts: u8,
    /// Controller ID.
    pub controller_id: le::U16,
    /// Version.
    pub version: le::U32,
    /// RTD3 Resume and Entry Latency.
    pub rtd3: [le::U32; 2],
    /// Optional Asynchronous Events Supported.
    pub oaes: le::U32,
    /// Controller Attributes.
    pub ctratt: le::U32,
    /// Read Recovery Levels Supported; reserved.
    pub reserved100: [u8; 11],
    /// Controller Type.
    pub kind: u8,
    /// FRU GUID.
    pub fru_guid: [u8; 16],
    /// Command Retry Delay Times.
    pub crdt: [le::U16; 3],
    /// Reserved; NVMe-MI.
    pub reserved134: [u8; 122],
    /// Optional Admin Command Support.
    pub oacs: le::U16,
    /// Abort Command Limit, less one.
    pub acl: u8,
    /// Asynchronous Event Request Limit, less one.
    pub aerl: u8,
    /// Firmware Updates.
    pub frmw: u8,
    /// Log Page Attributes.
    pub lpa: u8,
    /// Error Log Page Entries, less one.
    pub elpe: u8,
    /// Number of Power States Supported, less one.
    pub npss: u8,
    /// Vendor specific commands to total and unallocated capacity.
    pub reserved264: [u8; 56],
    /// Keep Alive Support: the granularity in 100 ms.
    pub kas: le::U16,
    /// Thermal management, sanitize, host memory buffer, NVM sets.
    pub reserved322: [u8; 20],
    /// ANA Transition Time in seconds.
    pub anatt: u8,
    /// Asymmetric Namespace Access Capabilities.
    pub anacap: u8,
    /// ANA Group Identifier Maximum.
    pub anagrpmax: le::U32,
    /// Number of ANA Group Identifiers.
    pub nanagrpid: le::U32,
    /// Persistent event log, domains, endurance groups.
    pub reserved352: [u8; 160],
    /// Submission Queue Entry Size: most and least.
    pub sqes: u8,
    /// Completion Queue Entry Size: most and least.
    pub cqes: u8,
    /// Maximum Outstanding Commands of a queue.
    pub maxcmd: le::U16,
    /// Number of Namespaces: the largest identifier.
    pub nn: le::U32,
    /// Optional NVM Command Support.
    pub oncs: le::U16,
    /// Fused Operation Support.
    pub fuses: le::U16,
    /// Format NVM Attributes.
    pub fna: u8,
    /// Volatile Write Cache.
    pub vwc: u8,
    /// Atomic Write Unit Normal, in logical blocks less one.
    pub awun: le::U16,
    /// Atomic Write Unit Power Fail, in logical blocks less one.
    pub awupf: le::U16,
    /// Vendor specific I/O commands; namespace write protection.
    pub reserved530: [u8; 2],
    /// Atomic Compare & Write Unit, in logical blocks less one.
    pub acwu: le::U16,
    /// Copy Descriptor Formats Supported.
    pub ocfs: le::U16,
    /// SGL Support.
    pub sgls: le::U32,
    /// Maximum Number of Allowed Namespaces.
    pub mnan: le::U32,
    /// Domains; reserved.
    pub reserved544: [u8; 224],
    /// The subsystem's name.
    pub subnqn: [u8; 256],
    /// Reserved.
    pub reserved1024: [u8; 768],
    /// I/O Queue Command Capsule Supported Size, in 16 bytes.
    pub ioccsz: le::U32,
    /// I/O Queue Response Capsule Supported Size, in 16 bytes.
    pub iorcsz: le::U32,
    /// In Capsule Data Offset, in 16 bytes.
    pub icdoff: le::U16,
    /// Fabrics Controller Attributes.
    pub fcatt: u8,
    /// Maximum SGL Data Block Descriptors.
    pub msdbd: u8,
    /// Optional Fabrics Commands Support.
    pub ofcs: le::U16,
    /// Discovery Controller Type; reserved.
    pub reserved1806: [u8; 242],
    /// Power State Descriptors.
    pub power_states: [[u8; 32]; 32],
    /// Vendor specific.
    pub vendor_specific: [u8; 1024],
}
const _: () = assert!(size_of::<Controller>() == LEN);

/// Values of [`Controller`] fields (Base section 5.17.2.1, NVM section 4.1.5.2).
pub mod controller {
    /// CMIC: the subsystem may have several ports.
    pub const SEVERAL_PORTS: u8 = 1 << 0;
    /// CMIC: the subsystem may have several controllers.
    pub const SEVERAL_CONTROLLERS: u8 = 1 << 1;
    /// CMIC: Asymmetric Namespace Access is reported.
    pub const REPORTS_ANA: u8 = 1 << 3;
    /// CTRATT: 128-bit host identifiers.
    pub const LONG_HOST_ID: u32 = 1 << 0;
    /// CTRATT: Traffic Based Keep Alive.
    pub const TRAFFIC_KEEPS_ALIVE: u32 = 1 << 6;
    /// CNTRLTYPE: I/O controller.
    pub const IO: u8 = 1;
    /// CNTRLTYPE: Discovery controller.
    pub const DISCOVERY: u8 = 2;
    /// FRMW: slot 1 is read only, and there is one slot (bits 3:1).
    pub const ONE_FIXED_FIRMWARE: u8 = 1 << 1 | 1 << 0;
    /// LPA: SMART data of each namespace.
    pub const SMART_OF_NAMESPACE: u8 = 1 << 0;
    /// LPA: Commands Supported and Effects.
    pub const EFFECTS: u8 = 1 << 1;
    /// LPA: extended data for Get Log Page: offsets, long lengths.
    pub const EXTENDED_LOG: u8 = 1 << 2;
    /// LPA: Supported Log Pages, Feature Identifiers Supported, and scopes.
    pub const SUPPORTED_PAGES: u8 = 1 << 5;
    /// ANACAP: the state Optimized is reported.
    pub const ANA_OPTIMIZED: u8 = 1 << 0;
    /// ANACAP: the group of a namespace never changes while it is attached.
    pub const ANA_GROUP_FIXED: u8 = 1 << 6;
    /// ONCS: Compare.
    pub const COMPARE: u16 = 1 << 0;
    /// ONCS: Dataset Management.
    pub const DATASET_MANAGEMENT: u16 = 1 << 2;
    /// ONCS: Write Zeroes.
    pub const WRITE_ZEROES: u16 = 1 << 3;
    /// ONCS: Save field of Set Features and Select field of Get Features.
    pub const SAVE_AND_SELECT: u16 = 1 << 4;
    /// ONCS: reservations.
    pub const RESERVATIONS: u16 = 1 << 5;
    /// ONCS: Verify.
    pub const VERIFY: u16 = 1 << 7;
    /// FUSES: Compare and Write.
    pub const COMPARE_AND_WRITE: u16 = 1 << 0;
    /// VWC: a volatile write cache is present.
    pub const CACHE_PRESENT: u8 = 1 << 0;
    /// VWC: Flush of all namespaces (NSID FFFFFFFFh) is supported.
    pub const FLUSHES_ALL: u8 = 0b11 << 1;
    /// SGLS: SGLs are supported, without alignment.
    pub const SGL: u32 = 1 << 0;
    /// SGLS: a Data Block may name an offset: in-capsule data.
    pub const SGL_OFFSET: u32 = 1 << 20;
    /// SGLS: Transport SGL Data Blocks.
    pub const SGL_TRANSPORT: u32 = 1 << 21;
}

/// An LBA format (NVM section 4.1.5.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LbaFormat {
    /// Metadata Size.
    pub metadata: le::U16,
    /// LBA Data Size, as a power of two.
    pub data: u8,
    /// Relative Performance.
    pub performance: u8,
}
const _: () = assert!(size_of::<LbaFormat>() == 4);

/// Identify Namespace of the NVM Command Set (NVM section 4.1.5.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Namespace {
    /// Namespace Size in logical blocks.
    pub nsze: le::U64,
    /// Namespace Capacity in logical blocks.
    pub ncap: le::U64,
    /// Namespace Utilization in logical blocks.
    pub nuse: le::U64,
    /// Namespace Features.
    pub nsfeat: u8,
    /// Number of LBA Formats, less one.
    pub nlbaf: u8,
    /// Formatted LBA Size.
    pub flbas: u8,
    /// Metadata and data protection capabilities and settings.
    pub protection: [u8; 3],
    /// Namespace Multi-path I/O and Namespace Sharing Capabilities.
    pub nmic: u8,
    /// Reservation Capabilities.
    pub rescap: u8,
    /// Format Progress Indicator.
    pub fpi: u8,
    /// Deallocate Logical Block Features.
    pub dlfeat: u8,
    /// Namespace Atomic Write Unit Normal, less one.
    pub nawun: le::U16,
    /// Namespace Atomic Write Unit Power Fail, less one.
    pub nawupf: le::U16,
    /// Namespace Atomic Compare & Write Unit, less one.
    pub nacwu: le::U16,
    /// Atomic boundaries.
    pub boundaries: [le::U16; 3],
    /// Namespace Optimal I/O Boundary.
    pub noiob: le::U16,
    /// NVM Capacity in bytes.
    pub nvmcap: le::U128,
    /// Namespace Preferred Write Granularity, less one.
    pub npwg: le::U16,
    /// Namespace Preferred Write Alignment, less one.
    pub npwa: le::U16,
    /// Namespace Preferred Deallocate Granularity, less one.
    pub npdg: le::U16,
    /// Namespace Preferred Deallocate Alignment, less one.
    pub npda: le::U16,
    /// Namespace Optimal Write Size, less one.
    pub nows: le::U16,
    /// Copy limits; reserved.
    pub reserved74: [u8; 18],
    /// ANA Group Identifier.
    pub anagrpid: le::U32,
    /// Reserved.
    pub reserved96: [u8; 3],
    /// Namespace Attributes.
    pub nsattr: u8,
    /// NVM Set and Endurance Group.
    pub sets: [le::U16; 2],
    /// Namespace Globally Unique Identifier.
    pub nguid: [u8; 16],
    /// IEEE Extended Unique Identifier.
    pub eui64: [u8; 8],
    /// LBA Formats.
    pub lba_formats: [LbaFormat; 64],
    /// Vendor specific.
    pub vendor_specific: [u8; 3712],
}
const _: () = assert!(size_of::<Namespace>() == LEN);

/// Values of [`Namespace`] fields (NVM section 4.1.5.1).
pub mod namespace {
    /// NSFEAT: NAWUN, NAWUPF and NACWU are this namespace's own.
    pub const OWN_ATOMICITY: u8 = 1 << 1;
    /// NSFEAT: NPWG, NPWA, NPDG, NPDA and NOWS are there.
    pub const PREFERRED_SIZES: u8 = 1 << 4;
    /// NMIC: it may be attached to several controllers of several hosts.
    pub const SHARED: u8 = 1 << 0;
    /// RESCAP: Persist Through Power Loss, all six reservation types, and IEKEY as revision 1.3 has it.
    pub const ALL_RESERVATIONS: u8 = 0xFF;
    /// DLFEAT: Write Zeroes may deallocate. Bits 2:0 stay 0: what deallocated blocks read as is not reported.
    pub const WRITE_ZEROES_DEALLOCATES: u8 = 1 << 3;
}

/// I/O Command Set Independent Identify Namespace (Base section 5.17.2.8).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IndependentNamespace {
    /// Common Namespace Features.
    pub nsfeat: u8,
    /// As in [`Namespace`].
    pub nmic: u8,
    /// As in [`Namespace`].
    pub rescap: u8,
    /// As in [`Namespace`].
    pub fpi: u8,
    /// As in [`Namespace`].
    pub anagrpid: le::U32,
    /// As in [`Namespace`].
    pub nsattr: u8,
    /// Reserved.
    pub reserved9: u8,
    /// NVM Set and Endurance Group.
    pub sets: [le::U16; 2],
    /// Namespace Status: bit 0, ready.
    pub nstat: u8,
    /// Reserved.
    pub reserved15: [u8; 4081],
}
const _: () = assert!(size_of::<IndependentNamespace>() == LEN);

/// NSTAT: the namespace is ready.
pub const NAMESPACE_READY: u8 = 1 << 0;

/// The header of a Namespace Identification Descriptor (Base section 5.17.2.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DescriptorHeader {
    /// Namespace Identifier Type.
    pub kind: u8,
    /// Bytes that follow.
    pub len: u8,
    /// Reserved.
    pub reserved2: [u8; 2],
}
const _: () = assert!(size_of::<DescriptorHeader>() == 4);

/// Namespace Identifier Type (Base section 5.17.2.3).
pub mod descriptor {
    /// Namespace Globally Unique Identifier; 16 bytes.
    pub const NGUID: u8 = 2;
    /// UUID; 16 bytes.
    pub const UUID: u8 = 3;
    /// Command Set Identifier; one byte.
    pub const COMMAND_SET: u8 = 4;
}

/// Command Set Identifier: the NVM Command Set (Base Figure "I/O Command Set Identifier").
pub const NVM_COMMAND_SET: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn controller_fields_lie_where_the_figure_says() {
        for (found, wanted) in [
            (offset_of!(Controller, rab), 72),
            (offset_of!(Controller, cmic), 76),
            (offset_of!(Controller, mdts), 77),
            (offset_of!(Controller, controller_id), 78),
            (offset_of!(Controller, oaes), 92),
            (offset_of!(Controller, ctratt), 96),
            (offset_of!(Controller, kind), 111),
            (offset_of!(Controller, crdt), 128),
            (offset_of!(Controller, oacs), 256),
            (offset_of!(Controller, lpa), 261),
            (offset_of!(Controller, npss), 263),
            (offset_of!(Controller, kas), 320),
            (offset_of!(Controller, anatt), 342),
            (offset_of!(Controller, nanagrpid), 348),
            (offset_of!(Controller, sqes), 512),
            (offset_of!(Controller, maxcmd), 514),
            (offset_of!(Controller, nn), 516),
            (offset_of!(Controller, oncs), 520),
            (offset_of!(Controller, vwc), 525),
            (offset_of!(Controller, acwu), 532),
            (offset_of!(Controller, sgls), 536),
            (offset_of!(Controller, mnan), 540),
            (offset_of!(Controller, subnqn), 768),
            (offset_of!(Controller, ioccsz), 1792),
            (offset_of!(Controller, msdbd), 1803),
            (offset_of!(Controller, power_states), 2048),
            (offset_of!(Controller, vendor_specific), 3072),
        ] {
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn namespace_fields_lie_where_the_figure_says() {
        for (found, wanted) in [
            (offset_of!(Namespace, nsfeat), 24),
            (offset_of!(Namespace, nmic), 30),
            (offset_of!(Namespace, rescap), 31),
            (offset_of!(Namespace, dlfeat), 33),
            (offset_of!(Namespace, nacwu), 38),
            (offset_of!(Namespace, noiob), 46),
            (offset_of!(Namespace, nvmcap), 48),
            (offset_of!(Namespace, npwg), 64),
            (offset_of!(Namespace, nows), 72),
            (offset_of!(Namespace, anagrpid), 92),
            (offset_of!(Namespace, nsattr), 99),
            (offset_of!(Namespace, nguid), 104),
            (offset_of!(Namespace, eui64), 120),
            (offset_of!(Namespace, lba_formats), 128),
            (offset_of!(IndependentNamespace, anagrpid), 4),
            (offset_of!(IndependentNamespace, nstat), 14),
        ] {
            assert_eq!(found, wanted);
        }
    }
}
