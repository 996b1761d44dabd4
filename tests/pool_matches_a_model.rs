//! Volumes, snapshots, clones, discards, rollbacks, resizes and deletions, several commands at once, agree with a plain model; also after the pool was
//! closed and opened. Proptest makes the commands and shrinks what fails. `STRONGROOM_CASES` says how many lists of commands; each run has others.

mod powercut;
#[path = "common/random.rs"]
mod random;

use powercut::calm::{Case, on_own_reactor, run_case};
use powercut::op::Op;
use powercut::real::RealPool;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

/// Offsets lie in a few blocks or in many; lengths are of a few sectors or of many.
fn place() -> impl Strategy<Value = (u32, u32)> {
    let at = prop_oneof![0u32..1 << 14, 0u32..1 << 19];
    let len = prop_oneof![3 => (1u32..=32).prop_map(|sectors| sectors * 512), 2 => (1u32..=64).prop_map(|blocks| blocks * 4096)];
    (at, len)
}

fn op() -> impl Strategy<Value = Op> {
    let some = || 0u16..64;
    prop_oneof![
        12 => (some(), place()).prop_map(|(volume, (at, len))| Op::Write { volume, at, len }),
        4 => (some(), place()).prop_map(|(volume, (at, len))| Op::Read { volume, at, len }),
        4 => (some(), place()).prop_map(|(volume, (at, len))| Op::Discard { volume, at, len }),
        1 => some().prop_map(|volume| Op::Flush { volume }),
        3 => some().prop_map(|size| Op::Create { size }),
        1 => some().prop_map(|volume| Op::Delete { volume }),
        4 => some().prop_map(|volume| Op::Snapshot { volume }),
        2 => some().prop_map(|snapshot| Op::DeleteSnapshot { snapshot }),
        2 => some().prop_map(|snapshot| Op::Clone { snapshot }),
        2 => some().prop_map(|snapshot| Op::Rollback { snapshot }),
        2 => (some(), some()).prop_map(|(volume, source)| Op::Reinitialise { volume, source }),
        2 => (some(), some()).prop_map(|(volume, size)| Op::Resize { volume, size }),
        2 => some().prop_map(|volume| Op::ReplaceKey { volume }),
        1 => some().prop_map(|snapshot| Op::CheckSnapshot { snapshot }),
        1 => Just(Op::Commit),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Settle),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let block_size = prop_oneof![2 => Just(512u32), 1 => Just(4096u32)];
    let sessions = vec(vec(op(), 1..60), 1..4);
    (sessions, 1usize..8, block_size, 4u64..160, 0u32..8, any::<u64>()).prop_map(
        |(mut sessions, at_once, block_size, clusters, most_turns, seed)| {
            // Nothing can be done without a volume.
            sessions[0].insert(0, Op::Create { size: (seed % 8) as u16 });
            Case { sessions, at_once, block_size, clusters, most_turns, seed }
        },
    )
}

fn cases() -> u32 {
    std::env::var("STRONGROOM_CASES").map_or(300, |cases| cases.parse().expect("STRONGROOM_CASES is a number"))
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, max_shrink_time: 60_000, ..Config::default() })]

    #[test]
    fn the_pool_agrees_with_the_model(case in case()) {
        let outcome = on_own_reactor(move |reactor| async move { run_case::<RealPool>(&reactor, &case).await });
        prop_assert_eq!(outcome, Ok(()));
    }
}

/// What was answered before a discard does not come back with a write that was in flight during it.
#[test]
fn a_write_that_a_discard_overtook_brings_nothing_back() {
    let first = vec![
        Op::Create { size: 5 },
        Op::Commit,
        Op::Checkpoint,
        Op::Create { size: 0 },
        Op::Create { size: 0 },
        Op::Write { volume: 0, at: 0, len: 512 },
        Op::Write { volume: 0, at: 224_695, len: 98_304 },
        Op::Write { volume: 0, at: 0, len: 65536 },
        Op::Discard { volume: 0, at: 0, len: 512 },
        Op::Snapshot { volume: 0 },
    ];
    let case = Case {
        sessions: vec![first],
        at_once: 5,
        block_size: 4096,
        clusters: 4,
        most_turns: 6,
        seed: 2_128_677_751_797_768_661,
    };
    let outcome = on_own_reactor(move |reactor| async move { run_case::<RealPool>(&reactor, &case).await });
    assert_eq!(outcome, Ok(()));
}
