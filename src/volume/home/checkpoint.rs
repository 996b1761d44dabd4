//! A checkpoint: what has changed since the last one is written to free pages, and the other superblock names them.
//!
//! It begins with a commit; the superblock will name the journal's next block as the start of replay. Whatever the pages say is at least as new as
//! what the journal said before that block. It may be newer than that: then the words stand in the journal again behind it, or were never
//! flushed. Structure does not change meanwhile (the lock `changing`), so no snapshot is replayed from pages that are newer than it.
//!
//! Pages are written from the leaves up. A node is stored if it has changed or never was; flags are taken from the top down before anything is
//! read, so that a change which comes too late for this checkpoint marks the next one. Nodes may be copied by writers while this goes on: a
//! parent is written only in a moment in which everything that it points to is stored.

use std::sync::atomic::Ordering;

use crate::device::{Device, IoError, write_whole};
use crate::reactor::yield_now;

use super::super::entry::Volume;
use super::super::format::{PagePointer, Superblock, leaf as leaf_page, node as node_page};
use super::super::map::{Branch, Leaf};
use super::super::units::{BRANCHES_PER_ROOT, PAGE, PageNumber};
use super::Home;
use super::commit::Outcome;
use super::lock::Held;
use super::sink::PageSink;

/// Pages after which others have a turn.
const PAGES_PER_TURN: usize = 16;

/// What a checkpoint carries along.
struct Storing<'a> {
    number: u64,
    /// The last one failed: what it marked as stored may not be.
    is_again: bool,
    sink: PageSink<'a>,
    since_turn: usize,
}

impl Home {
    /// Serves those who want checkpoints.
    pub(super) async fn serve_checkpoints(&self) {
        let checkpoints = &self.pool.checkpoints;
        while checkpoints.wanted().await {
            let changing = self.changing.lock().await;
            let before = checkpoints.begin();
            let outcome = self.checkpoint_now(&changing).await;
            checkpoints.end(before, outcome);
        }
    }

    /// Makes everything durable that was changed until now, and frees the journal.
    pub(super) async fn checkpoint_now(&self, _changing: &Held<'_>) -> Result<(), IoError> {
        self.checkpoint_with(|_| ()).await
    }

    /// The same; `edit` has a last look at the superblock.
    pub(super) async fn checkpoint_with(&self, edit: impl FnOnce(&mut Superblock)) -> Result<(), IoError> {
        let committing = self.committing.lock().await;
        let commit = self.pool.commits.begin();
        let committed = self.commit_now(&committing).await;
        let start = self.journal.head();
        // If the journal has no room for what was collected, nothing may be committed until it is stored here.
        let committing = match committed {
            Ok(Outcome::Durable) => {
                self.pool.commits.end(commit, Ok(()));
                drop(committing);
                None
            }
            Ok(Outcome::NoRoom) => Some(committing),
            Err(error) => {
                self.pool.commits.end(commit, Err(error));
                return Err(error);
            }
        };
        let outcome = self.store(start, edit).await;
        if outcome.is_err() {
            self.is_half_stored.set(true);
        }
        if let Some(held) = committing {
            if outcome.is_ok() {
                self.carried.borrow_mut().clear();
            }
            self.pool.commits.end(commit, outcome);
            drop(held);
        }
        outcome
    }

    async fn store(
        &self,
        start: super::super::format::JournalStart,
        edit: impl FnOnce(&mut Superblock),
    ) -> Result<(), IoError> {
        let number = self.stored.get() + 1;
        self.stored.set(number);
        while let Some(page) = self.pool.dropped_pages.pop() {
            self.pages.borrow_mut().put_back(page, number);
        }
        let sink = PageSink::new(&self.seat.device, &self.pages, &self.pool.space, self.memory.metadata.take());
        let mut storing = Storing { number, is_again: self.is_half_stored.replace(false), sink, since_turn: 0 };
        let stored = self.store_all(&mut storing).await;
        self.memory.metadata.set(storing.sink.into_buffer());
        let mut superblock = self.superblock.borrow().clone();
        superblock.catalog = stored?;
        self.seat.device.flush().await?;
        superblock.start = start;
        superblock.next_volume = self.next_volume.get();
        superblock.clusters = self.pool.space.clusters();
        edit(&mut superblock);
        self.write_superblock(superblock).await?;
        self.journal.starts_at(start);
        let mut pages = self.pages.borrow_mut();
        pages.release(number, &self.pool.space);
        self.pool.budget().settle(pages.pages_in_use(), &self.pool.space);
        Ok(())
    }

    /// Writes all that has changed; gives the root page of the catalog.
    async fn store_all(&self, storing: &mut Storing<'_>) -> Result<PagePointer, IoError> {
        if storing.is_again {
            self.catalog.borrow_mut().touch_all();
        }
        for volume in self.volumes() {
            self.store_volume(&volume, storing).await?;
        }
        // Structure stays as it is, so nobody else needs the catalog meanwhile.
        let mut catalog = self.catalog.take();
        let volume = |id| self.pool.volume_numbered(id);
        let stored = catalog.store(&mut storing.sink, &self.pages, storing.number, volume).await;
        self.catalog.replace(catalog);
        storing.sink.write_out().await?;
        stored
    }

    /// Writes the superblock in the other place, durably.
    pub(super) async fn write_superblock(&self, mut superblock: Superblock) -> Result<(), IoError> {
        superblock.generation += 1;
        let mut buffer = self.memory.page.take();
        superblock.encode(&mut buffer[..PAGE]);
        let device = &self.seat.device;
        let written = write_whole(device, superblock.page().byte(), &mut buffer, 0..PAGE).await;
        self.memory.page.set(buffer);
        written?;
        device.flush().await?;
        self.pool.generation.store(superblock.generation, Ordering::Relaxed);
        *self.superblock.borrow_mut() = superblock;
        Ok(())
    }

