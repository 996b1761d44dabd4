//! Snapshots: made, listed, deleted, compared, and gone back to; and disks that begin anew.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::control::config::{Config, check_name, check_snapshot_name};
use crate::control::rpc::{Kind, Refusal};
use crate::device::ByteRange;
use crate::kms::audit::{Actor, Operation};
use crate::volume::{Difference, Pool, VolumeInfo, VolumeKind};

use super::disk::refuse_if_attached;
use super::volume::pool_name_of;
use super::{Changed, DiskName, DiskReport, Removed, Target};

/// Ranges of a difference that are answered at once, unless the caller says how many.
const RANGES_AT_ONCE: usize = 10_000;

/// A snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// Its name: `disk@snapshot`.
    pub name: String,
    /// The pool that it lies in.
    pub pool: String,
    /// Bytes on it.
    pub size_bytes: u64,
    /// Bytes of the pool that it refers to.
    pub allocated_bytes: u64,
    /// When it was made: seconds since 1970.
    pub created_at: u64,
    /// Why it cannot be used, if it cannot.
    pub offline: Option<String>,
}

/// A snapshot to be made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSnapshot {
    /// The disk.
    pub disk: String,
    /// The snapshot's name, without the disk's.
    pub name: String,
}

/// Whose snapshots; all, if it is left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotsOf {
    /// The disk.
    #[serde(default)]
    pub disk: Option<String>,
}

/// A snapshot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotName {
    /// Its name: `disk@snapshot`.
    pub name: String,
    /// The pool; needed if several have one of this name.
    #[serde(default)]
    pub pool: Option<String>,
}

/// A disk and the snapshot that it goes back to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The disk.
    pub disk: String,
    /// The snapshot's name, without the disk's.
    pub snapshot: String,
}

/// What is compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffOf {
    /// The disk or snapshot of now.
    pub to: String,
    /// The snapshot of before; if it is left out, nothing: all that was written is a difference.
    #[serde(default)]
    pub from: Option<String>,
    /// The pool; needed if several have what is named.
    #[serde(default)]
    pub pool: Option<String>,
    /// From which byte on.
    #[serde(default)]
    pub offset: u64,
    /// The most ranges of the answer.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// A difference.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiffReport {
    /// Bytes on what was asked for.
    pub size_bytes: u64,
    /// What differs, in the order of the disk.
    pub ranges: Vec<RangeReport>,
    /// Where to ask on, if the answer is not the whole of it.
    pub next_offset: Option<u64>,
}

/// A range that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeReport {
    /// Its first byte.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// `data`: to be read; or `zero`: it reads as zeros now.
    pub kind: String,
}

impl SnapshotReport {
    fn of(pool: &str, snapshot: VolumeInfo) -> Self {
        Self {
            name: snapshot.name,
            pool: pool.to_owned(),
            size_bytes: snapshot.size_bytes,
            allocated_bytes: snapshot.allocated_bytes,
            created_at: snapshot.created_at,
            offline: snapshot.offline,
        }
    }
}

impl Target {
    pub(in crate::control) fn create_snapshot(
        &self,
        new: &NewSnapshot,
        actor: Actor,
    ) -> Result<SnapshotReport, Refusal> {
        check_name(&new.name)?;
        let _one_at_a_time = self.changing();
        let pool = self.pool_of_disk(&new.disk)?;
        let config = self.state().config.clone();
        self.check_key(&config, &new.disk, actor, Operation::Snapshot)?;
        Ok(SnapshotReport::of(pool.name(), pool.snapshot(&new.disk, &new.name)?))
    }

