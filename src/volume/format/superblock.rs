//! The superblock: the one page that says what everything else is. There are two, written in turn and never both; the valid one with the
//! higher generation counts.
//!
//! All that changes from one to the next lies in its first 512 bytes. A device writes a sector of 512 bytes whole or not at all, so the power
//! cut that hits a superblock's write leaves the old one or the new one. One that is neither was damaged. The exception is the second sector, which
//! names the clusters of key slots: it changes only when such a cluster is added. A cut may then leave a mixture, which the checksum shows, and the
//! other superblock counts.

use uuid::Uuid;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::owner::StoredOwner;
use super::page::{is_sealed, page, page_mut, seal};
use super::pointer::StoredPointer;
use super::{Features, FormatError, JournalArea, JournalStart, MOST_KEY_CLUSTERS, Owner, PagePointer, VERSION};
use crate::volume::units::{BLOCKS_PER_CLUSTER, ClusterId, PAGE, PageNumber, VolumeId};

const MAGIC: [u8; 8] = *b"SRoomPl\0";
/// State: the pool was closed; the journal holds nothing that the pages do not.
const CLEAN: u32 = 1;
const OBJECT: &str = "superblock";
const CHECKSUM_AT: usize = 12;
const KEYS_AT: usize = 512;

/// A superblock as it is stored. The first 16 bytes are the same in all versions.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct StoredSuperblock {
    magic: [u8; 8],
    version: le::U32,
    /// CRC32C of the page with this field zero.
    checksum: le::U32,
    incompatible: le::U64,
    read_only: le::U64,
    compatible: le::U64,
    pool: [u8; 16],
    generation: le::U64,
    epoch: le::U32,
    clusters: le::U32,
    journal_first: le::U32,
    journal_blocks: le::U32,
    start_block: le::U32,
    next_volume: le::U32,
    start_sequence: le::U64,
    catalog: StoredPointer,
    created_at: le::U64,
    state: le::U32,
    /// Zero.
    reserved: le::U32,
    owner: StoredOwner,
    /// Zero. A compatible feature may use it, so it is not looked at.
    rest: [u8; KEYS_AT - 240],
    /// Of the feature [`Features::KEYS`]: zeros follow the clusters.
    key_clusters: [le::U32; MOST_KEY_CLUSTERS],
    /// Zero, and not looked at either.
    end: [u8; PAGE - KEYS_AT - 4 * MOST_KEY_CLUSTERS],
}
const _: () = assert!(size_of::<StoredSuperblock>() == PAGE);
const _: () = assert!(std::mem::offset_of!(StoredSuperblock, key_clusters) == KEYS_AT);
const _: () = assert!(std::mem::offset_of!(StoredSuperblock, checksum) == CHECKSUM_AT);

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// What the pool uses beyond its version.
    pub features: Features,
    /// Which pool it is.
    pub pool: Uuid,
    /// How often a superblock was written. Even ones are in [`Superblock::A`], odd ones in [`Superblock::B`].
    pub generation: u64,
    /// Rises with each opening; what the journal holds of earlier ones is not replayed.
    pub epoch: u32,
    /// Clusters on the device, as far as the pool uses it.
    pub clusters: u32,
    /// Where the journal is.
    pub journal: JournalArea,
    /// Where replay starts.
    pub start: JournalStart,
    /// The root page of the catalog.
    pub catalog: PagePointer,
    /// Clusters of key slots, of which there are some only with the feature [`Features::KEYS`]. A slot's number counts on from one to the next, so
    /// they never leave this list.
    pub key_clusters: Vec<ClusterId>,
    /// The number that the next volume or snapshot gets.
    pub next_volume: VolumeId,
    /// The pool was closed, and nothing is to be replayed.
    pub is_clean: bool,
    /// Seconds since 1970.
    pub created_at: u64,
    /// Who has it open.
    pub owner: Option<Owner>,
}

