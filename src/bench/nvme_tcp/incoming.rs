//! What an I/O queue receives: many PDUs by one call, of which headers are read and data is passed over.
//!
//! Holds always: a data PDU is told only when all of its data (and the digest, if there is one) has arrived. The data stays where the kernel
//! put it and is overwritten by the next call; no byte of it is compared.

use std::io::{self, Read};
use std::net::TcpStream;

use zerocopy::FromBytes;

use crate::export::nvme_tcp::wire::pdu::CommonHeader;

use super::error::NvmeTcpError;
use super::frame::{COMMON, DIGEST, Frame, Terms};

/// Bytes that are received by one call at most: enough for many PDUs, and small enough to stay in the core's own cache.
const BUFFER: usize = 256 << 10;

/// The stream from the controller.
pub(super) struct Incoming {
    terms: Terms,
    buffer: Box<[u8]>,
    /// Bytes that are not yet looked at: `buffer[at..filled]`.
    at: usize,
    filled: usize,
    part: Part,
}

/// What comes next.
#[derive(Clone, Copy)]
enum Part {
    Header,
    Data { frame: Frame, left: usize, digest: u32 },
    Digest { frame: Frame, digest: u32 },
}

impl Incoming {
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, buffer: vec![0; BUFFER].into(), at: 0, filled: 0, part: Part::Header }
    }

    /// Receives once and tells each PDU that is whole. Gives the bytes received: none if there was nothing.
    pub(super) fn receive(
        &mut self,
        stream: &mut TcpStream,
        mut tell: impl FnMut(Frame) -> Result<(), NvmeTcpError>,
    ) -> Result<usize, NvmeTcpError> {
        let bytes = match stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => return Err(NvmeTcpError::Closed { queue: self.terms.queue, when: "under load" }),
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(0),
            Err(e) => return Err(NvmeTcpError::socket(self.terms.queue, "under load", e)),
        };
        self.filled += bytes;
        while let Some(frame) = self.next()? {
            tell(frame)?;
        }
        // What is left is less than a header: data is consumed as it comes.
        self.buffer.copy_within(self.at..self.filled, 0);
        (self.at, self.filled) = (0, self.filled - self.at);
        Ok(bytes)
    }

    /// The next PDU that is whole.
    fn next(&mut self) -> Result<Option<Frame>, NvmeTcpError> {
        loop {
            let bytes = &self.buffer[self.at..self.filled];
            match &mut self.part {
                Part::Header => {
                    let Ok((common, _)) = CommonHeader::ref_from_prefix(bytes) else { return Ok(None) };
                    let need = self.terms.header_bytes(common)?;
                    if bytes.len() < need.max(COMMON) {
                        return Ok(None);
                    }
                    let frame = self.terms.frame(&bytes[..need])?;
                    self.at += need;
                    match frame {
                        Frame::Terminate(request) => {
                            return Err(NvmeTcpError::terminated(self.terms.queue, &request));
                        }
                        Frame::Data { len, .. } => {
                            self.part = Part::Data { frame, left: len as usize, digest: 0 };
                        }
                        _ => return Ok(Some(frame)),
                    }
                }
                Part::Data { frame, left, digest } => {
                    let taken = bytes.len().min(*left);
                    if self.terms.digests.data {
                        *digest = crc32c::crc32c_append(*digest, &bytes[..taken]);
                    }
                    self.at += taken;
                    *left -= taken;
                    if *left > 0 {
                        return Ok(None);
                    }
                    let (frame, digest) = (*frame, *digest);
                    if !self.terms.digests.data {
                        self.part = Part::Header;
                        return Ok(Some(frame));
                    }
                    self.part = Part::Digest { frame, digest };
                }
                Part::Digest { frame, digest } => {
                    let Some(received) = bytes.get(..DIGEST) else { return Ok(None) };
                    if received != digest.to_le_bytes() {
                        return Err(self.terms.breach("a wrong data digest"));
                    }
                    let frame = *frame;
                    self.at += DIGEST;
                    self.part = Part::Header;
                    return Ok(Some(frame));
                }
            }
        }
    }
}
