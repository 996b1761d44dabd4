//! Header and data digests: CRC32C (TCP section 3.3.1.1; RFC 3720 Appendix B.4 has the polynomial), by the processor's instruction where there is one.

use super::wire::pdu::{digest, flags};

/// Bytes of a digest.
pub(super) const DIGEST_BYTES: usize = 4;

/// Which digests a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) header: bool,
    pub(super) data: bool,
}

impl Digests {
    /// What the bits of an ICReq ask for.
    pub(super) fn from_wire(bits: u8) -> Self {
        Self { header: bits & digest::HEADER != 0, data: bits & digest::DATA != 0 }
    }

    pub(super) fn to_wire(self) -> u8 {
        (u8::from(self.header) * digest::HEADER) | (u8::from(self.data) * digest::DATA)
    }

    /// Bytes that follow a header.
    pub(super) fn after_header(self) -> usize {
        if self.header { DIGEST_BYTES } else { 0 }
    }

    /// Bytes that follow data.
    pub(super) fn after_data(self) -> usize {
        if self.data { DIGEST_BYTES } else { 0 }
    }

    /// The flags of a PDU without data.
    pub(super) fn header_flags(self) -> u8 {
        if self.header { flags::HEADER_DIGEST } else { 0 }
    }

    /// The flags of a PDU with data.
    pub(super) fn data_flags(self) -> u8 {
        self.header_flags() | if self.data { flags::DATA_DIGEST } else { 0 }
    }
}

/// A CRC32C over bytes that come in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Crc(u32);

impl Crc {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self::default().and(bytes)
    }

    #[must_use]
    pub(super) fn and(self, bytes: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.0, bytes))
    }

    pub(super) fn to_wire(self) -> [u8; DIGEST_BYTES] {
        self.0.to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_one_of_rfc_3720() {
        // RFC 3720 Appendix B.4: 32 bytes of zeros, of ones, and counting up.
        assert_eq!(Crc::of(&[0; 32]).to_wire(), [0xAA, 0x36, 0x91, 0x8A]);
        assert_eq!(Crc::of(&[0xFF; 32]).to_wire(), [0x43, 0xAB, 0xA8, 0x62]);
        let counting: Vec<u8> = (0..32).collect();
        assert_eq!(Crc::of(&counting).to_wire(), [0x4E, 0x79, 0xDD, 0x46]);
        assert_eq!(Crc::of(&counting[..5]).and(&counting[5..]), Crc::of(&counting));
    }
}
