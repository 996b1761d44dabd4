//! What a census promises, with real reactors.

use super::*;
use crate::reactor::testing::{begin, end, small_reactor, try_for_a_while};
use crate::reactor::{ReactorThread, yield_now};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc;

fn reactors(count: usize) -> Vec<ReactorThread> {
    (0..count).map(small_reactor).collect()
}

async fn until(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        yield_now().await;
    }
}

#[test]
fn a_drain_waits_for_what_began_before_it_here() {
    let threads = reactors(1);
    begin(&threads[0], move |reactor| async move {
        let census = Census::new();
        census.drain().await;
        let (one, other) = (census.join(&reactor), census.join(&reactor));
        census.drain().await;
        let old = other.begin();
        let mut drain = Box::pin(census.drain());
        let mut visiting = Box::pin(census.drain_with(|_| ()));
        assert!(try_for_a_while(drain.as_mut()).await.is_none());
        assert!(try_for_a_while(visiting.as_mut()).await.is_none());
        let new = (one.begin(), other.begin());
        assert_eq!(other.in_flight(), 2);
        drop(old);
        drain.await;
        // It came while another one was under way, and so waits for more.
        drop(new);
        visiting.await;
        assert!(census.table().rounds.is_empty());
    })
    .recv()
    .expect("done");
    end(threads);
}

#[test]
fn a_drain_waits_for_what_began_before_it_elsewhere() {
    let threads = reactors(2);
    let census = Census::new();
    let theirs = census.clone();
    let flag = || Arc::new(AtomicBool::new(false));
    let (go, went, is_drained) = (flag(), flag(), flag());
    let (go_there, went_there, drained_there) = (go.clone(), went.clone(), is_drained.clone());
    let (begun, has_begun) = mpsc::channel();
    let other = begin(&threads[1], move |reactor| async move {
        let member = theirs.join(&reactor);
        let old = member.begin();
        begun.send(()).expect("somebody waits");
        until(&go_there).await;
        // What begins after the epoch has changed, a turn after the question came, holds up nobody.
        for _ in 0..10 {
            yield_now().await;
        }
        let new = member.begin();
        went_there.store(true, Ordering::Relaxed);
        drop(old);
        until(&drained_there).await;
        drop(new);
    });
    has_begun.recv().expect("begun");
    begin(&threads[0], move |_| async move {
        let mut drain = Box::pin(census.drain());
        while try_for_a_while(drain.as_mut()).await.is_none() {
            let has_looked = census.table().members.iter().all(|member| member.asked.is_empty());
            if has_looked && !go.load(Ordering::Relaxed) {
                assert!(!went.load(Ordering::Relaxed));
                go.store(true, Ordering::Release);
            }
        }
        assert!(went.load(Ordering::Relaxed));
        is_drained.store(true, Ordering::Release);
    })
    .recv()
    .expect("done");
    other.recv().expect("done");
    end(threads);
}

#[test]
fn a_visit_is_made_on_the_reactor_of_each_member() {
    let threads = reactors(3);
    let census = Census::new();
    let members: Vec<_> = threads
        .iter()
        .map(|thread| {
            let (theirs, visited) = (census.clone(), Arc::new(AtomicUsize::new(0)));
            let until_visited = visited.clone();
            let (joined, has_joined) = mpsc::channel();
            let left = begin(thread, move |reactor| async move {
                let member = theirs.join(&reactor);
                joined.send(std::thread::current().id()).expect("somebody waits");
                while until_visited.load(Ordering::Relaxed) == 0 {
                    yield_now().await;
                }
                drop(member);
            });
            (has_joined.recv().expect("joined"), visited, left)
        })
        .collect();
    assert_eq!(census.members(), 3);
    let visits: Vec<_> = members.iter().map(|(id, visited, _)| (*id, visited.clone())).collect();
    begin(&threads[0], move |_| async move {
        let visit = move |_: &Reactor| {
            let here = std::thread::current().id();
            visits
                .iter()
                .filter(|(id, _)| *id == here)
                .for_each(|(_, visited)| _ = visited.fetch_add(1, Ordering::Relaxed));
        };
        census.drain_with(visit).await;
    })
    .recv()
    .expect("done");
    for (_, visited, left) in members {
        left.recv().expect("left");
        assert_eq!(visited.load(Ordering::Relaxed), 1);
    }
    end(threads);
}

