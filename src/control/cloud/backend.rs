//! The target as the cloud sees it: the cloud's words carried over to disks, hosts, volumes and keys.
//!
//! Each call may come again after a crash, and finds its work done then. What the configuration of this life does not know, because the cloud had
//! not finished it in an earlier one, is looked for in the pools.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::keys;
use crate::cloud::backend::{
    Backend, BackendError, Caller, EncryptionContext, KeyChange, KeyState, Made, MasterKey, NewDisk, NewHost, Opened,
    Sealed,
};
use crate::cloud::category::Speed;
use crate::control::config::HostConfig;
use crate::control::rpc::{Kind, Refusal};
use crate::control::target::{
    Attachment, DiskName, HostName, NewAccount, NewDisk as AddedDisk, NewSize, NewSnapshot, Rollback, SnapshotName,
    Target,
};
use crate::device::Size;
use crate::disk::{DiskConfig, Encryption};
use crate::kms::audit::Actor;

/// The target, for the cloud.
pub(super) struct TargetBackend {
    pub(super) target: Arc<Target>,
}

type Done<T> = Result<T, BackendError>;

impl From<Refusal> for BackendError {
    fn from(refusal: Refusal) -> Self {
        let what = refusal.to_string();
        match refusal.kind() {
            Kind::Unavailable | Kind::Offline => Self::Unavailable(what),
            Kind::KeyState => Self::KeyState { id: what, state: KeyState::Disabled },
            Kind::NoSpace => Self::NoSpace(what),
            Kind::NotFound => Self::NotFound(what),
            Kind::InUse => Self::InUse(what),
            _ => Self::Failed(what),
        }
    }
}

