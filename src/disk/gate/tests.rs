//! What the gate promises when things go away.

use super::*;
use crate::reactor::testing::{begin, end, small_reactor, try_for_a_while};
use crate::reactor::yield_now;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;

fn range(at: u64) -> ByteRange {
    ByteRange::new(at, 512).expect("fits")
}

#[test]
fn a_holder_waits_for_old_writes_and_stops_new_ones_that_overlap() {
    let thread = small_reactor(0);
    let gate = Gate::new();
    begin(&thread, move |reactor| async move {
        let (seat, other) = (gate.seat(&reactor), gate.seat(&reactor));
        let old = other.enter(range(4096)).await;
        let mut hold = Box::pin(seat.hold(range(0)));
        assert!(try_for_a_while(hold.as_mut()).await.is_none(), "an old write is in flight");
        let new = other.enter(range(4096)).await;
        assert!(try_for_a_while(Box::pin(other.enter(range(0))).as_mut()).await.is_none());
        assert!(!other.is_open(range(0)) && other.is_open(range(512)));
        drop(old);
        let holder = hold.await;
        assert!(try_for_a_while(Box::pin(other.hold(range(0))).as_mut()).await.is_none());
        drop(new);
        drop(other.hold(range(512)).await);
        drop(holder);
        drop(other.enter(range(0)).await);
        assert_eq!(gate.closed.load(Ordering::Relaxed), 0);
        assert!(gate.table().waiting.is_empty());
    })
    .recv()
    .expect("done");
    end([thread]);
}

#[test]
fn who_came_first_holds_first_and_a_write_is_not_passed_for_ever() {
    let thread = small_reactor(0);
    let gate = Gate::new();
    let order = begin(&thread, move |reactor| async move {
        let seat = Rc::new(gate.seat(&reactor));
        let (order, left) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(4)));
        let first = seat.hold(range(0)).await;
        for name in ["hold 1", "write", "hold 2", "hold 3"] {
            let (seat, order, left) = (seat.clone(), order.clone(), left.clone());
            reactor.spawn(async move {
                if name == "write" {
                    let write = seat.enter(range(0)).await;
                    order.borrow_mut().push(name);
                    drop(write);
                } else {
                    let holder = seat.hold(range(0)).await;
                    order.borrow_mut().push(name);
                    yield_now().await;
                    drop(holder);
                }
                left.set(left.get() - 1);
            });
        }
        for _ in 0..10 {
            yield_now().await;
        }
        drop(first);
        while left.get() > 0 {
            yield_now().await;
        }
        order.take()
    });
    assert_eq!(order.recv().expect("done"), ["hold 1", "write", "hold 2", "hold 3"]);
    end([thread]);
}

#[test]
fn a_dropped_wait_leaves_nothing_behind() {
    let thread = small_reactor(0);
    let gate = Gate::new();
    begin(&thread, move |reactor| async move {
        let (seat, other) = (gate.seat(&reactor), gate.seat(&reactor));
        let old = other.enter(range(0)).await;
        // Dropped while it waits for old writes, and while it waits in the line.
        let mut hold = Box::pin(seat.hold(range(0)));
        assert!(try_for_a_while(hold.as_mut()).await.is_none());
        for dropped in [seat.hold(range(0)), other.hold(range(0))] {
            assert!(try_for_a_while(Box::pin(dropped).as_mut()).await.is_none());
        }
        assert!(try_for_a_while(Box::pin(other.enter(range(0))).as_mut()).await.is_none());
        drop(hold);
        let new = other.enter(range(0)).await;
        drop((old, new));
        drop(seat.hold(range(0)).await);
        let table = gate.table();
        assert!(table.held.is_empty() && table.waiting.is_empty());
    })
    .recv()
    .expect("done");
    end([thread]);
}

#[test]
fn a_queue_that_goes_away_holds_up_nobody() {
    let (here, there) = (small_reactor(0), small_reactor(0));
    let gate = Gate::new();
    // The other reactor is blocked with a write in flight, so the question stays in its mailbox; then its queue goes away.
    let (gone, go) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let theirs = gate.clone();
    there.remote().post(move |reactor| {
        let seat = theirs.seat(reactor);
        gone.0.send(()).expect("somebody waits");
        go.1.recv().expect("told to go");
        drop(seat);
    });
    gone.1.recv().expect("the queue is there");
    let held = begin(&here, move |reactor| async move {
        let seat = gate.seat(&reactor);
        let mut hold = Box::pin(seat.hold(range(0)));
        assert!(try_for_a_while(hold.as_mut()).await.is_none(), "nobody has answered yet");
        go.0.send(()).expect("it waits");
        drop(hold.await);
        gate.writes.members()
    });
    assert_eq!(held.recv().expect("done"), 1);
    end([there]);
    end([here]);
}

#[test]
fn a_write_waits_for_a_holder_on_another_reactor() {
    let (here, there) = (small_reactor(0), small_reactor(0));
    let gate = Gate::new();
    let theirs = gate.clone();
    let (closed, is_closed) = mpsc::channel();
    let holder = begin(&there, move |reactor| async move {
        let seat = theirs.seat(&reactor);
        let holder = seat.hold(range(0)).await;
        closed.send(()).expect("somebody waits");
        // The writer is in the line before the range is given back.
        while theirs.table().waiting.is_empty() {
            yield_now().await;
        }
        drop(holder);
    });
    is_closed.recv().expect("held");
    begin(&here, move |reactor| async move { drop(gate.seat(&reactor).enter(range(0)).await) })
        .recv()
        .expect("entered");
    holder.recv().expect("done");
    end([there]);
    end([here]);
}
