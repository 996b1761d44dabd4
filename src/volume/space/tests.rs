//! What the calls of [`Space`] promise, alone and with real threads. All orders of a few calls are tried by `tests/loom`.

use super::*;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

fn take(space: &Space, want: usize, from: u32) -> Vec<u32> {
    let mut out = Vec::new();
    space.take(want, &mut ClusterId(from), &mut out);
    out.into_iter().map(|cluster| cluster.0).collect()
}

#[test]
fn clusters_are_taken_together_and_looked_for_from_a_place() {
    let space = Space::new(300_000);
    assert_eq!(take(&space, 3, 70), [70, 71, 72]);
    let words = take(&space, 130, 70);
    assert_eq!(words, (128..256).chain(73..75).collect::<Vec<_>>());
    // Across the border of two chunks, and round the end of the device.
    let border = CHUNK_CLUSTERS as u32;
    assert_eq!(take(&space, 4, border - 2), [border - 2, border - 1, border, border + 1]);
    assert_eq!(take(&space, 4, 299_998), [299_998, 299_999, 0, 1]);
    assert_eq!(take(&space, 1, u32::MAX), [2]);
    assert_eq!((space.used_clusters(), space.free_clusters(), space.clusters()), (142, 299_858, 300_000));
}

#[test]
fn a_search_goes_on_behind_what_it_found() {
    let space = Space::new(1000);
    let (mut from, mut out) = (ClusterId(10), Vec::new());
    assert_eq!(space.take(5, &mut from, &mut out), 5);
    assert_eq!(from, ClusterId(15));
    assert_eq!(space.take(usize::MAX, &mut from, &mut out), 995);
    assert_eq!(space.take(1, &mut from, &mut out), 0);
    assert_eq!(out.iter().collect::<HashSet<_>>().len(), 1000);
}

#[test]
fn what_is_held_back_is_for_metadata() {
    let space = Space::new(10);
    space.set_held_back(4);
    assert_eq!(space.available(), 6);
    assert!(space.hold_back(2) && !space.hold_back(5));
    assert_eq!(take(&space, 100, 0).len(), 4);
    let mut from = ClusterId(0);
    for left in (0..6).rev() {
        assert!(space.take_for_metadata(&mut from).is_some());
        assert_eq!((space.held_back(), space.free_clusters()), (left, left));
    }
    assert_eq!(space.take_for_metadata(&mut from), None);
    // Not there, but held back as soon as it is.
    space.set_held_back(2);
    (0..3).for_each(|cluster| space.give_back(ClusterId(cluster)));
    assert_eq!(take(&space, 100, 0).len(), 1);
    assert_eq!((space.let_up(5), take(&space, 100, 0).len()), (2, 2));
}

#[test]
fn references_are_counted() {
    let space = Space::new(100);
    let cluster = ClusterId(42);
    assert_eq!(space.references(cluster), 0);
    assert_eq!(space.refer(cluster), Ok(Reference::First));
    assert!(space.is_exclusive(cluster));
    assert_eq!(space.refer(cluster), Ok(Reference::Further));
    space.share(cluster);
    assert_eq!(space.references(cluster), 3);
    assert!(!space.is_exclusive(cluster) && !space.let_go(cluster) && !space.let_go(cluster));
    assert!(space.is_exclusive(cluster) && space.let_go(cluster));
    assert_eq!((space.references(cluster), space.used_clusters()), (0, 1));
    assert_eq!(take(&space, 1, 42), [43], "it is used until it is freed");
    space.free(cluster);
    assert_eq!(take(&space, 1, 42), [42]);
    assert_eq!(space.refer(ClusterId(100)), Err(Misplaced::Outside));
    assert_eq!(space.references(ClusterId(u32::MAX)), 0);
}

