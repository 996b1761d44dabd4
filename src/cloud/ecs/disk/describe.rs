//! DescribeDisks: which disks the caller has.

use serde_json::{Map, Value, json};

use crate::cloud::category::Category;
use crate::cloud::ecs::ask::flag_or;
use crate::cloud::error::ApiError;
use crate::cloud::id::serial_number;
use crate::cloud::page::Page;
use crate::cloud::params::Params;
use crate::cloud::rows::{Disk, DiskState, Seconds, Tag};
use crate::cloud::service::{Call, Cloud};
use crate::cloud::text;
use crate::time::Time;

/// Identifiers in one request.
const MOST_IDS: usize = 100;
/// When disks expire that are paid as they are used: never.
const NEVER: &str = "2999-09-08T16:00Z";

/// The operation.
pub fn describe_disks(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_place(cloud, call.params)?;
    let page = Page::of(call.params)?;
    let wanted = Wanted::read(call.params)?;
    if flag_or(call.params, "DryRun", false)? {
        let what = "Request validation has been passed with DryRun flag set.";
        return Err(ApiError::new("DryRunOperation", 400, what));
    }
    let mut disks: Vec<Disk> = cloud.store().read(|world| {
        let mine = world.disks.rows().filter(|disk| disk.account == call.account());
        mine.filter(|disk| disk.state != DiskState::Deleting && wanted.has(disk)).cloned().collect()
    });
    disks.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
    let with_speed = call.params.list("AdditionalAttributes").contains(&"IOPS");
    Ok(page.answer("Disks", "Disk", &disks, |disk| view(disk, cloud.region(), with_speed)))
}

/// Refuses a region or a zone that is not here. The codes are of this operation alone: others have 404 for both.
fn check_place(cloud: &Cloud, params: &Params) -> Result<(), ApiError> {
    if params.text("RegionId").is_some_and(|region| region != cloud.region()) {
        return Err(ApiError::new("InvalidRegion.NotFound", 400, "The specified parameter RegionId is not valid."));
    }
    if params.text("ZoneId").is_some_and(|zone| cloud.zone(zone).is_none()) {
        return Err(ApiError::new("InvalidZoneId.NotFound", 400, "The ZoneId provided does not exist."));
    }
    Ok(())
}

/// What a disk's text has to be.
type WantedText = (fn(&Disk) -> Option<&str>, String);
/// What has to hold of a disk, or not to hold.
type WantedFlag = (fn(&Disk) -> bool, bool);

/// What was asked for: every condition has to hold.
struct Wanted {
    ids: Option<Vec<String>>,
    texts: Vec<WantedText>,
    flags: Vec<WantedFlag>,
    tags: Vec<Tag>,
    created: (Option<Seconds>, Option<Seconds>),
    instance: Option<String>,
}

