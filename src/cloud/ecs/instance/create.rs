//! CreateInstance and RunInstances: new instances with their disks, stopped or running. All that was asked for in one request is made, or nothing.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller, NewHost};
use crate::cloud::ecs::ask::{check_region, zone};
use crate::cloud::ecs::disk::create::{made, make};
use crate::cloud::ecs::instance::boot_image::BootImage;
use crate::cloud::ecs::instance::disks::DisksWanted;
use crate::cloud::ecs::instance::host::{HostNames, HostWanted};
use crate::cloud::ecs::instance::power::{attach_all, detach_all, dry_run};
use crate::cloud::error::ApiError;
use crate::cloud::id::Noun;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::params::Params;
use crate::cloud::rows::{Instance, InstanceState, Tag};
use crate::cloud::service::{Call, Cloud, Plan};
use crate::cloud::store::World;
use crate::cloud::text;

/// Instances in one request.
const MOST_INSTANCES: u32 = 100;
const LONGEST_TYPE: usize = 64;

/// Instances are made, with their disks; their rows are there and say how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateInstances {
    /// The instances.
    pub instances: Vec<String>,
    /// Their disks.
    pub disks: Vec<String>,
    /// Whether they run then.
    pub running: bool,
}

impl Work for CreateInstances {
    fn touches(&self) -> Vec<String> {
        self.instances.iter().chain(&self.disks).cloned().collect()
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        for instance in &self.instances {
            cloud.backend().add_host(&host(cloud, instance)?)?;
        }
        let mut findings = Findings::new();
        for disk in &self.disks {
            findings.extend(make(cloud, disk, by)?);
        }
        for instance in self.instances.iter().filter(|_| self.running) {
            attach_all(cloud, instance, by)?;
        }
        Ok(findings)
    }

    fn finish(&self, world: &mut World, now: u64, findings: &Findings) {
        self.disks.iter().for_each(|disk| made(world, disk, findings));
        for id in &self.instances {
            let Some(instance) = world.instances.get_mut(id) else { continue };
            instance.state = if self.running { InstanceState::Running } else { InstanceState::Stopped };
            instance.was_started = self.running;
            instance.started_at = self.running.then_some(now);
        }
    }

    fn undo(&self, cloud: &Cloud, by: &Caller) -> Result<(), BackendError> {
        for instance in &self.instances {
            detach_all(cloud, instance, by)?;
        }
        for disk in &self.disks {
            cloud.backend().delete_disk(disk, by)?;
        }
        self.instances.iter().try_for_each(|instance| cloud.backend().remove_host(instance))
    }

    fn forget(&self, world: &mut World) {
        self.disks.iter().for_each(|disk| drop(world.disks.remove(disk)));
        self.instances.iter().for_each(|instance| drop(world.instances.remove(instance)));
    }
}

/// The host of an instance's row.
fn host(cloud: &Cloud, instance: &str) -> Result<NewHost, BackendError> {
    let row = cloud.store().read(|world| world.instances.get(instance).cloned());
    let row = row.ok_or_else(|| BackendError::NotFound(format!("there is no instance {instance}")))?;
    Ok(NewHost {
        name: row.id,
        account: row.account,
        nqn: row.nqn,
        host_id: row.host_id,
        dhchap_secret: row.dhchap_secret,
    })
}

/// The operation CreateInstance: one instance, which is stopped.
pub fn create_instance(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    create(cloud, call, 1, false, |ids| json!({ "InstanceId": ids[0] }))
}

/// The operation RunInstances: instances that run.
pub fn run_instances(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let amount = call.params.number::<u32>("Amount")?.unwrap_or(1);
    if !(1..=MOST_INSTANCES).contains(&amount) {
        return Err(ApiError::invalid("Amount"));
    }
    // As many as are asked for are made, so that the least number says nothing more; but it has to make sense.
    let least = call.params.number::<u32>("MinAmount").ok().map(|least| least.unwrap_or(1));
    if !least.is_some_and(|least| (1..=amount).contains(&least)) {
        let what = "The specified parameter MinAmount is not valid.";
        return Err(ApiError::new("InvalidMinAmount.Malformed", 400, what));
    }
    create(cloud, call, amount, true, |ids| json!({ "InstanceIdSets": { "InstanceIdSet": ids } }))
}

