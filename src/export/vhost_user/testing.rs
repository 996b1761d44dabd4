//! What the unit tests of this export share.

use std::sync::Arc;

use crate::crypto::xts::SectorSize;
use crate::device::{DeviceConfig, DeviceKind, SharedDevice, Size};
use crate::disk::Disk;

/// A disk that stores nothing.
pub(super) fn plain_disk(bytes: u64, sector: SectorSize) -> Arc<Disk> {
    let config = DeviceConfig {
        name: "d".to_owned(),
        kind: DeviceKind::Null,
        path: None,
        size: Some(Size(bytes)),
        create: false,
        hugepages: Default::default(),
        layers: Vec::new(),
    };
    Disk::plain("d", Arc::new(SharedDevice::open(&config).expect("opened")), sector).expect("a disk")
}
