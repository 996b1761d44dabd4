//! Pools in the configuration, and what disks stand on: a device of their own, or a volume in a pool.

use std::collections::HashMap;

use serde::Deserialize;

use crate::disk::{DiskConfig, Encryption};
use crate::volume::{LONGEST_NAME, is_name};

use super::{Config, ConfigError, known};

/// A pool: a device that holds volumes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// The name that disks refer to.
    pub name: String,
    /// The device that it takes whole.
    pub device: String,
    /// Format the device if it is blank.
    #[serde(default)]
    pub create: bool,
    /// Warn when less than this part of the pool is free.
    #[serde(default = "default_low_space")]
    pub low_space_percent: u8,
    /// Open it even though another machine or process seems to have it. To be set by somebody who knows that it has not.
    #[serde(default)]
    pub take_over: bool,
}

fn default_low_space() -> u8 {
    10
}

impl Config {
    /// The pool of this name.
    pub(in crate::control) fn pool(&self, name: &str) -> Result<&PoolConfig, ConfigError> {
        known("pool", name, self.pools.iter().map(|pool| &pool.name))?;
        Ok(self.pools.iter().find(|pool| pool.name == name).expect("it is known"))
    }

    /// The disk of this name.
    pub(in crate::control) fn disk(&self, name: &str) -> Result<&DiskConfig, ConfigError> {
        known("disk", name, self.disks.iter().map(|disk| &disk.name))?;
        Ok(self.disks.iter().find(|disk| disk.name == name).expect("it is known"))
    }

    /// The pool that a disk lies in.
    pub fn pool_of(&self, disk: &str) -> Result<Option<&str>, ConfigError> {
        Ok(self.disk(disk)?.pool.as_deref())
    }

    /// The disk of this name, with what it leaves to its source filled in.
    pub(in crate::control) fn complete(&self, name: &str) -> Result<DiskConfig, ConfigError> {
        let mut disk = self.disk(name)?.clone();
        disk.encryption = Some(self.encryption_of(&disk)?);
        Ok(disk)
    }

    /// Whether somebody needs the disk open. One whose key a KMS keeps is open only while a host or an export has it.
    pub(in crate::control) fn is_used(&self, name: &str) -> Result<bool, ConfigError> {
        let disk = self.disk(name)?;
        let is_kept = matches!(self.encryption_of(disk)?, Encryption::Kms);
        let is_exported = self.exports_of(name).next().is_some() || self.sockets_of(name).next().is_some();
        Ok(!is_kept || !disk.attached_to.is_empty() || is_exported)
    }

    /// How a disk is encrypted: as it says, or as the disk whose snapshot it is made from.
    pub(in crate::control) fn encryption_of(&self, disk: &DiskConfig) -> Result<Encryption, ConfigError> {
        let mut at = disk;
        // A chain of clones has at most as many links as there are disks, unless it is a ring.
        for _ in 0..=self.disks.len() {
            if let Some(encryption) = &at.encryption {
                return Ok(encryption.clone());
            }
            let Some(snapshot) = &at.from_snapshot else { break };
            let source = snapshot.split('@').next().unwrap_or_default();
            let of_source = |other: &&DiskConfig| other.pool == disk.pool && other.name == source;
            let Some(next) = self.disks.iter().find(of_source) else {
                return Err(ConfigError::Wrong(format!(
                    "encryption is missing, and disk {source}, whose snapshot it is made from, is not configured in pool {}; \
                     give it the key of that disk",
                    disk.pool.as_deref().unwrap_or_default()
                )));
            };
            at = next;
        }
        Err(ConfigError::Wrong(
            "encryption is missing; write \"kms\", { key_file = \"…\" }, or \"none\" for a disk whose content is stored as it is".to_owned(),
        ))
    }
}

