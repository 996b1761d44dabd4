//! What holds for a map as one thread sees it; `tests/loom` holds the races.

use std::cell::RefCell;
use std::collections::HashMap;

use super::*;

/// Counts references in a table.
#[derive(Default)]
struct Table(RefCell<HashMap<ClusterId, u32>>);

impl Table {
    fn count(&self, cluster: u32) -> u32 {
        self.0.borrow().get(&ClusterId(cluster)).copied().unwrap_or(0)
    }

    fn first(&self, cluster: u32) -> ClusterId {
        assert_eq!(self.0.borrow_mut().insert(ClusterId(cluster), 1), None);
        ClusterId(cluster)
    }
}

impl Ledger for Table {
    fn share(&self, cluster: ClusterId) {
        *self.0.borrow_mut().get_mut(&cluster).expect("it has a reference") += 1;
    }

    fn let_go(&self, cluster: ClusterId) -> bool {
        let mut table = self.0.borrow_mut();
        let count = table.get_mut(&cluster).expect("it has a reference");
        *count -= 1;
        *count == 0
    }

    fn admit(&self, _nodes: u32) -> bool {
        true
    }

    fn dismiss(&self, _nodes: u32) {}
}

fn put(map: &Map, table: &Table, index: u64, cluster: u32, remains: &mut Remains) {
    let spot = map.own(index, table, remains).expect("admitted");
    let cluster = table.first(cluster);
    let new = Word::new(cluster, Blocks::NONE);
    assert_eq!(spot.claim(Blocks::ALL, Blocks::NONE, Some(cluster), |_| true), Claim::FillNew(new));
    assert!(spot.publish(new, Blocks::ALL));
}

fn is_exclusive(table: &Table) -> impl Fn(ClusterId) -> bool + '_ {
    |cluster| table.count(cluster.0) == 1
}

#[test]
fn a_fork_is_frozen_and_what_changes_is_copied_once() {
    let (table, mut remains) = (Table::default(), Remains::default());
    let map = Map::new(Root::new(2));
    let far = CLUSTERS_PER_BRANCH + 700;
    put(&map, &table, 3, 10, &mut remains);
    put(&map, &table, far, 11, &mut remains);
    assert_eq!(map.clusters(), 2);
    let snapshot = Map::new(map.fork());
    assert!(map.spot(3).is_none() && snapshot.spot(3).is_none());
    assert_eq!(snapshot.word(far).cluster(), Some(ClusterId(11)));

    let spot = map.own(3, &table, &mut remains).expect("admitted");
    assert_eq!((table.count(10), table.count(11)), (2, 1));
    let Claim::Copy(old) = spot.claim(Blocks::ALL, Blocks::NONE, None, is_exclusive(&table)) else { panic!("shared") };
    assert_eq!(spot.claim(Blocks::ALL, Blocks::NONE, None, is_exclusive(&table)), Claim::Busy);
    assert_eq!(spot.discard(Blocks::ALL), Discarded::Busy);
    assert_eq!(map.word(3).cluster(), Some(ClusterId(10)));
    spot.finish_copy(old, Word::new(table.first(12), Blocks::ALL));
    assert!(!table.let_go(ClusterId(10)));
    assert_eq!(snapshot.word(3), Word::new(ClusterId(10), Blocks::ALL));
    assert_eq!(map.word(3), Word::new(ClusterId(12), Blocks::ALL));
    assert!(remains.is_empty());

    // The snapshot goes: its clusters do, the others are the volume's alone.
    let mut demolition = Demolition::new(snapshot.replace_root(Root::new(0)));
    while demolition.step(&table, &mut remains) {}
    assert_eq!(remains.clusters, [ClusterId(10)]);
    assert_eq!((remains.leaves.len(), remains.branches.len(), remains.roots.len()), (1, 1, 1));
    assert_eq!(table.count(11), 1);
    let spot = map.own(far, &table, &mut remains).expect("admitted");
    assert_eq!(table.count(11), 1, "copied, and the frozen leaf is gone");
    assert_eq!(spot.claim(Blocks::ALL, Blocks::NONE, None, is_exclusive(&table)), Claim::InPlace(ClusterId(11)));
    assert!(!map.word(far).is_shared());
}

