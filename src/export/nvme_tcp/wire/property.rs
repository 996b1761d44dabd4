//! Controller properties that NVMe over Fabrics has (Base section 3.1.3).

/// Controller Capabilities (Base section 3.1.3.1): offset, and where its fields begin.
pub mod cap {
    /// The property's offset; eight bytes.
    pub const OFFSET: u32 = 0x00;
    /// Contiguous Queues Required: always, over fabrics.
    pub const CQR: u64 = 1 << 16;
    /// Timeout, in 500 ms, from this bit on.
    pub const TO_SHIFT: u32 = 24;
    /// The NVM Command Set is there.
    pub const CSS_NVM: u64 = 1 << 37;
    /// The Identify I/O Command Set data says which command sets are there.
    pub const CSS_SETS: u64 = 1 << 43;
    /// The controller becomes ready when its media are.
    pub const CRMS_WITH_MEDIA: u64 = 1 << 59;
}

/// Version (Base section 3.1.3.2).
pub mod vs {
    /// The property's offset; four bytes.
    pub const OFFSET: u32 = 0x08;
    /// Version 2.0.0.
    pub const NVME_2_0: u32 = 0x0002_0000;
}

/// Controller Configuration (Base section 3.1.3.5).
pub mod cc {
    /// The property's offset; four bytes.
    pub const OFFSET: u32 = 0x14;
    /// Enable.
    pub const EN: u32 = 1 << 0;

    /// I/O Command Set Selected.
    pub const fn css(value: u32) -> u32 {
        value >> 4 & 0x7
    }

    /// CSS: the NVM Command Set.
    pub const CSS_NVM: u32 = 0;
    /// CSS: all that the controller has.
    pub const CSS_ALL: u32 = 0b110;

    /// Memory Page Size: 2 to the power of (12 + value).
    pub const fn mps(value: u32) -> u32 {
        value >> 7 & 0xF
    }

    /// Arbitration Mechanism Selected.
    pub const fn ams(value: u32) -> u32 {
        value >> 11 & 0x7
    }

    /// Shutdown Notification.
    pub const fn shn(value: u32) -> u32 {
        value >> 14 & 0x3
    }

    /// SHN: the reserved value.
    pub const SHN_RESERVED: u32 = 0b11;

    /// I/O Submission Queue Entry Size, as a power of two.
    pub const fn iosqes(value: u32) -> u32 {
        value >> 16 & 0xF
    }

    /// I/O Completion Queue Entry Size, as a power of two.
    pub const fn iocqes(value: u32) -> u32 {
        value >> 20 & 0xF
    }

    /// Controller Ready Independent of Media Enable.
    pub const CRIME: u32 = 1 << 24;
}

/// Controller Status (Base section 3.1.3.6).
pub mod csts {
    /// The property's offset; four bytes.
    pub const OFFSET: u32 = 0x1C;
    /// Ready.
    pub const RDY: u32 = 1 << 0;
    /// Controller Fatal Status.
    pub const CFS: u32 = 1 << 1;
    /// Shutdown Status: under way.
    pub const SHST_OCCURRING: u32 = 0b01 << 2;
    /// Shutdown Status: complete.
    pub const SHST_COMPLETE: u32 = 0b10 << 2;
}

/// Controller Ready Timeouts (Base section 3.1.3.20).
pub mod crto {
    /// The property's offset; four bytes.
    pub const OFFSET: u32 = 0x68;
}

/// Bits 2:0 of a property command's attributes: the size (Base section 6.5).
pub mod size {
    /// Four bytes.
    pub const FOUR: u8 = 0;
    /// Eight bytes.
    pub const EIGHT: u8 = 1;
}
