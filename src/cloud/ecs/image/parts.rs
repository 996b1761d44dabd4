//! The disks of an image that is made of snapshots: `DiskDeviceMapping.N`, or one snapshot of a system disk.

use crate::cloud::ecs::image::create::encrypted_system;
use crate::cloud::error::ApiError;
use crate::cloud::params::Params;
use crate::cloud::rows::{DiskKind, ImageDevice, Snapshot, SnapshotState};
use crate::cloud::service::refuse_if_busy;
use crate::cloud::store::World;

/// Disks of an image: the system's and 16 of data.
const MOST_DEVICES: usize = 17;
/// The largest disk in GiB.
const LARGEST_GIB: u64 = 32_768;
/// What the system disk is called.
const SYSTEM_DEVICE: &str = "/dev/xvda";

/// The device of an image that has a system disk only. `known` tells the caller's snapshots.
pub fn from_snapshot<'w>(
    world: &World,
    id: &str,
    known: impl Fn(&str) -> Option<&'w Snapshot>,
) -> Result<ImageDevice, ApiError> {
    let snapshot = ready(world, id, known)?;
    check_system(snapshot)?;
    Ok(ImageDevice {
        device: SYSTEM_DEVICE.to_owned(),
        kind: DiskKind::System,
        snapshot: snapshot.id.clone(),
        size_gib: snapshot.size_gib,
    })
}

/// The devices that `DiskDeviceMapping.N` names, the system's first.
pub fn from_mapping<'w>(
    world: &World,
    params: &Params,
    known: impl Fn(&str) -> Option<&'w Snapshot>,
) -> Result<Vec<ImageDevice>, ApiError> {
    let indices = params.indices("DiskDeviceMapping");
    if indices.len() > MOST_DEVICES {
        return Err(ApiError::invalid("DiskDeviceMapping"));
    }
    let mut devices: Vec<ImageDevice> = Vec::new();
    for index in indices {
        let part = params.under("DiskDeviceMapping", index);
        let Some(id) = part.text("SnapshotId") else {
            return Err(ApiError::missing(&format!("DiskDeviceMapping.{index}.SnapshotId")));
        };
        let asked = kind(&part)?;
        let snapshot = ready(world, id, &known)?;
        let kind = asked.unwrap_or(snapshot.disk_kind);
        if kind == DiskKind::System {
            check_system(snapshot)?;
        }
        let device = device_name(&part, &devices)?;
        devices.push(ImageDevice { device, kind, snapshot: snapshot.id.clone(), size_gib: size(&part, snapshot)? });
    }
    let denied = |what: &str| Err(ApiError::new("OperationDenied", 400, what.to_owned()));
    match devices.iter().filter(|device| device.kind == DiskKind::System).count() {
        0 => {
            return denied(
                "The specified parameter DiskDeviceMapping.n.SnapshotId does not contain system disk snapshot.",
            );
        }
        1 => {}
        _ => {
            return denied(
                "The specified parameter DiskDeviceMapping.n.SnapshotId contains two or more system disk snapshots.",
            );
        }
    }
    devices.sort_by_key(|device| device.kind != DiskKind::System);
    name_the_rest(&mut devices);
    Ok(devices)
}

/// The caller's snapshot, if an image can be made of it.
fn ready<'w>(world: &World, id: &str, known: impl Fn(&str) -> Option<&'w Snapshot>) -> Result<&'w Snapshot, ApiError> {
    let Some(snapshot) = known(id) else {
        return Err(ApiError::new("InvalidSnapshotId.NotFound", 404, "The specified SnapshotId does not exist."));
    };
    let not_ready = || {
        let what = "The current status of the DiskDeviceMapping.n.SnapshotId or SnapshotId does not support this \
                    operation.";
        ApiError::new("InvalidSnapshotId.NotReady", 403, what)
    };
    if snapshot.state != SnapshotState::Accomplished {
        return Err(not_ready());
    }
    refuse_if_busy(world, &[id], |_| not_ready())?;
    Ok(snapshot)
}

/// Refuses what a system disk cannot begin with.
fn check_system(snapshot: &Snapshot) -> Result<(), ApiError> {
    if snapshot.encrypted {
        return Err(encrypted_system());
    }
    if snapshot.disk_kind != DiskKind::System {
        return Err(ApiError::new("OperationDenied", 403, "The specified snapshot is not from system disk."));
    }
    Ok(())
}

fn kind(part: &Params) -> Result<Option<DiskKind>, ApiError> {
    match part.text("DiskType") {
        None => Ok(None),
        Some("system") => Ok(Some(DiskKind::System)),
        Some("data") => Ok(Some(DiskKind::Data)),
        Some(_) => {
            let what = "The specified disk type is not supported.";
            Err(ApiError::new("InvalidDiskType.ValueNotSupported", 400, what))
        }
    }
}

fn size(part: &Params, snapshot: &Snapshot) -> Result<u64, ApiError> {
    let not_supported = || {
        let what = "The specified parameter DiskDeviceMapping.n.Size beyond the permitted range.";
        ApiError::new("InvalidSize.ValueNotSupported", 400, what)
    };
    match part.number("Size").map_err(|_| not_supported())? {
        Some(size) if (snapshot.size_gib..=LARGEST_GIB).contains(&size) => Ok(size),
        Some(_) => Err(not_supported()),
        None => Ok(snapshot.size_gib),
    }
}

/// The name that is asked for, which no other disk has; empty if none is.
fn device_name(part: &Params, others: &[ImageDevice]) -> Result<String, ApiError> {
    let Some(device) = part.text("Device") else { return Ok(String::new()) };
    if !device.strip_prefix("/dev/xvd").is_some_and(|rest| matches!(rest.as_bytes(), [b'a'..=b'z'])) {
        let what = "The specified parameter DiskDeviceMapping.n.Device is not valid.";
        return Err(ApiError::new("InvalidDevice.Malformed", 400, what));
    }
    if others.iter().any(|other| other.device == device) {
        let what = "The specified parameter DiskDeviceMapping.n.Device has been occupied.";
        return Err(ApiError::new("InvalidDevice.InUse", 400, what));
    }
    Ok(device.to_owned())
}

/// Gives the next free names to disks that have none.
fn name_the_rest(devices: &mut [ImageDevice]) {
    let mut taken: Vec<String> = devices.iter().map(|device| device.device.clone()).collect();
    for device in devices.iter_mut().filter(|device| device.device.is_empty()) {
        let first = if device.kind == DiskKind::System { 'a' } else { 'b' };
        let free = (first..='z').map(|letter| format!("/dev/xvd{letter}")).find(|name| !taken.contains(name));
        device.device = free.expect("there are more letters than disks");
        taken.push(device.device.clone());
    }
}
