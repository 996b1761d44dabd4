//! The end of a server: wait for its connections, then make durable what they wrote. On the control thread.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::reactor::Remote;

use super::Connections;

/// What a flush of all disks calls with those that failed.
pub(in crate::export) type Flushed = Box<dyn FnOnce(Vec<String>) + Send>;

/// Waits until the connections, which were told to, have ended, and has one reactor flush each disk: a flush covers what was written on any reactor.
/// Returns whether all that was done within `timeout`.
pub(in crate::export) fn finish(
    protocol: &'static str,
    connections: &Connections,
    reactors: &[Remote],
    timeout: Duration,
    flush: impl FnOnce(Flushed) + Send + 'static,
) -> bool {
    let deadline = Instant::now() + timeout;
    if !connections.wait_until_none(deadline) {
        warn!("{protocol}: {} connections did not end within {timeout:?}", connections.count());
        return false;
    }
    let Some(reactor) = reactors.first() else { return true };
    let (done, result) = sync_channel(1);
    reactor.post(move |_| {
        flush(Box::new(move |failed| {
            // Nobody waits any more if the time is over.
            let _ = done.send(failed);
        }));
    });
    match result.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(failed) => {
            failed.iter().for_each(|what| warn!("{protocol}: the last flush failed: {what}"));
            failed.is_empty()
        }
        Err(_) => {
            warn!("{protocol}: the last flush did not end in time");
            false
        }
    }
}
