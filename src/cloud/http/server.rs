//! The server's life: one thread with its event loop, and a few for requests, which may block.
//!
//! None of them is a reactor: they run where the operating system puts them, as all control threads do, so the server must not be started from a
//! reactor's thread, whose core they would inherit.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use super::Service;
use super::config::{CloudHttpConfig, CloudHttpError};
use super::connection::{Door, Limits};
use super::front::Front;
use super::tls;

/// Requests that are carried out at the same time; others wait.
const MOST_CALLS: usize = 8;

/// The running server. Dropped, it ends at once.
#[derive(Debug)]
pub struct CloudServer {
    addresses: Vec<SocketAddr>,
    /// Says how long to wait for clients.
    stop: Option<oneshot::Sender<Duration>>,
    thread: Option<JoinHandle<bool>>,
}

impl CloudServer {
    /// Listens and serves. What has to survive a restart lies in the folder `state`, which is nobody else's.
    pub fn start(config: &CloudHttpConfig, state: &Path, service: Arc<dyn Service>) -> Result<Self, CloudHttpError> {
        Self::start_with(config, state, service, Limits::default())
    }

    pub(super) fn start_with(
        config: &CloudHttpConfig,
        state: &Path,
        service: Arc<dyn Service>,
        limits: Limits,
    ) -> Result<Self, CloudHttpError> {
        config.check()?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let listeners = config.listen.iter().map(|address| listen(*address)).collect::<Result<Vec<_>, _>>()?;
        let (listeners, addresses): (Vec<_>, _) = listeners.into_iter().unzip();
        let front = Arc::new(Front::open(service, state, config.requests_per_second)?);
        let places = Arc::new(Semaphore::new(config.most_connections as usize));
        let (stop_clients, stopping) = watch::channel(false);
        let door = Door { front, tls, places, limits, stop: stopping };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(MOST_CALLS)
            .thread_name("cloud-call")
            .build()
            .map_err(CloudHttpError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let listeners = {
            let _in_it = runtime.enter();
            listeners.into_iter().map(tokio::net::TcpListener::from_std).collect::<Result<Vec<_>, _>>()
        };
        let listeners = listeners.map_err(CloudHttpError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("cloud".to_owned())
            .spawn(move || {
                let front = door.front.clone();
                let (drained, deadline) = runtime.block_on(serve(door, listeners, stopped, stop_clients));
                // Calls whose clients have gone are waited for as well.
                runtime.shutdown_timeout(deadline.saturating_duration_since(Instant::now()));
                drained && Arc::into_inner(front).is_some()
            })
            .map_err(CloudHttpError::Thread)?;
        Ok(Self { addresses, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts nothing more, finishes and answers what was begun, and ends. False if that took longer than the limit: then clients were cut off,
    /// or operations are still under way.
    #[must_use]
    pub fn stop(mut self, limit: Duration) -> bool {
        self.end(limit)
    }

    fn end(&mut self, limit: Duration) -> bool {
        if let Some(stop) = self.stop.take() {
            // If nobody listens, the thread has ended by a panic, which was reported.
            let _ = stop.send(limit);
        }
        self.thread.take().is_some_and(|thread| thread.join().unwrap_or(false))
    }
}

impl Drop for CloudServer {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end(Duration::ZERO);
        }
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), CloudHttpError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen().map_err(|source| CloudHttpError::Listen { address, source })
}

/// Serves until it shall stop. Says whether all clients have gone in time, and until when calls may go on.
async fn serve(
    door: Door,
    listeners: Vec<tokio::net::TcpListener>,
    stop: oneshot::Receiver<Duration>,
    stop_clients: watch::Sender<bool>,
) -> (bool, Instant) {
    let places = door.places.clone();
    // Nobody has a place yet; each connection has one until it ends.
    let all = u32::try_from(places.available_permits()).expect("they were counted in a u32");
    let accepting: Vec<_> = listeners.into_iter().map(|listener| tokio::spawn(door.clone().accept(listener))).collect();
    let limit = stop.await.unwrap_or_default();
    let deadline = Instant::now() + limit;
    for task in accepting {
        task.abort();
        // It was aborted.
        let _ = task.await;
    }
    stop_clients.send_replace(true);
    (timeout(limit, places.acquire_many(all)).await.is_ok(), deadline)
}
