//! What volumes say of a conversion: in their attributes, behind what the disk keeps there.
//!
//! A **destination** says what it is filled from, and how far: it is no disk to be used before that is over. Its first state is a snapshot of the
//! source; each round brings it to the next. Everything that a target needs to go on after a crash stands here: the rounds' snapshots have names that
//! follow from the tag.
//!
//! A **source** from which hosts were switched to the destination says so: it is an old copy by then, and a configuration file that was not changed
//! must not show it to those hosts again.
//!
//! The pool changes attributes at once or not at all, so a power cut leaves the one or the other.

use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::DiskAttributes;
use crate::volume::{Pool, PoolError, Volume, VolumeId};

use super::config::ConfigError;

const MAGIC: [u8; 4] = *b"SRcv";
const VERSION: u8 = 1;
const DESTINATION: u8 = 1;
const SWITCHED: u8 = 2;

/// A record as it is stored; the name of the other disk follows.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Figure {
    magic: [u8; 4],
    version: u8,
    kind: u8,
    name_len: u8,
    /// 1 if the round under way was begun.
    begun: u8,
    /// The volume whose record it is: a clone, which has the same attributes, is not meant.
    owner: U32,
    source: U32,
    pool: [u8; 16],
    tag: U32,
    base: U32,
    round: U32,
    position: U64,
}
const _: () = assert!(size_of::<Figure>() == 52);

/// What a volume says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It is filled from another disk.
    Destination(Filling),
    /// Its hosts were switched to another disk.
    Switched {
        /// That disk.
        to: String,
    },
}

/// How far a destination is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filling {
    /// The source's pool.
    pub(super) pool: Uuid,
    /// The source's volume.
    pub(super) source: VolumeId,
    /// The source's name.
    pub(super) name: String,
    /// In the names of the conversion's snapshots.
    pub(super) tag: u32,
    /// The round whose snapshot the destination was like; 0 before the first is over.
    pub(super) base: u32,
    /// The round under way.
    pub(super) round: u32,
    /// The snapshot of the round under way was taken.
    pub(super) begun: bool,
    /// What lies before this byte is as in the snapshot of the round under way, durably.
    pub(super) position: u64,
}

impl Filling {
    /// The round before the base. Its snapshot is deleted once the base is written down; it is left if the process ends in between.
    pub(super) fn before_base(&self) -> u32 {
        self.base.saturating_sub(1)
    }

    /// The snapshot of a round, without the source's name.
    pub(super) fn snapshot_of(&self, round: u32) -> String {
        format!("convert-{:08x}-{round}", self.tag)
    }

    /// The same with the source's name.
    pub(super) fn full_snapshot_of(&self, round: u32) -> String {
        format!("{}@{}", self.name, self.snapshot_of(round))
    }
}

/// What a volume says of a conversion, if it is part of one.
pub(super) fn note_of(volume: &Volume) -> Option<Note> {
    let attributes = DiskAttributes::decode(&volume.attributes()).ok()?;
    decode(attributes.more(), volume.id())
}

/// Makes a volume say something of a conversion, or nothing.
pub(super) fn set_note(pool: &Pool, volume: &Volume, note: Option<&Note>) -> Result<(), ConfigError> {
    let attributes = DiskAttributes::decode(&volume.attributes())
        .map_err(|e| ConfigError::Wrong(format!("volume {} of pool {}: {e}", volume.name(), pool.name())))?;
    let more = note.map_or_else(Vec::new, |note| encode(note, volume.id()));
    Ok(pool.set_attributes(&volume.name(), attributes.with_more(more).encode())?)
}

/// Why a volume is no disk to be used now, if it is none.
pub(super) fn why_not(volume: &Volume) -> Option<String> {
    let name = volume.name();
    Some(match note_of(volume)? {
        Note::Destination(Filling { name: source, .. }) => format!(
            "its conversion from disk {source} is not finished; go on with `strongroom disk convert {source} {name}`, or give it up with `strongroom \
             disk convert-cancel {name}`"
        ),
        Note::Switched { to } => format!(
            "its hosts were switched to disk {to}, and what it holds is old; put {to} with its hosts, nsid and uuid into the configuration in its \
             place, and delete it; or use it as it is after `strongroom disk convert-cancel {name}`"
        ),
    })
}

