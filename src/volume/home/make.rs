//! Making a pool of a device.

use uuid::Uuid;

use crate::device::{Device, DeviceHandle, IoError, read_whole, write_whole};
use crate::reactor::Reactor;

use super::super::error::PoolError;
use super::super::format::{Features, JournalArea, JournalStart, PagePointer, Superblock};
use super::super::units::{CLUSTER, PAGE, VolumeId};
use super::{Home, now};

/// The least that a pool has for data and metadata.
const LEAST_CLUSTERS: u32 = 16;

/// How a pool is made.
#[derive(Clone, Debug, Default)]
pub struct FormatOptions {
    /// Bytes of the journal: a 256th of the device, between 1 and 64 MiB, if left out.
    pub journal_bytes: Option<u64>,
}

impl Home {
    /// Whether the device has no pool, nor anything else at its beginning.
    pub async fn is_blank(reactor: &Reactor, device: &DeviceHandle) -> Result<bool, IoError> {
        let mut buffer = reactor.buffers().take(PAGE).await;
        for page in [Superblock::A, Superblock::B] {
            read_whole(device, page.byte(), &mut buffer, 0..PAGE).await?;
            if buffer[..PAGE].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes an empty pool of the device. What was on it is lost.
    pub async fn format(
        name: &str,
        reactor: &Reactor,
        device: &DeviceHandle,
        options: &FormatOptions,
    ) -> Result<(), PoolError> {
        let invalid = |what: String| PoolError::Invalid { pool: name.to_owned(), what };
        let size = device.info().size;
        let clusters = u32::try_from(size / CLUSTER).unwrap_or(u32::MAX);
        let journal = match options.journal_bytes {
            None => JournalArea::usual(clusters),
            Some(bytes) => JournalArea::of_bytes(bytes)
                .ok_or_else(|| invalid(format!("a journal of {bytes} bytes cannot be; choose 64 KiB or more")))?,
        };
        let least = journal.end().0.saturating_add(LEAST_CLUSTERS);
        if clusters < least {
            let (needed, journal) = (u64::from(least) * CLUSTER, u64::from(journal.blocks) * PAGE as u64);
            let what = format!("its device has {size} bytes; with a journal of {journal} it needs at least {needed}");
            return Err(invalid(what));
        }
        let superblock = Superblock {
            features: Features::default(),
            pool: random().map_err(|error| invalid(format!("there are no random numbers: {error}")))?,
            generation: 2,
            epoch: 1,
            clusters,
            journal,
            start: JournalStart { block: 0, sequence: 1 },
            catalog: PagePointer::NONE,
            key_clusters: Vec::new(),
            next_volume: VolumeId(1),
            is_clean: true,
            created_at: now(),
            owner: None,
        };
        let written = async {
            // First no superblock, then one: a pool that was here before is gone, or all of it is still there.
            let mut buffer = reactor.buffers().take(PAGE).await;
            buffer[..PAGE].fill(0);
            write_whole(device, Superblock::B.byte(), &mut buffer, 0..PAGE).await?;
            write_whole(device, Superblock::A.byte(), &mut buffer, 0..PAGE).await?;
            device.flush().await?;
            superblock.encode(&mut buffer[..PAGE]);
            write_whole(device, superblock.page().byte(), &mut buffer, 0..PAGE).await?;
            device.flush().await
        };
        written.await.map_err(|source| PoolError::Io { pool: name.to_owned(), what: "write the superblock", source })
    }
}

fn random() -> Result<Uuid, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
