//! Stream sockets on the ring: receive into a buffer, send a batch of headers and buffers with one call.
//!
//! One receive and one send may be under way at a time. What they name lives in the ring's table until they are complete.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{opcode, squeue};

use crate::memory::Buffer;

use super::Reactor;
use super::profile::{Stage, stage};
use super::ring::{Keep, RingFile, on_file};

/// The most pieces that one `sendmsg(2)` takes (`UIO_MAXIOV` in the kernel's `uio.h`).
const MOST_PIECES: usize = 1024;
/// Waits until there is something, and only then receives (`IORING_RECVSEND_POLL_FIRST` in the kernel's `io_uring.h`).
const POLL_FIRST: u16 = 1 << 0;

/// Receives in a row that had to wait, from which on the next one is taken to have to wait as well.
const VAIN_LOOKS: u8 = 2;

/// A connected stream socket that one reactor serves.
pub struct Socket {
    reactor: Reactor,
    file: RingFile,
    /// Receives in a row that found nothing at first.
    waited: Cell<u8>,
}

impl Socket {
    /// Registers a connected descriptor with the reactor's ring.
    pub fn new(reactor: &Reactor, fd: OwnedFd) -> Self {
        Self { reactor: reactor.clone(), file: RingFile::new(reactor.ring(), fd), waited: Cell::new(0) }
    }

    /// Receives into `window` of the buffer; zero bytes mean that the peer has closed its side.
    pub async fn receive(&self, buffer: &mut Buffer, window: Range<usize>) -> io::Result<usize> {
        let segment = buffer.segment(window);
        let how = self.how_to_receive();
        let entry = on_file!(self.file, |fd| {
            opcode::Recv::new(fd, segment.as_ptr(), segment.len() as u32).ioprio(how).build()
        });
        let keep = Keep::Buffer(std::mem::take(buffer));
        let turn = self.reactor.ring().turns();
        // SAFETY: the entry names memory of the buffer, which the ring keeps until the completion.
        let (result, keep) = unsafe { self.reactor.ring().operation(entry, keep) }.await;
        self.note_wait(turn);
        if let Keep::Buffer(back) = keep {
            *buffer = back;
        }
        result
    }

    /// Receives up to `len` bytes into a provided buffer of the group; gives the buffer that the kernel picked, which it may also have done when it
    /// reports an error or the end.
    pub(super) async fn receive_selected(&self, group: u16, len: usize) -> (io::Result<usize>, Option<u16>) {
        let entry = on_file!(self.file, |fd| {
            let how = self.how_to_receive();
            opcode::Recv::new(fd, std::ptr::null_mut(), len as u32).buf_group(group).ioprio(how).build()
        });
        let entry = entry.flags(squeue::Flags::BUFFER_SELECT);
        let turn = self.reactor.ring().turns();
        // SAFETY: the entry names no memory: the kernel takes a buffer of the group, which its owner keeps.
        let (result, keep) = unsafe { self.reactor.ring().operation(entry, Keep::Nothing) }.await;
        self.note_wait(turn);
        let selected = if let Keep::Selected(id) = keep { Some(id) } else { None };
        (result, selected)
    }

    /// Whether the kernel looks for data before it waits for some: not where it looked in vain the last times, as with a client that has one
    /// request in flight.
    fn how_to_receive(&self) -> u16 {
        let waits = self.waited.get() >= VAIN_LOOKS && self.reactor.ring().features().poll_first;
        if waits { POLL_FIRST } else { 0 }
    }

    /// Remembers whether a receive that began before a turn had to wait. What is there at once comes with that turn, or, if the kernel was told to
    /// wait first, with the one behind it.
    fn note_wait(&self, turn: u64) {
        let waited = self.reactor.ring().turns() > turn + 2;
        self.waited.set(if waited { self.waited.get().saturating_add(1) } else { 0 });
    }

