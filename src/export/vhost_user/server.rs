//! The server: disks at sockets come and go while it runs. All of it is for the control thread, one change at a time.
//!
//! A disk is opened on each reactor before its socket is there, and closed when its last request has ended.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::export::clients::Hold;
use crate::export::stream::on_each;
use crate::reactor::Remote;

use super::VhostUserError;
use super::config::VhostUserConfig;
use super::exported::{Exported, Owner, VhostUserDisk};
use super::leftover;
use super::reactors::Reactors;
use super::shard::Shard;
use super::socket::Socket;

/// How long the end of a socket waits for its last requests, which nobody waits for any more.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);

/// A disk that no front end may reach until this is dropped.
pub struct HeldVhostUser {
    _sockets: Vec<Hold>,
}

/// A socket, for reports.
#[derive(Clone, Debug)]
pub struct SocketReport {
    /// Where it is.
    pub path: PathBuf,
    /// The disk.
    pub disk: String,
    /// Whose it is.
    pub owner: Owner,
    /// Whether it cannot be changed there.
    pub read_only: bool,
    /// Who is connected.
    pub peer: Option<String>,
    /// The cores of the reactors that serve its queues, one for each queue that runs.
    pub queue_cores: Vec<usize>,
}

/// A running vhost-user server. Dropped without [`VhostUserServer::stop`], it ends its sessions without waiting for them.
pub struct VhostUserServer {
    config: VhostUserConfig,
    reactors: Arc<Reactors>,
    sockets: Mutex<Vec<Socket>>,
}

impl VhostUserServer {
    /// Makes the folder of the sockets, free of what a killed server has left there, and the reactors ready. There are no sockets yet:
    /// [`VhostUserServer::add`] brings them.
    pub fn start(config: &VhostUserConfig, reactors: &[Remote]) -> Result<Self, VhostUserError> {
        if reactors.is_empty() {
            return Err(VhostUserError::Config("there are no reactors to serve on".to_owned()));
        }
        make_private(&config.directory)?;
        leftover::clear(&config.directory);
        let reactors = Arc::new(Reactors::new(reactors));
        for reactor in reactors.all() {
            let server = reactors.server();
            reactor.call(move |reactor| Shard::open(reactor, server));
        }
        Ok(Self { config: config.clone(), reactors, sockets: Mutex::default() })
    }

