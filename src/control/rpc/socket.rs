//! The socket and its clients: who is let in, how many at once, and how all of it ends.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use tracing::warn;

use crate::control::target::Target;
use crate::export::stream::{Acceptor, Arrival, Connections, ListenAddress, ListenError, Listener, peer_credentials};
use crate::kms::audit::Actor;
use crate::secrets::effective_uid;

use super::client::Client;

/// Clients at once. One more makes the one go that has been of least use: see [`super::client::Standing`].
const MOST_CLIENTS: usize = 64;
/// Clients that are on their way out at the same time.
const MOST_CONNECTIONS: usize = 4 * MOST_CLIENTS;
/// A client's thread parses JSON, which nests at most 128 levels deep, and runs methods.
const STACK_BYTES: usize = 512 << 10;

/// The control socket. Dropped, it ends its clients, waits for what they have begun, and is removed.
pub(in crate::control) struct ControlSocket {
    acceptor: Option<Acceptor>,
    desk: Arc<Desk>,
}

/// Where clients are registered.
struct Desk {
    target: Arc<Target>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    clients: Vec<Registered>,
    /// The threads of clients that had to go.
    leaving: Vec<JoinHandle<()>>,
}

struct Registered {
    client: Arc<Client>,
    thread: JoinHandle<()>,
}

impl Book {
    /// Forgets who has gone, and makes room for one more.
    fn make_room(&mut self) {
        self.leaving.retain(|thread| !thread.is_finished());
        self.clients.retain(|registered| !registered.thread.is_finished());
        if self.clients.len() < MOST_CLIENTS {
            return;
        }
        let least = self.clients.iter().enumerate().min_by_key(|(_, registered)| registered.client.standing());
        if let Some((index, _)) = least {
            let Registered { client, thread } = self.clients.swap_remove(index);
            client.end();
            self.leaving.push(thread);
        }
    }
}

impl ControlSocket {
    /// Listens and serves.
    pub(in crate::control) fn start(path: &Path, target: Arc<Target>) -> Result<Self, ListenError> {
        let listener = Listener::bind(&ListenAddress::Unix(path.to_owned()))?;
        let desk = Arc::new(Desk { target, book: Mutex::default() });
        let connections = Connections::new(MOST_CONNECTIONS, &[MOST_CONNECTIONS]);
        let deliver = {
            let desk = desk.clone();
            move |arrival: Arrival| {
                let peer = arrival.peer.clone();
                if let Err(e) = desk.welcome(arrival) {
                    warn!(peer, "control: a client cannot be served: {e}");
                }
            }
        };
        let acceptor = Acceptor::start("control", vec![listener], connections, deliver)?;
        Ok(Self { acceptor: Some(acceptor), desk })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.acceptor = None;
        let Book { clients, leaving } = std::mem::take(&mut *self.desk.book());
        clients.iter().for_each(|registered| registered.client.end());
        for thread in clients.into_iter().map(|registered| registered.thread).chain(leaving) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no thread panics while it holds this lock")
    }

    fn welcome(self: &Arc<Self>, arrival: Arrival) -> io::Result<()> {
        let Arrival { socket, peer, admission, .. } = arrival;
        let libc::ucred { uid, pid, .. } = peer_credentials(socket.as_fd())?;
        if uid != 0 && uid != effective_uid() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("uid {uid} is neither root nor us")));
        }
        let client = Arc::new(Client::new(UnixStream::from(socket), peer, Actor::User { uid, pid })?);
        let mut book = self.book();
        book.make_room();
        let (target, own) = (self.target.clone(), client.clone());
        let thread =
            std::thread::Builder::new().name("control".to_owned()).stack_size(STACK_BYTES).spawn(move || {
                own.serve(&target);
                own.end();
                drop(target);
                drop(admission);
            })?;
        book.clients.push(Registered { client, thread });
        Ok(())
    }
}
