//! What goes over the wire: one struct for each figure of the specifications, little endian, checked by size.
//!
//! Sources: NVM Express Base Specification 2.0 (below "Base"), NVM Command Set Specification 1.0 ("NVM"), NVMe/TCP Transport Specification 1.0
//! ("TCP"). Nothing here decides anything: values are only named.

pub mod command;
pub mod fabrics;
pub mod feature;
pub mod identify;
pub mod opcode;
pub mod pdu;
pub mod property;
pub mod status;
