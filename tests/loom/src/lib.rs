//! The shared structures of `src/volume/`, compiled from the product's own files with the atomics of loom, which tries the orders in which
//! threads can meet. The models are in `tests/`; the product is not built for them.

use std::sync::atomic::{AtomicU64, Ordering};

/// The part of the product's module of this name that the models need.
pub mod volume {
    #[path = "../../../../src/volume/map/mod.rs"]
    pub mod map;
    #[path = "../../../../src/volume/space/mod.rs"]
    pub mod space;
    pub mod sync;
    pub mod units;
}

pub mod atomic;
pub mod device;
pub mod grace;

/// Tries the orders of a model in which threads are interrupted at most `interruptions` times, all of them if that is none, and says how many
/// there were.
pub fn explore(model: &str, interruptions: impl Into<Option<usize>>, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = interruptions.into();
    // Searches that go round are rare, but loom counts every step of every thread.
    builder.max_branches = 10_000;
    let bound = builder.preemption_bound.map_or("any".to_owned(), |bound| format!("up to {bound}"));
    let orders = std::sync::Arc::new(AtomicU64::new(0));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        run();
    });
    eprintln!("{model}: {} orders, {bound} interruptions", orders.load(Ordering::Relaxed));
}
