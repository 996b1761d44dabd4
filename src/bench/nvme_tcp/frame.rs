//! How PDUs are cut and made: what a host accepts from a controller, and the headers that it sends (TCP section 3.6.2).
//!
//! Holds always: nothing is taken from a header before its kind, its lengths and its digest have been checked. Data is not looked at here.

use zerocopy::{FromBytes, IntoBytes};

use crate::export::nvme_tcp::wire::command::{Command, Completion};
use crate::export::nvme_tcp::wire::pdu::{
    CapsuleCmd, CapsuleResp, CommonHeader, Data, R2t, TERM_DATA_MAX, TermReq, digest, flags, kind,
};

use super::error::NvmeTcpError;

/// Bytes of the header that all PDUs begin with.
pub(super) const COMMON: usize = size_of::<CommonHeader>();
/// Bytes of a digest (TCP section 3.3.1.1).
pub(super) const DIGEST: usize = 4;

/// Which digests a connection has: CRC32C behind headers and data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) header: bool,
    pub(super) data: bool,
}

impl Digests {
    pub(super) fn to_wire(self) -> u8 {
        (u8::from(self.header) * digest::HEADER) | (u8::from(self.data) * digest::DATA)
    }

    fn after_header(self) -> usize {
        if self.header { DIGEST } else { 0 }
    }

    /// Bytes behind a PDU's data.
    pub(super) fn after_data(self) -> usize {
        if self.data { DIGEST } else { 0 }
    }
}

/// What both sides agreed on when a connection began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The queue that the connection carries; for messages.
    pub(super) queue: u16,
    pub(super) digests: Digests,
    /// Data to the controller begins at a multiple of this.
    pub(super) alignment: usize,
    /// The most data of one H2CData PDU.
    pub(super) most_h2c_data: usize,
}

/// A PDU from the controller, by its header.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frame {
    /// Data of a read follows.
    Data { cid: u16, offset: u32, len: u32, last: bool, success: bool },
    /// A command is complete.
    Response(Completion),
    /// Data of a write is asked for.
    Ready { cid: u16, tag: u16, offset: u32, len: u32 },
    /// The connection ends.
    Terminate(TermReq),
}

impl Terms {
    /// How many bytes to have before [`Terms::frame`] can be called: the header, its digest, and what lies before the data.
    pub(super) fn header_bytes(&self, common: &CommonHeader) -> Result<usize, NvmeTcpError> {
        let header = size_of::<Data>();
        let whole = header + self.digests.after_header();
        let len = common.len.get() as usize;
        let fits = match common.kind {
            kind::C2H_DATA => usize::from(common.data_offset) >= whole && len >= usize::from(common.data_offset),
            kind::CAPSULE_RESP | kind::R2T => len == whole,
            kind::C2H_TERM_REQ => (header..=header + TERM_DATA_MAX).contains(&len),
            other => return Err(self.breach(format!("PDU type {other:#04x}"))),
        };
        if !fits || usize::from(common.header_len) != header {
            return Err(self.breach(format!(
                "PDU type {:#04x} with {} bytes of header, data at {}, {len} bytes in all",
                common.kind, common.header_len, common.data_offset
            )));
        }
        Ok(match common.kind {
            kind::C2H_DATA => common.data_offset.into(),
            kind::C2H_TERM_REQ => header,
            _ => whole,
        })
    }

    /// The PDU whose header `bytes` begins with; they are as many as [`Terms::header_bytes`] said.
    pub(super) fn frame(&self, bytes: &[u8]) -> Result<Frame, NvmeTcpError> {
        let (data, rest) = Data::ref_from_prefix(bytes).map_err(|_| self.breach("a cut header"))?;
        let common = &data.common;
        if common.kind == kind::C2H_TERM_REQ {
            let (request, _) = TermReq::ref_from_prefix(bytes).map_err(|_| self.breach("a cut header"))?;
            return Ok(Frame::Terminate(*request));
        }
        if (common.flags & flags::HEADER_DIGEST != 0) != self.digests.header {
            return Err(self.breach("a header digest flag that was not agreed on"));
        }
        if self.digests.header && rest.get(..DIGEST) != Some(&crc32c::crc32c(data.as_bytes()).to_le_bytes()) {
            return Err(self.breach("a wrong header digest"));
        }
        Ok(match common.kind {
            kind::C2H_DATA => self.data_frame(data)?,
            kind::R2T => {
                let (ready, _) = R2t::ref_from_prefix(bytes).map_err(|_| self.breach("a cut header"))?;
                let (cid, tag) = (ready.cid.get(), ready.tag.get());
                Frame::Ready { cid, tag, offset: ready.offset.get(), len: ready.len.get() }
            }
            _ => {
                let (response, _) = CapsuleResp::ref_from_prefix(bytes).map_err(|_| self.breach("a cut header"))?;
                Frame::Response(response.completion)
            }
        })
    }

