//! What operators do with a pool: create, snapshot, clone, roll back, begin anew, resize, delete. (Replacing a key is in `keys.rs`.)
//!
//! Each is one change of structure: decided and checked with the lock `changing` held, made in a commit ([`Home::change`]), and answered when
//! that commit is durable. A snapshot pauses the writes of its volume for the moment in which its root is forked; what is dirty is committed
//! before, so that little is left to be collected in the pause. What finds no space waits for what was let go a moment ago, as writes do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::device::{ByteRange, IoError};

use super::super::entry::{SNAPSHOT_SIGN, Volume, VolumeInfo};
use super::super::error::PoolError;
use super::super::format::{
    KeySlot, LONGEST_NAME, MOST_ATTRIBUTES, Record, SIZE_UNIT, VolumeKind, VolumeRecord, is_name,
};
use super::super::map::Remains;
use super::super::units::{BLOCK, LARGEST_VOLUME, VolumeId};
use super::Home;
use super::journal::Batch;
use super::lock::Held;
use super::structure::{self, Left};

/// How often an operation waits for space. Writers may take whatever a cycle brings, again and again.
const MOST_TRIES: u32 = 64;

/// A volume to be made.
#[derive(Clone, Debug)]
pub struct NewVolume {
    /// Its name.
    pub name: String,
    /// Bytes in it: a multiple of 4096.
    pub size: u64,
    /// What the layers above want kept with it.
    pub attributes: Vec<u8>,
    /// A sealed key to be kept with it, with its snapshots and with what is cloned from them: up to [`super::super::format::LONGEST_KEY`] bytes.
    pub key: Option<Vec<u8>>,
}

/// What went with a volume or snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// It was the last one with its key, which is on the device no more.
    pub destroyed_key: bool,
}

/// Whether a volume may get smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrink {
    /// A smaller size is refused.
    Forbidden,
    /// What lies behind the new end is lost.
    Allowed,
}

/// A part of a volume that differs from another state of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub range: ByteRange,
    /// It is zeros now, and takes no space.
    pub is_zero: bool,
}

impl Home {
    /// Makes an empty volume.
    pub async fn create_volume(&self, new: NewVolume) -> Result<Arc<Volume>, PoolError> {
        self.with_room(async || {
            let changing = self.changing.lock().await;
            self.check_name(&new.name)?;
            self.check_new(&new.name, new.size, &new.attributes)?;
            new.key.as_deref().map_or(Ok(()), |key| self.check_key(key))?;
            let NewVolume { name, size, attributes, key } = new.clone();
            let (mut record, pages) =
                self.new_record(VolumeKind::Volume, VolumeId::NOBODY, name, size, attributes, None)?;
            if let Some(key) = key {
                // Durable before the record that names it.
                let slot = self.add_key(&changing, key).await;
                record.key = Some(slot.inspect_err(|_| self.pool.budget().dismiss(pages))?);
            }
            self.change(&changing, None, |pool| {
                structure::create(pool, &record);
                (vec![Record::Create(Box::new(record.clone()))], None)
            })
            .await?;
            self.pool.volume(&record.name)
        })
        .await
    }

    /// Freezes the volume's content of this moment.
    pub async fn snapshot(&self, volume: &str, name: &str) -> Result<VolumeInfo, PoolError> {
        self.with_room(async || {
            let changing = self.changing.lock().await;
            let source = self.volume_to_change(volume)?;
            self.check_name(name)?;
            let name = format!("{volume}{SNAPSHOT_SIGN}{name}");
            let size = source.size().load(Ordering::Acquire);
            let attributes = source.attributes();
            self.check_new(&name, size, &attributes)?;
            let key = source.key_slot();
            let (record, _) = self.new_record(VolumeKind::Snapshot, source.id(), name, size, attributes, key)?;
            self.fork(&changing, &source, record).await.map(|snapshot| snapshot.info())
        })
        .await
    }