/// Takes it as done if it was done before: `already` says so.
fn or_already<T>(done: Result<T, Refusal>, already: Kind) -> Done<()> {
    match done {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.kind() == already => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Who does it, as the audit log has it.
pub(super) fn actor(by: &Caller) -> Actor {
    match by.as_operator() {
        Some((uid, pid)) => Actor::User { uid, pid },
        None if by.is_system() => Actor::System,
        None => by.access_key.parse().map_or(Actor::System, Actor::AccessKey),
    }
}

fn disk_name(disk: &str) -> DiskName {
    DiskName { name: disk.to_owned() }
}

fn attachment(disk: &str, host: &str) -> Attachment {
    Attachment { name: disk.to_owned(), host: host.to_owned() }
}

impl TargetBackend {
    fn add_disk(&self, new: &NewDisk, by: &Caller) -> Done<()> {
        let is_there = self.target.pool_has(&new.pool, &new.id)?;
        let disk = DiskConfig {
            size: (!is_there && new.source.is_none()).then_some(Size(new.bytes)),
            from_snapshot: new.source.clone().filter(|_| !is_there),
            encryption: Some(if new.encrypted { Encryption::Kms } else { Encryption::None }),
            master_key: new.key_id.clone().filter(|_| new.source.is_none()),
            ..super::disk_config(&new.id, &new.account, &new.pool)
        };
        let disk = DiskConfig { shared: new.shared, limits: Some(super::limits(new.speed)), ..disk };
        match is_there {
            // An earlier life has made its volume.
            true => self.target.add_disk(AddedDisk { disk, device: None }, actor(by)).map(drop)?,
            false => self.target.create_in_pool(disk, actor(by)).map(drop)?,
        }
        Ok(())
    }
}

impl Backend for TargetBackend {
    fn add_account(&self, account: &str) -> Done<()> {
        or_already(self.target.add_account(&NewAccount { name: account.to_owned() }), Kind::Exists)
    }

    fn add_host(&self, host: &NewHost) -> Done<()> {
        let config = HostConfig {
            name: host.name.clone(),
            account: host.account.clone(),
            nqn: host.nqn.clone(),
            host_id: Some(host.host_id),
            dhchap_secret: host.dhchap_secret.clone(),
            dhchap_controller_secret: None,
        };
        or_already(self.target.add_host(config), Kind::Exists)
    }

    fn remove_host(&self, host: &str) -> Done<()> {
        or_already(self.target.remove_host(&HostName { name: host.to_owned() }), Kind::NotFound)
    }

    fn create_disk(&self, new: &NewDisk, by: &Caller) -> Done<Made> {
        if !self.target.has_disk(&new.id) {
            self.add_disk(new, by)?;
        }
        // What is made from a snapshot has its size at first.
        self.resize(&new.id, new.bytes, new.speed)?;
        Ok(Made { key_id: self.target.master_key_of(&new.id)?, nsid: self.target.nsid_of(&new.id)? })
    }

    fn delete_disk(&self, disk: &str, by: &Caller) -> Done<()> {
        self.check_deletable(disk)?;
        match self.target.has_disk(disk) {
            true => Ok(self.target.delete_disk(&disk_name(disk), actor(by)).map(drop)?),
            false => Ok(self.target.delete_lost_volume(disk, actor(by))?),
        }
    }

    fn attach(&self, disk: &str, host: &str, by: &Caller) -> Done<()> {
        if self.target.is_attached(disk, host) {
            return Ok(());
        }
        self.check_attachable(disk)?;
        Ok(self.target.attach(&attachment(disk, host), actor(by)).map(drop)?)
    }

    fn detach(&self, disk: &str, host: &str, by: &Caller) -> Done<()> {
        if !self.target.is_attached(disk, host) {
            return Ok(());
        }
        // Once it is too late to wait for its last commands, the host does not see the disk any more either.
        or_already(self.target.detach(&attachment(disk, host), actor(by)), Kind::TimedOut)
    }

    fn check_attachable(&self, disk: &str) -> Done<()> {
        Ok(self.target.refuse_part_of_conversion(disk)?)
    }

    fn check_deletable(&self, disk: &str) -> Done<()> {
        Ok(self.target.refuse_deletion(disk)?)
    }

    fn switched_to(&self, disk: &str) -> Done<Option<String>> {
        Ok(self.target.switched_to(disk)?)
    }

    fn resize(&self, disk: &str, bytes: u64, speed: Speed) -> Done<()> {
        if self.target.bytes_of(disk)? < bytes {
            self.target.resize(&NewSize { name: disk.to_owned(), size: Some(Size(bytes)), shrink: false })?;
        }
        Ok(self.target.limit(disk, Some(super::limits(speed)))?)
    }

    fn snapshot(&self, disk: &str, snapshot: &str, by: &Caller) -> Done<()> {
        let new = NewSnapshot { disk: disk.to_owned(), name: snapshot.to_owned() };
        or_already(self.target.create_snapshot(&new, actor(by)), Kind::Exists)
    }

    fn delete_snapshot(&self, pool: &str, name: &str, by: &Caller) -> Done<()> {
        let snapshot = SnapshotName { name: name.to_owned(), pool: Some(pool.to_owned()) };
        or_already(self.target.delete_snapshot(&snapshot, actor(by)), Kind::NotFound)
    }

    fn snapshot_bytes(&self, pool: &str, name: &str) -> Option<u64> {
        self.target.volume_bytes(pool, name)
    }

    fn rollback(&self, disk: &str, snapshot: &str, by: &Caller) -> Done<()> {
        let to = Rollback { disk: disk.to_owned(), snapshot: snapshot.to_owned() };
        Ok(self.target.rollback(&to, actor(by)).map(drop)?)
    }

    fn reinitialise(&self, disk: &str, by: &Caller) -> Done<()> {
        Ok(self.target.reinitialise(&disk_name(disk), actor(by)).map(drop)?)
    }

    fn export_snapshot(&self, pool: &str, name: &str, to: &Path) -> Done<()> {
        Ok(self.target.export_snapshot(pool, name, to)?)
    }

    fn service_key(&self, account: &str, by: &Caller) -> Done<MasterKey> {
        keys::service_key(&self.target, account, by)
    }

    fn keys(&self, account: &str) -> Done<Vec<MasterKey>> {
        keys::keys(&self.target, account)
    }

    fn create_key(&self, account: &str, by: &Caller) -> Done<MasterKey> {
        keys::create_key(&self.target, account, by)
    }

    fn change_key(&self, account: &str, id: &str, change: KeyChange, by: &Caller) -> Done<MasterKey> {
        keys::change_key(&self.target, account, id, change, by)
    }

    fn seal(&self, account: &str, id: &str, plain: &[u8], context: &EncryptionContext, by: &Caller) -> Done<Sealed> {
        keys::seal(&self.target, account, id, plain, context, by)
    }

    fn new_data_key(
        &self,
        account: &str,
        id: &str,
        bytes: usize,
        context: &EncryptionContext,
        by: &Caller,
    ) -> Done<(Sealed, Zeroizing<Vec<u8>>)> {
        keys::new_data_key(&self.target, account, id, bytes, context, by)
    }

    fn open(&self, account: &str, blob: &[u8], context: &EncryptionContext, by: &Caller) -> Done<Opened> {
        keys::open(&self.target, account, blob, context, by)
    }
}
