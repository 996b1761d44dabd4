//! The accept thread: waits for connections and hands each to a reactor. It is no reactor and serves nothing itself.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::warn;

use crate::reactor::Remote;

use super::NbdError;
use super::admission::Connections;
use super::listener::Listener;
use super::shard::{Arrival, Shard};

/// How long the thread waits after an error such as too many open files.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// The thread; it ends, and its sockets are closed and removed, when this is dropped.
pub(super) struct Acceptor {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    pub(super) fn start(
        server: u64,
        listeners: Vec<Listener>,
        reactors: Vec<Remote>,
        connections: Arc<Connections>,
    ) -> Result<Self, NbdError> {
        let (stop, stopped) = stop_signal().map_err(NbdError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("nbd-accept".to_owned())
            .spawn(move || {
                let gate = Gate { server, listeners, reactors, connections };
                while gate.wait(&stopped) {}
            })
            .map_err(NbdError::Thread)?;
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

struct Gate {
    server: u64,
    listeners: Vec<Listener>,
    reactors: Vec<Remote>,
    connections: Arc<Connections>,
}

impl Gate {
    /// Waits for connections and accepts them; false when the server stops.
    fn wait(&self, stopped: &OwnedFd) -> bool {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds: Vec<_> = self.listeners.iter().map(|listener| poll(listener.fd().as_raw_fd())).collect();
        fds.push(poll(stopped.as_raw_fd()));
        // SAFETY: the pointer and the count name the vector.
        if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                warn!("nbd: cannot wait for connections: {error}");
                std::thread::sleep(PAUSE_AFTER_ERROR);
            }
            return true;
        }
        if fds.last().is_some_and(|fd| fd.revents != 0) {
            return false;
        }
        let ready = self.listeners.iter().zip(&fds).filter(|(_, fd)| fd.revents != 0);
        ready.for_each(|(listener, _)| self.accept(listener));
        true
    }

    fn accept(&self, listener: &Listener) {
        let (socket, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(e) if is_momentary(&e) => return,
            Err(e) => {
                warn!("nbd: cannot accept a connection on {}: {e}", listener.address());
                return std::thread::sleep(PAUSE_AFTER_ERROR);
            }
        };
        match self.connections.admit() {
            Err(why) => warn!(peer, "nbd connection refused: {why}"),
            Ok(admission) => {
                let (server, reactor) = (self.server, &self.reactors[admission.reactor()]);
                reactor.post(move |_| Shard::arrive(server, Arrival { socket, peer, admission }));
            }
        }
    }
}

/// Errors of the connection and not of the listener (accept(2)).
fn is_momentary(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset)
}
