//! Writes, discards, copies, snapshots and deletions that meet on a map, step by step as `src/volume/queue/` takes them, with the product's map and
//! space. Each block of the device is a cell that loom watches: two that touch the content of one at once are found, unless both read.

use std::sync::Mutex;

use loom::sync::Arc;
use loom::thread;
use strongroom_loom::atomic::{AtomicBool, Ordering};
use strongroom_loom::device::{CONTENDED, Device};
use strongroom_loom::explore;
use strongroom_loom::grace::Grace;
use strongroom_loom::volume::map::{Blocks, Claim, Demolition, Discarded, Ledger, Map, Remains, Root, Spot, Word};
use strongroom_loom::volume::space::Space;
use strongroom_loom::volume::units::ClusterId;

/// A pool, and what was let go in it: kept until the model ends, as until a cycle that never does, unless the model frees it.
struct Pool {
    space: Space,
    device: Device,
    let_go: Mutex<Vec<ClusterId>>,
    remains: Mutex<Vec<Remains>>,
}

impl Ledger for Pool {
    fn share(&self, cluster: ClusterId) {
        self.space.share(cluster);
    }

    fn let_go(&self, cluster: ClusterId) -> bool {
        self.space.let_go(cluster)
    }

    fn admit(&self, _nodes: u32) -> bool {
        true
    }

    fn dismiss(&self, _nodes: u32) {}
}

fn block(number: u32) -> Blocks {
    Blocks::between(number, number)
}

impl Pool {
    /// Cluster 0 is nobody's.
    fn new(clusters: u32) -> Arc<Self> {
        let space = Space::new(clusters + 1);
        space.refer(ClusterId(0)).expect("it is there");
        Arc::new(Self { space, device: Device::new(clusters + 1), let_go: Mutex::default(), remains: Mutex::default() })
    }

    fn take(&self) -> ClusterId {
        let mut taken = Vec::new();
        assert_eq!(self.space.take(1, &mut ClusterId(1), &mut taken), 1, "the model has space");
        taken[0]
    }

    fn let_go_of(&self, cluster: ClusterId) {
        if self.space.let_go(cluster) {
            self.let_go.lock().expect("no panic").push(cluster);
        }
    }

    fn own<'a>(&self, map: &'a Map, index: u64) -> Spot<'a> {
        if let Some(spot) = map.spot(index) {
            return spot;
        }
        let mut remains = Remains::default();
        let spot = map.own(index, self, &mut remains).expect("admitted");
        self.keep(remains);
        spot
    }

    fn keep(&self, mut remains: Remains) {
        self.let_go.lock().expect("no panic").append(&mut remains.clusters);
        self.remains.lock().expect("no panic").push(remains);
    }

    /// A write of one block.
    fn write(&self, map: &Map, index: u64, number: u32, content: u32) {
        while !self.try_to_write(map, index, number, content) {}
    }

    fn try_to_write(&self, map: &Map, index: u64, number: u32, content: u32) -> bool {
        let spot = self.own(map, index);
        let mut spare = None;
        loop {
            let claim = spot.claim(block(number), Blocks::NONE, spare, |cluster| self.space.is_exclusive(cluster));
            if let Some(unused) = spare.filter(|_| !matches!(claim, Claim::FillNew(_))) {
                self.space.give_back(unused);
            }
            match claim {
                Claim::NeedsCluster => spare = Some(self.take()),
                Claim::InPlace(cluster) => {
                    self.device.write(cluster, number, content);
                    return true;
                }
                Claim::Fill(word) | Claim::FillNew(word) => {
                    self.device.write(word.cluster().expect("claimed"), number, content);
                    return map.spot(index).expect("it is still owned").publish(word, block(number));
                }
                Claim::Copy(old) => {
                    self.copy(spot, old, number, content);
                    return true;
                }
                Claim::Busy => {
                    thread::yield_now();
                    return false;
                }
                Claim::PartlyAbsent | Claim::Lost => unreachable!("whole blocks, and none is lost"),
            }
        }
    }

    fn copy(&self, spot: Spot<'_>, old: Word, number: u32, content: u32) {
        let (from, new) = (old.cluster().expect("shared"), self.take());
        let other = 1 - number;
        if old.present().has(block(other)) {
            self.device.write(new, other, self.device.read(from, other));
        }
        self.device.write(new, number, content);
        spot.finish_copy(old, Word::new(new, old.present().with(block(number))));
        self.let_go_of(from);
    }

    /// What a block of the volume holds; none if it is absent.
    fn read(&self, map: &Map, index: u64, number: u32) -> Option<u32> {
        let word = map.word(index);
        let cluster = word.cluster().filter(|_| word.present().has(block(number)))?;
        Some(self.device.read(cluster, number))
    }

    fn delete(&self, map: &Map) {
        let mut remains = Remains::default();
        let mut demolition = Demolition::new(map.replace_root(Root::new(0)));
        while demolition.step(self, &mut remains) {}
        self.keep(remains);
    }

    /// All have ended: these words are the only ones that refer to anything, and each cluster has as many references as words.
    fn check(&self, words: &[Word]) {
        let clusters: Vec<_> = words.iter().filter_map(|word| word.cluster()).collect();
        for cluster in &clusters {
            let expected = clusters.iter().filter(|other| *other == cluster).count();
            assert_eq!(self.space.references(*cluster) as usize, expected, "{words:?}");
        }
        let mut used = clusters;
        used.extend(self.let_go.lock().expect("no panic").iter());
        used.sort();
        used.dedup();
        assert_eq!(self.space.used_clusters() as usize, used.len() + 1, "{words:?}");
        assert_eq!(self.space.mistakes(), 0);
    }
}

