//! PDUs as such: where their parts lie, checked before any of it is believed, and their digests (TCP sections 3.3.1 and 3.6.2).

use std::ops::Range;

use super::digest::{Crc, DIGEST_BYTES, Digests};
use super::end::{EndReason, Violation};
use super::receiver::Receiver;
use super::wire::pdu::{self, CommonHeader, flags, kind};

/// A termination request. It never carries digests (TCP section 3.6.2.4).
pub(super) fn termination(violation: Violation) -> pdu::TermReq {
    let len = size_of::<pdu::TermReq>();
    pdu::TermReq {
        common: CommonHeader {
            kind: kind::C2H_TERM_REQ,
            flags: 0,
            header_len: len as u8,
            data_offset: 0,
            len: (len as u32).into(),
        },
        status: (violation.status as u16).into(),
        information: violation.information.into(),
        reserved: [0; 10],
    }
}

/// Reads why the host terminates the connection.
pub(super) async fn read_termination(common: CommonHeader, receiver: &mut Receiver) -> Result<EndReason, EndReason> {
    let len = common.len.get() as usize;
    let known = size_of::<pdu::TermReq>();
    if usize::from(common.header_len) != known {
        return Err(Violation::field(2, "the header length of a termination request is 24").into());
    }
    if len < known || len > known + pdu::TERM_DATA_MAX {
        return Err(Violation::field(4, "a termination request of this length").into());
    }
    let rest: [u8; 16] = receiver.more().await?;
    let status = u16::from_le_bytes([rest[0], rest[1]]);
    let information = u32::from_le_bytes([rest[2], rest[3], rest[4], rest[5]]);
    receiver.skip(len - known).await?;
    Ok(EndReason::Terminated { status, information })
}

pub(super) fn check_header_digest(expected: Crc, after_header: &[u8]) -> Result<(), Violation> {
    let received = after_header.first_chunk().copied().unwrap_or_default();
    if received == expected.to_wire() { Ok(()) } else { Err(Violation::header_digest(u32::from_le_bytes(received))) }
}

/// A header, with its digest if there is one: at most this many bytes.
#[derive(Default)]
pub(super) struct Header {
    bytes: [u8; size_of::<pdu::Data>() + DIGEST_BYTES],
    len: usize,
}

impl Header {
    pub(super) fn push(&mut self, more: &[u8]) {
        self.bytes[self.len..self.len + more.len()].copy_from_slice(more);
        self.len += more.len();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Where the parts of a PDU lie, checked.
pub(super) struct Layout {
    pub(super) len: usize,
    /// The data; its digest follows.
    pub(super) data: Range<usize>,
}

impl Layout {
    /// Checks a PDU with a header of `header_len` bytes and at most `most_data` bytes of data.
    pub(super) fn of(
        common: &CommonHeader,
        header_len: usize,
        digests: Digests,
        most_data: usize,
    ) -> Result<Self, Violation> {
        if usize::from(common.header_len) != header_len {
            return Err(Violation::field(2, "the header length does not belong to the PDU type"));
        }
        let len = common.len.get() as usize;
        let head = header_len + digests.after_header();
        if len < head {
            return Err(Violation::field(4, "the PDU is shorter than its header"));
        }
        let has_data = len > head;
        let digest_flags = if has_data { digests.data_flags() } else { digests.header_flags() };
        let digest_bits = flags::HEADER_DIGEST | if has_data { flags::DATA_DIGEST } else { 0 };
        if common.flags & digest_bits != digest_flags {
            return Err(Violation::field(1, "the digest flags are not what was agreed"));
        }
        if !has_data {
            return Ok(Self { len, data: head..head });
        }
        let start = usize::from(common.data_offset);
        // No alignment was asked for but that of dwords (TCP section 3.6.2.3, CPDA = 0).
        if start < head || !start.is_multiple_of(4) {
            return Err(Violation::field(3, "the data offset points into the header, or is not a multiple of 4"));
        }
        let end = len.checked_sub(digests.after_data()).filter(|&end| end > start);
        let end = end.ok_or_else(|| Violation::field(4, "the PDU has no room for its data"))?;
        if end - start > most_data {
            return Err(Violation::field(4, "more data than the limit allows"));
        }
        Ok(Self { len, data: start..end })
    }
}