impl Superblock {
    /// Where superblocks of even generations are.
    pub const A: PageNumber = PageNumber(0);
    /// Where superblocks of odd generations are: in another cluster.
    pub const B: PageNumber = ClusterId(1).first_page();

    /// Where it is written.
    pub fn page(&self) -> PageNumber {
        if self.generation.is_multiple_of(2) { Self::A } else { Self::B }
    }

    /// Whether the cluster is one of those that hold data and metadata.
    pub fn is_data(&self, cluster: ClusterId) -> bool {
        (self.journal.end()..ClusterId(self.clusters)).contains(&cluster)
    }

    /// Whether the page lies where pages of metadata are.
    pub fn is_metadata(&self, page: PageNumber) -> bool {
        page.cluster().is_some_and(|cluster| self.is_data(cluster))
    }

    /// Writes the superblock.
    ///
    /// # Panics
    /// If the buffer is not a page, or there are more clusters of key slots than it has room for.
    pub fn encode(&self, bytes: &mut [u8]) {
        debug_assert!(self.key_clusters.is_empty() || self.features.has_keys());
        let bytes = page_mut(bytes);
        let mut stored = StoredSuperblock::new_zeroed();
        stored.magic = MAGIC;
        stored.version = VERSION.into();
        stored.incompatible = self.features.incompatible.into();
        stored.read_only = self.features.read_only.into();
        stored.compatible = self.features.compatible.into();
        stored.pool = self.pool.into_bytes();
        stored.generation = self.generation.into();
        stored.epoch = self.epoch.into();
        stored.clusters = self.clusters.into();
        stored.journal_first = self.journal.first.0.into();
        stored.journal_blocks = self.journal.blocks.into();
        stored.start_block = self.start.block.into();
        stored.next_volume = self.next_volume.0.into();
        stored.start_sequence = self.start.sequence.into();
        stored.catalog = self.catalog.store();
        stored.created_at = self.created_at.into();
        stored.state = if self.is_clean { CLEAN } else { 0 }.into();
        if let Some(owner) = &self.owner {
            stored.owner = owner.store();
        }
        for (place, cluster) in stored.key_clusters[..self.key_clusters.len()].iter_mut().zip(&self.key_clusters) {
            *place = cluster.0.into();
        }
        bytes.copy_from_slice(stored.as_bytes());
        seal(bytes, CHECKSUM_AT);
    }