    /// Makes a volume with the content of a snapshot.
    pub async fn clone_snapshot(&self, snapshot: &str, name: &str) -> Result<Arc<Volume>, PoolError> {
        self.with_room(async || {
            let changing = self.changing.lock().await;
            let source = self.snapshot_named(snapshot)?;
            self.check_name(name)?;
            let size = source.size().load(Ordering::Acquire);
            let attributes = source.attributes();
            self.check_new(name, size, &attributes)?;
            let (name, key) = (name.to_owned(), source.key_slot());
            let (record, _) = self.new_record(VolumeKind::Volume, source.id(), name, size, attributes, key)?;
            self.fork(&changing, &source, record).await
        })
        .await
    }

    async fn fork(
        &self,
        changing: &Held<'_>,
        source: &Arc<Volume>,
        record: VolumeRecord,
    ) -> Result<Arc<Volume>, PoolError> {
        self.change(changing, Some(source), |pool| {
            structure::fork(pool, source, &record);
            (vec![Record::Fork { source: source.id(), record: Box::new(record.clone()) }], None)
        })
        .await?;
        self.pool.volume(&record.name)
    }

    /// Gives the volume the content of one of its snapshots. What was written since is lost.
    pub async fn rollback(&self, volume: &str, snapshot: &str) -> Result<(), PoolError> {
        let changing = self.changing.lock().await;
        let target = self.volume_to_change(volume)?;
        let source = self.snapshot_named(&format!("{volume}{SNAPSHOT_SIGN}{snapshot}"))?;
        if source.parent() != target.id() {
            let what = format!("{} is a snapshot of an earlier {volume}; make a volume from it instead", source.name());
            return Err(self.invalid(what));
        }
        self.go_to(&changing, &target, &source).await
    }

    async fn go_to(&self, changing: &Held<'_>, target: &Arc<Volume>, snapshot: &Arc<Volume>) -> Result<(), PoolError> {
        self.change(changing, Some(target), |_| {
            let left = structure::roll_back(target, snapshot);
            (vec![Record::Rollback { volume: target.id(), snapshot: snapshot.id() }], left)
        })
        .await
    }

    /// Gives the volume back what it began with: the content of a snapshot, of whatever volume of the same lineage, or nothing. What was written is
    /// lost; its own snapshots stay, and so does its size, unless the snapshot is larger.
    pub async fn reinitialise(&self, volume: &str, source: Option<&str>) -> Result<(), PoolError> {
        self.with_room(async || {
            let changing = self.changing.lock().await;
            let target = self.volume_to_change(volume)?;
            let size = target.size().load(Ordering::Acquire);
            let Some(source) = source else {
                return self
                    .change(&changing, Some(&target), |_| {
                        let left = structure::empty(&target);
                        // Nothing lies before the end of the smallest volume, not even a block; the journal needs no record of its own for this.
                        let cut_off = Record::Resize { volume: target.id(), size: SIZE_UNIT };
                        (vec![cut_off, Record::Resize { volume: target.id(), size }], left)
                    })
                    .await;
            };
            let source = self.snapshot_named(source)?;
            self.check_kinship(&target, &source)?;
            let larger = size.max(source.size().load(Ordering::Acquire));
            let more = super::root_pages(larger).saturating_sub(super::root_pages(size));
            if !self.pool.budget().admit(more, &self.pool.space) {
                return Err(PoolError::NoSpace { pool: self.pool.name().to_owned() });
            }
            self.go_to(&changing, &target, &source).await
        })
        .await
    }

    /// Refuses content that the volume's key does not open, or that its attributes tell wrong things of.
    fn check_kinship(&self, target: &Volume, source: &Volume) -> Result<(), PoolError> {
        let what = if target.key_slot() != source.key_slot() {
            "they have different keys, so its content could not be read there"
        } else if target.attributes() != source.attributes() {
            "they were made for disks of different kinds"
        } else {
            return Ok(());
        };
        Err(self.invalid(format!("{} cannot begin with the content of {}: {what}", target.name(), source.name())))
    }