impl Wanted {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let text = |name: &str| params.text(name).map(str::to_owned);
        let word = |name: &str| text(name).filter(|text| !text.eq_ignore_ascii_case("all"));
        let mut texts: Vec<WantedText> = Vec::new();
        let mut ask =
            |of: fn(&Disk) -> Option<&str>, wanted: Option<String>| texts.extend(wanted.map(|text| (of, text)));
        ask(|disk| Some(&disk.zone), text("ZoneId"));
        ask(|disk| Some(&disk.name), text("DiskName"));
        ask(|disk| disk.source_snapshot.as_deref(), text("SnapshotId"));
        ask(|disk| disk.key_id.as_deref(), text("KMSKeyId"));
        ask(|disk| disk.policy.as_deref(), text("AutoSnapshotPolicyId"));
        ask(
            |disk| Some(disk.kind.word()),
            one_of(
                word("DiskType"),
                &["system", "data"],
                ("InvalidDiskType.ValueNotSupported", 400, "The specified disk type is not supported."),
            )?,
        );
        ask(|disk| Some(disk.category.word()), category(word("Category"))?);
        ask(|disk| Some(disk.state.word()), status(word("Status"))?);
        ask(
            |_| Some("PostPaid"),
            one_of(
                text("DiskChargeType"),
                &["PrePaid", "PostPaid"],
                ("InvalidDiskChargeType.NotFound", 404, "The DiskChargeType does not exist."),
            )?,
        );
        // What no disk has here.
        ask(
            |_| None,
            one_of(
                text("LockReason"),
                &["financial", "security", "recycling", "dedicatedhostfinancial"],
                ("InvalidLockReason.NotFound", 404, "The specified LockReason is not found."),
            )?,
        );
        ask(|_| None, text("ResourceGroupId"));
        ask(|_| None, text("PerformanceLevel"));
        let mut flags: Vec<WantedFlag> = Vec::new();
        let mut ask = |of: fn(&Disk) -> bool, wanted: Option<bool>| flags.extend(wanted.map(|flag| (of, flag)));
        // False asks for nothing.
        ask(|disk| disk.encrypted, params.flag("Encrypted")?.filter(|encrypted| *encrypted));
        ask(|disk| disk.kind == crate::cloud::rows::DiskKind::Data, params.flag("Portable")?);
        ask(|disk| disk.delete_with_instance, params.flag("DeleteWithInstance")?);
        ask(|disk| disk.delete_auto_snapshot, params.flag("DeleteAutoSnapshot")?);
        ask(|disk| disk.enable_auto_snapshot, params.flag("EnableAutoSnapshot")?);
        ask(|disk| disk.policy.is_some(), params.flag("EnableAutomatedSnapshotPolicy")?);
        let shared = (params.flag("EnableShared")?, multi_attach(params.text("MultiAttach"))?);
        if matches!(shared, (Some(one), Some(other)) if one != other) {
            let what = "The parameter MultiAttach and EnableShared are not match.";
            return Err(ApiError::new("InvalidParameter.MultiAttachAndEnableSharedNotMatch", 403, what));
        }
        ask(|disk| disk.shared, shared.0.or(shared.1));
        let ids = params.array("DiskIds");
        let ids = ids.map_err(|_| {
            ApiError::new("InvalidParameter.DiskIds", 400, "The specified parameter diskIds is not valid.")
        })?;
        if ids.as_ref().is_some_and(|ids| ids.len() > MOST_IDS) {
            let what = "The amount of specified disk Ids exceeds the limit.";
            return Err(ApiError::new("InvalidDiskIds.Malformed", 403, what));
        }
        Ok(Self {
            ids,
            texts,
            flags,
            tags: wanted_tags(params)?,
            created: created_between(params)?,
            instance: text("InstanceId"),
        })
    }

    fn has(&self, disk: &Disk) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&disk.id))
            && self.texts.iter().all(|(of, wanted)| of(disk) == Some(wanted))
            && self.flags.iter().all(|(of, wanted)| of(disk) == *wanted)
            && self.instance.as_ref().is_none_or(|instance| disk.is_attached_to(instance))
            && self.created.0.is_none_or(|from| disk.created_at >= from)
            && self.created.1.is_none_or(|to| disk.created_at <= to)
            && text::has_tags(&disk.tags, &self.tags)
    }
}

