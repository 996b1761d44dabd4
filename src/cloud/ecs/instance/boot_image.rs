//! What an instance boots from: an image of its account, one that is shared with it, or the blank one, which is always there.

use crate::cloud::ecs::image::blank::BLANK;
use crate::cloud::error::ApiError;
use crate::cloud::rows::{DiskKind, Image, ImageDevice, Snapshot, SnapshotState};
use crate::cloud::service::{Call, refuse_if_busy};
use crate::cloud::store::World;

/// An image, with the snapshots that it is made of.
pub struct BootImage<'w> {
    /// Its identifier.
    pub id: String,
    /// What the system disk is made from; none of the blank image.
    pub system: Option<Part<'w>>,
    /// What data disks are made from.
    pub data: Vec<Part<'w>>,
}

/// A disk of an image.
pub struct Part<'w> {
    /// As the image has it.
    pub device: &'w ImageDevice,
    /// Its content.
    pub snapshot: &'w Snapshot,
}

impl<'w> BootImage<'w> {
    /// The image that `ImageId` names.
    pub fn named(world: &'w World, call: &Call<'_>) -> Result<Self, ApiError> {
        let id = call.params.needed("ImageId")?;
        if id == BLANK {
            return Ok(Self { id: id.to_owned(), system: None, data: Vec::new() });
        }
        let is_ours = |image: &&Image| {
            image.account == call.account() || image.shared_with.iter().any(|account| account == call.account())
        };
        let image = world.images.get(id).filter(is_ours);
        let image = image
            .ok_or_else(|| ApiError::new("InvalidImageId.NotFound", 404, "The specified ImageId does not exist."))?;
        if !image.is_available {
            return Err(not_available());
        }
        refuse_if_busy(world, &[id], |_| not_available())?;
        let (mut system, mut data) = (None, Vec::new());
        for device in &image.devices {
            let part = Part { device, snapshot: content(world, call.account(), device)? };
            match device.kind {
                DiskKind::System => system = Some(part),
                DiskKind::Data => data.push(part),
            }
        }
        Ok(Self { id: id.to_owned(), system, data })
    }

    /// The snapshots that it is made of.
    pub fn snapshots(&self) -> impl Iterator<Item = &'w Snapshot> {
        self.system.iter().chain(&self.data).map(|part| part.snapshot)
    }
}

/// The snapshot of a device. A system disk is never encrypted, and the key of another account is never used.
fn content<'w>(world: &'w World, account: &str, device: &ImageDevice) -> Result<&'w Snapshot, ApiError> {
    let snapshot = world.snapshots.get(&device.snapshot);
    let snapshot = snapshot.filter(|snapshot| snapshot.state == SnapshotState::Accomplished);
    let snapshot = snapshot.ok_or_else(not_available)?;
    if snapshot.encrypted && (device.kind == DiskKind::System || snapshot.account != account) {
        return Err(ApiError::new("IncorrectImageStatus", 400, "Encrypted snapshots do not support this operation."));
    }
    Ok(snapshot)
}

fn not_available() -> ApiError {
    ApiError::new("IncorrectImageStatus", 400, "The specified Image is not available.")
}
