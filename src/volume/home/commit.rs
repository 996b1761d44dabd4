//! A commit: what was changed in maps becomes durable, for everybody who asked, in one go.
//!
//! The order, and why:
//! 1. the round begins, then the dirty words are taken with their values of this moment. A presence bit that is set by now says that the data was
//!    written, on whatever reactor;
//! 2. the device is flushed: that data is durable;
//! 3. the words are written to the journal, and the device is flushed again. A crash before leaves the map as it was: the data is in clusters that
//!    nobody refers to.
//!
//! A change of structure (a snapshot, say) takes effect between 1 and 2, with the writes of its volume paused and the words taken up to that
//! moment, and its record follows theirs. Batches that could not be written stay and go with the next commit, in their order.

use std::sync::Arc;

use crate::device::{Device, IoError};
use crate::reactor::yield_now;

use super::super::entry::Volume;
use super::Home;
use super::journal::Batch;
use super::lock::Held;

/// Words after which a commit lets others have a turn while it collects.
const WORDS_PER_TURN: usize = 1024;

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is durable.
    Durable,
    /// The journal has no room: a checkpoint has to make it durable.
    NoRoom,
}

impl Home {
    /// Serves those who want commits.
    pub(super) async fn serve_commits(&self) {
        let commits = &self.pool.commits;
        while commits.wanted().await {
            let held = self.committing.lock().await;
            let number = commits.begin();
            match self.commit_now(&held).await {
                Ok(Outcome::NoRoom) => {
                    // The order of the locks: who changes structure has that lock first.
                    drop(held);
                    let changing = self.changing.lock().await;
                    commits.end(number, self.checkpoint_now(&changing).await);
                }
                outcome => commits.end(number, outcome.map(drop)),
            }
            if self.journal.is_half_full() {
                self.pool.checkpoints.request();
            }
        }
    }

    /// Commits what is dirty, for somebody who holds the lock of the structure: the worker may wait for just that.
    pub(super) async fn commit_holding(&self, changing: &Held<'_>) -> Result<(), IoError> {
        let commits = &self.pool.commits;
        let held = self.committing.lock().await;
        let number = commits.begin();
        let written = self.commit_now(&held).await;
        self.end_commit(number, written, held, changing).await
    }

    /// Ends a round of somebody who holds both locks: a checkpoint makes durable what the journal had no room for.
    pub(super) async fn end_commit(
        &self,
        number: u64,
        written: Result<Outcome, IoError>,
        committing: Held<'_>,
        changing: &Held<'_>,
    ) -> Result<(), IoError> {
        drop(committing);
        let outcome = match written {
            Ok(Outcome::NoRoom) => self.checkpoint_now(changing).await,
            written => written.map(drop),
        };
        self.pool.commits.end(number, outcome);
        outcome
    }

    /// Commits what is dirty. A round has begun.
    pub(super) async fn commit_now(&self, _held: &Held<'_>) -> Result<Outcome, IoError> {
        let mut batch = Batch::default();
        self.collect(&mut batch).await;
        self.write_down(batch).await
    }

    /// Makes a batch durable, after those that are still to be written.
    pub(super) async fn write_down(&self, batch: Batch) -> Result<Outcome, IoError> {
        if !batch.is_empty() {
            self.carried.borrow_mut().push(batch);
        }
        let device = &self.seat.device;
        device.flush().await?;
        if self.carried.borrow().is_empty() {
            return Ok(Outcome::Durable);
        }
        let encoded = self.journal.encode(&self.carried.borrow(), self.superblock.borrow().generation);
        let Some(bytes) = encoded else { return Ok(Outcome::NoRoom) };
        let mut buffer = self.memory.journal.take();
        let appended = self.journal.append(device, &bytes, &mut buffer).await;
        self.memory.journal.set(buffer);
        appended?;
        device.flush().await?;
        self.carried.borrow_mut().clear();
        Ok(Outcome::Durable)
    }

    /// Takes the dirty words of all volumes, letting others have turns.
    pub(super) async fn collect(&self, batch: &mut Batch) {
        self.pool.take_marks();
        for volume in self.pending_volumes() {
            if !volume.map.begin_taking() {
                continue;
            }
            let slots = volume.map.root().slots.len();
            let mut before = batch.words.len();
            for slot in 0..slots {
                volume.map.take_dirty(slot, |index, word| batch.words.push((volume.id(), index, word)));
                if batch.words.len() - before > WORDS_PER_TURN {
                    before = batch.words.len();
                    yield_now().await;
                }
            }
        }
    }

    /// Volumes that may have dirty words. Only these are looked at: most of what a pool has are snapshots, which never change.
    fn pending_volumes(&self) -> Vec<Arc<Volume>> {
        let volumes = self.pool.volumes.read().expect("no thread panics while it holds this lock");
        volumes.values().filter(|volume| volume.map.is_pending()).cloned().collect()
    }

    /// Takes the dirty words of one volume, whose writes are paused, at once.
    pub(super) fn collect_now(&self, volume: &Volume, batch: &mut Batch) {
        if volume.map.begin_taking() {
            for slot in 0..volume.map.root().slots.len() {
                volume.map.take_dirty(slot, |index, word| batch.words.push((volume.id(), index, word)));
            }
        }
    }
}
