//! What a connection sends: response capsules, data and requests for data, with the digests that were agreed (TCP sections 3.3 and 3.6.2).
//!
//! Everything is only queued here; the sender takes what has gathered.

use zerocopy::{Immutable, IntoBytes};

use crate::memory::Buffer;

use super::connection::{Connection, add};
use super::digest::Crc;
use super::end::Violation;
use super::frame::{Header, termination};
use super::wire::command::Completion;
use super::wire::pdu::{self, CapsuleResp, CommonHeader, flags, kind};
use super::wire::status::Status;

impl Connection {
    /// Queues a response capsule. `reserved` bytes of the share come free when it is sent.
    pub(super) fn complete(&self, cid: u16, status: Status, result: u64, reserved: usize) {
        if !status.is_success() {
            add(&self.tally.errors, 1);
        }
        let header = self.header(&CapsuleResp {
            common: self.common(kind::CAPSULE_RESP, size_of::<CapsuleResp>(), 0, 0),
            completion: Completion::new(cid, self.sq_head(), status, result),
        });
        self.replies.push(header.bytes(), &[], reserved);
    }

    /// Queues the request for a part of a command's data.
    pub(super) fn request_data(&self, cid: u16, tag: u16, offset: usize, len: usize) {
        let header = self.header(&pdu::R2t {
            common: self.common(kind::R2T, size_of::<pdu::R2t>(), 0, 0),
            cid: cid.into(),
            tag: tag.into(),
            offset: (offset as u32).into(),
            len: (len as u32).into(),
            reserved: [0; 4],
        });
        self.replies.push(header.bytes(), &[], 0);
    }

    /// Queues all of a successful command's data, and the completion.
    pub(super) fn complete_with_data(&self, cid: u16, buffer: Buffer, len: usize, reserved: usize) {
        // A successful read then needs no response capsule (TCP section 3.3.2.2).
        let in_data = !self.has_sq_flow_control();
        let last = flags::LAST | if in_data { flags::SUCCESS } else { 0 };
        let header = self.data_header(cid, 0, len, last);
        let trailer = self.data_digest(&buffer[..len]);
        let released_now = if in_data { reserved } else { 0 };
        self.replies.push_data(header.bytes(), buffer, 0..len, trailer.bytes(), released_now);
        if !in_data {
            self.complete(cid, Status::SUCCESS, 0, reserved);
        }
    }

    /// Queues a part of a command's data; the slot can wait until it is sent.
    pub(super) fn send_part(&self, slot: u16, cid: u16, offset: usize, buffer: Buffer, len: usize, is_last: bool) {
        let header = self.data_header(cid, offset, len, if is_last { flags::LAST } else { 0 });
        let trailer = self.data_digest(&buffer[..len]);
        self.replies.push_part(slot, header.bytes(), buffer, len, trailer.bytes());
    }

    fn data_header(&self, cid: u16, offset: usize, len: usize, last: u8) -> Header {
        let mut common = self.common(kind::C2H_DATA, size_of::<pdu::Data>(), len, self.digests.after_data());
        common.flags |= last;
        self.header(&pdu::Data {
            common,
            cid: cid.into(),
            tag: 0.into(),
            offset: (offset as u32).into(),
            len: (len as u32).into(),
            reserved: [0; 4],
        })
    }

    fn data_digest(&self, data: &[u8]) -> Header {
        let mut digest = Header::default();
        if self.digests.data {
            digest.push(&Crc::of(data).to_wire());
        }
        digest
    }

    fn common(&self, kind: u8, header_len: usize, data: usize, after_data: usize) -> CommonHeader {
        let with_digest = header_len + self.digests.after_header();
        CommonHeader {
            kind,
            flags: if data > 0 { self.digests.data_flags() } else { self.digests.header_flags() },
            header_len: header_len as u8,
            data_offset: if data > 0 { with_digest as u8 } else { 0 },
            len: ((with_digest + data + after_data) as u32).into(),
        }
    }

    fn header(&self, header: &(impl IntoBytes + Immutable)) -> Header {
        let mut bytes = Header::default();
        bytes.push(header.as_bytes());
        if self.digests.header {
            bytes.push(&Crc::of(header.as_bytes()).to_wire());
        }
        bytes
    }

    /// Tells the host why the connection ends.
    pub(super) fn terminate(&self, violation: Violation) {
        self.replies.push(termination(violation).as_bytes(), &[], 0);
    }
}