fn one_of(
    text: Option<String>,
    words: &[&str],
    (code, status, what): (&'static str, u16, &str),
) -> Result<Option<String>, ApiError> {
    match text {
        Some(text) if !words.contains(&text.as_str()) => Err(ApiError::new(code, status, what.to_owned())),
        other => Ok(other),
    }
}

/// The tags that are asked for; each has a key.
pub fn wanted_tags(params: &Params) -> Result<Vec<Tag>, ApiError> {
    let has = |index: u32, names: [&str; 2]| {
        let tag = params.under("Tag", index);
        names.iter().any(|name| tag.text(name).is_some())
    };
    let lone = |index: &u32| has(*index, ["Value", "value"]) && !has(*index, ["Key", "key"]);
    if params.indices("Tag").iter().any(lone) {
        let what = "The specified Tag.n.Key and Tag.n.Value are not match.";
        return Err(ApiError::new("InvalidTag.Mismatch", 400, what));
    }
    text::tags(params)
}

fn category(text: Option<String>) -> Result<Option<String>, ApiError> {
    let words = [Category::Cloud, Category::CloudEfficiency, Category::CloudSsd].map(Category::word);
    one_of(text, &words, ("InvalidCategory.ValueNotSupported", 400, "The specified disk category is not supported."))
}

fn status(text: Option<String>) -> Result<Option<String>, ApiError> {
    let words = ["In_use", "Available", "Attaching", "Detaching", "Creating", "ReIniting"];
    one_of(text, &words, ("InvalidStatus.ValueNotSupported", 400, "The specified disk status is not supported."))
}

fn multi_attach(text: Option<&str>) -> Result<Option<bool>, ApiError> {
    match text {
        None => Ok(None),
        Some("Enabled" | "LegacyShared") => Ok(Some(true)),
        Some("Disabled") => Ok(Some(false)),
        Some(_) => {
            Err(ApiError::new("InvalidParameter.MultiAttach", 403, "The specified param MultiAttach is not valid."))
        }
    }
}

/// `Filter.1` and `Filter.2`: the first and the last moment of creation.
pub fn created_between(params: &Params) -> Result<(Option<Seconds>, Option<Seconds>), ApiError> {
    let (mut from, mut to) = (None, None);
    for index in params.indices("Filter") {
        let filter = params.under("Filter", index);
        let Some(key) = filter.text("Key") else { continue };
        let wrong = || {
            ApiError::new(
                "InvalidFilterValue",
                404,
                "The specified Filter.n.Value is no time such as 2018-06-07T06:08Z.",
            )
        };
        // To the minute, or to the second.
        let value = filter.text("Value").ok_or_else(wrong)?.trim_end_matches('Z');
        let seconds = if value.len() == 16 { ":00" } else { "" };
        let time: Time = format!("{value}{seconds}.000Z").parse().map_err(|_| wrong())?;
        match key {
            "CreationStartTime" => from = Some(time.seconds()),
            "CreationEndTime" => to = Some(time.seconds()),
            _ => {
                return Err(ApiError::new(
                    "InvalidFilterKey.NotFound",
                    404,
                    "The specified Filter.n.Key is not valid.",
                ));
            }
        }
    }
    Ok((from, to))
}

/// A moment as the API writes it; empty if there is none.
pub fn moment(seconds: Option<Seconds>) -> String {
    seconds.map(|seconds| Time::from_seconds(seconds).to_second()).unwrap_or_default()
}

/// Tags as the API writes them.
pub fn tags_view(tags: &[Tag]) -> Value {
    let tags: Vec<Value> = tags.iter().map(|tag| json!({ "TagKey": tag.key, "TagValue": tag.value })).collect();
    json!({ "Tag": tags })
}

fn view(disk: &Disk, region: &str, with_speed: bool) -> Value {
    let attachments: Vec<Value> = disk
        .attachments
        .iter()
        .map(|at| json!({ "InstanceId": at.instance, "Device": at.device, "AttachedTime": moment(Some(at.at)) }))
        .collect();
    // Of a shared disk only the list tells who has it.
    let only = disk.attachments.first().filter(|_| !disk.shared);
    let mut view: Map<String, Value> = [
        ("DiskId", json!(disk.id)),
        ("RegionId", json!(region)),
        ("ZoneId", json!(disk.zone)),
        ("DiskName", json!(disk.name)),
        ("Description", json!(disk.description)),
        ("Type", json!(disk.kind.word())),
        ("Category", json!(disk.category.word())),
        ("Size", json!(disk.size_gib)),
        ("ImageId", json!(disk.image.clone().unwrap_or_default())),
        ("SourceSnapshotId", json!(disk.source_snapshot.clone().unwrap_or_default())),
        ("ProductCode", json!("")),
        ("Portable", json!(disk.kind == crate::cloud::rows::DiskKind::Data)),
        ("Status", json!(disk.state.word())),
        ("InstanceId", json!(only.map(|at| at.instance.clone()).unwrap_or_default())),
        ("Device", json!(only.map(|at| at.device.clone()).unwrap_or_default())),
        ("DeleteWithInstance", json!(disk.delete_with_instance)),
        ("DeleteAutoSnapshot", json!(disk.delete_auto_snapshot)),
        ("EnableAutoSnapshot", json!(disk.enable_auto_snapshot)),
        ("EnableAutomatedSnapshotPolicy", json!(disk.policy.is_some())),
        ("AutoSnapshotPolicyId", json!(disk.policy.clone().unwrap_or_default())),
        ("CreationTime", json!(moment(Some(disk.created_at)))),
        ("AttachedTime", json!(moment(disk.attached_at))),
        ("DetachedTime", json!(moment(disk.detached_at))),
        ("DiskChargeType", json!("PostPaid")),
        ("ExpiredTime", json!(NEVER)),
        ("Encrypted", json!(disk.encrypted)),
        ("KMSKeyId", json!(disk.key_id.clone().unwrap_or_default())),
        ("MultiAttach", json!(if disk.shared { "Enabled" } else { "Disabled" })),
        ("EnableShared", json!(disk.shared)),
        ("SerialNumber", json!(serial_number(&disk.id))),
        ("MountInstanceNum", json!(if disk.shared { disk.attachments.len() } else { 0 })),
        ("MountInstances", json!({ "MountInstance": if disk.shared { attachments.clone() } else { Vec::new() } })),
        ("Attachments", json!({ "Attachment": attachments })),
        ("OperationLocks", json!({ "OperationLock": [] })),
        ("Tags", tags_view(&disk.tags)),
        ("PerformanceLevel", json!("")),
        ("ResourceGroupId", json!("")),
        ("StorageSetId", json!("")),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if with_speed {
        let iops = disk.category.speed(disk.size_gib, disk.shared).iops;
        for name in ["IOPS", "IOPSRead", "IOPSWrite"] {
            view.insert(name.to_owned(), json!(iops));
        }
    }
    Value::Object(view)
}
