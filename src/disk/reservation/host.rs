//! Who a host is to a namespace: its Host Identifier.
//!
//! NVM Express Base 2.0, feature 81h (Host Identifier): hosts are told apart by 64 bits, or by 128 when they enabled the
//! extended form, which NVMe over Fabrics demands. Zero says that the host is not to be recognised on another controller, so
//! it identifies nobody and is no [`HostId`]: refuse reservation commands of such a host.

use std::fmt;

/// A Host Identifier, never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostId {
    /// The 64-bit form fills the first eight bytes.
    bytes: [u8; 16],
    format: HostIdFormat,
}

/// The two forms of a Host Identifier, which a namespace never sees together (Base section 7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostIdFormat {
    /// 64 bits: Reservation Report answers with registrants of 24 bytes.
    Bits64,
    /// 128 bits: Reservation Report answers with registrants of 64 bytes, and only when the host asks for those (EDS).
    Bits128,
}

impl HostId {
    /// The 128-bit form.
    pub fn extended(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self { bytes, format: HostIdFormat::Bits128 })
    }

    /// The 64-bit form.
    pub fn short(bytes: [u8; 8]) -> Option<Self> {
        let mut padded = [0; 16];
        padded[..8].copy_from_slice(&bytes);
        (bytes != [0; 8]).then_some(Self { bytes: padded, format: HostIdFormat::Bits64 })
    }

    /// Which form it has.
    pub fn format(&self) -> HostIdFormat {
        self.format
    }

    /// The identifier as it goes over the wire: 8 or 16 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self.format {
            HostIdFormat::Bits64 => &self.bytes[..8],
            HostIdFormat::Bits128 => &self.bytes,
        }
    }

    /// All 16 bytes; the 64-bit form ends in zeros.
    pub(super) fn padded(&self) -> [u8; 16] {
        self.bytes
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_identifies_nobody() {
        assert_eq!(HostId::extended([0; 16]), None);
        assert_eq!(HostId::short([0; 8]), None);
    }

    #[test]
    fn the_two_forms_are_never_the_same_host() {
        let short = HostId::short([7; 8]).expect("a host");
        let mut bytes = [0; 16];
        bytes[..8].fill(7);
        let extended = HostId::extended(bytes).expect("a host");
        assert_ne!(short, extended);
        assert_eq!((short.as_bytes().len(), extended.as_bytes().len()), (8, 16));
        assert_eq!(short.to_string(), "0707070707070707");
    }
}
