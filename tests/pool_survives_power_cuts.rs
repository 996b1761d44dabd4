//! A pool survives power cuts: what was flushed is there, what was not is old or new, snapshots are exact, what was deleted stays so, and
//! nothing ever shows anybody else's content. Proven on the real pool, on a device that loses, reorders and tears what is not flushed.
//!
//! `STRONGROOM_SEED` is the first seed, `STRONGROOM_CUTS` the number of cuts; a failure tells how to run its seed alone. `scripts/soak` runs
//! many more.

mod powercut;
#[path = "common/random.rs"]
mod random;

use std::cell::RefCell;
use std::rc::Rc;

use powercut::calm::on_own_reactor;
use powercut::real::RealPool;
use powercut::rounds::run_seed;
use powercut::{Seeds, run_or_panic};

#[test]
fn the_pool_survives() {
    run_or_panic::<RealPool>("pool_survives_power_cuts", Seeds::from_environment(1, 10_000));
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 1..20 {
        let traces = [(); 2].map(|()| {
            let run = on_own_reactor(move |reactor| async move {
                let trace = Rc::new(RefCell::new(Vec::new()));
                run_seed::<RealPool>(&reactor, seed, trace.clone()).await?;
                Ok(trace.take())
            });
            run.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"))
        });
        assert_eq!(traces[0], traces[1], "seed {seed}");
    }
}
