//! The configuration file: TOML, read once at start. Unknown keys are refused by name and line.
//!
//! Every default stands in the struct that it belongs to. Relative paths are taken from the folder of the file. What is added at run time is
//! put into the same structs and held to the same checks, so that a target never does what its configuration could not say.

mod account;
mod attachment;
mod cloud;
mod crypto;
mod error;
mod kms;
mod pool;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cloud::CloudConfig;
use crate::device::DeviceConfig;
use crate::disk::{DiskConfig, Encryption};
use crate::export::nbd::NbdConfig;
use crate::export::nvme_tcp::NvmeTcpConfig;
use crate::export::stream::ListenAddress;
use crate::export::vhost_user::{VhostUserConfig, VhostUserExportConfig};
use crate::reactor::{ReactorConfig, allowed_cpus};

pub use account::{AccountConfig, HostConfig};
pub use crypto::{CryptoConfig, KernelChoice};
pub use error::ConfigError;
pub use kms::KmsConfig;
pub use pool::PoolConfig;
pub(super) use pool::{check_name, check_snapshot_name};

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The region that the process serves.
    pub region: String,
    /// The reactors.
    pub reactor: ReactorConfig,
    /// The cipher.
    pub crypto: CryptoConfig,
    /// The KMS that keeps the keys of disks.
    pub kms: Option<KmsConfig>,
    /// The accounts.
    #[serde(rename = "account")]
    pub accounts: Vec<AccountConfig>,
    /// The hosts.
    #[serde(rename = "host")]
    pub hosts: Vec<HostConfig>,
    /// The devices.
    #[serde(rename = "device")]
    pub devices: Vec<DeviceConfig>,
    /// The pools.
    #[serde(rename = "pool")]
    pub pools: Vec<PoolConfig>,
    /// The disks.
    #[serde(rename = "disk")]
    pub disks: Vec<DiskConfig>,
    /// The NBD export.
    pub nbd: Option<NbdConfig>,
    /// The NVMe/TCP export.
    pub nvme_tcp: Option<NvmeTcpConfig>,
    /// The vhost-user export.
    pub vhost_user: Option<VhostUserConfig>,
    /// The cloud's API, and what it hands out.
    pub cloud: Option<CloudConfig>,
    /// The control socket; without it nothing can be asked or changed at run time.
    pub control: Option<ControlConfig>,
    /// The folder that relative paths are taken from.
    #[serde(skip)]
    folder: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            region: "local".to_owned(),
            reactor: ReactorConfig::default(),
            crypto: CryptoConfig::default(),
            kms: None,
            accounts: Vec::new(),
            hosts: Vec::new(),
            devices: Vec::new(),
            pools: Vec::new(),
            disks: Vec::new(),
            nbd: None,
            nvme_tcp: None,
            vhost_user: None,
            cloud: None,
            control: None,
            folder: PathBuf::new(),
        }
    }
}