/// Checks what pools and disks say about what they stand on.
pub(super) fn check_storage(config: &Config) -> Result<(), ConfigError> {
    let mut users: HashMap<&str, String> = HashMap::new();
    for pool in &config.pools {
        let of_pool = |e: ConfigError| e.of(format!("pool {}", pool.name));
        check_pool(config, pool).map_err(of_pool)?;
        take(&mut users, &pool.device, format!("pool {}", pool.name))?;
    }
    for disk in &config.disks {
        check_disk(config, disk).map_err(|e| e.of(format!("disk {}", disk.name)))?;
        if let Some(device) = &disk.device {
            take(&mut users, device, format!("disk {}", disk.name))?;
        }
    }
    Ok(())
}

fn take<'a>(users: &mut HashMap<&'a str, String>, device: &'a str, user: String) -> Result<(), ConfigError> {
    let Some(other) = users.insert(device, user) else { return Ok(()) };
    Err(ConfigError::InUse(format!(
        "device {device} is used by {other} and {}; each disk and each pool takes its device whole",
        users[device]
    )))
}

fn check_pool(config: &Config, pool: &PoolConfig) -> Result<(), ConfigError> {
    check_name(&pool.name)?;
    known("device", &pool.device, config.devices.iter().map(|device| &device.name))?;
    if pool.low_space_percent > 100 {
        return Err(ConfigError::Wrong(format!(
            "low_space_percent = {} is more than all of it; choose 0 (never warn) to 100",
            pool.low_space_percent
        )));
    }
    Ok(())
}

fn check_disk(config: &Config, disk: &DiskConfig) -> Result<(), ConfigError> {
    let wrong = |what: &str| Err(ConfigError::Wrong(what.to_owned()));
    match (&disk.device, &disk.pool) {
        (Some(device), None) => {
            known("device", device, config.devices.iter().map(|device| &device.name))?;
            if disk.size.is_some() {
                return wrong(
                    "a disk that takes a device whole has its size; leave out `size`, or name a pool instead",
                );
            }
            if disk.from_snapshot.is_some() {
                return wrong("from_snapshot needs a pool: the one that the snapshot lies in");
            }
        }
        (None, Some(pool)) => {
            config.pool(pool)?;
            check_name(&disk.name)?;
            if let Some(snapshot) = &disk.from_snapshot {
                check_snapshot_name(snapshot)?;
            }
            if disk.size.is_some() && disk.from_snapshot.is_some() {
                return wrong("it has the size of its snapshot at first; leave out `size`, and resize it later");
            }
        }
        (None, None) => return wrong("it has neither a device nor a pool; name one of them"),
        (Some(_), Some(_)) => return wrong("it has a device and a pool; name one of them"),
    }
    match config.encryption_of(disk)? {
        Encryption::Kms => check_kms_disk(config, disk),
        Encryption::None | Encryption::Xts(_) => Ok(()),
    }
}

/// Checks a disk whose key a KMS keeps.
fn check_kms_disk(config: &Config, disk: &DiskConfig) -> Result<(), ConfigError> {
    let missing = match () {
        () if config.kms.is_none() => "needs a KMS; add [kms.embedded] or another one to the configuration",
        () if disk.pool.is_none() => "needs a pool, where its wrapped key is stored beside it; name one",
        () if disk.account.is_none() => "needs an account, whose service key wraps the disk's; name one",
        () => return Ok(()),
    };
    Err(ConfigError::Wrong(format!("encryption = \"kms\" {missing}")))
}

/// Refuses what cannot be the name of a pool, volume or snapshot.
pub(in crate::control) fn check_name(name: &str) -> Result<(), ConfigError> {
    if is_name(name) {
        return Ok(());
    }
    Err(ConfigError::Wrong(format!(
        "{name:?} is no name here; pools, snapshots and disks in pools have 1 to {LONGEST_NAME} letters, digits, '-', '_' and '.'"
    )))
}

