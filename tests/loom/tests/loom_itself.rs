//! Why the models have atomics of their own: loom alone misses an order, and with them it does not.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use loom::sync::atomic::Ordering;
use strongroom_loom::{atomic, explore};

/// What a thread may load while another one loads and then stores.
macro_rules! seen {
    ($name:literal, $atomic:ty) => {{
        let all = Arc::new(Mutex::new(HashSet::new()));
        let seen = all.clone();
        explore($name, None, move || {
            let here = loom::sync::Arc::new(<$atomic>::new(0));
            let there = here.clone();
            let other = loom::thread::spawn(move || {
                there.load(Ordering::Acquire);
                there.store(1, Ordering::Release);
            });
            seen.lock().expect("no panic").insert(here.load(Ordering::Acquire));
            other.join().expect("no panic");
        });
        let seen = all.lock().expect("no panic").clone();
        seen
    }};
}

#[test]
fn every_order_of_a_load_and_a_change_is_tried() {
    assert_eq!(seen!("load; load and store", atomic::AtomicU32), HashSet::from([0, 1]));
    if seen!("the same with loom's atomics", loom::sync::atomic::AtomicU32).len() == 2 {
        eprintln!("this version of loom tries all orders: atomic.rs is not needed any more");
    }
}
