//! Ours in fio's process, by the engine that `scripts/fio-engine` builds; and fio's own null engine, which is what fio itself can do.

use std::fs;
use std::path::PathBuf;

use crate::failure::{Context, Failure, Result};
use crate::lab::Lab;
use crate::process;
use crate::sample::Sample;
use crate::workload::Workload;

use super::bench::{Cipher, Device};
use super::fio::{parse, timed};
use super::{Contender, OURS};

/// The size of disks and files that hold nothing.
const NULL_SIZE: &str = "64G";

/// fio's `null` engine, which does nothing and says so at once.
pub struct FioNull;

impl FioNull {
    /// Its name.
    pub const NAME: &str = "fio null";
}

impl Contender for FioNull {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn prepare(&mut self, _: &Lab) -> Result<()> {
        process::require("fio", "fio")
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("fio needs a workload".into()))?;
        let mut command = timed(lab, lab.server_core, workload);
        command.arg("--ioengine=null").arg(format!("--size={NULL_SIZE}"));
        parse(&process::run("fio", &mut command)?, workload)
    }
}

/// Our engine in fio.
pub struct FioEngine {
    device: Device,
    cipher: Cipher,
}

impl FioEngine {
    /// On a disk of its own.
    pub fn new(device: Device, cipher: Cipher) -> Self {
        Self { device, cipher }
    }

    /// Where `scripts/fio-engine` puts the library: beside the folder of the programs.
    fn library(lab: &Lab) -> Result<PathBuf> {
        let folder = lab.strongroom.parent().and_then(|programs| programs.parent());
        let library = folder.unwrap_or(&lab.strongroom).join("fio-engine/release/libstrongroom_fio.so");
        if library.is_file() {
            return Ok(library);
        }
        Err(Failure::Missing { program: library.display().to_string(), remedy: "scripts/fio-engine builds it".into() })
    }

    /// Writes the configuration of the disk.
    fn config(&self, lab: &Lab) -> Result<PathBuf> {
        let path = lab.run_path("fio-engine.toml");
        let device = match self.device {
            Device::Null => format!("kind = 'null'\nsize = '{NULL_SIZE}'"),
            Device::Memory => format!("kind = 'memory'\nsize = '{}M'", lab.memory_mib),
            Device::File => format!("kind = 'file'\npath = '{}'", lab.file()?.display()),
        };
        let cipher = match self.cipher {
            Cipher::Plain => "encryption = 'none'".to_owned(),
            Cipher::Xts(sector) => {
                let key = lab.key_file()?;
                format!("sector_size = {sector}\nencryption = {{ key_file = '{}' }}", key.display())
            }
        };
        let text = format!(
            "[reactor]\nmemory_mib = 32\n[[device]]\nname = 'd'\n{device}\n[[disk]]\nname = 'disk'\ndevice = 'd'\n{cipher}\n"
        );
        fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Contender for FioEngine {
    fn name(&self) -> &'static str {
        OURS
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        process::require("fio", "fio")?;
        Self::library(lab)?;
        self.device.prepare(lab)
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("fio needs a workload".into()))?;
        let mut command = timed(lab, lab.server_core, workload);
        command.arg(format!("--ioengine=external:{}", Self::library(lab)?.display()));
        command.arg(format!("--strongroom_conf={}", self.config(lab)?.display())).arg("--filename=disk");
        parse(&process::run("fio", &mut command)?, workload)
    }
}
