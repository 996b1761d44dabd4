//! Status of a completion (Base section 3.3.3.2.1): type and code.

use std::fmt;

/// Status code type in bits 10:8, status code in bits 7:0, and whether trying again is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(u16);

/// Bit "Do Not Retry", before the shift by the phase bit.
const DO_NOT_RETRY: u16 = 1 << 14;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $kind:literal, $code:literal, $text:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($kind << 8 | $code);)*

            fn text(self) -> &'static str {
                match Self(self.0 & !DO_NOT_RETRY) {
                    $(Self::$name => $text,)*
                    _ => "status",
                }
            }
        }
    };
}

statuses! {
    // Generic command status: Base Figure "Generic Command Status Values".
    /// Successful Completion.
    SUCCESS = 0, 0x00, "success";
    /// Invalid Command Opcode.
    INVALID_OPCODE = 0, 0x01, "invalid opcode";
    /// Invalid Field in Command.
    INVALID_FIELD = 0, 0x02, "invalid field";
    /// Command ID Conflict.
    COMMAND_ID_CONFLICT = 0, 0x03, "command id conflict";
    /// Data Transfer Error.
    DATA_TRANSFER_ERROR = 0, 0x04, "data transfer error";
    /// Internal Error.
    INTERNAL_ERROR = 0, 0x06, "internal error";
    /// Command Abort Requested.
    ABORT_REQUESTED = 0, 0x07, "abort requested";
    /// Command Aborted due to SQ Deletion.
    ABORTED_SQ_DELETION = 0, 0x08, "aborted, queue deleted";
    /// Command Aborted due to Failed Fused Command.
    ABORTED_FAILED_FUSED = 0, 0x09, "aborted, the other fused command failed";
    /// Command Aborted due to Missing Fused Command.
    ABORTED_MISSING_FUSED = 0, 0x0A, "aborted, the other fused command is missing";
    /// Invalid Namespace or Format.
    INVALID_NAMESPACE = 0, 0x0B, "invalid namespace";
    /// Command Sequence Error.
    SEQUENCE_ERROR = 0, 0x0C, "command sequence error";
    /// Invalid SGL Segment Descriptor.
    INVALID_SGL_SEGMENT = 0, 0x0D, "invalid SGL segment";
    /// Data SGL Length Invalid.
    SGL_LENGTH_INVALID = 0, 0x0F, "SGL length invalid";
    /// SGL Descriptor Type Invalid.
    SGL_TYPE_INVALID = 0, 0x11, "SGL type invalid";
    /// Atomic Write Unit Exceeded.
    ATOMIC_WRITE_UNIT_EXCEEDED = 0, 0x14, "atomic write unit exceeded";
    /// SGL Offset Invalid.
    SGL_OFFSET_INVALID = 0, 0x16, "SGL offset invalid";
    /// Host Identifier Inconsistent Format.
    HOST_ID_INCONSISTENT = 0, 0x18, "host identifier inconsistent";
    /// Keep Alive Timer Expired.
    KEEP_ALIVE_EXPIRED = 0, 0x19, "keep alive expired";
    /// Keep Alive Timeout Invalid.
    KEEP_ALIVE_INVALID = 0, 0x1A, "keep alive timeout invalid";
    /// Command Aborted due to Preempt and Abort.
    ABORTED_PREEMPT = 0, 0x1B, "aborted by preempt and abort";
    /// Namespace is Write Protected.
    NAMESPACE_WRITE_PROTECTED = 0, 0x20, "namespace is write protected";
    /// Transient Transport Error.
    TRANSIENT_TRANSPORT_ERROR = 0, 0x22, "transient transport error";
    /// LBA Out of Range (NVM section 4.1.4.1).
    LBA_OUT_OF_RANGE = 0, 0x80, "LBA out of range";
    /// Capacity Exceeded.
    CAPACITY_EXCEEDED = 0, 0x81, "capacity exceeded";
    /// Namespace Not Ready.
    NAMESPACE_NOT_READY = 0, 0x82, "namespace not ready";
    /// Reservation Conflict.
    RESERVATION_CONFLICT = 0, 0x83, "reservation conflict";

    // Command specific status: Base Figure "Command Specific Status Values".
    /// Abort Command Limit Exceeded.
    ABORT_LIMIT_EXCEEDED = 1, 0x03, "abort limit exceeded";
    /// Asynchronous Event Request Limit Exceeded.
    EVENT_LIMIT_EXCEEDED = 1, 0x05, "asynchronous event request limit exceeded";
    /// Invalid Log Page.
    INVALID_LOG_PAGE = 1, 0x09, "invalid log page";
    /// Feature Identifier Not Saveable.
    FEATURE_NOT_SAVEABLE = 1, 0x0D, "feature not saveable";
    /// Feature Not Changeable.
    FEATURE_NOT_CHANGEABLE = 1, 0x0E, "feature not changeable";
    /// Feature Not Namespace Specific.
    FEATURE_NOT_NAMESPACE_SPECIFIC = 1, 0x0F, "feature not namespace specific";

    // Command specific status of fabrics commands: Base Figure "Command Specific Status Values", 80h and up.
    /// Connect Incompatible Format.
    CONNECT_INCOMPATIBLE_FORMAT = 1, 0x80, "connect: incompatible format";
    /// Connect Controller Busy.
    CONNECT_CONTROLLER_BUSY = 1, 0x81, "connect: controller busy";
    /// Connect Invalid Parameters.
    CONNECT_INVALID_PARAMETERS = 1, 0x82, "connect: invalid parameters";
    /// Connect Restart Discovery.
    CONNECT_RESTART_DISCOVERY = 1, 0x83, "connect: restart discovery";
    /// Connect Invalid Host.
    CONNECT_INVALID_HOST = 1, 0x84, "connect: invalid host";
    /// Discover Restart.
    DISCOVER_RESTART = 1, 0x90, "discover restart";
    /// Authentication Required.
    AUTHENTICATION_REQUIRED = 1, 0x91, "authentication required";

    // Media and data integrity errors: Base Figure "Media and Data Integrity Error Values", NVM section 4.1.4.3.
    /// Write Fault.
    WRITE_FAULT = 2, 0x80, "write fault";
    /// Unrecovered Read Error.
    UNRECOVERED_READ_ERROR = 2, 0x81, "unrecovered read error";
    /// Compare Failure.
    COMPARE_FAILURE = 2, 0x85, "compare failure";
    /// Access Denied.
    ACCESS_DENIED = 2, 0x86, "access denied";
}

impl Status {
    /// Tells the host that trying again is of no use.
    pub const fn final_one(self) -> Self {
        Self(self.0 | DO_NOT_RETRY)
    }

    /// Whether the command was carried out.
    pub const fn is_success(self) -> bool {
        self.0 & 0x7FF == 0
    }

    /// The status field with the phase bit, which is always 0 over fabrics.
    pub const fn to_wire(self) -> u16 {
        self.0 << 1
    }

    /// The status of a status field.
    pub const fn from_wire(field: u16) -> Self {
        Self(field >> 1)
    }

    /// Without "Do Not Retry": for comparing.
    pub const fn plain(self) -> Self {
        Self(self.0 & 0x7FF)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (type {:x}h, code {:02x}h)", self.text(), self.0 >> 8 & 7, self.0 & 0xFF)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_goes_over_the_wire_and_back() {
        let conflict = Status::RESERVATION_CONFLICT.final_one();
        assert_eq!(conflict.to_wire(), 0x8106);
        assert_eq!(Status::from_wire(0x8106).plain(), Status::RESERVATION_CONFLICT);
        assert!(Status::from_wire(0).is_success() && !conflict.is_success());
        assert_eq!(conflict.to_string(), "reservation conflict (type 0h, code 83h)");
    }
}
