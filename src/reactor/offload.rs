//! Blocking calls that have no io_uring operation, such as `lseek(2)` with `SEEK_DATA`: a helper thread makes them.
//!
//! Not for the data path: each call allocates and crosses threads twice.

use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Poll, Waker};

use crossbeam::channel::{Sender, unbounded};

type Job = Box<dyn FnOnce() + Send>;

static HELPER: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (jobs, inbox) = unbounded::<Job>();
    std::thread::Builder::new()
        .name("offload".to_owned())
        .spawn(move || inbox.iter().for_each(|job| job()))
        .expect("a thread can be started while the process starts reactors");
    jobs
});

enum State<T> {
    Waiting(Option<Waker>),
    Done(T),
    Taken,
}

/// Makes a blocking call on the helper thread.
pub fn offload<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    let state = Arc::new(Mutex::new(State::Waiting(None)));
    let theirs = state.clone();
    let job: Job = Box::new(move || {
        let answer = call();
        let before = std::mem::replace(&mut *theirs.lock().expect("no panic under this lock"), State::Done(answer));
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    });
    HELPER.send(job).expect("the helper lives as long as the process");
    std::future::poll_fn(move |cx| {
        let mut state = state.lock().expect("no panic under this lock");
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(answer) => Poll::Ready(answer),
            State::Waiting(_) => {
                *state = State::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
            State::Taken => unreachable!("polled again after it was ready"),
        }
    })
}
