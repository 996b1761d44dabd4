//! The socket of a disk: a thread that waits for front ends and serves one after the other. A second one waits until the first has gone.
#![allow(unsafe_code)]

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::{info, warn};
use vhost::vhost_user::BackendReqHandler;

use crate::export::stream::{ListenAddress, ListenError, Listener};

use super::end::SessionEnd;
use super::exported::{Exported, SessionView};
use super::message::{Next, look};
use super::queue::Tally;
use super::reactors::Reactors;
use super::session::Session;

/// How long the thread waits after an error such as too many open files, or while the disk is held.
const PAUSE: Duration = Duration::from_millis(100);

/// A disk's socket, until it is closed.
pub(super) struct Socket {
    pub(super) exported: Arc<Exported>,
    current: Arc<Mutex<Option<UnixStream>>>,
    /// Closed to wake the thread.
    stop: Option<UnixStream>,
    ended: Receiver<()>,
}

impl Socket {
    /// Makes the socket and serves whoever connects.
    pub(super) fn open(exported: Arc<Exported>, reactors: Arc<Reactors>) -> Result<Self, ListenError> {
        let listener = Listener::bind(&ListenAddress::Unix(exported.of.path.clone()))?;
        let (stop, stopped) = UnixStream::pair().map_err(ListenError::Thread)?;
        let (end, ended) = sync_channel(1);
        let current = Arc::<Mutex<Option<UnixStream>>>::default();
        let door =
            Door { exported: exported.clone(), reactors, listener, stopped, current: current.clone(), _end: end };
        std::thread::Builder::new()
            .name("vhost-user".to_owned())
            .spawn(move || door.serve())
            .map_err(ListenError::Thread)?;
        Ok(Self { exported, current, stop: Some(stop), ended })
    }

    /// Ends the session, if there is one, and lets nobody in any more.
    pub(super) fn begin_to_close(&mut self) {
        self.exported.withdraw();
        self.stop = None;
        if let Some(socket) = &*self.current.lock().expect(NO_PANIC) {
            // One that is closed already is as good.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits until the last request has ended and the socket is gone; false if that is not so by then.
    pub(super) fn has_closed(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        self.ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.begin_to_close();
    }
}

/// What the thread has.
struct Door {
    exported: Arc<Exported>,
    reactors: Arc<Reactors>,
    listener: Listener,
    stopped: UnixStream,
    current: Arc<Mutex<Option<UnixStream>>>,
    /// Dropped at the end, which whoever waits notices. It is the last field: everything else is gone by then.
    _end: SyncSender<()>,
}

impl Door {
    fn serve(self) {
        while !self.exported.is_withdrawn() {
            match self.wait() {
                Ok(false) => {}
                Ok(true) => self.accept(),
                Err(e) => self.complain(&e),
            }
        }
    }

    fn complain(&self, error: &io::Error) {
        warn!("vhost_user {}: cannot wait for front ends: {error}", self.exported.socket());
        std::thread::sleep(PAUSE);
    }

    /// Waits for a front end; false if there is none, because the socket is to be closed.
    fn wait(&self) -> io::Result<bool> {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [poll(self.listener.fd().as_raw_fd()), poll(self.stopped.as_raw_fd())];
        // SAFETY: the pointer and the count name the array.
        if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) } >= 0 {
            return Ok(fds[0].revents != 0 && fds[1].revents == 0);
        }
        match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
            e => Err(e),
        }
    }

    fn accept(&self) {
        let (socket, peer) = match self.listener.accept() {
            Ok((socket, peer, _)) => (socket, peer),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(e) => return self.complain(&e),
        };
        // A hold is for moments: whoever comes meanwhile waits.
        let client = loop {
            if self.exported.is_withdrawn() {
                return;
            }
            match self.exported.clients.enter() {
                Some(client) => break client,
                None => std::thread::sleep(PAUSE),
            }
        };
        self.host(UnixStream::from(socket), peer);
        drop(client);
    }

    /// Serves a front end until it goes.
    fn host(&self, socket: UnixStream, peer: String) {
        let (Ok(eye), Ok(mine)) = (socket.as_fd().try_clone_to_owned(), socket.try_clone()) else {
            return warn!(
                peer,
                "vhost_user {}: there are no descriptors for another front end",
                self.exported.socket()
            );
        };
        *self.current.lock().expect(NO_PANIC) = Some(mine);
        let disk = self.exported.disk().name();
        info!(peer, disk, "vhost_user {}: a front end has come", self.exported.socket());
        let view = SessionView { peer: peer.clone(), queues: 0, cores: Vec::new() };
        *self.exported.session() = Some(view);
        let (end, Tally { requests, errors }) = self.converse(socket, &eye);
        *self.exported.session() = None;
        self.exported.set_channel(None);
        *self.current.lock().expect(NO_PANIC) = None;
        let socket = self.exported.socket();
        if end.is_orderly() {
            info!(peer, disk, requests, errors, "vhost_user {socket}: the front end is gone: {end}");
        } else {
            warn!(peer, disk, requests, errors, "vhost_user {socket}: the front end is cut: {end}");
        }
    }

    fn converse(&self, socket: UnixStream, eye: &OwnedFd) -> (SessionEnd, Tally) {
        let session = Arc::new(Mutex::new(Session::new(self.exported.clone(), self.reactors.clone())));
        let mut handler = BackendReqHandler::from_stream(socket, session.clone());
        let end = loop {
            // Asked after the socket is known to whoever closes it: one of the two sees the other.
            if self.exported.is_withdrawn() {
                break SessionEnd::Stopped;
            }
            match look(eye) {
                Ok(Next::Nothing) => break SessionEnd::Closed,
                Ok(Next::Message) => {}
                Ok(Next::Channel(channel)) => self.exported.set_channel(Some(channel)),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break SessionEnd::Closed,
                Err(e) => break SessionEnd::Broken(e.to_string()),
            }
            if let Err(e) = handler.handle_request() {
                break e.into();
            }
        };
        let end = if self.exported.is_withdrawn() { SessionEnd::Stopped } else { end };
        let tally = session.lock().expect(NO_PANIC).end();
        (end, tally)
    }
}

const NO_PANIC: &str = "no thread panics while it holds this lock";