    /// Reads a superblock.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let bytes = page(bytes, OBJECT)?;
        let stored = StoredSuperblock::ref_from_bytes(bytes).expect("a superblock is an unaligned page");
        if stored.magic != MAGIC {
            return Err(FormatError::NotAPool);
        }
        if !is_sealed(bytes, CHECKSUM_AT) {
            return Err(FormatError::Checksum { object: OBJECT });
        }
        if stored.version.get() != VERSION {
            return Err(FormatError::Version(stored.version.get()));
        }
        let superblock = stored.load()?;
        superblock.check()?;
        Ok(superblock)
    }

    /// The superblock that counts, out of the pages [`Superblock::A`] and [`Superblock::B`].
    ///
    /// One that is intact but was written by a later version refuses the pool, whatever the other one says: the other one may be older.
    pub fn newest(a: &[u8], b: &[u8]) -> Result<Self, FormatError> {
        match (Self::decode_at(Self::A, a), Self::decode_at(Self::B, b)) {
            (Err(unknown), _) | (_, Err(unknown)) if is_of_later_version(&unknown) => Err(unknown),
            (Ok(a), Ok(b)) if a.pool != b.pool => {
                let what = format!("the two superblocks are of different pools, {} and {}", a.pool, b.pool);
                Err(FormatError::wrong(OBJECT, 40, what))
            }
            (Ok(a), Ok(b)) => Ok(if a.generation > b.generation { a } else { b }),
            (Ok(valid), Err(_)) | (Err(_), Ok(valid)) => Ok(valid),
            (Err(FormatError::NotAPool), Err(error)) | (Err(error), Err(_)) => Err(error),
        }
    }

    fn decode_at(page: PageNumber, bytes: &[u8]) -> Result<Self, FormatError> {
        let superblock = Self::decode(bytes)?;
        if superblock.page() != page {
            let what = format!("generation {} does not belong into page {}", superblock.generation, page.0);
            return Err(FormatError::wrong(OBJECT, 56, what));
        }
        Ok(superblock)
    }

    fn check(&self) -> Result<(), FormatError> {
        let wrong = |at, what: &str| Err(FormatError::wrong(OBJECT, at, what));
        if self.journal.first < JournalArea::FIRST {
            return wrong(72, "the journal lies over the superblocks");
        }
        if self.journal.blocks == 0 || !self.journal.blocks.is_multiple_of(BLOCKS_PER_CLUSTER as u32) {
            return wrong(76, "the journal is not made of whole clusters");
        }
        if self.journal.end() >= ClusterId(self.clusters) {
            return wrong(68, "the device ends within the journal");
        }
        if self.start.block >= self.journal.blocks {
            return wrong(80, "the journal starts behind its end");
        }
        if self.next_volume.is_nobody() {
            return wrong(84, "the next volume would be nobody");
        }
        if !self.catalog.is_none() && !self.is_metadata(self.catalog.page) {
            return wrong(96, "the catalog lies outside of the clusters for metadata");
        }
        for (index, cluster) in self.key_clusters.iter().enumerate() {
            if !self.is_data(*cluster) || self.key_clusters[..index].contains(cluster) {
                let what = format!("cluster {} cannot hold keys", cluster.0);
                return Err(FormatError::wrong(OBJECT, KEYS_AT + 4 * index, what));
            }
        }
        Ok(())
    }
}

impl StoredSuperblock {
    fn load(&self) -> Result<Superblock, FormatError> {
        let features = Features {
            incompatible: self.incompatible.get(),
            read_only: self.read_only.get(),
            compatible: self.compatible.get(),
        };
        let features = features.understood()?;
        if self.state.get() & !CLEAN != 0 || self.reserved.get() != 0 {
            return Err(FormatError::wrong(OBJECT, 120, "unknown state"));
        }
        Ok(Superblock {
            features,
            pool: Uuid::from_bytes(self.pool),
            generation: self.generation.get(),
            epoch: self.epoch.get(),
            clusters: self.clusters.get(),
            journal: JournalArea { first: ClusterId(self.journal_first.get()), blocks: self.journal_blocks.get() },
            start: JournalStart { block: self.start_block.get(), sequence: self.start_sequence.get() },
            catalog: PagePointer::load(&self.catalog, OBJECT).map_err(|error| error.further(96))?,
            key_clusters: if features.has_keys() { self.key_clusters()? } else { Vec::new() },
            next_volume: VolumeId(self.next_volume.get()),
            is_clean: self.state.get() & CLEAN != 0,
            created_at: self.created_at.get(),
            owner: Owner::load(&self.owner, OBJECT).map_err(|error| error.further(128))?,
        })
    }

    fn key_clusters(&self) -> Result<Vec<ClusterId>, FormatError> {
        let used = self.key_clusters.iter().position(|cluster| cluster.get() == 0).unwrap_or(MOST_KEY_CLUSTERS);
        let (used, rest) = self.key_clusters.split_at(used);
        if let Some(more) = rest.iter().position(|cluster| cluster.get() != 0) {
            let at = KEYS_AT + 4 * (used.len() + more);
            return Err(FormatError::wrong(OBJECT, at, "a cluster of keys stands behind the last one"));
        }
        Ok(used.iter().map(|cluster| ClusterId(cluster.get())).collect())
    }
}

/// Whether it is intact, and not for this version to read.
fn is_of_later_version(error: &FormatError) -> bool {
    matches!(error, FormatError::Version(_) | FormatError::Features(_))
}

#[cfg(test)]
#[path = "superblock_tests.rs"]
mod tests;
