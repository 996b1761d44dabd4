//! What the cloud asks of the target, beside what operators ask: looks that need no answer for people, and what an earlier life has left behind.

use std::sync::atomic::Ordering;

use crate::control::config::{Config, ConfigError};
use crate::control::keys::wrapped_key;
use crate::control::rpc::{Kind, Refusal};
use crate::disk::{DiskConfig, Limits};
use crate::kms::audit::{Actor, Operation};
use crate::volume::PoolError;

use super::{Target, namespace};

impl Target {
    /// Whether the configuration has a disk.
    pub(in crate::control) fn has_disk(&self, name: &str) -> bool {
        self.state().config.disk(name).is_ok()
    }

    /// Whether a disk is attached to a host. One that is not there is not.
    pub(in crate::control) fn is_attached(&self, disk: &str, host: &str) -> bool {
        let state = self.state();
        state.config.disk(disk).is_ok_and(|disk| disk.attached_to.iter().any(|other| other == host))
    }

    /// Whether a pool has a volume or snapshot of this name.
    pub(in crate::control) fn pool_has(&self, pool: &str, name: &str) -> Result<bool, Refusal> {
        Ok(self.storage.pool(pool)?.pool.volume(name).is_ok())
    }

    /// Bytes of the pool that a volume or snapshot refers to.
    pub(in crate::control) fn volume_bytes(&self, pool: &str, name: &str) -> Option<u64> {
        let pool = self.storage.pool(pool).ok()?.pool;
        pool.volumes().into_iter().find(|volume| volume.name == name).map(|volume| volume.allocated_bytes)
    }

    /// The size of a disk in a pool, open or not.
    pub(in crate::control) fn bytes_of(&self, disk: &str) -> Result<u64, Refusal> {
        let pool = super::volume::pool_name_of(&self.state().config, disk)?;
        Ok(self.storage.pool(&pool)?.pool.volume(disk)?.size().load(Ordering::Acquire))
    }

    /// The master key that wraps a disk's key, if a KMS keeps it.
    pub(in crate::control) fn master_key_of(&self, disk: &str) -> Result<Option<String>, Refusal> {
        let pool = super::volume::pool_name_of(&self.state().config, disk)?;
        let volume = self.storage.pool(&pool)?.pool.volume(disk)?;
        Ok(wrapped_key(&volume)?.map(|wrapped| wrapped.cmk.0))
    }

    /// The namespace identifier that a disk of the cloud has for life.
    pub(in crate::control) fn nsid_of(&self, disk: &str) -> Result<u32, Refusal> {
        let state = self.state();
        let nsid = state.config.disk(disk)?.nsid;
        nsid.ok_or_else(|| Refusal::new(Kind::Failed, format!("disk {disk} has no namespace identifier")))
    }

    /// Gives a disk of the cloud that is being added the lowest namespace identifier of its account that no disk has, attached or not.
    pub(super) fn choose_nsid(&self, config: &Config, disk: &mut DiskConfig) -> Result<(), Refusal> {
        let Some(account) = disk.account.as_ref().filter(|_| disk.of_cloud && disk.nsid.is_none()) else {
            return Ok(());
        };
        let nsid = namespace::free_nsid(self.nvme_tcp(), config, account);
        disk.nsid = Some(nsid.ok_or_else(|| {
            let what = format!("account {account} has as many disks as there are namespace identifiers; delete some");
            Refusal::new(Kind::NoSpace, what)
        })?);
        Ok(())
    }

    /// Sets how fast a disk may be.
    pub(in crate::control) fn limit(&self, name: &str, limits: Option<Limits>) -> Result<(), Refusal> {
        let edit = |config: &mut Config| {
            config.disk_mut(name)?.limits = limits;
            Ok(())
        };
        self.change(edit, |_| {
            if let Ok(disk) = self.state().disks.open(name) {
                disk.set_limits(limits);
            }
            Ok(())
        })
    }

    /// Deletes the volume of a disk that the configuration does not have: an earlier life has made it, or has not finished deleting it.
    pub(in crate::control) fn delete_lost_volume(&self, name: &str, actor: Actor) -> Result<(), Refusal> {
        let _one_at_a_time = self.changing();
        for (pool, state) in self.storage.all() {
            let open = state.map_err(ConfigError::Offline)?;
            match self.delete_volume(&open.pool, name, Some(Operation::DeleteDisk), actor) {
                Err(PoolError::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
                Ok(()) => tracing::info!("pool {pool}: volume {name}, which no disk had, is deleted"),
            }
        }
        Ok(())
    }
}
