//! What unit tests with real reactors share.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver};
use std::task::Poll;

use super::{Reactor, ReactorConfig, ReactorThread, allowed_cpus, yield_now};
use crate::memory::HugePages;

/// A reactor with little memory, on the core of this number among those that there are.
pub(crate) fn small_reactor(number: usize) -> ReactorThread {
    let config = ReactorConfig { memory_mib: 4, hugepages: HugePages::Never, ..ReactorConfig::default() };
    let cpus = allowed_cpus();
    ReactorThread::start(cpus[number % cpus.len()], &config).expect("a reactor")
}

/// Stops reactors, all at once.
pub(crate) fn end(reactors: impl IntoIterator<Item = ReactorThread>) {
    let reactors: Vec<_> = reactors.into_iter().collect();
    reactors.iter().for_each(|reactor| reactor.remote().stop());
    reactors.into_iter().for_each(ReactorThread::join);
}

/// Begins a task on a reactor; its result comes through the channel.
pub(crate) fn begin<T: Send + 'static, F: Future<Output = T> + 'static>(
    reactor: &ReactorThread,
    task: impl FnOnce(Reactor) -> F + Send + 'static,
) -> Receiver<T> {
    let (answer, result) = mpsc::sync_channel(1);
    reactor.remote().post(move |r| {
        let task = task(r.clone());
        r.spawn(async move { answer.send(task.await).expect("somebody waits") });
    });
    result
}

/// Lets a future go as far as it gets.
pub(crate) async fn try_for_a_while<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    for _ in 0..100 {
        let done = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(value) = done {
            return Some(value);
        }
        yield_now().await;
    }
    None
}
