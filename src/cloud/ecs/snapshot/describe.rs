//! DescribeSnapshots: which snapshots the caller has.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::cloud::ecs::ask::{check_region, flag_or, own_disk};
use crate::cloud::ecs::disk::describe::{created_between, moment, tags_view};
use crate::cloud::ecs::snapshot::delete::{disks_from, images_of};
use crate::cloud::error::ApiError;
use crate::cloud::id::{Noun, snapshot_link};
use crate::cloud::page::Page;
use crate::cloud::params::Params;
use crate::cloud::rows::{Seconds, Snapshot, SnapshotState, Tag};
use crate::cloud::service::{Call, Cloud};
use crate::cloud::store::World;
use crate::cloud::text;

/// Identifiers in one request.
const MOST_IDS: usize = 100;
/// The category of all snapshots.
const CATEGORY: &str = "standard";

/// The operation.
pub fn describe_snapshots(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    let page = Page::of(call.params)?;
    let wanted = Wanted::read(call.params)?;
    if flag_or(call.params, "DryRun", false)? {
        let what = "Request validation has been passed with DryRun flag set.";
        return Err(ApiError::new("DryRunOperation", 400, what));
    }
    let mut snapshots: Vec<(Snapshot, &str)> = cloud.store().read(|world| -> Result<_, ApiError> {
        wanted.check_link(world, call.account())?;
        let disks = wanted.disks_of_instance(world);
        let mine = visible(world, call.account()).filter(|snapshot| wanted.has(snapshot));
        let mine = mine.filter(|snapshot| disks.as_ref().is_none_or(|disks| disks.contains(snapshot.disk.as_str())));
        let mine = mine.map(|snapshot| (snapshot.clone(), usage(world, &snapshot.id)));
        Ok(mine.filter(|(_, usage)| wanted.usage.as_ref().is_none_or(|wanted| wanted == usage)).collect())
    })?;
    snapshots.sort_by(|(one, _), (other, _)| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
    Ok(page.answer("Snapshots", "Snapshot", &snapshots, |(snapshot, usage)| view(snapshot, usage, cloud.region())))
}

/// The snapshots that an account sees.
pub fn visible<'w>(world: &'w World, account: &'w str) -> impl Iterator<Item = &'w Snapshot> {
    world.snapshots.rows().filter(move |row| row.account == account && row.state != SnapshotState::Deleting)
}

/// What was made from a snapshot and is still there.
fn usage(world: &World, snapshot: &str) -> &'static str {
    match (images_of(world, snapshot).next().is_some(), disks_from(world, snapshot)) {
        (true, true) => "image_disk",
        (true, false) => "image",
        (false, true) => "disk",
        (false, false) => "none",
    }
}

/// A text of a snapshot that can be asked for.
type TextOf = fn(&Snapshot) -> Option<&str>;

/// What was asked for: every condition has to hold.
struct Wanted {
    ids: Option<Vec<String>>,
    texts: Vec<(TextOf, String)>,
    encrypted: bool,
    link: Option<String>,
    instance: Option<String>,
    usage: Option<String>,
    category: Option<String>,
    tags: Vec<Tag>,
    created: (Option<Seconds>, Option<Seconds>),
}

