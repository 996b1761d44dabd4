//! The end of a disk on the reactors that served it: its key is gone there, and its plain text too.

use std::future::Future;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use crate::disk::DiskQueue;
use crate::reactor::{Reactor, Remote};

/// How often it is looked whether the last command has let go of a queue.
const LOOK: Duration = Duration::from_millis(1);

/// Lets go of a queue; ends when nobody else has it either and nothing of it is left in free buffers.
pub(in crate::export) async fn let_go(reactor: Reactor, queue: Option<Rc<DiskQueue>>) {
    let last = queue.as_ref().map(Rc::downgrade);
    drop(queue);
    while last.as_ref().is_some_and(|last| last.strong_count() > 0) {
        reactor.sleep(LOOK).await;
    }
    reactor.buffers_wiped().await;
}

/// Runs a task on each reactor, all at once; false if they have not all ended within `limit`. On the control thread.
pub(in crate::export) fn on_each<F: Future<Output = ()> + 'static>(
    reactors: &[Remote],
    limit: Duration,
    task: impl FnOnce(Reactor) -> F + Clone + Send + 'static,
) -> bool {
    let deadline = Instant::now() + limit;
    let (done, ended) = sync_channel(reactors.len());
    for reactor in reactors {
        let (task, done) = (task.clone(), done.clone());
        reactor.post(move |reactor| {
            let task = task(reactor.clone());
            reactor.spawn(async move {
                task.await;
                // Nobody waits any more if the time is over.
                let _ = done.send(());
            });
        });
    }
    reactors.iter().all(|_| ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok())
}
