//! A socket whose calls end at a deadline, however slowly the peer drips.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connected socket.
pub(crate) struct TimedSocket {
    socket: TcpStream,
    deadline: Option<Instant>,
}

impl TimedSocket {
    /// Tries the addresses of a name one after the other.
    pub(crate) fn dial(addresses: impl IntoIterator<Item = SocketAddr>, deadline: Option<Instant>) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            let socket = match left(deadline)? {
                Some(left) => TcpStream::connect_timeout(&address, left),
                None => TcpStream::connect(address),
            };
            match socket.and_then(|socket| socket.set_nodelay(true).map(|()| socket)) {
                Ok(socket) => return Ok(Self { socket, deadline }),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Until when it may wait from now on.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Whether it is open, with nothing to read.
    pub(crate) fn is_quiet(&self) -> bool {
        let peeked = self.socket.set_nonblocking(true).and_then(|()| self.socket.peek(&mut [0]));
        let quiet = peeked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        quiet && self.socket.set_nonblocking(false).is_ok()
    }

    /// It waits for nobody any more.
    pub(super) fn stop_waiting(&mut self) -> io::Result<()> {
        self.deadline = None;
        self.socket.set_nonblocking(true)
    }
}

/// A socket has no time-out of zero.
fn left(deadline: Option<Instant>) -> io::Result<Option<Duration>> {
    let Some(deadline) = deadline else { return Ok(None) };
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(Some(left)),
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The kernel says of a time-out that the call would block.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for TimedSocket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket.set_read_timeout(left(self.deadline)?)?;
            match self.socket.read(into) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(timed_out),
            }
        }
    }
}

impl Write for TimedSocket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        loop {
            self.socket.set_write_timeout(left(self.deadline)?)?;
            match self.socket.write(from) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                written => return written.map_err(timed_out),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TimedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TimedSocket")
    }
}
