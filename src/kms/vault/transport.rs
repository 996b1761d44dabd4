//! What ureq speaks HTTP over: buffers that are overwritten as soon as they were used, and TLS that keeps nothing either.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Instant;

use rustls::pki_types::ServerName;
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use zeroize::{Zeroize, Zeroizing};

use crate::kms::tls::{TimedSocket, TlsClient, TlsStream};

/// Of each direction: more than the head of a request or an answer.
const BUFFER_BYTES: usize = 16 << 10;

/// Makes connections.
#[derive(Clone)]
pub(super) struct Dialer {
    /// For `https`; without it there is `http` only.
    pub(super) tls: Option<TlsClient>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialer")
    }
}

impl<In: Transport> Connector<In> for Dialer {
    type Out = Link;

    fn connect(&self, details: &ConnectionDetails, _: Option<In>) -> Result<Option<Link>, Error> {
        let deadline = deadline(details.timeout)?;
        let socket =
            TimedSocket::dial(details.addrs.iter().copied(), deadline).map_err(|e| named(e, details.timeout))?;
        let wire = match &self.tls {
            None => Wire::Plain(socket),
            Some(client) => {
                let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
                let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HostNotFound)?;
                let stream = TlsStream::connect(client, name, socket).map_err(|e| named(e, details.timeout))?;
                Wire::Tls(Box::new(stream))
            }
        };
        Ok(Some(Link { wire, buffers: WipedBuffers::new() }))
    }
}

fn deadline(timeout: NextTimeout) -> Result<Option<Instant>, Error> {
    if timeout.after.is_zero() {
        return Err(Error::Timeout(timeout.reason));
    }
    Ok(timeout.not_zero().and_then(|after| Instant::now().checked_add(*after)))
}

/// ureq wants to hear which of its time-outs it was.
fn named(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

#[derive(Debug)]
enum Wire {
    Plain(TimedSocket),
    Tls(Box<TlsStream>),
}

impl Wire {
    fn set_deadline(&mut self, deadline: Option<Instant>) {
        match self {
            Self::Plain(socket) => socket.set_deadline(deadline),
            Self::Tls(stream) => stream.set_deadline(deadline),
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Tls(stream) => stream.is_idle(),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    wire: Wire,
    buffers: WipedBuffers,
}

impl Transport for Link {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.wire.set_deadline(deadline(timeout)?);
        let output = &mut self.buffers.output[..amount];
        let sent = self.wire.write_all(output);
        output.zeroize();
        sent.map_err(|e| named(e, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.wire.set_deadline(deadline(timeout)?);
        let room = self.buffers.input_append_buf();
        if room.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head of the answer is too long").into());
        }
        let read = self.wire.read(room).map_err(|e| named(e, timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.buffers.input().is_empty() && self.wire.is_idle()
    }

    fn is_tls(&self) -> bool {
        matches!(self.wire, Wire::Tls(_))
    }
}

/// Buffers of a fixed size in which what was used is overwritten at once.
struct WipedBuffers {
    input: Zeroizing<Vec<u8>>,
    consumed: usize,
    filled: usize,
    progress: bool,
    output: Zeroizing<Vec<u8>>,
}

impl WipedBuffers {
    fn new() -> Self {
        let buffer = || Zeroizing::new(vec![0; BUFFER_BYTES]);
        Self { input: buffer(), consumed: 0, filled: 0, progress: false, output: buffer() }
    }

    /// Moves what is left to the beginning.
    fn compact(&mut self) {
        self.input.copy_within(self.consumed..self.filled, 0);
        let left = self.filled - self.consumed;
        self.input[left..self.filled].zeroize();
        (self.consumed, self.filled) = (0, left);
    }
}

impl Buffers for WipedBuffers {
    fn output(&mut self) -> &mut [u8] {
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        &self.input[self.consumed..self.filled]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.compact();
        &mut self.input[self.filled..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.filled += amount;
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.input[self.consumed..self.consumed + amount].zeroize();
        self.consumed += amount;
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.compact();
        (&mut self.input[self.filled..], &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        !self.input().is_empty() && self.progress
    }
}

impl fmt::Debug for WipedBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WipedBuffers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_gone() {
        let mut buffers = WipedBuffers::new();
        buffers.input_append_buf()[..6].copy_from_slice(b"secret");
        buffers.input_appended(6);
        buffers.input_consume(4);
        assert_eq!(buffers.input(), b"et");
        assert_eq!(buffers.input[..6], *b"\0\0\0\0et");
        let room = buffers.input_append_buf().len();
        assert_eq!((room, &buffers.input[..6]), (BUFFER_BYTES - 2, &b"et\0\0\0\0"[..]));
        assert!(buffers.can_use_input());
        buffers.input_consume(0);
        assert!(!buffers.can_use_input(), "no progress");
    }
}
