//! The power-cut test itself: it passes a sound pool, notices each flaw of one that is not, and does the same for the same seed.

mod engine;
mod powercut;
#[path = "common/random.rs"]
mod random;

use std::cell::RefCell;
use std::rc::Rc;

use powercut::calm::{Case, on_own_reactor, replay_flushes, run_case};
use powercut::fake::{self, FakePool};
use powercut::rounds::run_seed;
use powercut::{Failure, Seeds, run, run_or_panic};

#[test]
fn a_sound_pool_passes() {
    run_or_panic::<FakePool<{ fake::SOUND }>>("power_cut_test_notices_flaws", Seeds::from_environment(1, 300));
}

#[test]
fn a_sound_pool_passes_without_cuts_and_at_each_flush() {
    for seed in 0..5 {
        let case = Case::drawn(seed);
        let flushes = on_own_reactor(move |reactor| async move {
            run_case::<FakePool<{ fake::SOUND }>>(&reactor, &case).await?;
            replay_flushes::<FakePool<{ fake::SOUND }>>(&reactor, &case).await
        });
        assert!(flushes.expect("sound") > 0);
    }
}

/// What is said of a flawed pool.
fn failure_of<const FLAW: u8>() -> String {
    let (figures, failures) = run::<FakePool<FLAW>>(Seeds { first: 1, cuts: 3000 });
    let Some(Failure { seed, what, .. }) = failures.first() else { panic!("{figures:?}, and nothing was noticed") };
    println!("seed {seed}: {what}");
    what.clone()
}

#[test]
fn a_flush_that_does_nothing_is_noticed() {
    failure_of::<{ fake::FLUSHES_NOTHING }>();
}

#[test]
fn a_commit_before_its_data_is_noticed() {
    failure_of::<{ fake::COMMITS_BEFORE_DATA }>();
}

#[test]
fn a_snapshot_taken_while_writes_go_on_is_noticed() {
    let what = failure_of::<{ fake::SNAPSHOTS_WITHOUT_PAUSE }>();
    assert!(what.contains("not of one moment"), "{what}");
}

#[test]
fn a_rollback_by_halves_is_noticed() {
    failure_of::<{ fake::ROLLS_BACK_IN_PLACE }>();
}

#[test]
fn a_deletion_that_is_undone_is_noticed() {
    let what = failure_of::<{ fake::FORGETS_A_DELETION }>();
    assert!(what.contains("exists, which was deleted"), "{what}");
}

#[test]
fn the_content_of_another_volume_is_noticed() {
    failure_of::<{ fake::MIXES_UP_AREAS }>();
}

#[test]
fn keys_of_what_was_deleted_are_noticed() {
    let what = failure_of::<{ fake::KEEPS_KEYS_OF_DELETED }>();
    assert!(what.contains("although it is gone") || what.contains("are on the device"), "{what}");
}

#[test]
fn a_key_that_is_destroyed_before_its_last_volume_is_noticed() {
    failure_of::<{ fake::DESTROYS_KEYS_TOO_EARLY }>();
}

#[test]
fn keys_that_were_replaced_are_noticed() {
    let what = failure_of::<{ fake::KEEPS_REPLACED_KEYS }>();
    assert!(what.contains("although it is gone") || what.contains("are on the device"), "{what}");
}

#[test]
fn traces_of_what_was_under_way_are_noticed() {
    let what = failure_of::<{ fake::LEAVES_WHAT_WAS_UNDER_WAY }>();
    assert!(what.contains("are on the device"), "{what}");
}

#[test]
fn a_volume_before_its_key_is_noticed() {
    failure_of::<{ fake::NAMES_KEYS_TOO_EARLY }>();
}

#[test]
fn the_same_seed_does_the_same() {
    engine::on_reactor(|reactor| async move {
        for seed in 0..10 {
            let traces = [Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new()))];
            for trace in &traces {
                run_seed::<FakePool<{ fake::SOUND }>>(&reactor, seed, trace.clone()).await.expect("sound");
            }
            assert_eq!(traces[0], traces[1], "seed {seed}");
        }
    });
}
