//! What an I/O queue has to send: headers in one buffer, payloads in another that all writes share, both sent without a copy of their own.
//!
//! Holds always: bytes leave in the order in which they were pushed, whatever the socket takes at once. Header buffers are emptied only
//! when all has been sent.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::rc::Rc;

use crate::export::nvme_tcp::wire::command::Command;

use super::frame::Terms;

/// Pieces of one send. The kernel takes 1024 (`IOV_MAX`), but the list is made anew for each send.
const PIECES: usize = 256;

/// The stream to the controller.
pub(super) struct Outgoing {
    terms: Terms,
    headers: Vec<u8>,
    payload: Rc<[u8]>,
    pieces: Vec<Piece>,
    /// The first piece that has not been sent whole, and how much of it has.
    next: usize,
    sent: usize,
    digest: DataDigest,
}

#[derive(Clone, Copy)]
enum Piece {
    Header { start: usize, len: usize },
    Payload { start: usize, len: usize },
}

/// The digest of the payload that was sent last: most writes send the same.
#[derive(Default)]
struct DataDigest {
    range: (usize, usize),
    value: u32,
}

impl DataDigest {
    fn of(&mut self, payload: &[u8], start: usize, len: usize) -> [u8; 4] {
        if self.range != (start, len) {
            *self = Self { range: (start, len), value: crc32c::crc32c(&payload[start..start + len]) };
        }
        self.value.to_le_bytes()
    }
}

impl Outgoing {
    /// `payload` is the data of every write.
    pub(super) fn new(terms: Terms, payload: Rc<[u8]>) -> Self {
        Self {
            terms,
            headers: Vec::new(),
            payload,
            pieces: Vec::new(),
            next: 0,
            sent: 0,
            digest: DataDigest::default(),
        }
    }

    /// A command, with so many bytes of the payload in its capsule.
    pub(super) fn push_command(&mut self, command: &Command, in_capsule: usize) {
        let start = self.headers.len();
        self.terms.push_capsule(&mut self.headers, command, in_capsule);
        self.push_header(start);
        self.push_payload(0, in_capsule);
    }

    /// The part of the payload that an R2T asked for.
    pub(super) fn push_data(&mut self, cid: u16, tag: u16, offset: u32, len: u32) {
        let (mut at, end) = (offset as usize, offset as usize + len as usize);
        while at < end {
            let part = (end - at).min(self.terms.most_h2c_data);
            let start = self.headers.len();
            self.terms.push_data(&mut self.headers, cid, tag, at as u32, part as u32, at + part == end);
            self.push_header(start);
            self.push_payload(at, part);
            at += part;
        }
    }

    /// Headers that follow one another become one piece.
    fn push_header(&mut self, start: usize) {
        let added = self.headers.len() - start;
        match self.pieces.last_mut() {
            Some(Piece::Header { start: first, len }) if *first + *len == start => *len += added,
            _ => self.pieces.push(Piece::Header { start, len: added }),
        }
    }

    fn push_payload(&mut self, start: usize, len: usize) {
        if len == 0 {
            return;
        }
        self.pieces.push(Piece::Payload { start, len });
        if self.terms.digests.data {
            let digest = self.digest.of(&self.payload, start, len);
            let start = self.headers.len();
            self.headers.extend_from_slice(&digest);
            self.push_header(start);
        }
    }

    /// Sends what the socket takes.
    pub(super) fn send(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.next < self.pieces.len() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let count = self.slices(&mut slices);
            match stream.write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.advance(bytes),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.headers.clear();
        self.pieces.clear();
        self.next = 0;
        Ok(())
    }

    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; PIECES]) -> usize {
        let pieces = &self.pieces[self.next..];
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(self.bytes(*piece));
        }
        slices[0] = IoSlice::new(&self.bytes(pieces[0])[self.sent..]);
        pieces.len().min(PIECES)
    }

    fn bytes(&self, piece: Piece) -> &[u8] {
        match piece {
            Piece::Header { start, len } => &self.headers[start..start + len],
            Piece::Payload { start, len } => &self.payload[start..start + len],
        }
    }

    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let left = self.bytes(self.pieces[self.next]).len() - self.sent;
            if bytes < left {
                self.sent += bytes;
                return;
            }
            bytes -= left;
            (self.next, self.sent) = (self.next + 1, 0);
        }
    }
}