impl Wanted {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let mut texts: Vec<(TextOf, String)> = Vec::new();
        let mut ask = |of: TextOf, wanted: Option<String>| texts.extend(wanted.map(|text| (of, text)));
        let text = |name: &str| params.text(name).map(str::to_owned);
        ask(|snapshot| Some(&snapshot.disk), text("DiskId"));
        ask(|snapshot| Some(&snapshot.name), text("SnapshotName"));
        ask(|snapshot| snapshot.key_id.as_deref(), text("KMSKeyId"));
        let states = ["progressing", "accomplished", "failed"];
        let state = one_of(params, "Status", &states, "InvalidStatus.NotFound", "The specified Status is not found.")?;
        ask(|snapshot| Some(snapshot.state.word()), state);
        let what = "The specifed SourceDiskType is not valid.";
        let kind = one_of(params, "SourceDiskType", &["system", "data"], "InvalidSourceDiskType", what)?;
        ask(|snapshot| Some(snapshot.disk_kind.word()), kind);
        let what = "The specfied SnapshotType is not found.";
        let by = one_of(params, "SnapshotType", &["auto", "user"], "InvalidSnapshotType.NotFound", what)?;
        ask(|snapshot| Some(if snapshot.is_automatic() { "auto" } else { "user" }), by);
        let uses = ["image", "disk", "image_disk", "none"];
        let category = params.text("Category").map(str::to_ascii_lowercase);
        if category.as_ref().is_some_and(|category| ![CATEGORY, "flash"].contains(&category.as_str())) {
            let what = "The specified Category is not valid.";
            return Err(ApiError::new("InvalidSnapshotCategory.Malformed", 403, what));
        }
        Ok(Self {
            ids: ids(params)?,
            texts,
            // False asks for nothing.
            encrypted: flag_or(params, "Encrypted", false)?,
            link: text("SnapshotLinkId"),
            instance: text("InstanceId"),
            usage: one_of(params, "Usage", &uses, "InvalidUsage", "The specifed Usage is not valid.")?,
            category,
            tags: text::tags(params)?,
            created: created_between(params)?,
        })
    }

    fn has(&self, snapshot: &Snapshot) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&snapshot.id))
            && self.texts.iter().all(|(of, wanted)| of(snapshot) == Some(wanted))
            && (!self.encrypted || snapshot.encrypted)
            && self.link.as_ref().is_none_or(|link| *link == snapshot_link(&snapshot.disk))
            && self.category.as_ref().is_none_or(|category| category == CATEGORY)
            && self.created.0.is_none_or(|from| snapshot.created_at >= from)
            && self.created.1.is_none_or(|to| snapshot.created_at <= to)
            && text::has_tags(&snapshot.tags, &self.tags)
    }

    /// Refuses a chain that is neither of a snapshot nor of a disk of the account.
    fn check_link(&self, world: &World, account: &str) -> Result<(), ApiError> {
        let Some(link) = &self.link else { return Ok(()) };
        let of_disk = world
            .disks
            .rows()
            .any(|disk| snapshot_link(&disk.id) == *link && own_disk(world, account, &disk.id).is_some());
        if of_disk || visible(world, account).any(|snapshot| snapshot_link(&snapshot.disk) == *link) {
            return Ok(());
        }
        Err(ApiError::new("InvalidSnapshotLinkId.NotFound", 404, "The specified snapshot link is not found."))
    }

    /// The disks of the instance that is asked for.
    fn disks_of_instance<'w>(&self, world: &'w World) -> Option<BTreeSet<&'w str>> {
        let instance = self.instance.as_ref()?;
        let disks = world.disks.rows().filter(|disk| disk.is_attached_to(instance));
        Some(disks.map(|disk| disk.id.as_str()).collect())
    }
}

fn ids(params: &Params) -> Result<Option<Vec<String>>, ApiError> {
    let ids = params.array("SnapshotIds")?;
    if ids.as_ref().is_some_and(|ids| ids.len() > MOST_IDS) {
        let what = "The amount of specified specified snapshot Ids exceeds the limit.";
        return Err(ApiError::new("InvalidSnapshotIds.Malformed", 403, what));
    }
    Ok(ids)
}

/// One of these words, in any case; none for `all`.
fn one_of(
    params: &Params,
    name: &str,
    words: &[&str],
    code: &'static str,
    what: &str,
) -> Result<Option<String>, ApiError> {
    match params.text(name).map(str::to_ascii_lowercase) {
        Some(text) if text == "all" => Ok(None),
        Some(text) if !words.contains(&text.as_str()) => Err(ApiError::new(code, 404, what.to_owned())),
        other => Ok(other),
    }
}

fn view(snapshot: &Snapshot, usage: &str, region: &str) -> Value {
    let is_done = snapshot.state == SnapshotState::Accomplished;
    let mut view: Map<String, Value> = [
        ("SnapshotId", json!(snapshot.id)),
        ("SnapshotName", json!(snapshot.name)),
        ("SnapshotSN", json!(snapshot.id.trim_start_matches(Noun::Snapshot.prefix()))),
        ("SnapshotLinkId", json!(snapshot_link(&snapshot.disk))),
        ("RegionId", json!(region)),
        ("Description", json!(snapshot.description)),
        ("Status", json!(snapshot.state.word())),
        ("Available", json!(is_done)),
        ("Progress", json!(if is_done { "100%" } else { "0%" })),
        ("RemainTime", json!(0)),
        ("CreationTime", json!(moment(Some(snapshot.created_at)))),
        ("LastModifiedTime", json!(moment(Some(snapshot.created_at)))),
        ("SourceDiskId", json!(snapshot.disk)),
        ("SourceDiskSize", json!(snapshot.size_gib.to_string())),
        ("SourceDiskType", json!(snapshot.disk_kind.word())),
        ("SourceStorageType", json!("disk")),
        ("SnapshotType", json!(if snapshot.is_automatic() { "timer" } else { "user" })),
        ("Usage", json!(usage)),
        ("Encrypted", json!(snapshot.encrypted)),
        ("KMSKeyId", json!(snapshot.key_id.clone().unwrap_or_default())),
        ("Category", json!(CATEGORY)),
        ("InstantAccess", json!(false)),
        ("ProductCode", json!("")),
        ("ResourceGroupId", json!("")),
        ("Tags", tags_view(&snapshot.tags)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if let Some(days) = snapshot.retention_days {
        view.insert("RetentionDays".to_owned(), json!(days));
    }
    Value::Object(view)
}
