//! Keeps an eye on the space of pools: a pool that becomes low on space, or has enough again, is said in the log.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{info, warn};

use crate::control::storage::Storage;
use crate::volume::PoolInfo;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The thread that looks, until it is dropped.
pub(super) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(storage: Arc<Storage>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("space".to_owned()).spawn(move || {
            let mut low = HashSet::new();
            loop {
                look(&storage, &mut low);
                if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Says what has changed since the last look.
fn look(storage: &Storage, low: &mut HashSet<String>) {
    let pools = storage.all();
    low.retain(|name| pools.iter().any(|(other, _)| other == name));
    for (name, pool) in pools {
        let Ok(open) = pool else { continue };
        let PoolInfo { size_bytes, free_bytes, low_space, .. } = open.pool.info();
        let (free, size) = (free_bytes >> 20, size_bytes >> 20);
        if low_space && low.insert(name.clone()) {
            warn!(
                "pool {name} is low on space: {free} MiB of {size} MiB are free; make its device larger and `strongroom pool grow` it, or delete what is not needed"
            );
        } else if !low_space && low.remove(&name) {
            info!("pool {name} has enough space again: {free} MiB of {size} MiB are free");
        }
    }
}
