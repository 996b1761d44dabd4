//! DeleteInstance: an instance goes, with its system disk and the disks that were to go with it. Its other disks stay, and are available.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::{flag_or, instance};
use crate::cloud::ecs::disk::attach::disks_of;
use crate::cloud::ecs::disk::delete::{DeleteDisk, mark};
use crate::cloud::ecs::instance::power::{detach_all, dry_run, refuse_if_in_use, status};
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::rows::{Disk, DiskKind, DiskState, InstanceState, Seconds};
use crate::cloud::service::{Call, Cloud, Plan};
use crate::cloud::store::World;

/// An instance is deleted. That is never taken back, because a disk that is gone does not return: what cannot be done now is done later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeleteInstance {
    /// The instance.
    pub instance: String,
    /// Its disks that go too, with their snapshots.
    pub gone: Vec<DeleteDisk>,
    /// Its disks that stay.
    pub kept: Vec<String>,
    /// Since when.
    pub at: Seconds,
}

impl Work for DeleteInstance {
    fn touches(&self) -> Vec<String> {
        let gone = self.gone.iter().flat_map(DeleteDisk::touches);
        std::iter::once(self.instance.clone()).chain(self.kept.iter().cloned()).chain(gone).collect()
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        detach_all(cloud, &self.instance, by)?;
        for disk in &self.gone {
            disk.act(cloud, by)?;
        }
        cloud.backend().remove_host(&self.instance)?;
        Ok(Findings::new())
    }

    fn finish(&self, world: &mut World, now: u64, findings: &Findings) {
        self.gone.iter().for_each(|disk| disk.finish(world, now, findings));
        for id in &self.kept {
            let Some(disk) = world.disks.get_mut(id) else { continue };
            disk.attachments.retain(|attachment| attachment.instance != self.instance);
            disk.state = disk.resting_state();
            disk.detached_at = Some(self.at);
            disk.delete_with_instance = false;
        }
        world.instances.remove(&self.instance);
    }

    fn undo(&self, cloud: &Cloud, by: &Caller) -> Result<(), BackendError> {
        self.act(cloud, by).map(drop)
    }

    fn forget(&self, world: &mut World) {
        self.finish(world, self.at, &Findings::new());
    }
}

/// The operation.
pub fn delete_instance(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let force = flag_or(call.params, "Force", false)?;
    cloud.perform(call, |world| {
        let instance = instance(world, call)?;
        match instance.state {
            InstanceState::Stopped => {}
            InstanceState::Running if force => {}
            InstanceState::Pending => {
                let what = "The specified instance status does not support this operation.";
                return Err(ApiError::new("IncorrectInstanceStatus.Initializing", 403, what));
            }
            _ => return Err(status()),
        }
        let id = instance.id.clone();
        refuse_if_in_use(world, &id)?;
        dry_run(call)?;
        // What another instance has too does not go.
        let goes =
            |disk: &&Disk| disk.kind == DiskKind::System || disk.delete_with_instance && disk.attachments.len() == 1;
        let ids = |disks: Vec<&Disk>| disks.into_iter().map(|disk| disk.id.clone()).collect::<Vec<_>>();
        let (gone, kept): (Vec<_>, Vec<_>) = disks_of(world, &id).partition(goes);
        let (gone, kept) = (ids(gone), ids(kept));
        for disk in &kept {
            world.disks.get_mut(disk).expect("it was just found").state = DiskState::Detaching;
        }
        let gone = gone.iter().map(|disk| mark(world, disk)).collect();
        world.instances.get_mut(&id).expect("it was just found").state = InstanceState::Deleting;
        let work = DeleteInstance { instance: id, gone, kept, at: call.now };
        Ok(Plan { intent: Intent::DeleteInstance(work), answer: json!({}) })
    })
}