    pub(in crate::control) fn snapshots(&self, of: &SnapshotsOf) -> Result<Vec<SnapshotReport>, Refusal> {
        let in_pool = match &of.disk {
            Some(disk) => Some(pool_name_of(&self.state().config, disk)?),
            None => None,
        };
        let prefix = of.disk.as_ref().map(|disk| format!("{disk}@"));
        let wanted = |(pool, volume): &(String, VolumeInfo)| {
            volume.kind == VolumeKind::Snapshot
                && in_pool.as_ref().is_none_or(|name| name == pool)
                && prefix.as_ref().is_none_or(|prefix| volume.name.starts_with(prefix))
        };
        let mut all: Vec<(String, VolumeInfo)> = self.all_volumes().into_iter().filter(wanted).collect();
        all.sort_by_key(|(_, volume)| (volume.created_at, volume.id.0));
        Ok(all.into_iter().map(|(pool, snapshot)| SnapshotReport::of(&pool, snapshot)).collect())
    }

    pub(in crate::control) fn delete_snapshot(&self, of: &SnapshotName, actor: Actor) -> Result<Removed, Refusal> {
        check_snapshot_name(&of.name)?;
        let _one_at_a_time = self.changing();
        let pool = self.pool_with(&[&of.name], of.pool.as_deref())?;
        self.delete_volume(&pool, &of.name, None, actor)?;
        Ok(Removed { removed: of.name.clone() })
    }

    /// Gives a disk the content of one of its snapshots. Nobody may be looking: file systems do not bear it.
    pub(in crate::control) fn rollback(&self, to: &Rollback, actor: Actor) -> Result<Changed<DiskReport>, Refusal> {
        check_name(&to.snapshot)?;
        let edit = |config: &mut Config| {
            self.refuse_conversion(&to.disk)?;
            refuse_if_attached(config, &to.disk)
        };
        self.change(edit, |config| {
            let pool = self.pool_of_disk(&to.disk)?;
            self.check_key(config, &to.disk, actor, Operation::Rollback)?;
            let _held = self.hold_clients(&to.disk)?;
            pool.rollback(&to.disk, &to.snapshot)?;
            // It may have had another size then.
            self.tell_size(&to.disk)
        })?;
        self.changed_disk(&to.disk)
    }

    /// Gives a disk what it began with: nothing, or the content of the snapshot that it was made from. Nobody may be looking.
    pub(in crate::control) fn reinitialise(
        &self,
        DiskName { name }: &DiskName,
        actor: Actor,
    ) -> Result<Changed<DiskReport>, Refusal> {
        let edit = |config: &mut Config| {
            self.refuse_conversion(name)?;
            refuse_if_attached(config, name)
        };
        self.change(edit, |config| {
            let pool = self.pool_of_disk(name)?;
            let source = first_content(name, &pool.volume(name)?.info())?;
            let _held = self.hold_clients(name)?;
            self.check_key(config, name, actor, Operation::Reinitialise)?;
            pool.reinitialise(name, source.as_deref())?;
            // The snapshot may be larger.
            self.tell_size(name)
        })?;
        self.changed_disk(name)
    }

    pub(in crate::control) fn diff(&self, of: &DiffOf) -> Result<DiffReport, Refusal> {
        let names: Vec<&str> = of.from.iter().map(String::as_str).chain([of.to.as_str()]).collect();
        let pool = self.pool_with(&names, of.pool.as_deref())?;
        let to = pool.volumes().into_iter().find(|volume| volume.name == of.to);
        let size_bytes = to.map_or(0, |volume| volume.size_bytes);
        let all = pool.diff(of.from.as_deref(), &of.to)?;
        let (ranges, next_offset) = page(&all, of.offset, of.limit.unwrap_or(RANGES_AT_ONCE).max(1));
        Ok(DiffReport { size_bytes, ranges, next_offset })
    }

    fn pool_of_disk(&self, disk: &str) -> Result<Arc<Pool>, Refusal> {
        let name = {
            let state = self.state();
            let name = pool_name_of(&state.config, disk)?;
            state.disks.usable(disk)?;
            name
        };
        Ok(self.storage.pool(&name)?.pool)
    }