    /// Gives the volume another size, and returns it.
    pub async fn resize(&self, volume: &str, size: u64, shrink: Shrink) -> Result<u64, PoolError> {
        self.with_room(async || {
            let changing = self.changing.lock().await;
            let target = self.volume_to_change(volume)?;
            self.check_size(volume, size)?;
            let now = target.size().load(Ordering::Acquire);
            if size < now && shrink == Shrink::Forbidden {
                let what = format!(
                    "{volume} has {now} bytes; a smaller size loses what lies behind it and has to be asked for"
                );
                return Err(self.invalid(what));
            }
            if size == now {
                return Ok(now);
            }
            let more = super::root_pages(size).saturating_sub(super::root_pages(now));
            if !self.pool.budget().admit(more, &self.pool.space) {
                return Err(PoolError::NoSpace { pool: self.pool.name().to_owned() });
            }
            let mut remains = Remains::default();
            let mut has_room = true;
            let changed = self.change(&changing, Some(&target), |pool| {
                has_room = structure::resize(&target, size, &**pool, &mut remains).is_some();
                let size = target.size().load(Ordering::Acquire);
                (vec![Record::Resize { volume: target.id(), size }], None)
            });
            let changed = changed.await;
            // Also if it is not durable: it has happened.
            self.seat.keep(remains);
            changed?;
            if has_room { Ok(size) } else { Err(PoolError::NoSpace { pool: self.pool.name().to_owned() }) }
        })
        .await
    }

    /// Deletes a volume that nobody uses, or a snapshot. Its space is freed in the background. The key goes with the last one that has it: if the device
    /// fails in that, the volume is deleted and the error says so; the key is then destroyed when the pool is closed or opened.
    pub async fn delete(&self, name: &str) -> Result<Deleted, PoolError> {
        let changing = self.changing.lock().await;
        let volume = self.pool.volume(name)?;
        if volume.queues() > 0 {
            let remedy = "close what uses it first";
            return Err(PoolError::InUse { pool: self.pool.name().to_owned(), name: name.to_owned(), remedy });
        }
        self.change(&changing, None, |pool| {
            let left = structure::delete(pool, &volume);
            self.catalog.borrow_mut().remove(volume.id());
            pool.budget().dismiss(super::root_pages(volume.size().load(Ordering::Acquire)));
            (vec![Record::Delete { volume: volume.id() }], left)
        })
        .await?;
        let last_of = volume.key_slot().filter(|slot| !self.pool.named_slots().contains(slot));
        if let Some(slot) = last_of {
            let destroyed = self.destroy_key(&changing, slot).await;
            destroyed.map_err(|source| self.failed("destroy the key of what was deleted", source))?;
        }
        Ok(Deleted { destroyed_key: last_of.is_some() })
    }

    /// Keeps other attributes with a volume.
    pub async fn set_attributes(&self, volume: &str, attributes: Vec<u8>) -> Result<(), PoolError> {
        let changing = self.changing.lock().await;
        let target = self.pool.volume(volume)?;
        self.check_attributes(&attributes)?;
        self.change(&changing, None, |_| {
            target.set_attributes(attributes.clone());
            (vec![Record::SetAttributes { volume: target.id(), attributes }], None)
        })
        .await
    }

    /// Makes a change of structure, durably. `paused` is the volume to which nobody may write while `make` makes it.
    async fn change(
        &self,
        changing: &Held<'_>,
        paused: Option<&Arc<Volume>>,
        make: impl FnOnce(&Arc<super::super::pool::Pool>) -> (Vec<Record>, Left),
    ) -> Result<(), PoolError> {
        let failed = |source| self.failed("make the change durable", source);
        if paused.is_some() {
            // So that little is left for the pause.
            self.commit_holding(changing).await.map_err(failed)?;
        }
        let committing = self.committing.lock().await;
        let number = self.pool.commits.begin();
        let mut batch = Batch::default();
        // A round covers everybody's changes, not only those of this volume.
        self.collect(&mut batch).await;
        {
            let pause = match paused {
                Some(volume) if !volume.is_snapshot() => {
                    let pause = volume.pause.begin();
                    volume.writes.drain().await;
                    self.collect_now(volume, &mut batch);
                    Some(pause)
                }
                _ => None,
            };
            let (records, left) = make(&self.pool);
            for record in &records {
                if let Record::Create(record) | Record::Fork { record, .. } = record {
                    self.catalog.borrow_mut().add(record.id);
                }
            }
            batch.change = records;
            self.demolish(left);
            drop(pause);
        }
        let written = self.write_down(batch).await;
        self.end_commit(number, written, committing, changing).await.map_err(failed)
    }

