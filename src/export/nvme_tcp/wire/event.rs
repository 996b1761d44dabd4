//! Asynchronous events (Base section 5.2.1): dword 0 of an Asynchronous Event Request's completion.

/// Asynchronous Event Type.
pub mod kind {
    /// Notice.
    pub const NOTICE: u8 = 2;
    /// I/O Command specific status: reservations.
    pub const IO_COMMAND: u8 = 6;
}

/// Asynchronous Event Information of a notice (Base Figure "Asynchronous Event Information - Notice").
pub mod notice {
    /// Namespace Attribute Changed.
    pub const NAMESPACE_ATTRIBUTE_CHANGED: u8 = 0x00;
    /// Discovery Log Page Change.
    pub const DISCOVERY_LOG_CHANGE: u8 = 0xF0;
}

/// Asynchronous Event Information of an I/O Command event (Base Figure "… - I/O Command Specific Status").
pub mod io_command {
    /// Reservation Log Page Available.
    pub const RESERVATION_LOG: u8 = 0x00;
}

/// Dword 0: the type in bits 2:0, the information in bits 15:8, the log page to read in bits 23:16.
pub const fn dword(kind: u8, information: u8, log_page: u8) -> u32 {
    kind as u32 | (information as u32) << 8 | (log_page as u32) << 16
}

/// Bits of OAES and of the feature Asynchronous Event Configuration (Base sections 5.17.2.1 and 5.27.1.8).
pub mod enabled {
    /// SMART / Health Critical Warnings.
    pub const CRITICAL_WARNINGS: u32 = 0xFF;
    /// Namespace Attribute Notices.
    pub const NAMESPACE_ATTRIBUTES: u32 = 1 << 8;
    /// Discovery Log Page Change Notification.
    pub const DISCOVERY_LOG: u32 = 1 << 31;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dword_has_type_information_and_log_page() {
        assert_eq!(dword(kind::NOTICE, notice::NAMESPACE_ATTRIBUTE_CHANGED, 0x04), 0x0004_0002);
        assert_eq!(dword(kind::NOTICE, notice::DISCOVERY_LOG_CHANGE, 0x70), 0x0070_F002);
        assert_eq!(dword(kind::IO_COMMAND, io_command::RESERVATION_LOG, 0x80), 0x0080_0006);
    }
}
