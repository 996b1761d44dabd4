//! A non-blocking connection and what it still has to send: many messages by one call.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;

/// Messages of one send.
const BATCH: usize = 128;
/// Bytes of one receive.
const RECEIVE: usize = 256 << 10;

/// One end of an exchange of messages that all have the same size and content.
pub struct Stream {
    socket: TcpStream,
    buffer: Box<[u8]>,
    incoming: usize,
    /// Bytes of a message that is not yet whole.
    partial: usize,
    message: Box<[u8]>,
    owed: usize,
    /// Bytes of the first message owed that are sent.
    sent: usize,
}

impl Stream {
    /// An end that receives messages of one size and sends messages of another.
    pub fn new(socket: TcpStream, incoming: usize, outgoing: usize) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let (buffer, message) = (vec![0; RECEIVE].into(), vec![0x5A; outgoing].into());
        Ok(Self { socket, buffer, incoming, partial: 0, message, owed: 0, sent: 0 })
    }

    /// Receives once; gives how many messages are whole by that, or nothing if the other end has closed.
    pub fn receive(&mut self) -> io::Result<Option<usize>> {
        match self.socket.read(&mut self.buffer) {
            Ok(0) => Ok(None),
            Ok(bytes) => {
                let all = self.partial + bytes;
                self.partial = all % self.incoming;
                Ok(Some(all / self.incoming))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Some(0)),
            Err(e) => Err(e),
        }
    }

    /// Owes more messages, and sends what the socket takes.
    pub fn send(&mut self, messages: usize) -> io::Result<()> {
        self.owed += messages;
        while self.owed > 0 {
            let mut slices = [IoSlice::new(&self.message); BATCH];
            slices[0] = IoSlice::new(&self.message[self.sent..]);
            match self.socket.write_vectored(&slices[..self.owed.min(BATCH)]) {
                Ok(bytes) => {
                    let all = self.sent + bytes;
                    self.owed -= all / self.message.len();
                    self.sent = all % self.message.len();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