/// Refuses what cannot be `volume@snapshot`, and cuts it there.
pub(in crate::control) fn check_snapshot_name(name: &str) -> Result<(&str, &str), ConfigError> {
    let Some((volume, snapshot)) = name.split_once('@') else {
        return Err(ConfigError::Wrong(format!("{name:?} is no snapshot; write it as disk@snapshot")));
    };
    check_name(volume)?;
    check_name(snapshot)?;
    Ok((volume, snapshot))
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    /// A pool on the first of two devices, and what is written for it and its disks.
    fn site(pool: &str, disks: &[&str]) -> String {
        let mut text = String::new();
        for device in ["d0", "d1"] {
            text += &format!("[[device]]\nname='{device}'\nkind='memory'\nsize='64M'\n");
        }
        text += &format!("[[pool]]\nname='p'\ndevice='d0'\n{pool}\n");
        for (n, disk) in disks.iter().enumerate() {
            text += &format!("[[disk]]\nname='v{n}'\n{disk}\n");
        }
        text
    }

    #[test]
    fn what_pools_and_disks_cannot_stand_on_is_refused_with_the_remedy() {
        for (pool, disks, wanted) in [
            ("", &["device='d0'\nencryption='none'"][..], "device d0 is used by pool p and disk v0"),
            ("[[pool]]\nname='q'\ndevice='d0'", &[], "device d0 is used by pool p and pool q"),
            ("[[pool]]\nname='p'\ndevice='d1'", &[], "pool p is there twice"),
            ("[[pool]]\nname='q'\ndevice='d9'", &[], "pool q: there is no device d9; the devices are: d0, d1"),
            ("[[pool]]\nname='q/r'\ndevice='d1'", &[], "\"q/r\" is no name here"),
            ("low_space_percent=101", &[], "low_space_percent = 101"),
            ("", &["pool='q'\nencryption='none'"], "disk v0: there is no pool q; the pools are: p"),
            ("", &["encryption='none'"], "disk v0: it has neither a device nor a pool"),
            ("", &["device='d1'\npool='p'\nencryption='none'"], "a device and a pool"),
            ("", &["device='d1'\nsize='1G'\nencryption='none'"], "leave out `size`"),
            ("", &["device='d1'\nfrom_snapshot='v@s'\nencryption='none'"], "from_snapshot needs a pool"),
            ("", &["pool='p'\nsize='1G'"], "disk v0: encryption is missing"),
            ("", &["pool='p'\nsize='1G'\nfrom_snapshot='a@b'\nencryption='none'"], "resize it later"),
            ("", &["pool='p'\nfrom_snapshot='ab'\nencryption='none'"], "write it as disk@snapshot"),
            ("", &["pool='p'\nfrom_snapshot='a b@c'\nencryption='none'"], "\"a b\" is no name"),
            ("", &["pool='p'\nfrom_snapshot='a@b@c'\nencryption='none'"], "\"b@c\" is no name"),
            ("", &["pool='p'\nfrom_snapshot='w@s'"], "disk w, whose snapshot it is made from, is not configured"),
            ("", &["pool='p'\nfrom_snapshot='v1@s'", "pool='p'\nfrom_snapshot='v0@s'"], "encryption is missing"),
        ] {
            let error = load(&site(pool, disks)).expect_err(wanted);
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }

    #[test]
    fn a_disk_from_a_snapshot_has_the_key_of_its_source() {
        let config = load(&site(
            "create=true",
            &[
                "pool='p'\nsize='1G'\nencryption={key_file='k', tweak_unit='512'}",
                "pool='p'\nfrom_snapshot='v0@s'",
                "pool='p'\nfrom_snapshot='v1@s'",
                "pool='p'\nfrom_snapshot='v0@s'\nencryption={key_file='l'}",
            ],
        ))
        .expect("taken");
        let key = |name: &str| match config.encryption_of(config.disk(name).expect("there")).expect("known") {
            Encryption::Xts(xts) => xts.key_file.file_name().expect("a name").to_owned(),
            Encryption::None | Encryption::Kms => panic!("no key file"),
        };
        assert_eq!([key("v1"), key("v2"), key("v3")], ["k", "k", "l"]);
        let pool = config.pool("p").expect("there");
        assert!(pool.create && !pool.take_over && pool.low_space_percent == 10);
    }
}