#[test]
fn dirty_words_are_taken_once_with_their_value_of_then() {
    let (table, mut remains) = (Table::default(), Remains::default());
    let map = Map::new(Root::new(1));
    put(&map, &table, 5, 10, &mut remains);
    put(&map, &table, 5000, 11, &mut remains);
    let spot = map.spot(5).expect("owned");
    assert_eq!(spot.discard(Blocks::between(0, 0)), Discarded::Blocks);
    // Installed, but not written.
    assert!(matches!(
        map.own(6, &table, &mut remains).expect("admitted").claim(
            Blocks::ALL,
            Blocks::NONE,
            Some(ClusterId(9)),
            |_| true
        ),
        Claim::FillNew(_)
    ));
    let taken = || {
        let mut taken = Vec::new();
        if map.begin_taking() {
            map.take_dirty(0, |index, word| taken.push((index, word)));
        }
        taken
    };
    let expected =
        [(5, Word::new(ClusterId(10), Blocks::between(1, 15))), (5000, Word::new(ClusterId(11), Blocks::ALL))];
    assert_eq!(taken(), expected);
    assert_eq!(taken(), []);
    assert_eq!(spot.discard(Blocks::ALL), Discarded::Cluster(ClusterId(10)));
    assert_eq!(spot.discard(Blocks::ALL), Discarded::Nothing);
    assert_eq!(taken(), [(5, Word::ABSENT)]);
}

#[test]
fn a_write_whose_cluster_was_discarded_is_done_again() {
    let (table, mut remains) = (Table::default(), Remains::default());
    let map = Map::new(Root::new(1));
    let spot = map.own(0, &table, &mut remains).expect("admitted");
    let cluster = table.first(4);
    let block = |n| Blocks::between(n, n);
    assert_eq!(spot.claim(block(1), Blocks::NONE, None, |_| true), Claim::NeedsCluster);
    let new = Word::new(cluster, Blocks::NONE);
    assert_eq!(spot.claim(block(1), Blocks::NONE, Some(cluster), |_| true), Claim::FillNew(new));
    assert_eq!(spot.claim(block(2), Blocks::NONE, None, |_| true), Claim::Fill(new));
    assert_eq!(spot.claim(block(2), block(2), None, |_| true), Claim::PartlyAbsent);
    assert!(spot.publish(new, block(1)));
    assert_eq!(spot.claim(block(1), block(1), None, |_| true), Claim::InPlace(cluster));
    assert_eq!(spot.discard(block(1)), Discarded::Cluster(cluster));
    assert!(!spot.publish(new, block(2)));
}

#[test]
fn a_write_during_which_its_block_came_and_went_is_done_again() {
    let (table, mut remains) = (Table::default(), Remains::default());
    let map = Map::new(Root::new(1));
    let spot = map.own(0, &table, &mut remains).expect("admitted");
    let (cluster, block) = (table.first(4), |n| Blocks::between(n, n));
    let claim = |blocks| match spot.claim(blocks, Blocks::NONE, Some(cluster), |_| true) {
        Claim::FillNew(word) | Claim::Fill(word) => word,
        other => panic!("{other:?}"),
    };
    assert!(spot.publish(claim(block(0)), block(0)));
    let (slow, fast) = (claim(block(1)), claim(block(1)));
    assert!(spot.publish(fast, block(1)));
    assert_eq!(spot.discard(block(1)), Discarded::Blocks);
    // What is on the device may be what the fast one wrote.
    assert!(!spot.publish(slow, block(1)));
    assert!(spot.publish(claim(block(1)), block(1)));
    assert_eq!(spot.word().present(), Blocks::between(0, 1));
}

#[test]
fn what_is_lost_stays_so_until_it_is_discarded_whole() {
    let (table, mut remains) = (Table::default(), Remains::default());
    let map = Map::new(Root::new(1));
    let spot = map.own(0, &table, &mut remains).expect("admitted");
    spot.replay(Word::UNREADABLE, &table);
    assert_eq!(spot.claim(Blocks::ALL, Blocks::NONE, Some(ClusterId(3)), |_| true), Claim::Lost);
    assert_eq!(spot.discard(Blocks::between(0, 3)), Discarded::Nothing);
    assert_eq!(spot.discard(Blocks::ALL), Discarded::Blocks);
    assert!(matches!(spot.claim(Blocks::ALL, Blocks::NONE, Some(ClusterId(3)), |_| true), Claim::FillNew(_)));
}
