//! Features (Base section 5.27.1) and the fields of Get and Set Features (Base sections 5.15 and 5.27).

/// Feature Identifiers (Base Figure "Feature Identifiers").
pub mod id {
    /// Arbitration.
    pub const ARBITRATION: u8 = 0x01;
    /// Power Management.
    pub const POWER: u8 = 0x02;
    /// Temperature Threshold.
    pub const TEMPERATURE: u8 = 0x04;
    /// Error Recovery (NVM section 4.1.3.2).
    pub const ERROR_RECOVERY: u8 = 0x05;
    /// Volatile Write Cache.
    pub const WRITE_CACHE: u8 = 0x06;
    /// Number of Queues.
    pub const QUEUES: u8 = 0x07;
    /// Write Atomicity Normal (NVM section 4.1.3.3).
    pub const ATOMICITY: u8 = 0x0A;
    /// Asynchronous Event Configuration.
    pub const EVENTS: u8 = 0x0B;
    /// Keep Alive Timer.
    pub const KEEP_ALIVE: u8 = 0x0F;
    /// Host Behavior Support.
    pub const HOST_BEHAVIOR: u8 = 0x16;
    /// Host Identifier.
    pub const HOST_ID: u8 = 0x81;
    /// Reservation Notification Mask.
    pub const RESERVATION_MASK: u8 = 0x82;
    /// Reservation Persistence.
    pub const RESERVATION_PERSISTENCE: u8 = 0x83;
}

/// Set Features, dword 10: the value is to be saved.
pub const SAVE: u32 = 1 << 31;

/// Which value Get Features asks for (Base Figure "Get Features - Command Dword 10").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The value in use.
    Current,
    /// The value after a reset.
    Default,
    /// The saved value.
    Saved,
    /// What can be done with the feature.
    Supported,
}

impl Select {
    /// Bits 10:8 of dword 10.
    pub fn from_dword(dword: u32) -> Option<Self> {
        match dword >> 8 & 0b111 {
            0 => Some(Self::Current),
            1 => Some(Self::Default),
            2 => Some(Self::Saved),
            3 => Some(Self::Supported),
            _ => None,
        }
    }
}

/// What Get Features answers to [`Select::Supported`] (Base Figure "… Supported Capabilities").
pub mod capability {
    /// Each namespace has a value.
    pub const NAMESPACE_SPECIFIC: u32 = 1 << 1;
    /// It can be changed.
    pub const CHANGEABLE: u32 = 1 << 2;
}

/// Bytes of the Host Behavior Support data (Base section 5.27.1.18).
pub const HOST_BEHAVIOR_LEN: usize = 512;
