//! What the pages of the operations promise: rules, codes and statuses, one test for each.

mod disk_codes;
mod disk_isolation;
mod disk_lists;
mod disk_operations;
mod disk_races;
mod disk_rules;
mod tags_and_zones;

use crate::cloud::backend::Caller;
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Intent, Open};
use crate::cloud::rows::{Disk, DiskKind, Instance, Snapshot, SnapshotState};
use crate::cloud::service::Cloud;
use crate::cloud::testing::{ZONE, ask, refusal};

/// Who acts in these tests.
fn acme() -> Caller {
    Caller { account: "acme".to_owned(), access_key: "test".to_owned() }
}

/// A disk of `acme` that differs from others: what is said here counts, not what it would be otherwise.
fn new_disk_of(cloud: &Cloud, more: &[(&str, &str)]) -> String {
    let params = [more, &[("ZoneId", ZONE), ("Size", "20"), ("DiskCategory", "cloud_ssd")]].concat();
    let answer = ask(cloud, "CreateDisk", &params).expect("it is made");
    answer["DiskId"].as_str().expect("a text").to_owned()
}

/// A disk's row as it is.
fn disk_row(cloud: &Cloud, id: &str) -> Disk {
    cloud.store().read(|world| world.disks.get(id).cloned()).expect("it is there")
}

/// Changes a disk's row without an operation.
fn edit_disk(cloud: &Cloud, id: &str, edit: impl FnOnce(&mut Disk)) {
    let edited = cloud.store().change(|world| -> Result<(), ApiError> {
        edit(world.disks.get_mut(id).expect("it is there"));
        Ok(())
    });
    edited.expect("it lives");
}

/// Changes an instance's row without an operation.
fn edit_instance(cloud: &Cloud, id: &str, edit: impl FnOnce(&mut Instance)) {
    let edited = cloud.store().change(|world| -> Result<(), ApiError> {
        edit(world.instances.get_mut(id).expect("it is there"));
        Ok(())
    });
    edited.expect("it lives");
}

/// Makes a snapshot of a disk in the store and at the target without an operation.
fn new_snapshot(cloud: &Cloud, disk: &str, id: &str) -> String {
    cloud.backend().snapshot(disk, id, &acme()).expect("it lives");
    let put = cloud.store().change(|world| -> Result<(), ApiError> {
        let of = world.disks.get(disk).expect("it is there");
        let row = Snapshot {
            id: id.to_owned(),
            account: of.account.clone(),
            zone: of.zone.clone(),
            disk: of.id.clone(),
            disk_kind: of.kind,
            category: of.category,
            size_gib: of.size_gib,
            name: String::new(),
            description: String::new(),
            encrypted: of.encrypted,
            key_id: of.key_id.clone(),
            policy: None,
            expires_at: None,
            retention_days: None,
            state: SnapshotState::Accomplished,
            created_at: 1,
            tags: Vec::new(),
        };
        world.snapshots.put(id, row);
        Ok(())
    });
    put.expect("it lives");
    id.to_owned()
}

/// Changes a snapshot's row without an operation.
fn edit_snapshot(cloud: &Cloud, id: &str, edit: impl FnOnce(&mut Snapshot)) {
    let edited = cloud.store().change(|world| -> Result<(), ApiError> {
        edit(world.snapshots.get_mut(id).expect("it is there"));
        Ok(())
    });
    edited.expect("it lives");
}

/// Takes a snapshot out of the store and the target, as DeleteSnapshot with Force does.
fn drop_snapshot(cloud: &Cloud, id: &str) {
    let row = cloud.store().read(|world| world.snapshots.get(id).cloned()).expect("it is there");
    cloud.backend().delete_snapshot("p0", &row.pool_name(), &acme()).expect("it lives");
    let removed = cloud.store().change(|world| -> Result<(), ApiError> {
        world.snapshots.remove(id);
        Ok(())
    });
    removed.expect("it lives");
}

/// Makes a disk the system disk of its instance.
fn make_system(cloud: &Cloud, id: &str) {
    edit_disk(cloud, id, |disk| disk.kind = DiskKind::System);
}

/// Has something be under way.
fn begin(cloud: &Cloud, intent: Intent) {
    let put = cloud.store().change(|world| -> Result<(), ApiError> {
        let id = format!("{:020}", world.intents.len() + 1);
        world.intents.put(id, Open { intent, by: acme(), token: None, is_undone: false });
        Ok(())
    });
    put.expect("it lives");
}

/// Everything that was under way is not any more.
fn end_all(cloud: &Cloud) {
    let ended = cloud.store().change(|world| -> Result<(), ApiError> {
        let ids: Vec<String> = world.intents.iter().map(|(id, _)| id.to_owned()).collect();
        ids.iter().for_each(|id| drop(world.intents.remove(id)));
        Ok(())
    });
    ended.expect("it lives");
}

/// Asks for an operation with parameters that are refused, and compares code and status.
#[track_caller]
fn refused(cloud: &Cloud, action: &str, params: &[(&str, &str)], code: &str, status: u16) {
    assert_eq!(refusal(ask(cloud, action, params)), (code.to_owned(), status), "{action} {params:?}");
}
