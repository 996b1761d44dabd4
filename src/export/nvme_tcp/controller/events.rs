//! Asynchronous events (Base section 5.2).
//!
//! A host keeps a few Asynchronous Event Request commands with the controller; each is answered by one event. An event that was
//! answered is not sent again until the host has read the log page that belongs to it: until then the page tells it all. So there is at most one event of
//! each sort, and nothing here grows.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::super::subsystem::EVENT_REQUESTS;
use super::super::wire::event::{dword, io_command, kind, notice};
use super::super::wire::log_page::id;
use super::super::wire::status::Status;
use super::Controller;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    NamespacesChanged,
    ReservationLog,
    DiscoveryChanged,
}

const ALL: [Event; 3] = [Event::NamespacesChanged, Event::ReservationLog, Event::DiscoveryChanged];

impl Event {
    fn dword(self) -> u32 {
        match self {
            Self::NamespacesChanged => dword(kind::NOTICE, notice::NAMESPACE_ATTRIBUTE_CHANGED, id::CHANGED_NAMESPACES),
            Self::ReservationLog => dword(kind::IO_COMMAND, io_command::RESERVATION_LOG, id::RESERVATION),
            Self::DiscoveryChanged => dword(kind::NOTICE, notice::DISCOVERY_LOG_CHANGE, id::DISCOVERY),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Quiet,
    /// It waits for a request.
    Pending,
    /// The host knows and has not read the log page.
    Reported,
}

/// The events of a controller and the requests that wait for them.
#[derive(Default)]
pub(super) struct Events {
    progress: [Progress; ALL.len()],
    /// Requests that the host has with the controller.
    requests: usize,
    waiting: Vec<Waker>,
    /// Counts resets: requests from before are over.
    era: u64,
}

impl Events {
    /// Something happened.
    pub(super) fn raise(&mut self, event: Event) {
        let progress = &mut self.progress[event as usize];
        if *progress == Progress::Quiet {
            *progress = Progress::Pending;
            self.wake();
        }
    }

    /// The host has read the log page.
    pub(super) fn clear(&mut self, event: Event) {
        self.progress[event as usize] = Progress::Quiet;
    }

    /// Ends all requests and forgets what happened.
    pub(super) fn reset(&mut self) {
        self.progress = Default::default();
        self.era += 1;
        self.requests = 0;
        self.wake();
    }

    /// A waker only puts its task into a queue, so it may be woken under the controller's lock.
    fn wake(&mut self) {
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
    }

    /// Counts a request in; gives the era that it belongs to.
    pub(super) fn request(&mut self) -> Result<u64, Status> {
        if self.requests == EVENT_REQUESTS {
            return Err(Status::EVENT_LIMIT_EXCEEDED.final_one());
        }
        self.requests += 1;
        Ok(self.era)
    }

    fn poll(&mut self, era: u64, waker: &Waker) -> Poll<Result<u32, Status>> {
        if era != self.era {
            return Poll::Ready(Err(Status::ABORTED_SQ_DELETION));
        }
        for event in ALL {
            let progress = &mut self.progress[event as usize];
            if *progress == Progress::Pending {
                *progress = Progress::Reported;
                return Poll::Ready(Ok(event.dword()));
            }
        }
        if !self.waiting.iter().any(|other| other.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
        Poll::Pending
    }

    fn leave(&mut self, era: u64) {
        if era == self.era {
            self.requests -= 1;
        }
    }
}

/// An Asynchronous Event Request: ready with dword 0 of its completion, or with a status when the controller was reset or has ended. To drop
/// it, done or not, gives its place to another request.
#[must_use = "the request is over when this is dropped"]
pub struct EventRequest {
    controller: Arc<Controller>,
    era: u64,
}

impl EventRequest {
    pub(super) fn new(controller: Arc<Controller>, era: u64) -> Self {
        Self { controller, era }
    }
}

impl Future for EventRequest {
    type Output = Result<u32, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.controller.state().events.poll(self.era, cx.waker())
    }
}

impl Drop for EventRequest {
    fn drop(&mut self) {
        self.controller.state().events.leave(self.era);
    }
}