    fn volume_to_change(&self, name: &str) -> Result<Arc<Volume>, PoolError> {
        let volume = self.pool.volume(name)?;
        volume.refuse_offline()?;
        if volume.is_snapshot() {
            return Err(self.invalid(format!("{name} is a snapshot, which never changes")));
        }
        Ok(volume)
    }

    fn snapshot_named(&self, name: &str) -> Result<Arc<Volume>, PoolError> {
        let snapshot = self.pool.volume(name)?;
        snapshot.refuse_offline()?;
        if !snapshot.is_snapshot() {
            return Err(
                self.invalid(format!("{name} is a volume; a snapshot is written volume{SNAPSHOT_SIGN}snapshot"))
            );
        }
        Ok(snapshot)
    }

    fn check_name(&self, name: &str) -> Result<(), PoolError> {
        if is_name(name) {
            return Ok(());
        }
        let what = format!("{name:?} cannot be a name; use 1 to {LONGEST_NAME} of letters, digits, '-', '_' and '.'");
        Err(self.invalid(what))
    }

    fn check_new(&self, name: &str, size: u64, attributes: &[u8]) -> Result<(), PoolError> {
        self.check_size(name, size)?;
        self.check_attributes(attributes)?;
        match self.pool.volume(name) {
            Ok(_) => Err(PoolError::Exists { pool: self.pool.name().to_owned(), name: name.to_owned() }),
            Err(_) => Ok(()),
        }
    }

    /// Does something that needs space; if there is none, again after each cycle, as long as that can bring some. Nobody holds a lock while it waits:
    /// a commit may have to wait for who does.
    async fn with_room<T>(&self, operation: impl AsyncFn() -> Result<T, PoolError>) -> Result<T, PoolError> {
        for tries in 0..MOST_TRIES {
            match operation().await {
                Err(PoolError::NoSpace { .. }) if self.seat.make_room(tries).await.is_ok() => {}
                outcome => return outcome,
            }
        }
        operation().await
    }

    fn check_size(&self, name: &str, size: u64) -> Result<(), PoolError> {
        if size > 0 && size.is_multiple_of(BLOCK) && size <= LARGEST_VOLUME {
            return Ok(());
        }
        Err(self.invalid(format!(
            "{name}: {size} bytes is no size for a volume; choose a multiple of {BLOCK}, up to {LARGEST_VOLUME}"
        )))
    }

    fn check_attributes(&self, attributes: &[u8]) -> Result<(), PoolError> {
        if attributes.len() <= MOST_ATTRIBUTES {
            return Ok(());
        }
        Err(self
            .invalid(format!("{} bytes of attributes are too many; {MOST_ATTRIBUTES} can be kept", attributes.len())))
    }

    /// A record for something new, and how many pages it needs; space for them is kept from now on.
    fn new_record(
        &self,
        kind: VolumeKind,
        parent: VolumeId,
        name: String,
        size: u64,
        attributes: Vec<u8>,
        key: Option<KeySlot>,
    ) -> Result<(VolumeRecord, u32), PoolError> {
        let pages = super::root_pages(size) + self.catalog.borrow().nodes_for_one_more();
        if !self.pool.budget().admit(pages, &self.pool.space) {
            return Err(PoolError::NoSpace { pool: self.pool.name().to_owned() });
        }
        let id = self.next_volume.get();
        self.next_volume.set(VolumeId(id.0 + 1));
        Ok((structure::new_record(id, kind, parent, name, size, attributes, key), pages))
    }

    pub(super) fn invalid(&self, what: String) -> PoolError {
        PoolError::Invalid { pool: self.pool.name().to_owned(), what }
    }

    pub(super) fn failed(&self, what: &'static str, source: IoError) -> PoolError {
        PoolError::Io { pool: self.pool.name().to_owned(), what, source }
    }
}