fn volume() -> Arc<Map> {
    Arc::new(Map::new(Root::new(1)))
}

/// A volume with blocks 0 and 1 of its first cluster written, and a fork of it.
fn forked(pool: &Pool) -> (Arc<Map>, Arc<Map>) {
    let map = volume();
    pool.write(&map, 0, 0, 10);
    pool.write(&map, 0, 1, 11);
    let fork = Arc::new(Map::new(map.fork()));
    (map, fork)
}

fn begin(pool: &Arc<Pool>, map: &Arc<Map>, work: impl FnOnce(&Pool, &Map) + 'static) -> thread::JoinHandle<()> {
    let (pool, map) = (pool.clone(), map.clone());
    thread::spawn(move || work(&pool, &map))
}

fn end(running: thread::JoinHandle<()>) {
    running.join().expect("no panic");
}

#[test]
fn two_first_writers_of_a_word_install_one_cluster() {
    explore("first write, first write", 2, || {
        let (pool, map) = (Pool::new(2), volume());
        pool.own(&map, 0);
        let other = begin(&pool, &map, |pool, map| pool.write(map, 0, 1, 21));
        pool.write(&map, 0, 0, 20);
        end(other);
        assert_eq!((pool.read(&map, 0, 0), pool.read(&map, 0, 1)), (Some(20), Some(21)));
        assert!(map.clusters() == 1 && pool.let_go.lock().expect("no panic").is_empty());
        pool.check(&[map.word(0)]);
    });
}

#[test]
fn two_first_writers_make_a_leaf_once() {
    explore("first write in a leaf, first write in it", 1, || {
        let (pool, map) = (Pool::new(2), volume());
        let other = begin(&pool, &map, |pool, map| pool.write(map, 1, 0, 21));
        pool.write(&map, 0, 0, 20);
        end(other);
        assert_eq!((pool.read(&map, 0, 0), pool.read(&map, 1, 0)), (Some(20), Some(21)));
        assert!(pool.remains.lock().expect("no panic").iter().all(Remains::is_empty));
        pool.check(&[map.word(0), map.word(1)]);
    });
}

