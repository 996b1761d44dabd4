//! Tags of disks, snapshots, images and instances: AddTags, RemoveTags and DescribeTags of 2018, and TagResources, UntagResources and ListTagResources,
//! which came after them.

use serde_json::{Value, json};

use crate::cloud::ecs::ask::{check_region, flag_or};
use crate::cloud::ecs::disk::describe::wanted_tags;
use crate::cloud::error::ApiError;
use crate::cloud::page::Page;
use crate::cloud::params::Params;
use crate::cloud::rows::{DiskState, InstanceState, SnapshotState, Tag};
use crate::cloud::service::{Call, Cloud};
use crate::cloud::store::World;
use crate::cloud::text;

/// Tags of a thing, and tags in one request.
const MOST_TAGS: usize = 20;
/// Things in one request.
const MOST_RESOURCES: usize = 50;

/// What has tags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Disk,
    Snapshot,
    Image,
    Instance,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Snapshot => "snapshot",
            Self::Image => "image",
            Self::Instance => "instance",
        }
    }

    fn read(call: &Call<'_>, missing: ApiError) -> Result<Self, ApiError> {
        let word = call.params.text("ResourceType").ok_or(missing)?;
        let kinds = [Self::Disk, Self::Snapshot, Self::Image, Self::Instance];
        kinds.into_iter().find(|kind| kind.word() == word).ok_or_else(|| {
            let what = "The ResourceType provided does not exist in our records.";
            ApiError::new("InvalidResourceType.NotFound", 404, what)
        })
    }

    /// The account's things of this kind with their tags.
    fn all<'w>(self, world: &'w World, account: &str) -> Vec<(&'w str, &'w [Tag])> {
        let all: Vec<(&str, &str, bool, &[Tag])> = match self {
            Self::Disk => {
                let rows = world.disks.rows();
                rows.map(|row| (&*row.id, &*row.account, row.state != DiskState::Deleting, &*row.tags)).collect()
            }
            Self::Snapshot => {
                let rows = world.snapshots.rows();
                rows.map(|row| (&*row.id, &*row.account, row.state != SnapshotState::Deleting, &*row.tags)).collect()
            }
            Self::Image => world.images.rows().map(|row| (&*row.id, &*row.account, true, &*row.tags)).collect(),
            Self::Instance => {
                let rows = world.instances.rows();
                rows.map(|row| (&*row.id, &*row.account, row.state != InstanceState::Deleting, &*row.tags)).collect()
            }
        };
        let mine = all.into_iter().filter(|(_, owner, is_there, _)| *is_there && *owner == account);
        mine.map(|(id, _, _, tags)| (id, tags)).collect()
    }

    fn tags_mut<'w>(self, world: &'w mut World, id: &str) -> Option<&'w mut Vec<Tag>> {
        match self {
            Self::Disk => world.disks.get_mut(id).map(|row| &mut row.tags),
            Self::Snapshot => world.snapshots.get_mut(id).map(|row| &mut row.tags),
            Self::Image => world.images.get_mut(id).map(|row| &mut row.tags),
            Self::Instance => world.instances.get_mut(id).map(|row| &mut row.tags),
        }
    }
}

/// AddTags: to one thing.
pub fn add_tags(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let (kind, id) = one(cloud, call)?;
    let tags = wanted_tags(call.params)?;
    if tags.is_empty() {
        return Err(ApiError::missing("Tag.1.Key"));
    }
    change(cloud, call, kind, &[id], |old| add(old, &tags))
}

/// RemoveTags: from one thing. A tag that is named with its value goes if it has that.
pub fn remove_tags(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let (kind, id) = one(cloud, call)?;
    let tags = wanted_tags(call.params)?;
    if tags.is_empty() {
        return Err(ApiError::missing("Tag.1.Key"));
    }
    let goes =
        |tag: &Tag| tags.iter().any(|gone| text::has_tags(std::slice::from_ref(tag), std::slice::from_ref(gone)));
    change(cloud, call, kind, &[id], |old| {
        old.retain(|tag| !goes(tag));
        Ok(())
    })
}

/// DescribeTags: which tags things of a kind have.
pub fn describe_tags(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    let kind = Kind::read(call, ApiError::missing("ResourceType"))?;
    let page = Page::of(&with_default(call.params, "PageSize"))?;
    let wanted = wanted_tags(call.params)?;
    let one = call.params.text("ResourceId");
    let tags: Vec<Tag> = cloud.store().read(|world| {
        let things = kind.all(world, call.account()).into_iter().filter(|(id, _)| one.is_none_or(|one| one == *id));
        let mut tags: Vec<&Tag> = things.flat_map(|(_, tags)| tags).filter(|tag| is_asked_for(tag, &wanted)).collect();
        tags.sort_by(|one, other| (&one.key, &one.value).cmp(&(&other.key, &other.value)));
        tags.dedup();
        tags.into_iter().cloned().collect()
    });
    Ok(page.answer("Tags", "Tag", &tags, |tag| json!({ "TagKey": tag.key, "TagValue": tag.value })))
}