#[test]
fn a_member_that_goes_away_answers() {
    let threads = reactors(2);
    let census = Census::new();
    // The other reactor is blocked, so the question stays in its mailbox; then its member goes away.
    let (gone, is_gone) = mpsc::channel::<()>();
    let (go, went) = mpsc::channel::<()>();
    let theirs = census.clone();
    threads[1].remote().post(move |reactor| {
        let member = theirs.join(reactor);
        gone.send(()).expect("somebody waits");
        went.recv().expect("told to go");
        drop(member);
    });
    is_gone.recv().expect("the member is there");
    begin(&threads[0], move |_| async move {
        let mut drain = Box::pin(census.drain());
        assert!(try_for_a_while(drain.as_mut()).await.is_none(), "nobody has answered yet");
        go.send(()).expect("it waits");
        drain.await;
        assert_eq!(census.members(), 0);
    })
    .recv()
    .expect("done");
    end(threads);
}

#[test]
fn a_member_leaves_with_the_last_that_it_has_in_flight() {
    let threads = reactors(1);
    begin(&threads[0], move |reactor| async move {
        let census = Census::new();
        let member = census.join(&reactor);
        let last = member.begin();
        drop(member);
        let mut drain = Box::pin(census.drain());
        let mut visiting = Box::pin(census.drain_with(|_| ()));
        assert!(try_for_a_while(drain.as_mut()).await.is_none());
        assert!(try_for_a_while(visiting.as_mut()).await.is_none());
        drop(last);
        drain.await;
        visiting.await;
        try_for_a_while(Box::pin(std::future::pending::<()>()).as_mut()).await;
        assert_eq!(census.members(), 0);
        assert!(MEMBERS.with_borrow(|members| members.is_empty()));
    })
    .recv()
    .expect("done");
    end(threads);
}

#[test]
fn a_dropped_drain_leaves_nothing_behind() {
    let threads = reactors(1);
    begin(&threads[0], move |reactor| async move {
        let census = Census::new();
        let member = census.join(&reactor);
        let old = member.begin();
        let mut drain = Box::pin(census.drain());
        let mut visiting = Box::pin(census.drain_with(|_| ()));
        assert!(try_for_a_while(drain.as_mut()).await.is_none());
        assert!(try_for_a_while(visiting.as_mut()).await.is_none());
        drop((drain, visiting));
        assert!(census.table().rounds.is_empty());
        drop(old);
        census.drain_with(|_| ()).await;
    })
    .recv()
    .expect("done");
    end(threads);
}

/// A thing that is replaced all the time, by everybody; each old one is dead after a drain, and no command ever finds the one that it holds
/// dead.
struct Things {
    census: Arc<Census>,
    current: AtomicUsize,
    next: AtomicUsize,
    dead: Vec<AtomicBool>,
    left: AtomicUsize,
}

impl Things {
    const EACH: usize = 100;

    /// Commands, by a member that leaves and comes again.
    async fn use_them(self: Arc<Self>, reactor: Reactor, steps: usize) {
        while self.left.load(Ordering::Relaxed) > 0 {
            let member = self.census.join(&reactor);
            for round in 0..20 {
                let flight = member.begin();
                let thing = self.current.load(Ordering::Acquire);
                for _ in 0..(round + steps) % 4 {
                    yield_now().await;
                    assert!(!self.dead[thing].load(Ordering::Relaxed), "it was in use");
                }
                drop(flight);
                yield_now().await;
            }
        }
    }

    async fn replace_them(self: Arc<Self>, with_visit: bool) {
        for _ in 0..Self::EACH {
            let new = self.next.fetch_add(1, Ordering::Relaxed);
            let old = self.current.swap(new, Ordering::AcqRel);
            if with_visit {
                self.census.drain_with(|_| ()).await;
            } else {
                self.census.drain().await;
            }
            self.dead[old].store(true, Ordering::Relaxed);
        }
        self.left.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn many_drains_and_members_at_once() {
    let threads = reactors(3);
    let replacers = 2 * threads.len();
    let things = Arc::new(Things {
        census: Census::new(),
        current: AtomicUsize::new(0),
        next: AtomicUsize::new(1),
        dead: (0..=replacers * Things::EACH).map(|_| AtomicBool::new(false)).collect(),
        left: AtomicUsize::new(replacers),
    });
    let mut running = Vec::new();
    for thread in &threads {
        for steps in 0..3 {
            let things = things.clone();
            running.push(begin(thread, move |reactor| things.use_them(reactor, steps)));
        }
        for with_visit in [false, true] {
            let things = things.clone();
            running.push(begin(thread, move |_| things.replace_them(with_visit)));
        }
    }
    running.into_iter().for_each(|task| task.recv().expect("done"));
    assert_eq!(things.census.members(), 0);
    end(threads);
}