#[test]
fn a_discarded_cluster_is_used_again_after_who_wrote_to_it() {
    explore("first writes, discard and use again", 2, || {
        let (pool, map, grace) = (Pool::new(2), volume(), Arc::new(Grace::default()));
        pool.own(&map, 0);
        let theirs = grace.clone();
        let writer = begin(&pool, &map, move |pool, map| {
            pool.write(map, 0, 0, 20);
            theirs.turn();
            pool.write(map, 0, 1, 21);
            theirs.leave();
        });
        let discarded = map.spot(0).expect("owned").discard(Blocks::ALL);
        if let Discarded::Cluster(cluster) = discarded {
            assert!(pool.space.let_go(cluster));
            grace.drain();
            pool.space.free(cluster);
            // Another volume's now.
            let mut taken = Vec::new();
            assert_eq!(pool.space.take(1, &mut ClusterId(cluster.0), &mut taken), 1);
            (0..2).for_each(|number| pool.device.write(taken[0], number, 99));
            end(writer);
            assert!(pool.device.read(taken[0], 0) == 99 && pool.device.read(taken[0], 1) == 99);
            pool.space.give_back(taken[0]);
        } else {
            end(writer);
        }
        assert!(matches!(pool.read(&map, 0, 0), Some(20) | None));
        assert!(matches!(pool.read(&map, 0, 1), Some(21) | None));
        pool.check(&[map.word(0)]);
    });
}

#[test]
fn what_was_discarded_does_not_come_back_with_a_write_that_was_in_flight() {
    explore("first write; first write of the same block, then discard it", 2, || {
        let (pool, map) = (Pool::new(2), volume());
        // The cluster stays.
        pool.write(&map, 0, 0, 20);
        let other = begin(&pool, &map, |pool, map| pool.write(map, 0, CONTENDED, 21));
        pool.write(&map, 0, CONTENDED, 31);
        let _ = map.spot(0).expect("owned").discard(block(CONTENDED));
        end(other);
        assert_eq!(pool.read(&map, 0, 0), Some(20));
        assert!(matches!(pool.read(&map, 0, CONTENDED), Some(21) | None));
        pool.check(&[map.word(0)]);
    });
}

#[test]
fn a_shared_cluster_is_copied_once_and_both_writes_are_in_the_copy() {
    explore("write to a shared cluster, write to it", 2, || {
        let pool = Pool::new(4);
        let (map, fork) = forked(&pool);
        pool.own(&map, 0);
        let other = begin(&pool, &map, |pool, map| pool.write(map, 0, 1, 21));
        pool.write(&map, 0, 0, 20);
        end(other);
        assert_eq!((pool.read(&map, 0, 0), pool.read(&map, 0, 1)), (Some(20), Some(21)));
        assert_eq!((pool.read(&fork, 0, 0), pool.read(&fork, 0, 1)), (Some(10), Some(11)));
        pool.check(&[map.word(0), fork.word(0)]);
    });
}

#[test]
fn readers_go_on_while_a_cluster_is_copied() {
    explore("first write after a snapshot, read, read the snapshot", 2, || {
        let pool = Pool::new(2);
        let (map, fork) = forked(&pool);
        let reader = begin(&pool, &map, |pool, map| assert_eq!(pool.read(map, 0, 1), Some(11)));
        let of_fork = begin(&pool, &fork, |pool, fork| {
            assert_eq!((pool.read(fork, 0, 0), pool.read(fork, 0, 1)), (Some(10), Some(11)));
        });
        pool.write(&map, 0, 0, 20);
        end(reader);
        end(of_fork);
        assert_eq!(pool.read(&map, 0, 0), Some(20));
        pool.check(&[map.word(0), fork.word(0)]);
    });
}

#[test]
fn two_writers_copy_a_frozen_leaf_once() {
    explore("write in a frozen leaf, write in it", 1, || {
        let pool = Pool::new(4);
        let (map, fork) = forked(&pool);
        let other = begin(&pool, &map, |pool, map| pool.write(map, 1, 0, 30));
        pool.write(&map, 0, 0, 20);
        end(other);
        assert_eq!(
            (pool.read(&map, 0, 0), pool.read(&map, 0, 1), pool.read(&map, 1, 0)),
            (Some(20), Some(11), Some(30))
        );
        assert_eq!((pool.read(&fork, 0, 0), fork.word(1)), (Some(10), Word::ABSENT));
        pool.check(&[map.word(0), map.word(1), fork.word(0)]);
    });
}

