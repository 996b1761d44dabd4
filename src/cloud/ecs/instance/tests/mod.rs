//! What instances promise: rules and codes, views, crashes, and random sequences.

mod crashes;
mod images;
mod power;
mod random;
mod rules;
mod views;

use serde_json::Value;

use crate::cloud::backend::Caller;
use crate::cloud::category::Category;
use crate::cloud::crash_tests::new_disk;
use crate::cloud::error::ApiError;
use crate::cloud::params::Params;
use crate::cloud::rows::{Disk, DiskKind, Image, ImageDevice, Instance, Snapshot, SnapshotState};
use crate::cloud::service::{Call, Cloud};
use crate::cloud::store::World;
use crate::cloud::testing::{ZONE, ask};

/// Parameters of a request.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// What every request for an instance has.
const BASE: [(&str, &str); 3] = [("ZoneId", ZONE), ("ImageId", "m-blank"), ("InstanceType", "ecs.g5.large")];
/// A plain and an encrypted data disk; the second stays when the instance goes.
const TWO_DISKS: [(&str, &str); 6] = [
    ("DataDisk.1.Size", "20"),
    ("DataDisk.1.Category", "cloud_ssd"),
    ("DataDisk.2.Size", "30"),
    ("DataDisk.2.Encrypted", "true"),
    ("DataDisk.2.DeleteWithInstance", "false"),
    ("DataDisk.2.DiskName", "secrets"),
];

/// The two operations that make instances.
const BOTH: [&str; 2] = ["CreateInstance", "RunInstances"];

/// Has `acme` ask for instances of the blank image; a parameter of `more` counts more than one of [`BASE`].
fn ask_for(cloud: &Cloud, action: &str, more: &[(&str, &str)]) -> Result<Value, ApiError> {
    ask(cloud, action, &[more, &BASE].concat())
}

/// A stopped instance of `acme`.
fn new_instance(cloud: &Cloud, more: &[(&str, &str)]) -> String {
    let answer = ask_for(cloud, "CreateInstance", more).expect("it is made");
    answer["InstanceId"].as_str().expect("a text").to_owned()
}

/// A running instance of `acme`.
fn run_instance(cloud: &Cloud, more: &[(&str, &str)]) -> String {
    let answer = ask_for(cloud, "RunInstances", more).expect("it runs");
    answer["InstanceIdSets"]["InstanceIdSet"][0].as_str().expect("a text").to_owned()
}

/// Has the operator ask for `acme`.
fn ask_as_operator(cloud: &Cloud, action: &str, params: &[(&str, &str)]) -> Result<Value, ApiError> {
    let caller = Caller::operator("acme", 0, 1);
    let params: Params = params.iter().chain(&BASE).copied().collect();
    let operation = crate::cloud::ecs::OPERATIONS.iter().find(|(name, _)| *name == action).expect("it is there");
    operation.1(cloud, &Call { caller: &caller, action, params: &params, now: cloud.now() })
}

fn row(cloud: &Cloud, instance: &str) -> Instance {
    cloud.store().read(|world| world.instances.get(instance).cloned()).expect("it is there")
}

/// An instance's disks in the order of their devices.
fn disks(cloud: &Cloud, instance: &str) -> Vec<Disk> {
    let mut disks: Vec<Disk> =
        cloud.store().read(|world| crate::cloud::ecs::disk::attach::disks_of(world, instance).cloned().collect());
    disks.sort_by(|one, other| one.attachments[0].device.cmp(&other.attachments[0].device));
    disks
}

fn change(cloud: &Cloud, change: impl FnOnce(&mut World)) {
    let changed = cloud.store().change(|world| -> Result<(), ApiError> {
        change(world);
        Ok(())
    });
    changed.expect("it lives");
}

/// A snapshot of a new disk of `acme`, 20 GiB large, in the store and at the target.
fn new_snapshot(cloud: &Cloud, id: &str, kind: DiskKind, encrypted: &str) -> String {
    let disk = new_disk(cloud, &[("Encrypted", encrypted)]);
    snapshot_of(cloud, id, &disk, kind, None);
    id.to_owned()
}

fn snapshot_of(cloud: &Cloud, id: &str, disk: &str, kind: DiskKind, policy: Option<&str>) {
    let by = Caller { account: "acme".to_owned(), access_key: "test".to_owned() };
    cloud.backend().snapshot(disk, id, &by).expect("it is taken");
    let disk = cloud.store().read(|world| world.disks.get(disk).cloned()).expect("it is there");
    let snapshot = Snapshot {
        id: id.to_owned(),
        account: disk.account,
        zone: disk.zone,
        disk: disk.id,
        disk_kind: kind,
        category: Category::CloudSsd,
        size_gib: disk.size_gib,
        name: String::new(),
        description: String::new(),
        encrypted: disk.encrypted,
        key_id: disk.key_id,
        policy: policy.map(str::to_owned),
        expires_at: None,
        retention_days: None,
        state: SnapshotState::Accomplished,
        created_at: cloud.now(),
        tags: Vec::new(),
    };
    change(cloud, |world| world.snapshots.put(id, snapshot));
}

/// An image of `acme` of these snapshots, the first of which is the system's; the system disk is 50 GiB large.
fn new_image(cloud: &Cloud, id: &str, snapshots: &[&str]) {
    let device = |(index, snapshot): (usize, &&str)| ImageDevice {
        device: format!("/dev/xvd{}", char::from(b'a' + index as u8)),
        kind: if index == 0 { DiskKind::System } else { DiskKind::Data },
        snapshot: (*snapshot).to_owned(),
        size_gib: if index == 0 { 50 } else { 20 },
    };
    let image = Image {
        id: id.to_owned(),
        account: "acme".to_owned(),
        name: "image".to_owned(),
        description: String::new(),
        version: String::new(),
        architecture: "x86_64".to_owned(),
        platform: "Others Linux".to_owned(),
        devices: snapshots.iter().enumerate().map(device).collect(),
        shared_with: Vec::new(),
        is_available: true,
        created_at: cloud.now(),
        tags: Vec::new(),
    };
    change(cloud, |world| world.images.put(id, image));
}
