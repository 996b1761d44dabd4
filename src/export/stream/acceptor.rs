//! The accept thread: waits for connections and hands each to a reactor. It is no reactor and serves nothing itself.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::warn;

use super::ListenError;
use super::admission::{Admission, Connections};
use super::listener::Listener;

/// How long the thread waits after an error such as too many open files.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// The thread; it ends, and its sockets are closed and removed, when this is dropped.
pub(crate) struct Acceptor {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// `protocol` is for the log; `deliver` takes each connection to the reactor of its admission.
    pub(crate) fn start(
        protocol: &'static str,
        listeners: Vec<Listener>,
        connections: Arc<Connections>,
        deliver: impl Fn(Arrival) + Send + 'static,
    ) -> Result<Self, ListenError> {
        let (stop, stopped) = stop_signal().map_err(ListenError::Thread)?;
        let thread = std::thread::Builder::new()
            .name(format!("{protocol}-accept"))
            .spawn(move || {
                let gate = Gate { protocol, listeners, connections, deliver };
                while gate.wait(&stopped) {}
            })
            .map_err(ListenError::Thread)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the buffer is eight bytes long, which is what an eventfd takes.
        unsafe { libc::write(self.stop.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// An eventfd twice: one to write, one to wait on.
fn stop_signal() -> io::Result<(OwnedFd, OwnedFd)> {
    // SAFETY: the call touches no memory of ours.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: eventfd gave us this descriptor, which nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((fd.try_clone()?, fd))
}

/// A connection that was accepted, on its way to a reactor.
pub(crate) struct Arrival {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: String,
    /// The address at which the client reached us, over TCP.
    pub(crate) reached: Option<SocketAddr>,
    pub(crate) admission: Admission,
}

struct Gate<D> {
    protocol: &'static str,
    listeners: Vec<Listener>,
    connections: Arc<Connections>,
    deliver: D,
}

impl<D: Fn(Arrival)> Gate<D> {
    /// Waits for connections and accepts them; false when the server stops.
    fn wait(&self, stopped: &OwnedFd) -> bool {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds: Vec<_> = self.listeners.iter().map(|listener| poll(listener.fd().as_raw_fd())).collect();
        fds.push(poll(stopped.as_raw_fd()));
        // SAFETY: the pointer and the count name the vector.
        if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                warn!("{}: cannot wait for connections: {error}", self.protocol);
                std::thread::sleep(PAUSE_AFTER_ERROR);
            }
            return true;
        }
        if fds.last().is_some_and(|fd| fd.revents != 0) {
            return false;
        }
        let ready = fds.iter().enumerate().filter(|(_, fd)| fd.revents != 0);
        ready.for_each(|(listener, _)| self.accept(listener));
        true
    }

    fn accept(&self, index: usize) {
        let (protocol, listener) = (self.protocol, &self.listeners[index]);
        let (socket, peer, reached) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(e) if is_momentary(&e) => return,
            Err(e) => {
                warn!("{protocol}: cannot accept a connection on {}: {e}", listener.address());
                return std::thread::sleep(PAUSE_AFTER_ERROR);
            }
        };
        match self.connections.admit() {
            Err(why) => warn!(peer, "{protocol} connection refused: {why}"),
            Ok(admission) => (self.deliver)(Arrival { socket, peer, reached, admission }),
        }
    }
}

/// Errors of the connection and not of the listener (accept(2)).
fn is_momentary(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset)
}