/// TagResources: to several things, all or none.
pub fn tag_resources(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let (kind, ids) = several(cloud, call)?;
    let tags = wanted_tags(call.params)?;
    if tags.is_empty() {
        return Err(no_tags());
    }
    change(cloud, call, kind, &ids, |old| add(old, &tags))
}

/// UntagResources: from several things, all or none.
pub fn untag_resources(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let (kind, ids) = several(cloud, call)?;
    let keys = call.params.list("TagKey");
    let all = flag_or(call.params, "All", false)?;
    match keys.len() {
        0 if !all => return Err(no_tags()),
        0..=MOST_TAGS => {}
        _ => {
            let what = "The Tags parameter's number is exceed , Valid : 20";
            return Err(ApiError::new("NumberExceed.Tags", 400, what));
        }
    }
    change(cloud, call, kind, &ids, |old| {
        old.retain(|tag| !keys.is_empty() && !keys.contains(&tag.key.as_str()));
        Ok(())
    })
}

/// ListTagResources: which things have which tags.
pub fn list_tag_resources(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    let kind = Kind::read(call, no_type())?;
    let ids = resource_ids(call.params)?;
    let wanted = wanted_tags(call.params)?;
    if ids.is_empty() && wanted.is_empty() {
        return Err(no_tags());
    }
    let page = Page::of(&with_default(call.params, "MaxResults"))?;
    let found: Vec<(String, Tag)> = cloud.store().read(|world| {
        let things = kind.all(world, call.account()).into_iter();
        let things = things.filter(|(id, tags)| (ids.is_empty() || ids.contains(id)) && text::has_tags(tags, &wanted));
        let pairs = things.flat_map(|(id, tags)| tags.iter().map(move |tag| (id.to_owned(), tag.clone())));
        pairs.filter(|(_, tag)| is_asked_for(tag, &wanted)).collect()
    });
    Ok(page.answer(
        "TagResources",
        "TagResource",
        &found,
        |(id, tag)| json!({ "ResourceId": id, "ResourceType": kind.word(), "TagKey": tag.key, "TagValue": tag.value }),
    ))
}

fn is_asked_for(tag: &Tag, wanted: &[Tag]) -> bool {
    let fits = |want: &Tag| text::has_tags(std::slice::from_ref(tag), std::slice::from_ref(want));
    wanted.is_empty() || wanted.iter().any(fits)
}

/// The parameters with pages of 50, if none are asked for.
fn with_default(params: &Params, name: &str) -> Params {
    let mut params = params.clone();
    params.insert(name, "50");
    params
}

fn one<'c>(cloud: &Cloud, call: &Call<'c>) -> Result<(Kind, &'c str), ApiError> {
    check_region(cloud, call.params)?;
    let kind = Kind::read(call, ApiError::missing("ResourceType"))?;
    Ok((kind, call.params.needed("ResourceId")?))
}

fn several<'c>(cloud: &Cloud, call: &Call<'c>) -> Result<(Kind, Vec<&'c str>), ApiError> {
    check_region(cloud, call.params)?;
    let kind = Kind::read(call, no_type())?;
    let ids = resource_ids(call.params)?;
    if ids.is_empty() {
        return Err(ApiError::missing("ResourceId.1"));
    }
    Ok((kind, ids))
}

fn resource_ids(params: &Params) -> Result<Vec<&str>, ApiError> {
    let ids = params.list("ResourceId");
    if ids.len() > MOST_RESOURCES {
        let what = "The ResourceIds parameter's number is exceed , Valid : 50";
        return Err(ApiError::new("NumberExceed.ResourceIds", 400, what));
    }
    Ok(ids)
}

fn no_type() -> ApiError {
    ApiError::new("MissingParameter.ResourceType", 404, "The parameter - ResourceType should not be null")
}

fn no_tags() -> ApiError {
    ApiError::new("MissingParameter.Tags", 404, "The parameter - Tags should not be null")
}

fn add(old: &mut Vec<Tag>, new: &[Tag]) -> Result<(), ApiError> {
    old.retain(|tag| new.iter().all(|other| other.key != tag.key));
    old.extend_from_slice(new);
    if old.len() > MOST_TAGS {
        let what = "The quota of tags on resource is beyond permitted range.";
        return Err(ApiError::new("OperationDenied.QuotaExceed", 400, what));
    }
    Ok(())
}

fn change(
    cloud: &Cloud,
    call: &Call<'_>,
    kind: Kind,
    ids: &[&str],
    change: impl Fn(&mut Vec<Tag>) -> Result<(), ApiError>,
) -> Result<Value, ApiError> {
    cloud.change(call, |world| {
        let mine: Vec<&str> = kind.all(world, call.account()).into_iter().map(|(id, _)| id).collect();
        if ids.iter().any(|id| !mine.contains(id)) {
            let what = "The specified ResourceId is not found in our records.";
            return Err(ApiError::new("InvalidResourceId.NotFound", 404, what));
        }
        for id in ids {
            change(kind.tags_mut(world, id).expect("it was just found"))?;
        }
        Ok(json!({}))
    })
}