    /// The one pool that has volumes or snapshots of all these names.
    fn pool_with(&self, names: &[&str], pool: Option<&str>) -> Result<Arc<Pool>, Refusal> {
        if let Some(pool) = pool {
            return Ok(self.storage.pool(pool)?.pool);
        }
        let volumes = self.all_volumes();
        let has = |pool: &str, name: &str| volumes.iter().any(|(of, volume)| of == pool && volume.name == name);
        let open = self.storage.all().into_iter().filter_map(|(name, pool)| Some((name, pool.ok()?.pool)));
        let mut with_all: Vec<(String, Arc<Pool>)> =
            open.filter(|(pool, _)| names.iter().all(|name| has(pool, name))).collect();
        if with_all.len() > 1 {
            let pools: Vec<String> = with_all.into_iter().map(|(name, _)| name).collect();
            let what = format!("several pools have {}; say which one: {}", names.join(" and "), pools.join(", "));
            return Err(Refusal::new(Kind::Refused, what));
        }
        with_all.pop().map(|(_, pool)| pool).ok_or_else(|| {
            let missing = names.iter().find(|name| !volumes.iter().any(|(_, volume)| volume.name == **name));
            let what = match missing {
                Some(name) => format!("no pool has {name}; `strongroom snapshot list` tells what there is"),
                None => format!("no pool has both {}", names.join(" and ")),
            };
            Refusal::new(Kind::NotFound, what)
        })
    }
}

/// The snapshot with whose content a disk's volume was made; none if it was made empty.
fn first_content(disk: &str, volume: &VolumeInfo) -> Result<Option<String>, Refusal> {
    match &volume.parent {
        None if volume.had_parent => {
            let what = format!(
                "disk {disk} was made from a snapshot that is deleted, so what it began with is gone; make another disk instead"
            );
            Err(Refusal::new(Kind::NotFound, what))
        }
        parent => Ok(parent.clone()),
    }
}

/// The ranges from a byte on, neighbours of a kind as one, and where to go on if there are more than wanted.
fn page(all: &[Difference], from: u64, most: usize) -> (Vec<RangeReport>, Option<u64>) {
    let mut ranges: Vec<RangeReport> = Vec::new();
    for Difference { range, is_zero } in all {
        let Some(range) = behind(*range, from) else { continue };
        let kind = if *is_zero { "zero" } else { "data" };
        if let Some(last) = ranges.last_mut()
            && last.kind == kind
            && last.offset + last.length == range.start()
        {
            last.length += range.len();
            continue;
        }
        if ranges.len() == most {
            return (ranges, Some(range.start()));
        }
        ranges.push(RangeReport { offset: range.start(), length: range.len(), kind: kind.to_owned() });
    }
    (ranges, None)
}

/// What of a range lies from a byte on.
fn behind(range: ByteRange, from: u64) -> Option<ByteRange> {
    let start = range.start().max(from);
    range.end().checked_sub(start).filter(|len| *len > 0).and_then(|len| ByteRange::new(start, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(start: u64, len: u64, is_zero: bool) -> Difference {
        Difference { range: ByteRange::new(start, len).expect("fits"), is_zero }
    }

    fn range(offset: u64, length: u64, kind: &str) -> RangeReport {
        RangeReport { offset, length, kind: kind.to_owned() }
    }

    #[test]
    fn a_difference_is_told_in_pieces_that_make_the_whole() {
        let all = [
            difference(0, 4096, false),
            difference(4096, 4096, false),
            difference(8192, 4096, true),
            difference(65536, 8192, true),
        ];
        let whole = [range(0, 8192, "data"), range(8192, 4096, "zero"), range(65536, 8192, "zero")];
        assert_eq!(page(&all, 0, 10), (whole.to_vec(), None));
        assert_eq!(page(&all, 0, 2), (whole[..2].to_vec(), Some(65536)));
        assert_eq!(page(&all, 65536, 2), (whole[2..].to_vec(), None));
        assert_eq!(page(&all, 69632, 2), (vec![range(69632, 4096, "zero")], None));
        assert_eq!(page(&[], 0, 2), (Vec::new(), None));
    }
}