/// Refuses a volume that is no disk to be used now.
pub(super) fn refuse_part_of(volume: &Volume) -> Result<(), ConfigError> {
    match why_not(volume) {
        None => Ok(()),
        Some(why) => Err(ConfigError::Offline(format!("disk {}: {why}", volume.name()))),
    }
}

/// Makes whole what a switch has left when its process ended: the destination is no part of a conversion any more, and its rounds' snapshots are
/// gone. False if the source does not say that its hosts were switched.
pub(super) fn finish_switch(pool: &Pool, source: &str, destination: &str) -> Result<bool, ConfigError> {
    let (old, new) = (pool.volume(source)?, pool.volume(destination)?);
    if !matches!(note_of(&old), Some(Note::Switched { to }) if to == destination) {
        return Ok(false);
    }
    // It was whole before the source said so.
    if matches!(note_of(&new), Some(Note::Destination(filling)) if filling.source == old.id()) {
        set_note(pool, &new, None)?;
    }
    let rounds = format!("{source}@convert-");
    for snapshot in pool.volumes().iter().filter(|volume| volume.name.starts_with(&rounds)) {
        if let Err(e) = pool.delete(&snapshot.name) {
            tracing::warn!("snapshot {} of a conversion is left: {e}", snapshot.name);
        }
    }
    Ok(true)
}

/// The volume of this name in a pool, if there is one.
pub(super) fn volume_if_any(pool: &Pool, name: &str) -> Result<Option<std::sync::Arc<Volume>>, PoolError> {
    match pool.volume(name) {
        Ok(volume) => Ok(Some(volume)),
        Err(PoolError::NotFound { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

fn encode(note: &Note, owner: VolumeId) -> Vec<u8> {
    let (kind, name) = match note {
        Note::Destination(filling) => (DESTINATION, &filling.name),
        Note::Switched { to } => (SWITCHED, to),
    };
    let mut figure = Figure {
        magic: MAGIC,
        version: VERSION,
        kind,
        name_len: name.len() as u8,
        begun: 0,
        owner: owner.0.into(),
        source: 0.into(),
        pool: [0; 16],
        tag: 0.into(),
        base: 0.into(),
        round: 0.into(),
        position: 0.into(),
    };
    if let Note::Destination(filling) = note {
        figure.source = filling.source.0.into();
        figure.pool = filling.pool.into_bytes();
        figure.tag = filling.tag.into();
        figure.base = filling.base.into();
        figure.round = filling.round.into();
        figure.begun = filling.begun.into();
        figure.position = filling.position.into();
    }
    [figure.as_bytes(), name.as_bytes()].concat()
}

/// What is no note, or somebody else's, says nothing.
fn decode(bytes: &[u8], owner: VolumeId) -> Option<Note> {
    let (figure, name) = Figure::read_from_prefix(bytes).ok()?;
    if figure.magic != MAGIC || figure.version != VERSION || figure.owner.get() != owner.0 {
        return None;
    }
    let name = String::from_utf8(name.get(..usize::from(figure.name_len))?.to_vec()).ok()?;
    match figure.kind {
        SWITCHED => Some(Note::Switched { to: name }),
        DESTINATION => Some(Note::Destination(Filling {
            pool: Uuid::from_bytes(figure.pool),
            source: VolumeId(figure.source.get()),
            name,
            tag: figure.tag.get(),
            base: figure.base.get(),
            round: figure.round.get(),
            begun: figure.begun != 0,
            position: figure.position.get(),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_to_their_owner_only() {
        let filling = Filling {
            pool: Uuid::from_bytes([7; 16]),
            source: VolumeId(3),
            name: "n".repeat(64),
            tag: 0xabcd,
            base: 1,
            round: 2,
            begun: true,
            position: 1 << 40,
        };
        assert_eq!(filling.snapshot_of(2), "convert-0000abcd-2");
        for note in [Note::Destination(filling), Note::Switched { to: "other".to_owned() }] {
            let bytes = encode(&note, VolumeId(9));
            assert!(bytes.len() <= 480 && decode(&bytes, VolumeId(9)) == Some(note));
            assert_eq!(decode(&bytes, VolumeId(8)), None, "a clone has them as well");
            assert_eq!(decode(&bytes[..bytes.len() - 1], VolumeId(9)), None);
        }
        assert_eq!(decode(&[], VolumeId(9)), None);
        assert_eq!(decode(&[0; 480], VolumeId(9)), None);
    }
}
