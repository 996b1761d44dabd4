//! Counts what is in flight on several reactors, and waits until all that began before a moment has ended, everywhere.
//!
//! What begins and ends pays two plain counts on its own reactor ([`Member::begin`]). Who wants everything before *now* to be over asks each
//! member's reactor to change the epoch in which the member counts ([`InFlight::drain`]) and waits for what is left in the old ones.
//!
//! What this is good for: somebody changes something that commands look at (closes a gate, unlinks a node), then drains. A command that looked
//! before the change had begun before it looked, on its reactor's thread, so it counts in the old epoch and is waited for. One that begins on
//! that thread after the epoch changed looks after the message that asked for it, which came after the change (release when the mailbox takes
//! the message, acquire when the reactor takes it out); for a member on the caller's own reactor both are one thread. The answers give the
//! other direction: all that the drained commands did comes before what follows the drain (they end on the thread that answers, and the
//! answer is given under the lock that the waiting side takes).
//!
//! Any number of drains may be under way. A member that is asked several times before it looks changes its epoch once for all of them, and one
//! that is asked while an old epoch runs out changes it again after that: such a drain also waits for some of what began after it. Members
//! that join meanwhile are not asked: what they begin comes later. A member that is dropped leaves when all that it had in flight has ended,
//! which also answers. A drain that is dropped is forgotten.

use std::cell::RefCell;
use std::future::Future;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use super::sync::DRAINS;
use super::{Flight, InFlight, Reactor, Remote};

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// What the members on this reactor have in flight.
    static MEMBERS: RefCell<Vec<(u64, Weak<InFlight>)>> = const { RefCell::new(Vec::new()) };
}

fn in_flight_here(member: u64) -> Option<Rc<InFlight>> {
    MEMBERS.with_borrow(|members| members.iter().find(|(id, _)| *id == member)?.1.upgrade())
}

/// What is run on the reactors of the members.
type Visit = Arc<dyn Fn(&Reactor) + Send + Sync>;

/// Those who count.
pub struct Census {
    table: Mutex<Table>,
}

struct Table {
    members: Vec<Known>,
    rounds: Vec<Round>,
}

struct Known {
    id: u64,
    reactor: Remote,
    /// Rounds that wait for it and that it has not looked at yet, and what to run for them.
    asked: Vec<(u64, Option<Visit>)>,
}

/// Members on the caller's reactor. Nearly always there is one, for which nothing is allocated: compare and write drains on the data path.
#[derive(Default)]
struct Here {
    first: Option<Rc<InFlight>>,
    more: Vec<Rc<InFlight>>,
}

/// One drain.
struct Round {
    id: u64,
    /// Members on other reactors that have something in flight from before, or have not looked yet.
    unsettled: usize,
    waiting: Option<Waker>,
}

