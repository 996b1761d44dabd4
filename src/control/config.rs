//! The configuration file: TOML, read once at start. Unknown keys are refused by name and line.
//!
//! Every default stands in the struct that it belongs to. Relative paths are taken from the folder of the file.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

use crate::crypto::xts::{Kernel, UnknownKernel};
use crate::device::{DeviceConfig, DeviceError, SharedDevice};
use crate::disk::{Disk, DiskConfig, DiskError, Encryption};
use crate::export::nbd::{NbdConfig, NbdError};
use crate::export::stream::ListenAddress;
use crate::reactor::{ReactorConfig, allowed_cpus};

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The reactors.
    #[serde(default)]
    pub reactor: ReactorConfig,
    /// The cipher.
    #[serde(default)]
    pub crypto: CryptoConfig,
    /// The devices.
    #[serde(default, rename = "device")]
    pub devices: Vec<DeviceConfig>,
    /// The disks.
    #[serde(default, rename = "disk")]
    pub disks: Vec<DiskConfig>,
    /// The NBD export.
    pub nbd: Option<NbdConfig>,
}

/// The cipher.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CryptoConfig {
    /// Which kernel to use.
    pub kernel: KernelChoice,
}

/// Which kernel of the cipher to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum KernelChoice {
    /// The best that the CPU can run.
    #[default]
    Auto,
    /// This one.
    Only(Kernel),
}

impl KernelChoice {
    /// The kernel, if the CPU can run it.
    pub fn choose(self) -> Result<Kernel, ConfigError> {
        match self {
            Self::Auto => Ok(Kernel::best()),
            Self::Only(kernel) if kernel.is_supported() => Ok(kernel),
            Self::Only(kernel) => Err(ConfigError::Kernel(kernel)),
        }
    }
}

impl FromStr for KernelChoice {
    type Err = UnknownKernel;

    fn from_str(text: &str) -> Result<Self, UnknownKernel> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Only) }
    }
}

impl TryFrom<String> for KernelChoice {
    type Error = UnknownKernel;

    fn try_from(text: String) -> Result<Self, UnknownKernel> {
        text.parse()
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// The file is not what it should be; the message names key and line.
    #[error("{path}, line {line}: {}", source.to_string().trim_end())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong, without the text there: it may be a secret in the wrong place.
        source: Box<toml::de::Error>,
    },
    /// It contradicts itself or the machine.
    #[error("{0}")]
    Wrong(String),
    /// The CPU cannot run the kernel.
    #[error("this CPU cannot run the cipher kernel {0}; choose \"auto\"")]
    Kernel(Kernel),
    /// A device cannot be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A disk cannot be opened.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The NBD export names what is not there.
    #[error(transparent)]
    Nbd(#[from] NbdError),
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let mut config: Self = toml::from_str(&text).map_err(|e| unreadable(path, &text, e))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        config.resolve_paths(folder);
        config.check()?;
        Ok(config)
    }

    fn resolve_paths(&mut self, folder: &Path) {
        for path in self.devices.iter_mut().filter_map(|device| device.path.as_mut()) {
            *path = folder.join(&path);
        }
        for disk in &mut self.disks {
            if let Encryption::Xts(xts) = &mut disk.encryption {
                xts.key_file = folder.join(&xts.key_file);
            }
        }
        for address in self.nbd.iter_mut().flat_map(|nbd| &mut nbd.listen) {
            if let ListenAddress::Unix(path) = address {
                *path = folder.join(&path);
            }
        }
    }

    /// What one struct alone cannot see: names used twice, names that lead nowhere, devices used twice.
    fn check(&self) -> Result<(), ConfigError> {
        unique("device", self.devices.iter().map(|device| device.name.as_str()))?;
        unique("disk", self.disks.iter().map(|disk| disk.name.as_str()))?;
        let mut used: HashMap<&str, &str> = HashMap::new();
        for disk in &self.disks {
            if !self.devices.iter().any(|device| device.name == disk.device) {
                return Err(ConfigError::Wrong(format!(
                    "disk {}: there is no device {}; the devices are: {}",
                    disk.name,
                    disk.device,
                    names(self.devices.iter().map(|device| device.name.as_str()))
                )));
            }
            if let Some(other) = used.insert(&disk.device, &disk.name) {
                return Err(ConfigError::Wrong(format!(
                    "device {} is used by disk {other} and disk {}; a disk takes its device whole",
                    disk.device, disk.name
                )));
            }
        }
        if let Some(nbd) = &self.nbd {
            nbd.check_exports(self.disks.iter().map(|disk| disk.name.as_str()))?;
        }
        Ok(())
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

    /// Opens the named disk and its device.
    pub fn open_disk(&self, name: &str) -> Result<Arc<Disk>, ConfigError> {
        let disk = self.disks.iter().find(|disk| disk.name == name).ok_or_else(|| {
            let known = names(self.disks.iter().map(|disk| disk.name.as_str()));
            ConfigError::Wrong(format!("there is no disk {name}; the disks are: {known}"))
        })?;
        let device = self.devices.iter().find(|device| device.name == disk.device).expect("checked when it was read");
        Ok(Disk::open(disk, Arc::new(SharedDevice::open(device)?), self.crypto.kernel.choose()?)?)
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
            return Err(ConfigError::Wrong(format!("{what} {item} is there twice")));
        }
    }
    Ok(())
}

fn names<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let list: Vec<String> = items.map(|item| item.to_string()).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
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
}
