//! The operations of the product ECS, one file each.

pub mod ask;
pub mod disk;
pub mod image;
pub mod instance;
pub mod policy;
pub mod snapshot;
pub mod tags;
#[cfg(test)]
mod tests;
pub mod zones;

use super::service::Operation;

/// All operations, by their names.
pub static OPERATIONS: &[(&str, Operation)] = &[
    ("AddTags", tags::add_tags),
    ("ApplyAutoSnapshotPolicy", policy::apply::apply_auto_snapshot_policy),
    ("AttachDisk", disk::attach::attach_disk),
    ("CancelAutoSnapshotPolicy", policy::apply::cancel_auto_snapshot_policy),
    ("CopyImage", image::copy::copy_image),
    ("CreateAutoSnapshotPolicy", policy::rules::create_auto_snapshot_policy),
    ("CreateDisk", disk::create::create_disk),
    ("CreateImage", image::create::create_image),
    ("CreateInstance", instance::create::create_instance),
    ("CreateSnapshot", snapshot::create::create_snapshot),
    ("DeleteAutoSnapshotPolicy", policy::rules::delete_auto_snapshot_policy),
    ("DeleteDisk", disk::delete::delete_disk),
    ("DeleteImage", image::delete::delete_image),
    ("DeleteInstance", instance::delete::delete_instance),
    ("DeleteSnapshot", snapshot::delete::delete_snapshot),
    ("DescribeAutoSnapshotPolicyEx", policy::rules::describe_auto_snapshot_policy_ex),
    ("DescribeDisks", disk::describe::describe_disks),
    ("DescribeImageSharePermission", image::share::describe_image_share_permission),
    ("DescribeImages", image::describe::describe_images),
    ("DescribeInstanceStatus", instance::describe::describe_instance_status),
    ("DescribeInstances", instance::describe::describe_instances),
    ("DescribeRegions", zones::describe_regions),
    ("DescribeSnapshotLinks", snapshot::links::describe_snapshot_links),
    ("DescribeSnapshots", snapshot::describe::describe_snapshots),
    ("DescribeSnapshotsUsage", snapshot::links::describe_snapshots_usage),
    ("DescribeTags", tags::describe_tags),
    ("DescribeZones", zones::describe_zones),
    ("DetachDisk", disk::detach::detach_disk),
    ("ExportImage", image::export::export_image),
    ("ListTagResources", tags::list_tag_resources),
    ("ModifyAutoSnapshotPolicyEx", policy::rules::modify_auto_snapshot_policy_ex),
    ("ModifyDiskAttribute", disk::modify::modify_disk_attribute),
    ("ModifyImageSharePermission", image::share::modify_image_share_permission),
    ("ModifyInstanceAttribute", instance::modify::modify_instance_attribute),
    ("ModifySnapshotAttribute", snapshot::modify::modify_snapshot_attribute),
    ("ReInitDisk", disk::reinit::reinit_disk),
    ("RebootInstance", instance::power::reboot_instance),
    ("RemoveTags", tags::remove_tags),
    ("ResetDisk", disk::reset::reset_disk),
    ("ResizeDisk", disk::resize::resize_disk),
    ("RunInstances", instance::create::run_instances),
    ("StartInstance", instance::power::start_instance),
    ("StopInstance", instance::power::stop_instance),
    ("TagResources", tags::tag_resources),
    ("UntagResources", tags::untag_resources),
];