/// The control socket.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlConfig {
    /// Where operators connect.
    pub socket: PathBuf,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self { socket: "control.sock".into() }
    }
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let mut config: Self = toml::from_str(&text).map_err(|e| unreadable(path, &text, e))?;
        config.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        config.resolve_paths();
        config.check()?;
        Ok(config)
    }

    fn resolve_paths(&mut self) {
        let folder = &self.folder;
        self.devices.iter_mut().for_each(|device| resolve_device(device, folder));
        self.disks.iter_mut().for_each(|disk| resolve_disk(disk, folder));
        self.hosts.iter_mut().for_each(|host| resolve_host(host, folder));
        self.kms.iter_mut().for_each(|kms| kms.resolve(folder));
        self.cloud.iter_mut().for_each(|cloud| cloud.resolve(folder));
        for address in self.nbd.iter_mut().flat_map(|nbd| &mut nbd.listen) {
            if let ListenAddress::Unix(path) = address {
                *path = folder.join(&path);
            }
        }
        if let Some(path) = self.nvme_tcp.as_mut().and_then(|nvme_tcp| nvme_tcp.state_dir.as_mut()) {
            *path = folder.join(&path);
        }
        // One that is missing stays so, and is found missing.
        for vhost_user in self.vhost_user.iter_mut().filter(|it| !it.directory.as_os_str().is_empty()) {
            vhost_user.directory = folder.join(&vhost_user.directory);
        }
        if let Some(control) = &mut self.control {
            control.socket = folder.join(&control.socket);
        }
    }

    /// Adds a disk. [`Config::check`] has to follow, as after each of these changes. What it takes from its source it keeps, also when that goes.
    pub(super) fn add_disk(&mut self, mut disk: DiskConfig) {
        resolve_disk(&mut disk, &self.folder);
        disk.encryption = self.encryption_of(&disk).ok().or(disk.encryption);
        self.disks.push(disk);
    }

    /// Adds a device.
    pub(super) fn add_device(&mut self, mut device: DeviceConfig) {
        resolve_device(&mut device, &self.folder);
        self.devices.push(device);
    }

    /// Adds a host.
    pub(super) fn add_host(&mut self, mut host: HostConfig) {
        resolve_host(&mut host, &self.folder);
        self.hosts.push(host);
    }

    /// The disk of this name.
    pub(super) fn disk_mut(&mut self, name: &str) -> Result<&mut DiskConfig, ConfigError> {
        known("disk", name, self.disks.iter().map(|disk| &disk.name))?;
        Ok(self.disks.iter_mut().find(|disk| disk.name == name).expect("it is known"))
    }

    /// The names under which NBD exports a disk.
    pub(super) fn exports_of(&self, disk: &str) -> impl Iterator<Item = &str> {
        let exports = self.nbd.iter().flat_map(|nbd| &nbd.exports).filter(move |export| export.disk == disk);
        exports.map(|export| export.name.as_str())
    }

    /// The sockets at which vhost-user serves a disk for operators.
    pub(super) fn sockets_of(&self, disk: &str) -> impl Iterator<Item = &VhostUserExportConfig> {
        self.vhost_user.iter().flat_map(|it| &it.exports).filter(move |export| export.disk == disk)
    }

    /// Where the sockets of a disk are, while it is open.
    pub(super) fn socket_paths(&self, disk: &DiskConfig) -> Vec<PathBuf> {
        let Some(vhost_user) = &self.vhost_user else { return Vec::new() };
        let of_exports = self.sockets_of(&disk.name).map(|export| vhost_user.socket_of(&export.name));
        let of_hosts = disk.attached_to.iter().map(|host| vhost_user.socket_for(host, &disk.name));
        of_exports.chain(of_hosts).collect()
    }

    /// What one struct alone cannot see: names used twice, names that lead nowhere, devices used twice, disks seen by whom they must not be.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_region(&self.region)?;
        unique("account", self.accounts.iter().map(|account| account.name.as_str()))?;
        unique("host", self.hosts.iter().map(|host| host.name.as_str()))?;
        unique("device", self.devices.iter().map(|device| device.name.as_str()))?;
        unique("pool", self.pools.iter().map(|pool| pool.name.as_str()))?;
        unique("disk", self.disks.iter().map(|disk| disk.name.as_str()))?;
        self.kms.iter().try_for_each(KmsConfig::check)?;
        cloud::check_cloud(self)?;
        pool::check_storage(self)?;
        if let Some(nbd) = &self.nbd {
            nbd.check_exports(self.disks.iter().map(|disk| disk.name.as_str()))?;
        }
        if let Some(nvme_tcp) = &self.nvme_tcp {
            nvme_tcp.check()?;
        }
        if let Some(vhost_user) = &self.vhost_user {
            vhost_user.check(self.disks.iter().map(|disk| disk.name.as_str()))?;
        }
        account::check_hosts(&self.accounts, &self.hosts)?;
        attachment::check_attachments(self)
    }

    /// The cores that get a reactor: those of the configuration, or all allowed ones but the first, which stays free for everything else.
    pub fn cores(&self) -> Result<Vec<usize>, ConfigError> {
        let allowed = allowed_cpus();
        let Some(cores) = &self.reactor.cores else {
            return Ok(if allowed.len() > 1 { allowed[1..].to_vec() } else { allowed.to_vec() });
        };
        unique("core", cores.iter())?;
        if cores.is_empty() {
            return Err(ConfigError::Wrong("reactor: cores = [] leaves no reactor; name at least one core".to_owned()));
        }
        if let Some(core) = cores.iter().find(|core| !allowed.contains(core)) {
            let allowed = names(allowed.iter());
            return Err(ConfigError::Wrong(format!(
                "reactor: core {core} is not allowed here; choose among {allowed}"
            )));
        }
        Ok(cores.clone())
    }
}

/// A region's name is a part of the names of keys in a KMS, where a dot ends it.
fn check_region(region: &str) -> Result<(), ConfigError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=32).contains(&region.len()) && region.chars().all(fits) {
        return Ok(());
    }
    Err(ConfigError::Wrong(format!("region = {region:?} is no name; use 1 to 32 letters, digits, '-' and '_'")))
}

fn resolve_device(device: &mut DeviceConfig, folder: &Path) {
    if let Some(path) = &mut device.path {
        *path = folder.join(&path);
    }
}

fn resolve_disk(disk: &mut DiskConfig, folder: &Path) {
    if let Some(Encryption::Xts(xts)) = &mut disk.encryption {
        xts.key_file = folder.join(&xts.key_file);
    }
}

