//! DescribeImages: which images the caller may use: the system's, its own, and those that others share with it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cloud::ecs::ask::{check_region, flag_or};
use crate::cloud::ecs::disk::describe::{created_between, moment, tags_view};
use crate::cloud::ecs::image::blank::{BLANK_GIB, blank};
use crate::cloud::ecs::image::owner::{Owner, owner};
use crate::cloud::error::ApiError;
use crate::cloud::page::Page;
use crate::cloud::params::Params;
use crate::cloud::rows::{Image, InstanceState, Seconds, Tag};
use crate::cloud::service::{Call, Cloud};
use crate::cloud::store::World;
use crate::cloud::text;

/// An image as the caller sees it.
struct Seen {
    image: Image,
    owner: Owner,
    /// Whether an instance of the caller has it.
    is_used: bool,
}

/// The operation.
pub fn describe_images(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    let page = Page::of(call.params)?;
    let wanted = Wanted::read(call.params)?;
    if flag_or(call.params, "DryRun", false)? {
        let what = "Request validation has been passed with DryRun flag set.";
        return Err(ApiError::new("DryRunOperation", 400, what));
    }
    let mut images = cloud.store().read(|world| seen(world, call.account()));
    images.retain(|seen| wanted.has(seen));
    images.sort_by(|one, other| (one.image.created_at, &one.image.id).cmp(&(other.image.created_at, &other.image.id)));
    let mut answer = page.answer("Images", "Image", &images, Seen::view);
    answer["RegionId"] = json!(cloud.region());
    Ok(answer)
}

fn seen(world: &World, account: &str) -> Vec<Seen> {
    let mine = world.instances.rows().filter(|instance| instance.account == account);
    let mine = mine.filter(|instance| instance.state != InstanceState::Deleting);
    let used: BTreeSet<&str> = mine.map(|instance| instance.image.as_str()).collect();
    let rows = world.images.rows().filter_map(|image| Some((image.clone(), owner(image, account)?)));
    let all = std::iter::once((blank(), Owner::System)).chain(rows);
    all.map(|(image, owner)| Seen { is_used: used.contains(image.id.as_str()), image, owner }).collect()
}

/// A text of an image that can be asked for.
type TextOf = fn(&Seen) -> &str;

/// What was asked for: every condition has to hold.
struct Wanted {
    ids: Option<Vec<String>>,
    states: Vec<String>,
    texts: Vec<(TextOf, String)>,
    snapshot: Option<String>,
    tags: Vec<Tag>,
    created: (Option<Seconds>, Option<Seconds>),
}

impl Wanted {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let list = |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<String>>();
        let mut texts: Vec<(TextOf, String)> = Vec::new();
        let mut ask = |of: TextOf, wanted: Option<String>| texts.extend(wanted.map(|text| (of, text)));
        ask(|seen| &seen.image.name, params.text("ImageName").map(str::to_owned));
        let owners = ["system", "self", "others", "marketplace"];
        let code = ("InvalidImageOwnerAlias.ValueNotSupported", 400);
        let what = "The specified ImageOwnerAlias value is not supported.";
        ask(|seen| seen.owner.word(), one_of(params, "ImageOwnerAlias", &owners, code, what)?);
        let what = "The specifed Usage is not valid.";
        ask(Seen::usage, one_of(params, "Usage", &["instance", "none"], ("InvalidUsage", 404), what)?);
        let what = "The specifed OSType is not valid.";
        ask(Seen::os_type, one_of(params, "OSType", &["windows", "linux"], ("InvalidOSType", 404), what)?);
        let architectures = ["i386", "x86_64", "arm64"];
        let what = "The specifed Architecture is not valid.";
        ask(
            |seen| &seen.image.architecture,
            one_of(params, "Architecture", &architectures, ("InvalidArchitecture", 404), what)?,
        );
        Ok(Self {
            ids: params.text("ImageId").map(list),
            states: list(params.text("Status").unwrap_or("Available")),
            texts,
            snapshot: params.text("SnapshotId").map(str::to_owned),
            tags: text::tags(params)?,
            created: created_between(params)?,
        })
    }

    fn has(&self, seen: &Seen) -> bool {
        let image = &seen.image;
        self.ids.as_ref().is_none_or(|ids| ids.contains(&image.id))
            && self.states.iter().any(|state| state == seen.state())
            && self.texts.iter().all(|(of, wanted)| of(seen) == wanted)
            && self.snapshot.as_ref().is_none_or(|id| image.devices.iter().any(|device| device.snapshot == *id))
            && self.created.0.is_none_or(|from| image.created_at >= from)
            && self.created.1.is_none_or(|to| image.created_at <= to)
            && text::has_tags(&image.tags, &self.tags)
    }
}

fn one_of(
    params: &Params,
    name: &str,
    words: &[&str],
    (code, status): (&'static str, u16),
    what: &str,
) -> Result<Option<String>, ApiError> {
    match params.text(name) {
        Some(text) if !words.contains(&text) => Err(ApiError::new(code, status, what.to_owned())),
        text => Ok(text.map(str::to_owned)),
    }
}

impl Seen {
    fn state(&self) -> &'static str {
        if self.image.is_available { "Available" } else { "Creating" }
    }

    fn usage(&self) -> &'static str {
        if self.is_used { "instance" } else { "none" }
    }

    fn os_type(&self) -> &'static str {
        if self.image.platform.to_lowercase().contains("windows") { "windows" } else { "linux" }
    }

    fn view(&self) -> Value {
        let Self { image, owner, .. } = self;
        let progress = if image.is_available { "100%" } else { "0%" };
        let devices = image.devices.iter().map(|device| {
            json!({
                "SnapshotId": device.snapshot,
                "Size": device.size_gib.to_string(),
                "Device": device.device,
                "Type": device.kind.word(),
                "Format": "",
                "ImportOSSBucket": "",
                "ImportOSSObject": "",
                "Progress": progress,
                "RemainTime": 0,
            })
        });
        // Only its owner sees whom it is shared with.
        let is_shared = *owner == Owner::Own && !image.shared_with.is_empty();
        json!({
            "ImageId": image.id,
            "ImageName": image.name,
            "ImageVersion": image.version,
            "ImageFamily": "",
            "Description": image.description,
            "ImageOwnerAlias": owner.word(),
            "Architecture": image.architecture,
            "Platform": image.platform,
            "OSName": image.platform,
            "OSNameEn": image.platform,
            "OSType": self.os_type(),
            "Size": image.devices.first().map_or(BLANK_GIB, |system| system.size_gib),
            "Status": self.state(),
            "Progress": progress,
            "Usage": self.usage(),
            "CreationTime": moment(Some(image.created_at)),
            "ProductCode": "",
            "ResourceGroupId": "",
            "IsSubscribed": false,
            "IsSelfShared": if is_shared { "True" } else { "False" },
            "IsCopied": false,
            "IsSupportIoOptimized": true,
            "IsSupportCloudinit": false,
            "DiskDeviceMappings": { "DiskDeviceMapping": devices.collect::<Vec<Value>>() },
            "Tags": tags_view(&image.tags),
        })
    }
}
