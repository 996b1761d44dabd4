//! The writes of a run are recorded and replayed to each of its flushes, as dm-log-writes does: at every one of these points the pool is
//! sound and opens.

mod powercut;
#[path = "common/random.rs"]
mod random;

use powercut::calm::{Case, on_own_reactor, replay_flushes};
use powercut::real::RealPool;

const RUNS: u64 = 12;

#[test]
fn the_pool_opens_at_every_flush() {
    let first = std::env::var("STRONGROOM_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let mut flushes = 0;
    for seed in first..first + RUNS {
        let case = Case::drawn(seed);
        let found = on_own_reactor(move |reactor| async move { replay_flushes::<RealPool>(&reactor, &case).await });
        flushes += found.unwrap_or_else(|wrong| panic!("seed {seed} (STRONGROOM_SEED={seed}): {wrong}"));
    }
    println!("{flushes} flushes");
}
