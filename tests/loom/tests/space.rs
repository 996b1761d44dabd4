//! No two holders of one cluster, whatever the order in which threads take, share, let go, free and grow.

use std::collections::HashSet;

use loom::sync::Arc;
use loom::thread;
use strongroom_loom::device::Device;
use strongroom_loom::explore;
use strongroom_loom::volume::space::{MetadataBudget, Space};
use strongroom_loom::volume::units::ClusterId;

/// A chunk of the models has two words.
const CHUNK: u32 = 128;

/// A pool, and what is on its device. Who has a cluster writes to it: loom finds two that do.
struct Pool {
    space: Space,
    device: Device,
}

impl Pool {
    fn new(clusters: u32) -> Self {
        Self { space: Space::new(clusters), device: Device::new(clusters) }
    }

    fn take(&self, want: usize, from: u32) -> Vec<ClusterId> {
        let mut taken = Vec::new();
        let count = self.space.take(want, &mut ClusterId(from), &mut taken);
        assert_eq!(count, taken.len());
        taken.iter().for_each(|cluster| self.device.write(*cluster, 0, 1));
        taken
    }

    fn let_go(&self, cluster: ClusterId) {
        if self.space.let_go(cluster) {
            self.device.write(cluster, 0, 2);
            self.space.free(cluster);
        }
    }

    /// All have ended: nothing is lost and nothing is there twice.
    fn check(&self, held: impl IntoIterator<Item = ClusterId>) {
        let held: Vec<_> = held.into_iter().collect();
        assert_eq!(held.iter().collect::<HashSet<_>>().len(), held.len(), "no two have the same: {held:?}");
        assert_eq!(self.space.used_clusters() as usize, held.len());
        let rest = self.take(usize::MAX, 0);
        assert_eq!(rest.len() + held.len(), self.space.clusters() as usize, "what is counted as free is found");
        assert_eq!(self.space.mistakes(), 0);
    }
}

/// Runs both at once; gives what they give.
fn both<A: 'static, B>(
    pool: &Arc<Pool>,
    one: impl FnOnce(&Pool) -> A + 'static,
    other: impl FnOnce(&Pool) -> B,
) -> (A, B) {
    let theirs = pool.clone();
    let running = thread::spawn(move || one(&theirs));
    let here = other(pool);
    (running.join().expect("no panic"), here)
}

#[test]
fn two_that_take_get_different_clusters() {
    explore("take, take", 2, || {
        let pool = Arc::new(Pool::new(3));
        let (one, other) = both(&pool, |pool| pool.take(2, 0), |pool| pool.take(2, 1));
        assert_eq!(one.len() + other.len(), 3);
        pool.check(one.into_iter().chain(other));
    });
}

#[test]
fn three_that_take_the_last_two_share_them_out() {
    explore("take, take, take", 2, || {
        let pool = Arc::new(Pool::new(2));
        let theirs = pool.clone();
        let third = thread::spawn(move || theirs.take(1, 0));
        let (one, other) = both(&pool, |pool| pool.take(1, 0), |pool| pool.take(1, 1));
        let all = [one, other, third.join().expect("no panic")].concat();
        assert_eq!(all.len(), 2);
        pool.check(all);
    });
}

#[test]
fn whole_words_and_single_clusters_do_not_meet() {
    explore("take a word, take one", 2, || {
        let pool = Arc::new(Pool::new(CHUNK));
        let (one, other) = both(&pool, |pool| pool.take(64, 0), |pool| pool.take(1, 1));
        assert_eq!((one.len(), other.len()), (64, 1));
        let all: HashSet<_> = one.iter().chain(&other).collect();
        assert_eq!(all.len(), 65);
    });
}

#[test]
fn what_is_freed_is_found_and_ordered() {
    explore("take, free", None, || {
        let pool = Arc::new(Pool::new(2));
        let held = pool.take(2, 0);
        let freed = held[1];
        let (taken, ()) = both(&pool, |pool| pool.take(2, 0), |pool| pool.let_go(freed));
        assert!(taken.is_empty() || taken == [freed]);
        pool.check([held[0]].into_iter().chain(taken));
    });
}

/// The number of free clusters in a chunk follows its bits, so it is wrong for moments; a claim finds its cluster nevertheless.
#[test]
fn a_claim_is_found_in_whatever_chunk_it_is() {
    explore("take, free here, free there", 2, || {
        let pool = Arc::new(Pool::new(CHUNK + 1));
        let held = pool.take(CHUNK as usize, 0);
        let (low, high) = (ClusterId(1), ClusterId(CHUNK));
        assert!(!held.contains(&high));
        let theirs = pool.clone();
        let freeing = thread::spawn(move || theirs.let_go(low));
        let (one, other) = both(&pool, |pool| pool.take(1, 0), |pool| pool.take(1, CHUNK));
        freeing.join().expect("no panic");
        assert!((1..=2).contains(&(one.len() + other.len())));
        pool.check(held.into_iter().filter(|cluster| *cluster != low).chain(one).chain(other));
    });
}

#[test]
fn a_cluster_that_is_given_back_has_a_new_holder_afterwards() {
    explore("give back, take, take", 2, || {
        let pool = Arc::new(Pool::new(1));
        let held = pool.take(1, 0)[0];
        let theirs = pool.clone();
        let giving = thread::spawn(move || theirs.space.give_back(held));
        let (one, other) = both(&pool, |pool| pool.take(1, 0), |pool| pool.take(1, 0));
        giving.join().expect("no panic");
        assert!(one.len() + other.len() <= 1);
        pool.check(one.into_iter().chain(other));
    });
}

