//! Controllers: one host's association with a subsystem (Base sections 2.3 and 3.1).
//!
//! A controller belongs to no reactor: its queues are spread over all of them. What I/O queues ask for each command are atomics; everything
//! else is behind one lock, which is held for moments only. A controller ends once, for one [`EndCause`], and takes all its queues with it;
//! [`EndQueue::end`] is called with no lock held.

mod answer;
mod errors;
mod events;
mod features;
mod identify;
mod keep_alive;
mod log_page;
mod property;
mod queues;
mod reservation_log;
mod smart;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::mem::offset_of;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use zerocopy::{FromBytes, IntoBytes};

use super::subsystem::{ConnectRefusal, HostId, Limits, Namespace, Nqn, Subsystem, Subsystems, Wanted};
use super::wire::command::{Command, Fuse};
use super::wire::event::enabled;
use super::wire::fabrics::{Connect, ConnectData, Property};
use super::wire::log_page::ReservationNotice;
use super::wire::opcode::{FABRICS, admin, fabrics};
use super::wire::status::Status;
use answer::Then;
use errors::Errors;
use events::{Event, Events};
use features::Features;
use keep_alive::KeepAlive;
use property::{Change, Properties};
use queues::Queues;
use reservation_log::ReservationLog;

pub use answer::{Admin, Answer, Flush};
pub use errors::Failure;
pub use events::EventRequest;
pub use queues::{EndCause, EndQueue, QueueHandle};

/// The namespaces that a host sees, in the order of their identifiers.
pub type View = Arc<[Arc<Namespace>]>;

/// What a controller is for.
#[derive(Clone)]
pub(super) enum Owner {
    /// I/O on an account's namespaces.
    Subsystem(Arc<Subsystem>),
    /// Finding subsystems.
    Discovery(Arc<Subsystems>),
}

impl Owner {
    fn limits(&self) -> &Limits {
        match self {
            Self::Subsystem(subsystem) => subsystem.limits(),
            Self::Discovery(subsystems) => subsystems.limits(),
        }
    }

    fn forget(&self, id: u16) {
        match self {
            Self::Subsystem(subsystem) => subsystem.forget(id),
            Self::Discovery(subsystems) => subsystems.forget(id),
        }
    }
}

/// What a new controller is made of.
pub(super) struct NewController<'a> {
    pub(super) id: u16,
    pub(super) owner: Owner,
    pub(super) wanted: &'a Wanted,
    pub(super) view: View,
    /// Whether the host is taken to be who it says it is.
    pub(super) is_proven: bool,
}

struct State {
    ended: Option<EndCause>,
    queues: Queues,
    properties: Properties,
    features: Features,
    events: Events,
    errors: Errors,
    /// Namespaces that came, went or changed since the host last read the log.
    changed: BTreeSet<u32>,
    reservations: ReservationLog,
}

/// One host's association with a subsystem.
pub struct Controller {
    id: u16,
    owner: Owner,
    host: Nqn,
    host_id: HostId,
    at: SocketAddr,
    connected_keep_alive_ms: u32,
    keep_alive: KeepAlive,
    /// Whether the host is taken to be who it says it is.
    is_proven: AtomicBool,
    /// Whether I/O commands are served; follows `state.properties`.
    ready: AtomicBool,
    /// Whether each write has to be durable when it is answered; follows `state.features`.
    write_through: AtomicBool,
    /// Counts changes of `view`.
    view_version: AtomicU64,
    view: Mutex<View>,
    state: Mutex<State>,
}

