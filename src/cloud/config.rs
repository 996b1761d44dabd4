//! The cloud in the configuration: where its API listens, where its state lies, and what it may hand out.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::http::CloudHttpConfig;

/// The section `[cloud]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudConfig {
    /// The folder of the store.
    pub state_dir: PathBuf,
    /// The zones; at least one.
    #[serde(rename = "zone")]
    pub zones: Vec<ZoneConfig>,
    /// What accounts may have.
    #[serde(default)]
    pub limits: CloudLimits,
    /// Where the API listens; without it only the operator's commands reach the cloud.
    #[serde(default)]
    pub api: Option<CloudHttpConfig>,
    /// The folder that images are exported to: each bucket is a folder in it. Without it no image can be exported.
    #[serde(default)]
    pub export_dir: Option<PathBuf>,
}

/// A zone: disks and instances in it reach each other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// Its name.
    pub name: String,
    /// The pool that its disks lie in.
    pub pool: String,
}

/// What accounts may have. The defaults are those of the cloud in 2018.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CloudLimits {
    /// Instances that may have a shared disk at once.
    pub shared_attachments: usize,
    /// Data disks of an instance.
    pub disks_per_instance: usize,
    /// Snapshots of a disk.
    pub snapshots_per_disk: usize,
    /// Shared disks of an account.
    pub shared_disks: usize,
    /// Policies of automatic snapshots of an account.
    pub policies: usize,
    /// Master keys of an account.
    pub keys: usize,
    /// Aliases of an account.
    pub aliases: usize,
}

impl Default for CloudLimits {
    fn default() -> Self {
        Self {
            shared_attachments: 8,
            disks_per_instance: 16,
            snapshots_per_disk: 64,
            shared_disks: 10,
            policies: 100,
            keys: 200,
            aliases: 300,
        }
    }
}

impl CloudConfig {
    /// Takes relative paths from a folder, which is that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        self.state_dir = folder.join(&self.state_dir);
        self.api.iter_mut().for_each(|api| api.resolve(folder));
        self.export_dir = self.export_dir.take().map(|path| folder.join(path));
    }

    /// What is wrong with it, if something is. `pools` are those of the configuration.
    pub fn check<'a>(&self, pools: impl Iterator<Item = &'a str> + Clone) -> Result<(), String> {
        if self.zones.is_empty() {
            return Err("cloud: it has no zone; add [[cloud.zone]] with a name and a pool".to_owned());
        }
        self.api.iter().try_for_each(|api| api.check().map_err(|e| e.to_string()))?;
        for (index, zone) in self.zones.iter().enumerate() {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if zone.name.is_empty() || zone.name.len() > 64 || !zone.name.chars().all(fits) {
                return Err(format!("cloud: zone {:?} is no name; use 1 to 64 letters, digits and '-'", zone.name));
            }
            if !pools.clone().any(|pool| pool == zone.pool) {
                return Err(format!("cloud: zone {}: there is no pool {}", zone.name, zone.pool));
            }
            if self.zones[..index].iter().any(|other| other.name == zone.name) {
                return Err(format!("cloud: zone {} is there twice", zone.name));
            }
        }
        Ok(())
    }
}