#[test]
fn a_device_grows_across_chunks_and_segments() {
    let space = Space::new(0);
    assert_eq!((take(&space, 1, 0).len(), space.refer(ClusterId(0))), (0, Err(Misplaced::Outside)));
    let segment = (SEGMENT_CHUNKS * CHUNK_CLUSTERS) as u32;
    for size in [1, 63, 64, 65, CHUNK_CLUSTERS as u32, segment - 1, segment + 100] {
        let before = space.clusters();
        space.grow(size);
        assert_eq!((space.free_clusters(), space.clusters()), (size - before, size));
        let mut taken = take(&space, usize::MAX, 0);
        taken.sort_unstable();
        assert!(taken.into_iter().eq(before..size));
    }
    space.grow(5);
    assert_eq!(space.clusters(), segment + 100);
}

#[cfg(debug_assertions)]
mod mistakes {
    use super::*;

    fn fails(mistake: impl FnOnce(&Space)) {
        let space = Space::new(100);
        assert_eq!(take(&space, 1, 0), [0]);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| mistake(&space)));
        assert!(outcome.is_err());
        assert_eq!(space.mistakes(), 1);
        // Nothing was given away.
        assert_eq!(space.free_clusters() as usize, take(&space, 100, 0).len());
    }

    #[test]
    fn are_found_and_do_no_harm() {
        fails(|space| space.give_back(ClusterId(1)));
        fails(|space| space.give_back(ClusterId(100)));
        fails(|space| space.free(ClusterId(0)));
        fails(|space| space.free(ClusterId(1)));
        fails(|space| space.share(ClusterId(1)));
        fails(|space| assert!(!space.let_go(ClusterId(1))));
        fails(|space| assert!(!space.is_exclusive(ClusterId(1))));
        fails(|space| {
            space.share(ClusterId(0));
            space.give_back(ClusterId(0));
        });
        fails(|space| {
            assert!(space.let_go(ClusterId(0)));
            space.let_go(ClusterId(0));
        });
        fails(|space| {
            assert!(space.let_go(ClusterId(0)));
            space.share(ClusterId(0));
        });
        fails(|space| {
            assert!(space.let_go(ClusterId(0)));
            space.free(ClusterId(0));
            space.free(ClusterId(0));
        });
    }
}

/// Threads take, share, let go and free while the device grows; each cluster has one holder at a time.
#[test]
fn threads_never_get_the_same_cluster() {
    const LAST: u32 = 40_000;
    let space = Space::new(100);
    let holders: Vec<AtomicBool> = (0..LAST).map(|_| AtomicBool::new(false)).collect();
    let shared = Mutex::new(Vec::new());
    let work = |thread: u32| {
        let (mut from, mut mine) = (ClusterId(thread * 1000), Vec::new());
        for round in 0..3000usize {
            let old = mine.len();
            space.take(1 + (round * 7) % 130, &mut from, &mut mine);
            for cluster in &mine[old..] {
                assert!(!holders[cluster.0 as usize].swap(true, Ordering::Relaxed), "{cluster:?} has two holders");
            }
            // Each thread lets go of half of what the other one shares.
            for cluster in mine.iter().take(3) {
                space.share(*cluster);
                shared.lock().expect("no panic").push(*cluster);
            }
            let foreign = std::mem::take(&mut *shared.lock().expect("no panic"));
            let count = mine.len() * 2 / 3;
            for cluster in foreign.into_iter().chain(mine.drain(..count)) {
                if space.let_go(cluster) {
                    assert!(holders[cluster.0 as usize].swap(false, Ordering::Relaxed));
                    space.free(cluster);
                }
            }
        }
        mine
    };
    std::thread::scope(|threads| {
        let work = &work;
        let running: Vec<_> = (0..3).map(|thread| threads.spawn(move || work(thread))).collect();
        for size in (100..=LAST).step_by(100) {
            space.grow(size);
            std::thread::yield_now();
        }
        let left: Vec<_> = running.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        for cluster in left.into_iter().chain(std::mem::take(&mut *shared.lock().expect("no panic"))) {
            if space.let_go(cluster) {
                space.free(cluster);
            }
        }
    });
    assert_eq!((space.free_clusters(), space.mistakes()), (LAST, 0));
    let mut all = take(&space, usize::MAX, 0);
    all.sort_unstable();
    assert!(all.into_iter().eq(0..LAST));
}