    fn data_frame(&self, data: &Data) -> Result<Frame, NvmeTcpError> {
        let (common, len) = (&data.common, data.len.get());
        let behind = u64::from(common.data_offset) + u64::from(len) + self.digests.after_data() as u64;
        if behind != u64::from(common.len.get()) || (common.flags & flags::DATA_DIGEST != 0) != self.digests.data {
            return Err(self.breach(format!(
                "{} bytes with {len} bytes of data at {}, flags {:#04x}",
                common.len, common.data_offset, common.flags
            )));
        }
        let (last, success) = (common.flags & flags::LAST != 0, common.flags & flags::SUCCESS != 0);
        if success && !last {
            return Err(self.breach("data with SUCCESS that is not the last"));
        }
        Ok(Frame::Data { cid: data.cid.get(), offset: data.offset.get(), len, last, success })
    }

    pub(super) fn breach(&self, what: impl Into<String>) -> NvmeTcpError {
        NvmeTcpError::protocol(self.queue, what)
    }

    /// Appends the header of a capsule in which `data_len` bytes follow, up to where they begin.
    pub(super) fn push_capsule(&self, out: &mut Vec<u8>, command: &Command, data_len: usize) {
        let common = self.common(kind::CAPSULE_CMD, 0, size_of::<CapsuleCmd>(), data_len);
        self.push(out, CapsuleCmd { common, command: *command }.as_bytes(), common.data_offset);
    }

    /// Appends the header of an H2CData PDU.
    pub(super) fn push_data(&self, out: &mut Vec<u8>, cid: u16, tag: u16, offset: u32, len: u32, last: bool) {
        let flag = if last { flags::LAST } else { 0 };
        let common = self.common(kind::H2C_DATA, flag, size_of::<Data>(), len as usize);
        let header =
            Data { common, cid: cid.into(), tag: tag.into(), offset: offset.into(), len: len.into(), reserved: [0; 4] };
        self.push(out, header.as_bytes(), common.data_offset);
    }

    fn common(&self, kind: u8, flag: u8, header: usize, data_len: usize) -> CommonHeader {
        let whole = header + self.digests.after_header();
        let header_flag = if self.digests.header { flags::HEADER_DIGEST } else { 0 };
        let (data_offset, len, data_flag) = match data_len {
            0 => (0, whole, 0),
            _ => {
                let offset = whole.next_multiple_of(self.alignment);
                let data_flag = if self.digests.data { flags::DATA_DIGEST } else { 0 };
                (offset, offset + data_len + self.digests.after_data(), data_flag)
            }
        };
        CommonHeader {
            kind,
            flags: flag | header_flag | data_flag,
            header_len: header as u8,
            data_offset: data_offset as u8,
            len: (len as u32).into(),
        }
    }

    fn push(&self, out: &mut Vec<u8>, header: &[u8], data_offset: u8) {
        let start = out.len();
        out.extend_from_slice(header);
        if self.digests.header {
            out.extend_from_slice(&crc32c::crc32c(header).to_le_bytes());
        }
        out.resize(out.len().max(start + usize::from(data_offset)), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(digests: Digests, alignment: usize) -> Terms {
        Terms { queue: 1, digests, alignment, most_h2c_data: 4096 }
    }

    fn data_pdu(terms: &Terms, len: u32, flag: u8) -> Vec<u8> {
        let common = CommonHeader { kind: kind::C2H_DATA, ..terms.common(kind::C2H_DATA, flag, 24, len as usize) };
        let header = Data { common, cid: 7.into(), tag: 0.into(), offset: 8.into(), len: len.into(), reserved: [0; 4] };
        let mut out = Vec::new();
        terms.push(&mut out, header.as_bytes(), common.data_offset);
        out
    }

    fn parse(terms: &Terms, bytes: &[u8]) -> Result<Frame, String> {
        let (common, _) = CommonHeader::ref_from_prefix(bytes).expect("long enough");
        let need = terms.header_bytes(common).map_err(|e| e.to_string())?;
        terms.frame(&bytes[..need.min(bytes.len())]).map_err(|e| e.to_string())
    }

    #[test]
    fn headers_are_cut_with_and_without_digests() {
        for digests in [Digests::default(), Digests { header: true, data: true }] {
            let terms = terms(digests, 4);
            let pdu = data_pdu(&terms, 512, flags::LAST | flags::SUCCESS);
            assert!(matches!(
                parse(&terms, &pdu),
                Ok(Frame::Data { cid: 7, offset: 8, len: 512, last: true, success: true })
            ));
        }
    }

    #[test]
    fn a_changed_header_is_refused() {
        let terms = terms(Digests { header: true, data: false }, 4);
        let pdu = data_pdu(&terms, 512, 0);
        for at in 0..pdu.len() {
            let mut changed = pdu.clone();
            changed[at] ^= 0x10;
            assert!(parse(&terms, &changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn garbage_is_named() {
        let terms = terms(Digests::default(), 4);
        let error = parse(&terms, b"HTTP/1.1 400 Bad Request").expect_err("refused");
        assert!(error.contains("PDU type 0x48"), "{error}");
    }

    #[test]
    fn data_begins_where_the_controller_wants_it() {
        let terms = terms(Digests::default(), 64);
        let mut out = Vec::new();
        terms.push_capsule(&mut out, &Command::default(), 4096);
        assert_eq!((out.len(), out[3], u32::from_le_bytes(out[4..8].try_into().expect("four"))), (128, 128, 4224));
        terms.push_capsule(&mut out, &Command::default(), 0);
        assert_eq!((out.len(), out[128 + 3]), (128 + 72, 0));
    }
}
