//! StartInstance, StopInstance and RebootInstance. Only the host of a running instance sees disks: while it is stopped, keys that nobody else needs are not
//! in memory.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::{flag_or, instance};
use crate::cloud::ecs::disk::attach::disks_of;
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::rows::{Disk, InstanceState};
use crate::cloud::service::{Call, Cloud, Plan};
use crate::cloud::store::World;

/// An instance is started: its host gets its disks, all or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartInstance {
    /// The instance.
    pub instance: String,
    /// Its disks.
    pub disks: Vec<String>,
}

/// An instance is stopped: its host loses its disks. That is never taken back: what cannot be done now is done later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StopInstance {
    /// The instance.
    pub instance: String,
    /// Its disks.
    pub disks: Vec<String>,
}

impl Work for StartInstance {
    fn touches(&self) -> Vec<String> {
        std::iter::once(&self.instance).chain(&self.disks).cloned().collect()
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        attach_all(cloud, &self.instance, by)?;
        Ok(Findings::new())
    }

    fn finish(&self, world: &mut World, now: u64, _findings: &Findings) {
        let Some(instance) = world.instances.get_mut(&self.instance) else { return };
        instance.state = InstanceState::Running;
        instance.was_started = true;
        instance.started_at = Some(now);
    }

    fn undo(&self, cloud: &Cloud, by: &Caller) -> Result<(), BackendError> {
        detach_all(cloud, &self.instance, by)
    }

    fn forget(&self, world: &mut World) {
        stopped(world, &self.instance);
    }
}

impl Work for StopInstance {
    fn touches(&self) -> Vec<String> {
        std::iter::once(&self.instance).chain(&self.disks).cloned().collect()
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        detach_all(cloud, &self.instance, by)?;
        Ok(Findings::new())
    }

    fn finish(&self, world: &mut World, _now: u64, _findings: &Findings) {
        stopped(world, &self.instance);
    }

    fn undo(&self, cloud: &Cloud, by: &Caller) -> Result<(), BackendError> {
        detach_all(cloud, &self.instance, by)
    }

    fn forget(&self, world: &mut World) {
        stopped(world, &self.instance);
    }
}

fn stopped(world: &mut World, instance: &str) {
    if let Some(instance) = world.instances.get_mut(instance) {
        instance.state = InstanceState::Stopped;
    }
}

/// Lets an instance's host see all its disks, in the order of their devices.
pub fn attach_all(cloud: &Cloud, instance: &str, by: &Caller) -> Result<(), BackendError> {
    let disks = disk_ids(cloud, instance);
    disks.iter().try_for_each(|disk| cloud.backend().attach(disk, instance, by))
}

/// Takes all its disks from an instance's host. One that cannot be taken does not keep the others.
pub fn detach_all(cloud: &Cloud, instance: &str, by: &Caller) -> Result<(), BackendError> {
    let disks = disk_ids(cloud, instance);
    let tried = disks.iter().map(|disk| cloud.backend().detach(disk, instance, by));
    tried.fold(Ok(()), Result::and)
}

fn disk_ids(cloud: &Cloud, instance: &str) -> Vec<String> {
    cloud.store().read(|world| {
        let device =
            |disk: &Disk| disk.attachments.iter().find(|at| at.instance == instance).map(|at| at.device.clone());
        let mut disks: Vec<_> = disks_of(world, instance).map(|disk| (device(disk), disk.id.clone())).collect();
        disks.sort();
        disks.into_iter().map(|(_, id)| id).collect()
    })
}

/// The operation StartInstance.
pub fn start_instance(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    cloud.perform(call, |world| {
        let (id, disks) = take(world, call, InstanceState::Stopped)?;
        world.instances.get_mut(&id).expect("it was just found").state = InstanceState::Starting;
        Ok(Plan { intent: Intent::StartInstance(StartInstance { instance: id, disks }), answer: json!({}) })
    })
}

/// The operation StopInstance.
pub fn stop_instance(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    // A host's commands are finished before its disks are taken: force would change nothing.
    flag_or(call.params, "ForceStop", false)?;
    cloud.perform(call, |world| {
        let (id, disks) = take(world, call, InstanceState::Running)?;
        world.instances.get_mut(&id).expect("it was just found").state = InstanceState::Stopping;
        Ok(Plan { intent: Intent::StopInstance(StopInstance { instance: id, disks }), answer: json!({}) })
    })
}

/// The operation RebootInstance. The host keeps its disks: it boots by itself.
pub fn reboot_instance(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    flag_or(call.params, "ForceStop", false)?;
    cloud.change(call, |world| {
        let (id, _) = take(world, call, InstanceState::Running)?;
        world.instances.get_mut(&id).expect("it was just found").started_at = Some(call.now);
        Ok(json!({}))
    })
}

/// The caller's instance and its disks, if it is in this state and nothing is being done to them.
fn take(world: &World, call: &Call<'_>, state: InstanceState) -> Result<(String, Vec<String>), ApiError> {
    let instance = instance(world, call)?;
    if instance.state != state {
        return Err(status());
    }
    refuse_if_in_use(world, &instance.id)?;
    dry_run(call)?;
    Ok((instance.id.clone(), disks_of(world, &instance.id).map(|disk| disk.id.clone()).collect()))
}

/// Refuses while something is being done to an instance or its disks. Instances that share a disk may be started and stopped at once.
pub fn refuse_if_in_use(world: &World, instance: &str) -> Result<(), ApiError> {
    for open in world.intents.rows() {
        let is_of_power = matches!(open.intent, Intent::StartInstance(_) | Intent::StopInstance(_));
        let is_in_use = |id: &String| {
            let disk = world.disks.get(id).filter(|disk| disk.is_attached_to(instance));
            id == instance || disk.is_some_and(|disk| !(disk.shared && is_of_power))
        };
        if open.intent.work().touches().iter().any(is_in_use) {
            return Err(status());
        }
    }
    Ok(())
}

/// The error for an instance in a state in which this cannot be done.
pub fn status() -> ApiError {
    let what = "The current status of the resource does not support this operation.";
    ApiError::new("IncorrectInstanceStatus", 403, what)
}

/// Refuses a request that was only to be checked, now that it is.
pub fn dry_run(call: &Call<'_>) -> Result<(), ApiError> {
    match flag_or(call.params, "DryRun", false)? {
        true => {
            let what = "Request validation has been passed with DryRun flag set.";
            Err(ApiError::new("DryRunOperation", 400, what))
        }
        false => Ok(()),
    }
}