    /// Sends the whole batch and empties it. On an error the batch is empty too: the stream is broken.
    pub async fn send(&self, batch: &mut Box<SendBatch>) -> io::Result<()> {
        let mut owned = std::mem::take(batch);
        let sent = loop {
            let (back, more) = self.send_some(owned).await;
            owned = back;
            match more {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        owned.clear();
        *batch = owned;
        sent
    }

    /// Sends as much of the batch as the kernel takes with one call; true if there was something left to send. Buffers stay in the batch
    /// until it is cleared.
    pub async fn send_some(&self, mut batch: Box<SendBatch>) -> (Box<SendBatch>, io::Result<bool>) {
        if !batch.prepare() {
            return (batch, Ok(false));
        }
        let entry = on_file!(self.file, |fd| {
            opcode::SendMsg::new(fd, &raw const batch.message).flags(libc::MSG_NOSIGNAL as u32).build()
        });
        // SAFETY: the message and all that it names lie in the batch or in buffers that it holds; the ring keeps the batch, which
        // stays at its address in its box, until the completion.
        let (result, keep) = unsafe { self.reactor.ring().operation(entry, Keep::Send(batch)) }.await;
        let Keep::Send(mut batch) = keep else { unreachable!("a send keeps its batch") };
        let sent = result.map(|bytes| {
            batch.advance(bytes);
            true
        });
        (batch, sent)
    }

    /// Ends one or both directions (`shutdown(2)`): a receive under way completes with zero bytes, a send with an error.
    pub fn shut_down(&self, how: std::net::Shutdown) {
        let how = match how {
            std::net::Shutdown::Read => libc::SHUT_RD,
            std::net::Shutdown::Write => libc::SHUT_WR,
            std::net::Shutdown::Both => libc::SHUT_RDWR,
        };
        // SAFETY: the call touches no memory of ours. A socket that the peer has reset already refuses, which is as good.
        unsafe { libc::shutdown(self.file.fd().as_raw_fd(), how) };
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.file.release(self.reactor.ring());
    }
}

/// What is sent next: small headers, kept inline, and windows of buffers, in order.
///
/// Nothing is allocated once a batch has reached its usual size.
pub struct SendBatch {
    /// Bytes of all headers.
    headers: Vec<u8>,
    pieces: Vec<Piece>,
    buffers: Vec<Buffer>,
    vectors: Vec<libc::iovec>,
    message: libc::msghdr,
    /// Bytes already sent, counted from the first piece that is left.
    first_left: usize,
    first_offset: usize,
}

enum Piece {
    Header(Range<usize>),
    Data { buffer: usize, window: Range<usize> },
}

impl Default for Box<SendBatch> {
    fn default() -> Self {
        Box::new(SendBatch {
            headers: Vec::new(),
            pieces: Vec::new(),
            buffers: Vec::new(),
            vectors: Vec::new(),
            // SAFETY: all-zero is a valid msghdr: null pointers with zero lengths.
            message: unsafe { std::mem::zeroed() },
            first_left: 0,
            first_offset: 0,
        })
    }
}

impl SendBatch {
    /// A batch with room for `messages` headers of up to `header` bytes and as many buffers.
    pub fn with_room(messages: usize, header: usize) -> Box<Self> {
        let mut batch: Box<Self> = Box::default();
        batch.headers.reserve(messages * header);
        batch.pieces.reserve(messages * 2);
        batch.buffers.reserve(messages);
        batch.vectors.reserve((messages * 2).min(MOST_PIECES));
        batch
    }

    /// Appends bytes, which are copied.
    pub fn header(&mut self, bytes: &[u8]) {
        let start = self.headers.len();
        self.headers.extend_from_slice(bytes);
        match self.pieces.last_mut() {
            Some(Piece::Header(range)) => range.end = self.headers.len(),
            _ => self.pieces.push(Piece::Header(start..self.headers.len())),
        }
    }

    /// Appends `window` of a buffer, which the batch holds until it is sent.
    pub fn data(&mut self, buffer: Buffer, window: Range<usize>) {
        self.buffers.push(buffer);
        self.pieces.push(Piece::Data { buffer: self.buffers.len() - 1, window });
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Fills in the message for what is left; false when nothing is.
    fn prepare(&mut self) -> bool {
        self.vectors.clear();
        let mut skip = self.first_offset;
        for piece in self.pieces[self.first_left..].iter().take(MOST_PIECES) {
            let (at, len) = match piece {
                Piece::Header(range) => (self.headers[range.clone()].as_ptr().cast_mut(), range.len()),
                Piece::Data { buffer, window } => {
                    let segment = self.buffers[*buffer].segment(window.clone());
                    (segment.as_ptr(), segment.len())
                }
            };
            self.vectors.push(libc::iovec { iov_base: at.wrapping_add(skip).cast(), iov_len: len - skip });
            skip = 0;
        }
        self.message.msg_iov = self.vectors.as_mut_ptr();
        self.message.msg_iovlen = self.vectors.len() as _;
        !self.vectors.is_empty()
    }

    fn advance(&mut self, mut bytes: usize) {
        bytes += self.first_offset;
        self.first_offset = 0;
        while let Some(piece) = self.pieces.get(self.first_left) {
            let len = match piece {
                Piece::Header(range) => range.len(),
                Piece::Data { window, .. } => window.len(),
            };
            if bytes < len {
                self.first_offset = bytes;
                return;
            }
            bytes -= len;
            self.first_left += 1;
        }
    }

    /// Empties the batch; its buffers go back to their pool.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.pieces.clear();
        {
            let _buffers = stage(Stage::Buffers);
            self.buffers.clear();
        }
        (self.first_left, self.first_offset) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_send_goes_on_where_it_stopped() {
        let mut batch = SendBatch::with_room(4, 16);
        batch.header(b"abc");
        batch.header(b"de");
        let mut sent = Vec::new();
        while batch.prepare() {
            // SAFETY: prepare filled in a valid vector of at least one byte.
            sent.push(unsafe { *batch.vectors[0].iov_base.cast::<u8>() });
            batch.advance(1);
        }
        assert_eq!(sent, b"abcde");
        batch.clear();
        assert!(batch.is_empty());
    }
}
