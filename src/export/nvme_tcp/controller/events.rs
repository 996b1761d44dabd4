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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::super::super::testing::{Asking, World, done};
    use super::super::super::wire::feature;
    use super::super::super::wire::log_page::ReservationNotice;
    use super::super::super::wire::opcode::admin;
    use super::super::super::wire::property::cc;
    use super::super::{Admin, EndCause};
    use super::*;

    const NAMESPACES: u32 = 0x0004_0002;
    const RESERVATIONS: u32 = 0x0080_0006;

    fn request(asking: &Asking) -> EventRequest {
        match asking.ask(admin::ASYNC_EVENT_REQUEST, 0, [0; 5]) {
            Admin::Event(request) => request,
            _ => panic!("not taken"),
        }
    }

    fn poll(request: &mut EventRequest) -> Poll<Result<u32, Status>> {
        pin!(request).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// A host that wants to hear of namespaces, and sees one that is shared.
    fn listening(world: &World) -> Asking {
        let asking = world.ready("a");
        world.subsystem.attach(world.add("d0", true).nsid(), "a").expect("attached");
        done(asking.set_feature(feature::id::EVENTS, 0, 1 << 8));
        asking
    }

    #[test]
    fn an_event_comes_once_until_its_log_page_is_read() {
        let world = World::new();
        let asking = listening(&world);
        let mut first = request(&asking);
        assert!(poll(&mut first).is_pending(), "what was before the host wanted to hear of it");
        world.subsystem.resized(1).expect("resized");
        assert_eq!(poll(&mut first), Poll::Ready(Ok(NAMESPACES)));
        drop(first);
        let mut second = request(&asking);
        world.subsystem.resized(1).expect("resized");
        assert!(poll(&mut second).is_pending(), "the host knows");
        assert_eq!(asking.log(0x04, 0, 8), Ok(vec![1, 0, 0, 0, 0, 0, 0, 0]));
        assert!(poll(&mut second).is_pending(), "the page told it all");
        world.subsystem.detach(1, "a").expect("detached");
        assert_eq!(poll(&mut second), Poll::Ready(Ok(NAMESPACES)));
    }

    #[test]
    fn an_event_waits_for_a_request() {
        let world = World::new();
        let asking = listening(&world);
        world.subsystem.resized(1).expect("resized");
        assert_eq!(poll(&mut request(&asking)), Poll::Ready(Ok(NAMESPACES)));
    }

    #[test]
    fn requests_have_a_limit_and_make_room_when_they_end() {
        let world = World::new();
        let asking = listening(&world);
        let mut requests: Vec<EventRequest> = (0..EVENT_REQUESTS).map(|_| request(&asking)).collect();
        let refused = asking.answer(admin::ASYNC_EVENT_REQUEST, 0, [0; 5]);
        assert_eq!(refused.status, Status::EVENT_LIMIT_EXCEEDED.final_one());
        requests.pop();
        requests.push(request(&asking));
        requests.iter_mut().for_each(|request| assert!(poll(request).is_pending()));
        done(asking.property_set(cc::OFFSET, 0));
        for request in &mut requests {
            assert_eq!(poll(request), Poll::Ready(Err(Status::ABORTED_SQ_DELETION)), "reset");
        }
        asking.enable();
        let again: Vec<EventRequest> = (0..EVENT_REQUESTS).map(|_| request(&asking)).collect();
        drop(requests);
        let refused = asking.answer(admin::ASYNC_EVENT_REQUEST, 0, [0; 5]);
        assert!(!refused.status.is_success(), "old requests make no room for new ones");
        asking.controller.end(EndCause::KeepAliveExpired);
        for mut request in again {
            assert_eq!(poll(&mut request), Poll::Ready(Err(Status::ABORTED_SQ_DELETION)), "ended");
        }
    }

    #[test]
    fn reservation_notices_go_to_the_host_that_sees_the_namespace_and_wants_them() {
        let world = World::new();
        let (asking, other) = (listening(&world), world.ready("b"));
        let notify = |what| world.subsystem.notify_reservation(1, asking.controller.host_id(), what);
        world.subsystem.notify_reservation(1, other.controller.host_id(), ReservationNotice::ReservationReleased);
        assert_eq!(other.log(0x80, 0, 64), Ok(vec![0; 64]), "it does not see the namespace");
        assert_eq!(asking.log(0x80, 0, 64), Ok(vec![0; 64]), "it was not meant");

        done(asking.set_feature(feature::id::RESERVATION_MASK, 1, 1 << 2));
        notify(ReservationNotice::ReservationReleased);
        assert_eq!(asking.log(0x80, 0, 64), Ok(vec![0; 64]), "masked");
        notify(ReservationNotice::RegistrationPreempted);
        notify(ReservationNotice::ReservationPreempted);
        let mut first = request(&asking);
        assert_eq!(poll(&mut first), Poll::Ready(Ok(RESERVATIONS)));
        assert_eq!(asking.log(0x80, 0, 64).expect("read")[8..10], [1, 1]);
        let mut second = request(&asking);
        assert_eq!(poll(&mut second), Poll::Ready(Ok(RESERVATIONS)), "there is more to read");
        assert_eq!(asking.log(0x80, 0, 64).expect("read")[8..10], [3, 0]);
        assert!(poll(&mut request(&asking)).is_pending());
    }

    #[test]
    fn a_request_is_woken_from_another_thread() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let world = World::new();
        let asking = listening(&world);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let mut request = request(&asking);
        for _ in 0..3 {
            assert!(pin!(&mut request).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        let subsystem = world.subsystem.clone();
        std::thread::spawn(move || subsystem.resized(1)).join().expect("joined").expect("resized");
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "once, however often it looked");
        assert_eq!(poll(&mut request), Poll::Ready(Ok(NAMESPACES)));
    }
}
