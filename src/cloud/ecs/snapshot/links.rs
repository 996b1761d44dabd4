//! DescribeSnapshotLinks and DescribeSnapshotsUsage: how many snapshots there are, of which disks, and how much they hold.
//!
//! Bytes are those that snapshots refer to. Snapshots of one chain share what did not change between them, so that a sum may count it more than once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cloud::ecs::ask::{check_region, own_disk, own_instance};
use crate::cloud::ecs::snapshot::describe::visible;
use crate::cloud::error::ApiError;
use crate::cloud::id::snapshot_link;
use crate::cloud::page::Page;
use crate::cloud::params::Params;
use crate::cloud::rows::{Disk, Snapshot};
use crate::cloud::service::{Call, Cloud};

/// The snapshots of a disk.
struct Chain {
    snapshots: Vec<Snapshot>,
    /// The disk, if it is still there.
    disk: Option<Disk>,
    /// The name of the instance that has it.
    instance_name: String,
}

/// The operation.
pub fn describe_snapshot_links(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)
        .map_err(|_| ApiError::new("InvalidRegionId", 400, "The specified regionId is invalid."))?;
    let page = Page::of(call.params)?;
    let wanted_disks = ids(call.params, "DiskIds", "InvalidDiskIds", "The specified diskIds is invalid.")?;
    let what = "The specified snapshotLinkIds is invalid.";
    let wanted_links = ids(call.params, "SnapshotLinkIds", "InvalidSnapshotLinkIds", what)?;
    let wanted_instance = call.params.text("InstanceId");
    let mut chains: Vec<(String, Chain)> = chains(cloud, call.account()).into_iter().collect();
    chains.retain(|(disk, chain)| {
        wanted_disks.as_ref().is_none_or(|disks| disks.contains(disk))
            && wanted_links.as_ref().is_none_or(|links| links.contains(&snapshot_link(disk)))
            && wanted_instance.is_none_or(|wanted| chain.disk.as_ref().is_some_and(|disk| disk.is_attached_to(wanted)))
    });
    Ok(page.answer("SnapshotLinks", "SnapshotLink", &chains, |(_, chain)| chain.view(cloud)))
}

/// The operation.
pub fn describe_snapshots_usage(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    let snapshots: Vec<Snapshot> = cloud.store().read(|world| visible(world, call.account()).cloned().collect());
    Ok(json!({ "SnapshotCount": snapshots.len(), "SnapshotSize": bytes(cloud, &snapshots) }))
}

fn ids(params: &Params, name: &str, code: &'static str, what: &str) -> Result<Option<Vec<String>>, ApiError> {
    params.array(name).map_err(|_| ApiError::new(code, 400, what.to_owned()))
}

/// The chains of an account, by their disks.
fn chains(cloud: &Cloud, account: &str) -> BTreeMap<String, Chain> {
    cloud.store().read(|world| {
        let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
        for snapshot in visible(world, account) {
            let chain = chains.entry(snapshot.disk.clone()).or_insert_with(|| {
                let disk = own_disk(world, account, &snapshot.disk).cloned();
                let instance = disk.as_ref().and_then(|disk| disk.attachments.first());
                let instance = instance.and_then(|at| own_instance(world, account, &at.instance));
                let instance_name = instance.map(|instance| instance.name.clone()).unwrap_or_default();
                Chain { snapshots: Vec::new(), disk, instance_name }
            });
            chain.snapshots.push(snapshot.clone());
        }
        chains
    })
}

impl Chain {
    fn view(&self, cloud: &Cloud) -> Value {
        // What is gone is told as its last snapshot has it.
        let last = self.snapshots.iter().max_by_key(|snapshot| snapshot.created_at).expect("a chain has snapshots");
        let instance = self.disk.as_ref().and_then(|disk| disk.attachments.first());
        json!({
            "SnapshotLinkId": snapshot_link(&last.disk),
            "RegionId": cloud.region(),
            "InstanceId": instance.map(|at| at.instance.clone()).unwrap_or_default(),
            "InstanceName": self.instance_name,
            "SourceDiskId": last.disk,
            "SourceDiskName": self.disk.as_ref().map(|disk| disk.name.clone()).unwrap_or_default(),
            "SourceDiskSize": self.disk.as_ref().map_or(last.size_gib, |disk| disk.size_gib),
            "SourceDiskType": last.disk_kind.word(),
            "TotalSize": bytes(cloud, &self.snapshots),
            "TotalCount": self.snapshots.len(),
        })
    }
}

/// Bytes that snapshots refer to, as far as the target can tell now.
fn bytes(cloud: &Cloud, snapshots: &[Snapshot]) -> u64 {
    let of = |snapshot: &Snapshot| {
        cloud.backend().snapshot_bytes(cloud.pool_of(&snapshot.zone).ok()?, &snapshot.pool_name())
    };
    snapshots.iter().filter_map(of).sum()
}