fn resolve_host(host: &mut HostConfig, folder: &Path) {
    for secret in [&mut host.dhchap_secret, &mut host.dhchap_controller_secret].into_iter().flatten() {
        secret.resolve(folder);
    }
}

fn unreadable(path: &Path, text: &str, mut error: toml::de::Error) -> ConfigError {
    let before = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count();
    error.set_input(None);
    ConfigError::Parse { path: path.to_owned(), line, source: Box::new(error) }
}

fn unique<T: fmt::Display + PartialEq>(what: &str, items: impl Iterator<Item = T> + Clone) -> Result<(), ConfigError> {
    for (index, item) in items.clone().enumerate() {
        if items.clone().skip(index + 1).any(|other| other == item) {
            return Err(ConfigError::Twice(format!("{what} {item} is there twice")));
        }
    }
    Ok(())
}

/// Refuses a name that leads nowhere, and says which ones there are.
pub(super) fn known<'a>(
    what: &str,
    name: &str,
    all: impl Iterator<Item = &'a String> + Clone,
) -> Result<(), ConfigError> {
    if all.clone().any(|one| one == name) {
        return Ok(());
    }
    Err(ConfigError::Missing(format!("there is no {what} {name}; the {what}s are: {}", names(all))))
}

fn names<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let list: Vec<String> = items.map(|item| item.to_string()).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).expect("written");
        Config::load(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_and_line() {
        for (text, key, line) in [
            ("[reactor]\nmemory_mb = 1", "memory_mb", "line 2"),
            ("[[device]]\nname = 'd'\nkind = 'null'\nsise = 4096", "sise", "line 4"),
            ("[[disk]]\nname = 'd'\ndevice = 'd'\nencryption = { key_file = 'k', tweek = 1 }", "tweek", "line 4"),
            (
                "[[device]]\nname = 'd'\nkind = 'null'\n[[device.layers]]\nkind = 'delay'\nreed_us = 1",
                "reed_us",
                "line",
            ),
            ("[nvme]\n", "nvme", "line 1"),
            ("[[pool]]\nname = 'p'\ndevice = 'd'\nspace = 1", "space", "line 4"),
            ("[control]\nport = 1", "port", "line 2"),
            ("[[host]]\nname = 'h'\naccount = 'a'\nnqn = 'n'\nhostid = 'x'", "hostid", "line 5"),
        ] {
            let error = load(text).expect_err("refused");
            assert!(error.contains(key) && error.contains(line), "{error}");
        }
    }

    #[test]
    fn the_text_of_a_wrong_line_is_not_repeated() {
        for text in ["[nbd]\nsecrett = 's3cret'", "[nbd]\nsecret = 's3cret", "[nbd]\nlisten = [] 's3cret'"] {
            let error = load(text).expect_err("refused");
            assert!(error.contains("line 2") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn names_have_to_lead_somewhere() {
        let device = "[[device]]\nname = 'd0'\nkind = 'null'\nsize = 4096\n";
        let disk =
            |name: &str, device: &str| format!("[[disk]]\nname='{name}'\ndevice='{device}'\nencryption='none'\n");
        for (text, wanted) in [
            (format!("{device}{}", disk("a", "d1")), "no device d1; the devices are: d0"),
            (format!("{device}{}{}", disk("a", "d0"), disk("b", "d0")), "used by disk a and disk b"),
            (format!("{device}{device}"), "device d0 is there twice"),
            (
                format!(
                    "{device}{}[nbd]\nlisten=['tcp:127.0.0.1:0']\n[[nbd.exports]]\nname='x'\ndisk='c'",
                    disk("a", "d0")
                ),
                "no disk c",
            ),
        ] {
            let error = load(&text).expect_err("refused");
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn cores_that_are_not_there_are_refused() {
        let mut config = Config::default();
        config.reactor.cores = Some(vec![100_000]);
        assert!(config.cores().expect_err("refused").to_string().contains("core 100000"));
        config.reactor.cores = Some(vec![0, 0]);
        assert!(config.cores().is_err());
    }

    #[test]
    fn paths_are_taken_from_the_folder_of_the_file() {
        let text = "[control]\n[nvme_tcp]\nlisten = ['127.0.0.1:0']\nstate_dir = 'state'\n\
                    [[account]]\nname = 'a'\n[[host]]\nname = 'h'\naccount = 'a'\nnqn = 'nqn.x'\ndhchap_secret = 'file:s'";
        let config = load(text).expect("taken");
        let folder = config.folder.clone();
        assert_eq!(config.control.expect("there").socket, folder.join("control.sock"));
        assert_eq!(config.nvme_tcp.expect("there").state_dir, Some(folder.join("state")));
        let secret = config.hosts[0].dhchap_secret.as_ref().expect("there").to_string();
        assert_eq!(secret, format!("file:{}", folder.join("s").display()));
    }
}