#[test]
fn exactly_one_is_the_last_holder() {
    explore("let go, let go, let go", 2, || {
        let pool = Arc::new(Pool::new(1));
        let cluster = pool.take(1, 0)[0];
        (0..2).for_each(|_| pool.space.share(cluster));
        let let_go = move |pool: &Pool| {
            assert_ne!(pool.device.read(cluster, 0), 2, "it was still held");
            let is_last = pool.space.let_go(cluster);
            if is_last {
                pool.device.write(cluster, 0, 2);
            }
            is_last
        };
        let theirs = pool.clone();
        let third = thread::spawn(move || let_go(&theirs));
        let (one, other) = both(&pool, let_go, let_go);
        let last = [one, other, third.join().expect("no panic")];
        assert_eq!(last.into_iter().filter(|is_last| *is_last).count(), 1);
        pool.space.free(cluster);
        pool.check([]);
    });
}

#[test]
fn who_is_alone_is_alone() {
    explore("is it exclusive, let go", None, || {
        let pool = Arc::new(Pool::new(1));
        let cluster = pool.take(1, 0)[0];
        pool.space.share(cluster);
        let overwrite = move |pool: &Pool| {
            let is_exclusive = pool.space.is_exclusive(cluster);
            if is_exclusive {
                pool.device.write(cluster, 0, 3);
            }
            is_exclusive
        };
        let read = move |pool: &Pool| {
            let read = pool.device.read(cluster, 0);
            assert!(!pool.space.let_go(cluster));
            read
        };
        let (is_exclusive, read) = both(&pool, overwrite, read);
        assert_eq!(read, 1);
        assert!(pool.space.is_exclusive(cluster) && (is_exclusive || pool.device.read(cluster, 0) == 1));
    });
}

#[test]
fn sharing_and_letting_go_balance() {
    explore("share and let go, share and let go", 2, || {
        let pool = Arc::new(Pool::new(1));
        let cluster = pool.take(1, 0)[0];
        pool.space.share(cluster);
        let work = move |pool: &Pool| {
            pool.space.share(cluster);
            assert!(!pool.space.is_exclusive(cluster), "both of these are this thread's");
            let was_last = pool.space.let_go(cluster);
            assert!(!was_last);
            pool.space.let_go(cluster)
        };
        let (one, other) = both(&pool, work, work);
        assert!(one != other);
        pool.space.free(cluster);
        pool.check([]);
    });
}

#[test]
fn a_device_grows_while_others_take() {
    explore("grow, take", 2, || {
        let pool = Arc::new(Pool { space: Space::new(1), device: Device::new(CHUNK + 1) });
        let (taken, ()) = both(&pool, |pool| pool.take(3, 0), |pool| pool.space.grow(3));
        assert!((1..=3).contains(&taken.len()));
        assert_eq!(pool.space.clusters(), 3);
        pool.check(taken);
    });
    explore("grow by a chunk, take", None, || {
        let pool = Arc::new(Pool { space: Space::new(CHUNK), device: Device::new(CHUNK + 2) });
        let held = pool.take(CHUNK as usize, 0);
        let (taken, ()) = both(&pool, |pool| pool.take(2, CHUNK), |pool| pool.space.grow(CHUNK + 1));
        assert!(taken.is_empty() || taken == [ClusterId(CHUNK)]);
        pool.check(held.into_iter().chain(taken));
    });
}

#[test]
fn two_that_grow_add_each_cluster_once() {
    explore("grow, grow, take", 2, || {
        let pool = Arc::new(Pool { space: Space::new(0), device: Device::new(3) });
        let theirs = pool.clone();
        let growing = thread::spawn(move || theirs.space.grow(3));
        let (taken, ()) = both(&pool, |pool| pool.take(2, 0), |pool| pool.space.grow(2));
        growing.join().expect("no panic");
        assert_eq!(pool.space.clusters(), 3);
        pool.check(taken);
    });
}

#[test]
fn what_is_held_back_stays_for_metadata() {
    explore("hold back and take for metadata, take", 2, || {
        let pool = Arc::new(Pool::new(2));
        let metadata = |pool: &Pool| {
            let is_held_back = pool.space.hold_back(1);
            let taken =
                is_held_back.then(|| pool.space.take_for_metadata(&mut ClusterId(0)).expect("it was held back"));
            taken.inspect(|cluster| pool.device.write(*cluster, 0, 1))
        };
        let (metadata, data) = both(&pool, metadata, |pool| pool.take(2, 0));
        assert_eq!(metadata.is_some(), data.len() < 2);
        pool.check(data.into_iter().chain(metadata));
    });
}

#[test]
fn a_node_that_was_admitted_has_its_pages() {
    explore("admit, settle, take", 2, || {
        let pool = Arc::new(Pool::new(3));
        let budget = Arc::new(MetadataBudget::new(8, 0, 0, &pool.space));
        // One cluster for 8 nodes and their next pages; they go away, and others come.
        assert_eq!((budget.promised(), pool.space.held_back()), (1, 1));
        budget.dismiss(8);
        let theirs = (pool.clone(), budget.clone());
        let admitting = thread::spawn(move || theirs.1.admit(9, &theirs.0.space));
        let theirs = budget.clone();
        let ((), data) = both(&pool, move |pool| theirs.settle(0, &pool.space), |pool| pool.take(2, 0));
        let is_admitted = admitting.join().expect("no panic");
        let needed = if is_admitted { 2 } else { 0 };
        assert!(budget.promised() >= needed, "{} are promised", budget.promised());
        assert_eq!(pool.space.held_back(), budget.promised());
        let metadata: Vec<_> =
            (0..needed).map(|_| pool.space.take_for_metadata(&mut ClusterId(0)).expect("it was promised")).collect();
        pool.check(data.into_iter().chain(metadata));
    });
}