    async fn store_volume(&self, volume: &Volume, storing: &mut Storing<'_>) -> Result<(), IoError> {
        let map = &volume.map;
        let slots = map.root().slots.len();
        let has_changed = map.begin_storing() || storing.is_again;
        let runs = slots.div_ceil(BRANCHES_PER_ROOT);
        for run in 0..runs {
            let is_stored = map.root().stored[run].is_there();
            if !has_changed && is_stored {
                continue;
            }
            if let Err(error) = self.store_run(volume, run, storing).await {
                map.store_again();
                return Err(error);
            }
        }
        // Runs that were cut off.
        for stored in &map.root().stored[runs..] {
            self.put_back(stored.take(), storing.number);
        }
        if volume.record_changed.swap(false, Ordering::SeqCst) {
            self.catalog.borrow_mut().touch(volume.id());
        }
        Ok(())
    }

    /// Stores the branches of a root page, and then the page.
    async fn store_run(&self, volume: &Volume, run: usize, storing: &mut Storing<'_>) -> Result<(), IoError> {
        let map = &volume.map;
        let slots = |map: &super::super::map::Map| {
            let all = map.root().slots.len();
            run * BRANCHES_PER_ROOT..((run + 1) * BRANCHES_PER_ROOT).min(all)
        };
        for slot in slots(map) {
            self.store_branch(volume, slot, storing).await?;
        }
        loop {
            storing.sink.room().await?;
            // From here on to the end without an await.
            let unstored = slots(map).find(|slot| {
                let branch = map.root().slots[*slot].branch.see().node;
                branch.is_some_and(|branch| !branch.stored.is_there())
            });
            if let Some(slot) = unstored {
                self.store_branch(volume, slot, storing).await?;
                continue;
            }
            let root = map.root();
            let branches = || slots(map).map(|slot| root.slots[slot].branch.see().node);
            let is_new = branches().flatten().any(|branch| branch.stored.checkpoint() == storing.number);
            let stored = &root.stored[run];
            if !is_new && stored.is_there() && !storing.is_again && !volume.record_changed.load(Ordering::SeqCst) {
                return Ok(());
            }
            let pointers: Vec<_> = branches()
                .map(|branch| branch.map_or(PagePointer::NONE, |branch| PagePointer::from(&branch.stored)))
                .collect();
            let new = storing.sink.add(|bytes| node_page::encode(bytes, pointers))?;
            self.put_back(stored.replace(new.page, new.checksum, storing.number), storing.number);
            volume.record_changed.store(true, Ordering::SeqCst);
            return Ok(());
        }
    }

    /// Stores the leaves of a branch that have changed, and then the branch.
    async fn store_branch(&self, volume: &Volume, slot: usize, storing: &mut Storing<'_>) -> Result<(), IoError> {
        let branch = || volume.map.root().slots[slot].branch.see().node;
        match branch() {
            Some(branch) if needs_branch(branch, storing) => {}
            _ => return Ok(()),
        }
        let mut next = 0;
        loop {
            storing.since_turn += 1;
            if storing.since_turn.is_multiple_of(PAGES_PER_TURN) {
                yield_now().await;
            }
            storing.sink.room().await?;
            // From here on to the end of the turn without an await: the branch may be another one after each.
            let Some(branch) = branch() else { return Ok(()) };
            let due = |leaf: &Leaf| needs_leaf(leaf, storing);
            let from =
                |first: usize| (first..branch.leaves.len()).find(|at| branch.leaves[*at].see().node.is_some_and(due));
            let Some(at) = from(next).or_else(|| (0..next).find(|at| is_unstored(branch, *at))) else {
                let pointers = branch
                    .leaves
                    .iter()
                    .map(|edge| edge.see().node.map_or(PagePointer::NONE, |leaf| PagePointer::from(&leaf.stored)));
                let new = storing.sink.add(|bytes| node_page::encode(bytes, pointers))?;
                self.put_back(branch.stored.replace(new.page, new.checksum, storing.number), storing.number);
                return Ok(());
            };
            next = next.max(at + 1);
            let leaf = branch.leaves[at].see().node.expect("it was just found");
            leaf.changed.store(false, Ordering::SeqCst);
            let new = storing.sink.add(|bytes| leaf_page::encode(bytes, leaf.words().map(|word| word.durable().0)))?;
            self.put_back(leaf.stored.replace(new.page, new.checksum, storing.number), storing.number);
        }
    }

    fn put_back(&self, page: Option<PageNumber>, checkpoint: u64) {
        if let Some(page) = page {
            self.pages.borrow_mut().put_back(page, checkpoint);
        }
    }
}

/// Whether a branch has to be stored; its mark is taken.
fn needs_branch(branch: &Branch, storing: &Storing<'_>) -> bool {
    let has_changed = branch.changed.swap(false, Ordering::SeqCst);
    let is_stored = branch.stored.is_there();
    has_changed || !is_stored || storing.is_again && branch.stored.checkpoint() != storing.number
}

/// Whether a leaf has to be stored; not twice in one checkpoint.
fn needs_leaf(leaf: &Leaf, storing: &Storing<'_>) -> bool {
    if !leaf.stored.is_there() {
        return true;
    }
    leaf.stored.checkpoint() != storing.number && (storing.is_again || leaf.changed.load(Ordering::SeqCst))
}

fn is_unstored(branch: &Branch, at: usize) -> bool {
    branch.leaves[at].see().node.is_some_and(|leaf| !leaf.stored.is_there())
}