impl Census {
    /// Nobody counts yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(Table { members: Vec::new(), rounds: Vec::with_capacity(DRAINS) }) })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no panic under this lock")
    }

    /// One more counts, on its reactor.
    pub fn join(self: &Arc<Self>, reactor: &Reactor) -> Member {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let in_flight = Rc::new(InFlight::default());
        MEMBERS.with_borrow_mut(|members| members.push((id, Rc::downgrade(&in_flight))));
        self.table().members.push(Known { id, reactor: reactor.remote(), asked: Vec::new() });
        let place = Place { census: self.clone(), id };
        Member { in_flight, place: Some(place), reactor: reactor.clone() }
    }

    /// How many count.
    pub fn members(&self) -> usize {
        self.table().members.len()
    }

    /// Waits until all that had begun when this was first polled has ended, for all members. Who has something in flight itself meanwhile
    /// waits for ever.
    pub async fn drain(self: &Arc<Self>) {
        self.round(None).await;
    }

    /// The same, and runs `visit` on the reactor of each member before its epoch changes: once for each member, so more than once on a reactor
    /// that has several, and not for one that leaves meanwhile.
    pub async fn drain_with(self: &Arc<Self>, visit: impl Fn(&Reactor) + Send + Sync + 'static) {
        self.round(Some(Arc::new(visit))).await;
    }

    async fn round(self: &Arc<Self>, visit: Option<Visit>) {
        let round = Drain { census: self, id: NEXT_ID.fetch_add(1, Ordering::Relaxed) };
        let here = self.ask(round.id, visit);
        // All epochs change before the first one is waited for.
        let first = here.first.as_ref().map(|in_flight| in_flight.drain());
        let more: Vec<_> = here.more.iter().map(|in_flight| in_flight.drain()).collect();
        if let Some(drain) = first {
            drain.await;
        }
        for drain in more {
            drain.await;
        }
        round.others_settled().await;
    }

    /// Asks the members to let what they have run out; gives those on this reactor, which the caller waits for itself if nothing has to be run.
    fn ask(self: &Arc<Self>, round: u64, visit: Option<Visit>) -> Here {
        let mut here = Here::default();
        let mut unsettled = 0;
        let mut table = self.table();
        for member in &mut table.members {
            if visit.is_none()
                && let Some(in_flight) = in_flight_here(member.id)
            {
                match here.first {
                    None => here.first = Some(in_flight),
                    Some(_) => here.more.push(in_flight),
                }
                continue;
            }
            unsettled += 1;
            member.asked.push((round, visit.clone()));
            if member.asked.len() == 1 {
                let (census, id) = (self.clone(), member.id);
                member.reactor.post(move |reactor| census.settle_member(reactor, id));
            }
        }
        table.rounds.push(Round { id: round, unsettled, waiting: None });
        here
    }

    /// Lets what a member has run out, on its reactor, for everybody who has asked.
    fn settle_member(self: Arc<Self>, reactor: &Reactor, member: u64) {
        let asked = match self.table().members.iter_mut().find(|known| known.id == member) {
            Some(known) => std::mem::take(&mut known.asked),
            None => return,
        };
        for visit in asked.iter().filter_map(|(_, visit)| visit.as_ref()) {
            visit(reactor);
        }
        let answer = Answer { census: self, asked };
        if let Some(in_flight) = in_flight_here(member).filter(|in_flight| in_flight.count() > 0) {
            reactor.spawn(async move {
                in_flight.drain().await;
                drop(answer);
            });
        }
    }
}

impl Table {
    fn settle(&mut self, asked: &[(u64, Option<Visit>)]) {
        for round in self.rounds.iter_mut().filter(|round| asked.iter().any(|(id, _)| *id == round.id)) {
            round.unsettled -= 1;
            if round.unsettled == 0
                && let Some(waiting) = round.waiting.take()
            {
                waiting.wake();
            }
        }
    }
}

/// The answer of a member to those who have asked: given when it is dropped, in whatever way.
struct Answer {
    census: Arc<Census>,
    asked: Vec<(u64, Option<Visit>)>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.census.table().settle(&self.asked);
    }
}

/// Somebody who waits. Forgotten when it is dropped.
struct Drain<'a> {
    census: &'a Census,
    id: u64,
}

impl Drain<'_> {
    fn others_settled(&self) -> impl Future<Output = ()> + '_ {
        std::future::poll_fn(|cx| {
            let mut table = self.census.table();
            let round = table.rounds.iter_mut().find(|round| round.id == self.id);
            match round.filter(|round| round.unsettled > 0) {
                None => Poll::Ready(()),
                Some(round) => {
                    round.waiting = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        self.census.table().rounds.retain(|round| round.id != self.id);
    }
}

/// Somebody who counts, on one reactor.
pub struct Member {
    in_flight: Rc<InFlight>,
    /// Given up with the last that is in flight.
    place: Option<Place>,
    reactor: Reactor,
}

impl Member {
    /// Something begins; it ends when the flight is dropped.
    #[inline]
    pub fn begin(&self) -> Flight {
        self.in_flight.begin()
    }

    /// How much this member has in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.count()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let place = self.place.take();
        if self.in_flight.count() > 0 {
            let in_flight = self.in_flight.clone();
            self.reactor.spawn(async move {
                in_flight.drain().await;
                drop(place);
            });
        }
    }
}

/// A member's entry; dropped on its reactor.
struct Place {
    census: Arc<Census>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        // The list is gone already if the reactor's thread is ending.
        let _ = MEMBERS.try_with(|members| members.borrow_mut().retain(|(id, _)| *id != self.id));
        let mut table = self.census.table();
        if let Some(place) = table.members.iter().position(|member| member.id == self.id) {
            let asked = table.members.swap_remove(place).asked;
            table.settle(&asked);
        }
    }
}

#[cfg(test)]
mod tests;