impl Controller {
    pub(super) fn new(new: NewController) -> Arc<Self> {
        let NewController { id, owner, wanted, view, is_proven } = new;
        let mut queues = Queues::default();
        queues.add(0, wanted.queue.clone());
        let state = State {
            ended: None,
            queues,
            properties: Properties::default(),
            features: Features::new(owner.limits(), wanted.keep_alive_ms),
            events: Events::default(),
            errors: Errors::default(),
            changed: BTreeSet::new(),
            reservations: ReservationLog::default(),
        };
        Arc::new(Self {
            id,
            owner,
            host: wanted.host.clone(),
            host_id: wanted.host_id,
            at: wanted.at,
            connected_keep_alive_ms: wanted.keep_alive_ms,
            keep_alive: KeepAlive::new(wanted.now),
            is_proven: AtomicBool::new(is_proven),
            ready: AtomicBool::new(false),
            write_through: AtomicBool::new(false),
            view_version: AtomicU64::new(0),
            view: Mutex::new(view),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }

    /// The controller's identifier in its subsystem.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The subsystem that it gives access to; none for a discovery controller.
    pub fn subsystem(&self) -> Option<&Arc<Subsystem>> {
        match &self.owner {
            Owner::Subsystem(subsystem) => Some(subsystem),
            Owner::Discovery(_) => None,
        }
    }

    /// The host's name.
    pub fn host(&self) -> &Nqn {
        &self.host
    }

    /// The host's identifier.
    pub fn host_id(&self) -> HostId {
        self.host_id
    }

    /// The connected queues.
    pub fn queues(&self) -> Vec<u16> {
        self.state().queues.ids()
    }

    /// The connected queues that have not been told to end, and who is at their other ends.
    pub fn peers(&self) -> Vec<(u16, String)> {
        self.state().queues.peers()
    }

    /// The keep alive time that the host has set; zero if there is none.
    pub fn keep_alive_time(&self) -> Duration {
        Duration::from_millis(self.state().features.keep_alive_ms.into())
    }

    /// How long the host has been silent.
    pub fn silence(&self, now: Instant) -> Duration {
        self.keep_alive.silence(now)
    }

    // What queues ask for each command.

    /// A command has come, on any queue.
    #[inline]
    pub fn touch(&self, now: Instant) {
        self.keep_alive.touch(now);
    }

    /// Whether the host has been silent for too long. Then the controller is to be ended.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.keep_alive.is_expired(now)
    }

    /// Whether I/O commands are served.
    #[inline]
    pub fn may_do_io(&self) -> Result<(), Status> {
        if self.ready.load(Ordering::Acquire) { Ok(()) } else { Err(Status::SEQUENCE_ERROR.final_one()) }
    }

    /// Whether each write has to be durable when it is answered: the host has turned the volatile write cache off (Base section 5.27.1.4).
    #[inline]
    pub fn write_through(&self) -> bool {
        self.write_through.load(Ordering::Acquire)
    }

    /// Grows with each change of what the host sees, so that a queue may keep what it has looked up.
    #[inline]
    pub fn view_version(&self) -> u64 {
        self.view_version.load(Ordering::Acquire)
    }

    /// The namespaces that the host sees.
    pub fn namespaces(&self) -> View {
        self.view.lock().expect("no thread panics while it holds this lock").clone()
    }

    /// A namespace, if the host sees it.
    pub fn sees(&self, nsid: u32) -> Option<Arc<Namespace>> {
        let view = self.namespaces();
        let at = view.binary_search_by_key(&nsid, |namespace| namespace.nsid()).ok()?;
        Some(view[at].clone())
    }

    /// Writes a failed command down.
    pub fn count_error(&self, failure: &Failure) {
        self.state().errors.add(failure);
    }

    // The life of the controller.

    /// The host has authenticated on the Admin queue. If another machine with half of its identity is connected, the status says that this one has to
    /// go.
    pub fn authenticated(&self) -> Result<(), Status> {
        match &self.owner {
            Owner::Subsystem(subsystem) => subsystem.prove(self),
            Owner::Discovery(_) => Ok(()),
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    /// Called with the subsystem's lock held, which orders it.
    pub(super) fn set_proven(&self) {
        self.is_proven.store(true, Ordering::Relaxed);
    }

    /// Adds an I/O queue.
    pub(super) fn add_queue(&self, wanted: &Wanted) -> Result<(), ConnectRefusal> {
        if wanted.host != self.host {
            return Err(ConnectRefusal::in_data(offset_of!(ConnectData, host_nqn)));
        }
        if wanted.host_id != self.host_id {
            return Err(ConnectRefusal::in_data(offset_of!(ConnectData, host_id)));
        }
        let mut state = self.state();
        if state.ended.is_some() {
            return Err(ConnectRefusal::in_data(offset_of!(ConnectData, controller_id)));
        }
        if !state.properties.is_ready() {
            return Err(Status::SEQUENCE_ERROR.final_one().into());
        }
        if wanted.queue_id > state.features.io_queues {
            return Err(ConnectRefusal::in_command(offset_of!(Connect, queue_id)));
        }
        if !state.queues.add(wanted.queue_id, wanted.queue.clone()) {
            return Err(Status::SEQUENCE_ERROR.final_one().into());
        }
        Ok(())
    }

    /// A queue's connection has ended. Without its Admin queue a controller is over (Base section 3.3.2.2).
    pub fn queue_ended(&self, queue_id: u16) {
        self.state().queues.remove(queue_id);
        if queue_id == 0 {
            self.end(EndCause::AdminQueueEnded);
        }
    }

    /// Ends the controller and all its queues. To do it again changes nothing.
    pub fn end(&self, why: EndCause) {
        let queues = {
            let mut state = self.state();
            if state.ended.is_some() {
                return;
            }
            state.ended = Some(why);
            self.ready.store(false, Ordering::Release);
            state.events.reset();
            state.queues.take_all()
        };
        self.owner.forget(self.id);
        for queue in queues {
            queue.end(why);
        }
    }

    /// Why the controller has ended, if it has.
    pub fn ended(&self) -> Option<EndCause> {
        self.state().ended
    }

    fn end_io_queues(&self, why: EndCause) {
        let queues = self.state().queues.take_io();
        for queue in queues {
            queue.end(why);
        }
    }

    // What the subsystem tells.

    /// The host sees something else than before: the namespace came, went or changed.
    pub(super) fn set_view(&self, view: View, nsid: u32) {
        *self.view.lock().expect("no thread panics while it holds this lock") = view;
        self.view_version.fetch_add(1, Ordering::Release);
        let mut state = self.state();
        state.changed.insert(nsid);
        if state.features.wants_event(enabled::NAMESPACE_ATTRIBUTES) {
            state.events.raise(Event::NamespacesChanged);
        }
    }

    /// What the host sees is the same for it as before, though another disk is behind it: it is not told.
    pub(super) fn replace_view(&self, view: View) {
        *self.view.lock().expect("no thread panics while it holds this lock") = view;
        self.view_version.fetch_add(1, Ordering::Release);
    }

    /// The host finds something else than before.
    pub(super) fn discovery_changed(&self) {
        let mut state = self.state();
        if state.features.wants_event(enabled::DISCOVERY_LOG) {
            state.events.raise(Event::DiscoveryChanged);
        }
    }

    /// Something became of the host's registration or reservation.
    pub(super) fn notify_reservation(&self, nsid: u32, what: ReservationNotice) {
        if self.sees(nsid).is_none() {
            return;
        }
        let mut state = self.state();
        if state.features.wants_notice(nsid, what) {
            state.reservations.add(nsid, what);
            state.events.raise(Event::ReservationLog);
        }
    }

    // Commands.

    /// Carries out a command of the Admin queue. `data` is what came with it.
    pub fn admin(self: &Arc<Self>, command: &Command, data: &[u8]) -> Admin {
        if command.fuse() != Fuse::Not {
            return Status::INVALID_FIELD.final_one().into();
        }
        if command.opcode == FABRICS {
            return self.fabrics(command);
        }
        if !self.state().properties.is_ready() {
            return Status::SEQUENCE_ERROR.final_one().into();
        }
        let outcome = match command.opcode {
            admin::GET_LOG_PAGE => Ok(self.get_log_page(command).into()),
            admin::IDENTIFY => Ok(self.identify(command).into()),
            admin::ABORT => Ok(abort(command)),
            admin::SET_FEATURES => self.set_features(command, data),
            admin::GET_FEATURES => self.get_features(command),
            admin::ASYNC_EVENT_REQUEST => self.request_event(),
            admin::KEEP_ALIVE => Ok(Answer::result(0).into()),
            _ => Err(Status::INVALID_OPCODE.final_one()),
        };
        outcome.unwrap_or_else(Admin::from)
    }

    fn request_event(self: &Arc<Self>) -> Result<Admin, Status> {
        let era = self.state().events.request()?;
        Ok(Admin::Event(EventRequest::new(self.clone(), era)))
    }

    /// Fabrics commands on a connected Admin queue. Authentication comes before, and is not a controller's business.
    fn fabrics(&self, command: &Command) -> Admin {
        let property = Property::ref_from_bytes(command.as_bytes()).expect("both have 64 bytes");
        match property.fabrics_type {
            fabrics::PROPERTY_GET => {
                let value = self.state().properties.get(property, self.owner.limits());
                value.map_or_else(Answer::from, |result| Answer { result, ..Answer::result(0) }).into()
            }
            fabrics::PROPERTY_SET => self.set_property(property),
            // The queue is connected (Base section 3.3.1.3).
            fabrics::CONNECT => Status::SEQUENCE_ERROR.final_one().into(),
            _ => Status::INVALID_OPCODE.final_one().into(),
        }
    }

    fn set_property(&self, command: &Property) -> Admin {
        let is_io = matches!(self.owner, Owner::Subsystem(_));
        let change = {
            let mut state = self.state();
            let change = match state.properties.set(command, is_io) {
                Ok(change) => change,
                Err(status) => return status.into(),
            };
            if change == Change::Reset {
                self.reset(&mut state);
            }
            self.follow(&state);
            change
        };
        match change {
            Change::None | Change::Ready | Change::Failed => {}
            Change::Reset => self.end_io_queues(EndCause::Reset),
            Change::ShutDown => return Admin::Flush(Flush { namespaces: self.namespaces(), then: Then::ShutDown }),
        }
        Answer::result(0).into()
    }

    /// Everything is as it was after Connect (Base section 3.7.2); what was logged stays.
    fn reset(&self, state: &mut State) {
        state.features = Features::new(self.owner.limits(), self.connected_keep_alive_ms);
        state.events.reset();
        state.changed.clear();
        self.set_write_through(false);
    }

    /// Makes the atomics follow what was changed under the lock.
    fn follow(&self, state: &State) {
        let ready = state.properties.is_ready() && state.ended.is_none();
        self.ready.store(ready, Ordering::Release);
        // The timer runs while the controller is ready and not being shut down (Base section 3.9).
        match (ready, state.features.keep_alive_ms, &self.owner) {
            (false, _, _) | (true, 0, Owner::Discovery(_)) => self.keep_alive.hold(),
            (true, timeout_ms, _) => self.keep_alive.run(timeout_ms),
        }
    }

    fn set_write_through(&self, on: bool) {
        self.write_through.store(on, Ordering::Release);
    }

    /// The answer to a command that had to wait for flushes. `outcome` is an error if one of them failed.
    pub fn flushed(&self, flush: &Flush, outcome: Result<(), Status>) -> Answer {
        match flush.then {
            Then::WriteThrough => outcome.map_or_else(Answer::from, |()| Answer::result(0)),
            Then::ShutDown => {
                if self.state().properties.shut_down(outcome.is_err()) {
                    self.end_io_queues(EndCause::ShutDown);
                }
                Answer::result(0)
            }
        }
    }
}

/// Abort (Base section 5.1): dword 10 names the queue and the command.
fn abort(command: &Command) -> Admin {
    let dword = command.cdw10.get();
    Admin::Abort { queue_id: dword as u16, cid: (dword >> 16) as u16 }
}
