//! NBD servers under the load of fio's NBD engine: the server on one core, fio on another, one connection over a Unix socket.
//!
//! A server with its disk in memory lives as long as its row and is filled once, so that reads find memory and not holes. A server on a
//! file is started for each measurement: contenders then take turns on the same file, and none of them sees a lock of the other.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure, Result};
use crate::lab::Lab;
use crate::process::{self, Server};
use crate::sample::Sample;
use crate::workload::Workload;

use super::{Contender, OURS, fio};

/// The name of the export, in every server that has names.
pub const EXPORT: &str = "vol0";

/// An NBD server and what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours with an encrypted disk in memory.
    OursMemory,
    /// Ours with an encrypted disk on the data file: 4096-byte sectors.
    OursFile,
    /// The same with 512-byte sectors, which is what LUKS1 uses.
    OursFile512,
    /// Ours with a plain disk on the data file.
    OursFilePlain,
    /// nbdkit's memory plugin.
    NbdkitMemory,
    /// nbdkit's file plugin under its LUKS filter; goes through the page cache.
    NbdkitLuks,
    /// qemu-nbd on the data file: direct I/O, io_uring.
    QemuRaw,
    /// qemu-nbd on a LUKS image: direct I/O, io_uring.
    QemuLuks,
}

impl Kind {
    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::OursMemory | Self::OursFile | Self::OursFilePlain => OURS,
            Self::OursFile512 => "strongroom, 512-byte sectors",
            Self::NbdkitMemory => "nbdkit memory",
            Self::NbdkitLuks => "nbdkit file + luks (page cache)",
            Self::QemuRaw => "qemu-nbd raw",
            Self::QemuLuks => "qemu-nbd LUKS",
        }
    }

    /// Whether its content is in memory, and so has to live as long as the row.
    pub fn in_memory(self) -> bool {
        matches!(self, Self::OursMemory | Self::NbdkitMemory)
    }

    fn mib(self, lab: &Lab) -> u64 {
        if self.in_memory() { lab.memory_mib } else { lab.file_mib }
    }

    /// Checks what it needs and makes its files.
    pub fn prepare(self, lab: &Lab) -> Result<()> {
        process::require("fio", "fio")?;
        match self {
            Self::OursMemory | Self::OursFile | Self::OursFile512 | Self::OursFilePlain => {
                if !self.in_memory() {
                    lab.file()?;
                }
                let path = lab.run_path(&format!("{self:?}.toml"));
                fs::write(&path, self.config(lab)?).on_file("write", &path)
            }
            Self::NbdkitMemory => process::require("nbdkit", "nbdkit"),
            Self::NbdkitLuks => {
                process::require("nbdkit", "nbdkit")?;
                lab.luks().map(|_| ())
            }
            Self::QemuRaw => {
                process::require("qemu-nbd", "qemu-utils")?;
                lab.file().map(|_| ())
            }
            Self::QemuLuks => {
                process::require("qemu-nbd", "qemu-utils")?;
                lab.luks().map(|_| ())
            }
        }
    }

    fn socket(self, lab: &Lab) -> PathBuf {
        lab.run_path(&format!("{self:?}.sock"))
    }

    /// Starts it and waits until it accepts.
    pub fn start(self, lab: &Lab) -> Result<(Server, PathBuf)> {
        let socket = self.socket(lab);
        process::remove_socket(&socket)?;
        let (program, arguments) = self.command_line(lab, &socket)?;
        Ok((Server::start(self.name(), lab.server_core, &program, &arguments, &socket)?, socket))
    }

    fn command_line(self, lab: &Lab, socket: &Path) -> Result<(PathBuf, Vec<String>)> {
        let socket = socket.display().to_string();
        let words = |list: &[&str]| -> Vec<String> { list.iter().map(|&w| w.to_owned()).collect() };
        Ok(match self {
            Self::OursMemory | Self::OursFile | Self::OursFile512 | Self::OursFilePlain => {
                let config = lab.run_path(&format!("{self:?}.toml")).display().to_string();
                (lab.strongroom.clone(), words(&["serve", "--log", "warn", "--config", &config]))
            }
            Self::NbdkitMemory => {
                let size = format!("{}M", lab.memory_mib);
                ("nbdkit".into(), words(&["--foreground", "--unix", &socket, "memory", &size]))
            }
            Self::NbdkitLuks => {
                let (image, secret) = lab.luks()?;
                let (image, secret) = (image.display().to_string(), format!("passphrase=+{}", secret.display()));
                ("nbdkit".into(), words(&["--foreground", "--unix", &socket, "--filter=luks", "file", &image, &secret]))
            }
            Self::QemuRaw => {
                let file = lab.file()?.display().to_string();
                let mut line = words(&["--persistent", "--shared=0", "--socket", &socket, "--export-name", EXPORT]);
                line.extend(words(&["--format=raw", "--cache=none", "--aio=io_uring", &file]));
                ("qemu-nbd".into(), line)
            }
            Self::QemuLuks => {
                let (image, secret) = lab.luks()?;
                let mut line = words(&["--persistent", "--shared=0", "--socket", &socket, "--export-name", EXPORT]);
                line.extend(["--object".into(), format!("secret,id=s0,file={}", secret.display())]);
                line.extend(["--cache=none".into(), "--aio=io_uring".into(), "--image-opts".into()]);
                line.push(format!("driver=luks,key-secret=s0,file.driver=file,file.filename={}", image.display()));
                ("qemu-nbd".into(), line)
            }
        })
    }

    /// The configuration of our side.
    fn config(self, lab: &Lab) -> Result<String> {
        let device = match self {
            Self::OursMemory => format!("kind = \"memory\"\nsize = \"{} MiB\"", lab.memory_mib),
            _ => format!("kind = \"file\"\npath = {:?}", lab.file()?.display().to_string()),
        };
        let encryption = match self {
            Self::OursFilePlain => "\"none\"".to_owned(),
            _ => format!("{{ key_file = {:?} }}", lab.key_file()?.display().to_string()),
        };
        let sector = if self == Self::OursFile512 { 512 } else { 4096 };
        let socket = format!("unix:{}", self.socket(lab).display());
        Ok(format!(
            "[reactor]\ncores = [{core}]\nmemory_mib = 128\n\n\
             [[device]]\nname = \"d0\"\n{device}\n\n\
             [[disk]]\nname = \"{EXPORT}\"\ndevice = \"d0\"\nsector_size = {sector}\nencryption = {encryption}\n\n\
             [nbd]\nlisten = [{socket:?}]\n\n\
             [[nbd.exports]]\nname = \"{EXPORT}\"\ndisk = \"{EXPORT}\"\n",
            core = lab.server_core
        ))
    }
}

/// A server under load.
pub struct NbdServer {
    kind: Kind,
    kept: Option<(Server, PathBuf)>,
}

impl NbdServer {
    /// Of a kind; not yet started.
    pub fn new(kind: Kind) -> Self {
        Self { kind, kept: None }
    }

    fn load(&self, lab: &Lab, server: &Server, socket: &Path, workload: Workload) -> Result<Sample> {
        let load = || fio::nbd_load(lab, socket, EXPORT, self.kind.mib(lab), workload);
        let (cpu, sample) = server.cpu_while(load)?;
        Ok(Sample { cpu: Some(cpu), ..sample })
    }
}

impl Contender for NbdServer {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        self.kind.prepare(lab)?;
        if self.kind.in_memory() {
            let (server, socket) = self.kind.start(lab)?;
            fio::nbd_fill(lab, &socket, EXPORT, lab.memory_mib)?;
            self.kept = Some((server, socket));
        }
        Ok(())
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("a loaded server needs a workload".into()))?;
        match &self.kept {
            Some((server, socket)) => self.load(lab, server, socket, workload),
            None => {
                let (server, socket) = self.kind.start(lab)?;
                self.load(lab, &server, &socket, workload)
            }
        }
    }
}