    /// The configuration.
    pub fn config(&self) -> &VhostUserConfig {
        &self.config
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<Socket>> {
        self.sockets.lock().expect("no thread panics while it holds this lock")
    }

    /// Gives a disk a socket: opens it on each reactor first.
    pub fn add(&self, of: VhostUserDisk) -> Result<(), VhostUserError> {
        if self.sockets().iter().any(|socket| socket.exported.of.path == of.path) {
            return Err(VhostUserError::Taken(of.path));
        }
        if let Some(folder) = of.path.parent() {
            make_private(folder)?;
        }
        let exported = Exported::new(of, self.config.queues, self.config.iodepth as u16);
        for reactor in self.reactors.all() {
            let (server, here) = (self.reactors.server(), exported.clone());
            if let Err(e) = reactor.call(move |_| Shard::open_disk(server, &here)) {
                self.close_disk(&exported);
                return Err(e.into());
            }
        }
        match Socket::open(exported.clone(), self.reactors.clone()) {
            Ok(socket) => {
                info!("vhost_user listens on {}: disk {}", exported.socket(), exported.disk().name());
                self.sockets().push(socket);
                Ok(())
            }
            Err(e) => {
                self.close_disk(&exported);
                Err(e.into())
            }
        }
    }

    /// Takes the sockets of a disk away, or one of them: ends their sessions. When this returns, no reactor has the disk's key for them any more, and
    /// nothing of its plain text is left in free buffers.
    pub fn remove(&self, disk: &str, owner: Option<&Owner>) -> Result<(), VhostUserError> {
        let is_meant = |socket: &Socket| {
            let of = &socket.exported.of;
            of.disk.name() == disk && owner.is_none_or(|owner| *owner == of.owner)
        };
        let mut removed: Vec<Socket> = self.sockets().extract_if(.., |socket| is_meant(socket)).collect();
        let deadline = Instant::now() + CLOSE_LIMIT;
        removed.iter_mut().for_each(Socket::begin_to_close);
        let mut late = None;
        for socket in removed {
            let exported = socket.exported.clone();
            if !socket.has_closed(deadline) {
                late = Some(VhostUserError::CloseTimeout(exported.of.path.clone()));
            }
            self.flush(&exported);
            if !self.close_disk(&exported) {
                late = Some(VhostUserError::CloseTimeout(exported.of.path.clone()));
            }
            if let Owner::Host(host) = &exported.of.owner {
                // The last one takes the folder along; any other does not.
                let _ = std::fs::remove_dir(self.config.folder_of(host));
            }
        }
        late.map_or(Ok(()), Err)
    }

    /// A flush on one reactor covers what was written on any.
    fn flush(&self, exported: &Exported) -> bool {
        let (server, number) = (self.reactors.server(), exported.number);
        let flushed = self.reactors.remote(0).run(async move |_| Shard::flush_disk(server, number).await);
        if let Err(e) = flushed {
            warn!("vhost_user: the last flush of disk {} failed: {e}", exported.disk().name());
        }
        flushed.is_ok()
    }

    fn close_disk(&self, exported: &Exported) -> bool {
        let (server, number) = (self.reactors.server(), exported.number);
        on_each(self.reactors.all(), CLOSE_LIMIT, move |reactor| Shard::close_disk(reactor, server, number))
    }

    /// Keeps front ends away from a disk, if none has it; or says how many have. Who comes meanwhile waits.
    pub fn hold(&self, disk: &str) -> Result<HeldVhostUser, usize> {
        let sockets = self.sockets();
        let held = sockets.iter().filter(|socket| socket.exported.of.disk.name() == disk);
        let held = held.map(|socket| socket.exported.clients.hold()).collect::<Result<_, _>>()?;
        Ok(HeldVhostUser { _sockets: held })
    }

    /// Tells the front ends of a disk that it has another size.
    pub fn resized(&self, disk: &str) {
        let sockets = self.sockets();
        let of_disk = sockets.iter().filter(|socket| socket.exported.of.disk.name() == disk);
        of_disk.for_each(|socket| socket.exported.tell_size());
    }

    /// The sockets that there are now.
    pub fn report(&self) -> Vec<SocketReport> {
        let report = |socket: &Socket| {
            let (of, session) = (&socket.exported.of, socket.exported.session().clone());
            SocketReport {
                path: of.path.clone(),
                disk: of.disk.name().to_owned(),
                owner: of.owner.clone(),
                read_only: of.read_only,
                peer: session.as_ref().map(|session| session.peer.clone()),
                queue_cores: session.map(|session| session.cores).unwrap_or_default(),
            }
        };
        self.sockets().iter().map(report).collect()
    }

    /// Sessions at this moment.
    pub fn sessions(&self) -> usize {
        self.sockets().iter().filter(|socket| socket.exported.session().is_some()).count()
    }

    /// Stops: no more requests; what is under way is finished, answered and made durable. Returns whether all that was done within `timeout`.
    pub fn stop(self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut sockets = std::mem::take(&mut *self.sockets());
        sockets.iter_mut().for_each(Socket::begin_to_close);
        let mut in_time = true;
        for socket in &sockets {
            if !socket.has_closed(deadline) {
                warn!("vhost_user {}: requests did not end within {timeout:?}", socket.exported.socket());
                in_time = false;
            } else {
                in_time &= self.flush(&socket.exported);
            }
        }
        in_time
    }
}

impl Drop for VhostUserServer {
    fn drop(&mut self) {
        self.sockets().clear();
        let server = self.reactors.server();
        self.reactors.all().iter().for_each(|reactor| reactor.post(move |_| Shard::close(server)));
    }
}

/// Makes a folder that nobody else may look into, unless there is one already.
fn make_private(folder: &Path) -> Result<(), VhostUserError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| VhostUserError::Folder { folder: folder.to_owned(), source })
}
