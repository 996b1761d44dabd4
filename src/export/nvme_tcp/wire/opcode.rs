//! Opcodes. Bits 1:0 say in which direction data goes (Base section 3.3.3.1).

/// Commands of the Admin queue (Base section 5, Figure "Opcodes for Admin Commands").
pub mod admin {
    /// Get Log Page (Base section 5.16).
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Identify (Base section 5.17).
    pub const IDENTIFY: u8 = 0x06;
    /// Abort (Base section 5.1).
    pub const ABORT: u8 = 0x08;
    /// Set Features (Base section 5.27).
    pub const SET_FEATURES: u8 = 0x09;
    /// Get Features (Base section 5.15).
    pub const GET_FEATURES: u8 = 0x0A;
    /// Asynchronous Event Request (Base section 5.2).
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0C;
    /// Keep Alive (Base section 5.18).
    pub const KEEP_ALIVE: u8 = 0x18;
}

/// I/O commands (Base section 7, NVM section 3).
pub mod io {
    /// Flush (Base section 7.1).
    pub const FLUSH: u8 = 0x00;
    /// Write (NVM section 3.2.6).
    pub const WRITE: u8 = 0x01;
    /// Read (NVM section 3.2.4).
    pub const READ: u8 = 0x02;
    /// Compare (NVM section 3.2.1).
    pub const COMPARE: u8 = 0x05;
    /// Write Zeroes (NVM section 3.2.8).
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset Management (NVM section 3.2.3).
    pub const DATASET_MANAGEMENT: u8 = 0x09;
    /// Verify (NVM section 3.2.5).
    pub const VERIFY: u8 = 0x0C;
    /// Reservation Register (Base section 7.3).
    pub const RESERVATION_REGISTER: u8 = 0x0D;
    /// Reservation Report (Base section 7.5).
    pub const RESERVATION_REPORT: u8 = 0x0E;
    /// Reservation Acquire (Base section 7.2).
    pub const RESERVATION_ACQUIRE: u8 = 0x11;
    /// Reservation Release (Base section 7.4).
    pub const RESERVATION_RELEASE: u8 = 0x15;
}

/// Fabrics commands, on any queue (Base section 6): the opcode, whose type is in byte 4 of the command.
pub const FABRICS: u8 = 0x7F;

/// Fabrics command types (Base section 6, Figure "Fabrics Command Type").
pub mod fabrics {
    /// Property Set (Base section 6.6).
    pub const PROPERTY_SET: u8 = 0x00;
    /// Connect (Base section 6.3).
    pub const CONNECT: u8 = 0x01;
    /// Property Get (Base section 6.5).
    pub const PROPERTY_GET: u8 = 0x04;
    /// Authentication Send (Base section 6.2).
    pub const AUTHENTICATION_SEND: u8 = 0x05;
    /// Authentication Receive (Base section 6.1).
    pub const AUTHENTICATION_RECEIVE: u8 = 0x06;
    /// Disconnect (Base section 6.4).
    pub const DISCONNECT: u8 = 0x08;
}

/// Bits 1:0 of an opcode: data goes from the host to the controller.
pub const HOST_TO_CONTROLLER: u8 = 0b01;
/// Bits 1:0 of an opcode: data goes from the controller to the host.
pub const CONTROLLER_TO_HOST: u8 = 0b10;