#[test]
fn two_volumes_part_from_each_other() {
    explore("write to a volume, write to its clone", 1, || {
        let pool = Pool::new(4);
        let (map, fork) = forked(&pool);
        let other = begin(&pool, &fork, |pool, fork| pool.write(fork, 0, 0, 30));
        pool.write(&map, 0, 0, 20);
        end(other);
        assert_eq!((pool.read(&map, 0, 0), pool.read(&map, 0, 1)), (Some(20), Some(11)));
        assert_eq!((pool.read(&fork, 0, 0), pool.read(&fork, 0, 1)), (Some(30), Some(11)));
        pool.check(&[map.word(0), fork.word(0)]);
    });
}

#[test]
fn a_snapshot_is_deleted_while_its_volume_is_written() {
    explore("write after a snapshot, delete the snapshot", 2, || {
        let pool = Pool::new(4);
        let (map, fork) = forked(&pool);
        let other = begin(&pool, &fork, |pool, fork| pool.delete(fork));
        pool.write(&map, 0, 0, 20);
        end(other);
        assert_eq!((pool.read(&map, 0, 0), pool.read(&map, 0, 1)), (Some(20), Some(11)));
        pool.check(&[map.word(0)]);
    });
}

#[test]
fn a_snapshot_is_exact_while_others_write_and_read() {
    explore("snapshot, writes, read", 2, || {
        let (pool, map) = (Pool::new(3), volume());
        pool.write(&map, 0, 0, 10);
        pool.write(&map, 0, 1, 11);
        let (grace, is_paused) = (Arc::new(Grace::default()), Arc::new(AtomicBool::new(false)));
        let (theirs, pause) = (grace.clone(), is_paused.clone());
        let writer = begin(&pool, &map, move |pool, map| {
            for content in [20, 30] {
                // Counted, then it looks whether there is a pause: so the answer comes between commands.
                while pause.load(Ordering::Acquire) {
                    theirs.turn();
                    thread::yield_now();
                }
                pool.write(map, 0, 0, content);
                theirs.turn();
            }
            theirs.leave();
        });
        let reader = begin(&pool, &map, |pool, map| assert_eq!(pool.read(map, 0, 1), Some(11)));
        is_paused.store(true, Ordering::Release);
        grace.drain();
        let fork = Map::new(map.fork());
        is_paused.store(false, Ordering::Release);
        let content = pool.read(&fork, 0, 0);
        end(writer);
        end(reader);
        // If all was written before the snapshot, the leaf is still one.
        pool.write(&map, 0, 0, 30);
        assert!(matches!(content, Some(10 | 20 | 30)));
        assert_eq!((pool.read(&fork, 0, 0), pool.read(&fork, 0, 1)), (content, Some(11)));
        assert_eq!((pool.read(&map, 0, 0), pool.read(&map, 0, 1)), (Some(30), Some(11)));
        pool.check(&[map.word(0), fork.word(0)]);
    });
}

#[test]
fn a_commit_misses_no_change() {
    explore("write and discard, commit", 2, || {
        let (pool, map) = (Pool::new(2), volume());
        pool.own(&map, 0);
        let writer = begin(&pool, &map, |pool, map| {
            pool.write(map, 0, 0, 20);
            let discarded = map.spot(0).expect("owned").discard(Blocks::ALL);
            assert!(matches!(discarded, Discarded::Cluster(_)));
        });
        let mut durable = Word::ABSENT;
        let mut commit = || {
            if map.begin_taking() {
                map.take_dirty(0, |index, word| {
                    assert_eq!(index, 0);
                    durable = word;
                });
            }
        };
        commit();
        end(writer);
        commit();
        assert_eq!(durable, map.word(0).durable());
        assert!(!map.is_pending());
    });
}
