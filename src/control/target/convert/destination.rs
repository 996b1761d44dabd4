//! The destination of a conversion: made, claimed, and put into service when it is whole.
//!
//! From the moment in which its volume says what it is filled from it is offline, whoever looks: no host and no export has it before it is released.

use std::sync::Arc;

use uuid::Uuid;

use crate::control::config::{Config, ConfigError};
use crate::control::conversion::{self, Filling, Note, note_of, set_note};
use crate::control::rpc::{Kind, Refusal};
use crate::device::Size;
use crate::disk::{DiskAttributes, DiskConfig, Encryption};
use crate::kms::audit::Actor;
use crate::volume::{Pool, Shrink, Volume};

use super::super::disk::refuse_if_seen;
use super::super::{DiskName, Removed, Target, disks};
use super::{Conversion, ConversionEncryption};

impl Target {
    /// Makes sure that the destination is there, is this conversion's, and is nobody else's.
    pub(super) fn prepare_destination(&self, wanted: &Conversion, actor: Actor) -> Result<(), Refusal> {
        let name = &wanted.destination;
        let is_new = !self.state().config.disks.iter().any(|disk| disk.name == *name);
        let made = if is_new { Some(self.destination_config(wanted)?) } else { None };
        let edit = |config: &mut Config| {
            made.into_iter().for_each(|disk| config.add_disk(disk));
            refuse_if_seen(config, name)?;
            let is_kept = matches!(config.encryption_of(config.disk(name)?)?, Encryption::Kms);
            if is_kept == (wanted.encryption == ConversionEncryption::Kms) && config.pool_of(name)?.is_some() {
                return Ok(());
            }
            let what =
                format!("disk {name} is there, and lies in no pool or is encrypted in another way; name another");
            Err(Refusal::new(Kind::Exists, what))
        };
        let aside = self.change(edit, |config| {
            if is_new {
                self.storage.make_disk(config, name, actor)?;
            }
            let pool = self.storage.pool(config.pool_of(name)?.expect("it was looked at"))?.pool;
            let volume = pool.volume(name)?;
            let is_new_claim = self.claim(wanted, &pool, &volume)?;
            // What the cloud has begun before it was claimed; from here on it does nothing with it.
            if let Err(refusal) = self.refuse_by_cloud(wanted) {
                if is_new_claim {
                    set_note(&pool, &volume, None)?;
                }
                return Err(refusal);
            }
            self.remove_sockets(name);
            if let Some(server) = if is_new { None } else { self.server_of(name) } {
                server.remove_disk(name)?;
            }
            let why = conversion::why_not(&volume).expect("it was just claimed");
            Ok(self.state().disks.set_offline(name, why))
        })?;
        aside.map(disks::close);
        Ok(())
    }

    fn destination_config(&self, wanted: &Conversion) -> Result<DiskConfig, Refusal> {
        let (_, volume) = self.volume_of_disk(&wanted.source)?;
        let state = self.state();
        let source = state.config.disk(&wanted.source)?;
        Ok(DiskConfig {
            name: wanted.destination.clone(),
            device: None,
            pool: wanted.pool.clone().or_else(|| source.pool.clone()),
            size: Some(Size(volume.info().size_bytes)),
            from_snapshot: None,
            sector_size: Some(attributes_of(&volume)?.sector_size()),
            encryption: Some(match wanted.encryption {
                ConversionEncryption::Kms => Encryption::Kms,
                ConversionEncryption::None => Encryption::None,
            }),
            account: source.account.clone(),
            shared: source.shared,
            attached_to: Vec::new(),
            nsid: None,
            uuid: None,
            master_key: None,
            limits: source.limits,
            of_cloud: source.of_cloud,
        })
    }

    /// Makes the volume say what it is filled from, unless it says so, which it tells; refuses any other that has something.
    fn claim(&self, wanted: &Conversion, pool: &Arc<Pool>, volume: &Arc<Volume>) -> Result<bool, Refusal> {
        let name = &wanted.destination;
        let refused = |what: String| Err(Refusal::new(Kind::Refused, format!("disk {name}: {what}")));
        let (source_pool, source) = self.volume_of_disk(&wanted.source)?;
        match note_of(volume) {
            Some(Note::Destination(filling)) if filling.pool == source_pool.uuid() && filling.source == source.id() => {
                return Ok(false);
            }
            Some(Note::Destination(filling)) => return refused(format!("it is filled from disk {}", filling.name)),
            Some(Note::Switched { to }) => return refused(format!("its hosts were switched to disk {to}")),
            None => {}
        }
        let prefix = format!("{name}@");
        let has_snapshots = pool.volumes().iter().any(|other| other.name.starts_with(&prefix));
        if has_snapshots || !pool.diff(None, name)?.is_empty() {
            return refused("it is there and not empty; name another, or delete it".to_owned());
        }
        if attributes_of(volume)?.sector_size() != attributes_of(&source)?.sector_size() {
            return refused("its sectors have another size than the source's".to_owned());
        }
        let filling = Filling {
            pool: source_pool.uuid(),
            source: source.id(),
            name: wanted.source.clone(),
            tag: Uuid::new_v4().as_fields().0,
            base: 0,
            round: 1,
            begun: false,
            position: 0,
        };
        let size = source.info().size_bytes;
        if volume.info().size_bytes < size {
            pool.resize(name, size, Shrink::Forbidden)?;
        }
        set_note(pool, volume, Some(&Note::Destination(filling)))?;
        Ok(true)
    }

    /// The disk may be used from now on: it is opened, if somebody uses it.
    pub(super) fn put_into_service(&self, name: &str, actor: Actor) -> Result<(), Refusal> {
        let _one_at_a_time = self.changing();
        let config = self.state().config.clone();
        if config.disk(name).is_err() {
            return Ok(());
        }
        if config.is_used(name)? {
            return self.open(&config, name, actor);
        }
        self.state().disks.set_detached(name);
        Ok(())
    }

    pub(super) fn delete_destination(&self, pool: &Arc<Pool>, name: &str, actor: Actor) -> Result<Removed, Refusal> {
        let is_configured = self.state().config.disk(name).is_ok();
        if is_configured {
            self.delete_disk(&DiskName { name: name.to_owned() }, actor)?;
        } else {
            self.delete_volume(pool, name, None, actor)?;
        }
        Ok(Removed { removed: name.to_owned() })
    }
}

fn attributes_of(volume: &Volume) -> Result<DiskAttributes, ConfigError> {
    DiskAttributes::decode(&volume.attributes())
        .map_err(|e| ConfigError::Wrong(format!("volume {}: {e}", volume.name())))
}