fn create(
    cloud: &Cloud,
    call: &Call<'_>,
    amount: u32,
    running: bool,
    answer: impl FnOnce(&[String]) -> Value,
) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    let asked_zone = call.params.text("ZoneId").map(|name| zone(cloud, name)).transpose()?;
    let about = About::read(call.params)?;
    let host = HostWanted::read(call, amount)?;
    let disks = DisksWanted::read(cloud, call)?;
    cloud.perform(call, |world| {
        let (mut rows, mut made) = (Vec::new(), Vec::new());
        {
            let image = BootImage::named(world, call)?;
            let zone = match asked_zone {
                Some(zone) => zone,
                None => zone_for(cloud, &image)?,
            };
            for _ in 0..amount {
                let row = about.row(call, zone, &image.id, host.names(world)?);
                made.extend(disks.rows((cloud, world, call), zone, &image, &row.id)?);
                rows.push(row);
            }
        }
        dry_run(call)?;
        let work = CreateInstances {
            instances: rows.iter().map(|row| row.id.clone()).collect(),
            disks: made.iter().map(|disk| disk.id.clone()).collect(),
            running,
        };
        rows.into_iter().for_each(|row| world.instances.put(row.id.clone(), row));
        made.into_iter().for_each(|disk| world.disks.put(disk.id.clone(), disk));
        let answer = answer(&work.instances);
        Ok(Plan { intent: Intent::CreateInstances(work), answer })
    })
}

/// A zone for an image, if none is asked for: the first that has its content.
fn zone_for<'c>(cloud: &'c Cloud, image: &BootImage<'_>) -> Result<&'c str, ApiError> {
    let pool = image.snapshots().next().map(|snapshot| cloud.pool_of(&snapshot.zone)).transpose()?;
    let zone = cloud.config().zones.iter().find(|zone| pool.is_none_or(|pool| zone.pool == pool));
    let zone = zone.ok_or_else(|| ApiError::new("InvalidZoneId.NotFound", 404, "There is no zone for this image."))?;
    Ok(&zone.name)
}

/// What a user says of an instance.
struct About {
    name: String,
    description: String,
    instance_type: String,
    tags: Vec<Tag>,
}

impl About {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let instance_type = params.text("InstanceType").unwrap_or_default();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if instance_type.len() > LONGEST_TYPE || !instance_type.chars().all(fits) {
            let what = "The specified InstanceType does not exist or beyond the permitted range.";
            return Err(ApiError::new("InvalidInstanceType.ValueNotSupported", 403, what));
        }
        if !matches!(params.text("IoOptimized"), None | Some("none" | "optimized")) {
            let what = "IoOptimized value not supported.";
            return Err(ApiError::new("InvalidIoOptimizedValue.ValueNotSupported", 400, what));
        }
        let malformed = "The specified parameter \"InstanceName\" is not valid.";
        Ok(Self {
            name: text::name(params, "InstanceName", "InvalidInstanceName.Malformed", malformed)?,
            description: text::description(params, "Description", 400)?,
            instance_type: instance_type.to_owned(),
            tags: text::tags(params)?,
        })
    }

    fn row(&self, call: &Call<'_>, zone: &str, image: &str, host: HostNames) -> Instance {
        let HostNames { nqn, host_id, dhchap_secret } = host;
        let id = Noun::Instance.new_id();
        Instance {
            account: call.account().to_owned(),
            zone: zone.to_owned(),
            name: if self.name.is_empty() { id.clone() } else { self.name.clone() },
            description: self.description.clone(),
            instance_type: self.instance_type.clone(),
            image: image.to_owned(),
            state: InstanceState::Pending,
            nqn,
            host_id,
            dhchap_secret,
            was_started: false,
            created_at: call.now,
            started_at: None,
            tags: self.tags.clone(),
            id,
        }
    }
}
