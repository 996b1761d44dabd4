//! vhost-user-blk back ends under the load of `strongroom bench vhost-user:…`: the back end on one core, the front end on another, one queue in shared
//! memory. The same front end for all.
//!
//! A back end is started for each measurement, because SPDK's and QEMU's spin on their core. Its disk in memory is written once before it is
//! measured, so that reads find memory and not one page of zeros.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use strongroom::bench::vhost_user::null_device::{Manners, NullDevice};
use tempfile::TempDir;

use crate::failure::{Context, Failure, Result};
use crate::lab::Lab;
use crate::process::{self, Server};
use crate::sample::Sample;
use crate::workload::Workload;

use super::{Contender, OURS, bench, spdk};

/// Our plain disk's name in rows.
pub const PLAIN: &str = "strongroom, plain";
/// SPDK's with encryption.
pub const SPDK: &str = "SPDK vhost, encrypted";
/// The name of our export.
const EXPORT: &str = "d";
/// Where files in memory are made.
const SHARED_MEMORY: &str = "/dev/shm";

/// A back end and what it serves: disks in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours, encrypted, 4096-byte sectors.
    Ours,
    /// Ours, encrypted, 512-byte sectors.
    Ours512,
    /// Ours, plain.
    OursPlain,
    /// QEMU's storage daemon on a file in memory.
    Qemu,
    /// SPDK's with a crypto bdev over malloc, 4096-byte blocks.
    Spdk,
    /// The same with 512-byte blocks.
    Spdk512,
    /// SPDK's with malloc.
    SpdkPlain,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ours | Self::Ours512 => OURS,
            Self::OursPlain => PLAIN,
            Self::Qemu => "qemu-storage-daemon, plain",
            Self::Spdk | Self::Spdk512 => SPDK,
            Self::SpdkPlain => "SPDK vhost, plain",
        }
    }

    /// Checks what it needs and makes its files, which last as long as what is given back.
    pub fn prepare(self, lab: &Lab) -> Result<Option<TempDir>> {
        match self {
            Self::Spdk | Self::Spdk512 | Self::SpdkPlain => spdk::script(lab).map(|_| None),
            Self::Ours | Self::Ours512 | Self::OursPlain => {
                let path = lab.run_path(&format!("vhost-{self:?}.toml"));
                fs::write(&path, self.config(lab)?).on_file("write", &path)?;
                Ok(None)
            }
            Self::Qemu => {
                process::require("qemu-storage-daemon", "qemu-system-common")?;
                let dir = tempfile::Builder::new().prefix("strongroom-perf-").tempdir_in(SHARED_MEMORY);
                let dir = dir.on_file("make a directory in", Path::new(SHARED_MEMORY))?;
                let path = dir.path().join(EXPORT);
                let file = fs::File::create_new(&path).on_file("make", &path)?;
                file.set_len(lab.memory_mib << 20).on_file("lengthen", &path)?;
                Ok(Some(dir))
            }
        }
    }

    /// Starts it and waits until its socket is there.
    pub fn start(self, lab: &Lab, dir: Option<&Path>) -> Result<(Server, PathBuf)> {
        let socket = lab.run_path(&format!("vhost-{self:?}")).join(format!("{EXPORT}.sock"));
        match self {
            Self::Spdk => return self.start_spdk(lab, "serve-vhost-crypto"),
            Self::Spdk512 => return self.start_spdk(lab, "serve-vhost-crypto512"),
            Self::SpdkPlain => return self.start_spdk(lab, "serve-vhost-plain"),
            Self::Ours | Self::Ours512 | Self::OursPlain => {}
            Self::Qemu => {
                let folder = socket.parent().expect("it has one");
                fs::create_dir_all(folder).on_file("make", folder)?;
            }
        }
        process::remove_socket(&socket)?;
        let mut command = match (self, dir) {
            (Self::Qemu, Some(dir)) => {
                let mut command = process::on_core(lab.server_core, "qemu-storage-daemon");
                let file = dir.join(EXPORT);
                command
                    .arg("--blockdev")
                    .arg(format!("driver=file,node-name=f0,filename={},cache.direct=on,aio=io_uring", file.display()));
                command.arg("--export").arg(format!(
                    "type=vhost-user-blk,id=e0,node-name=f0,addr.type=unix,addr.path={},writable=on,\
                     logical-block-size=4096",
                    socket.display()
                ));
                command
            }
            _ => process::on_core(lab.server_core, &lab.strongroom),
        };
        if self != Self::Qemu {
            command.args(["serve", "--log", "warn", "--config"]);
            command.arg(lab.run_path(&format!("vhost-{self:?}.toml")));
        }
        // Looked for, not connected to: a back end takes one front end at a time.
        let (server, ()) = Server::until(self.name(), &command, |_| socket.exists().then_some(()))?;
        Ok((server, socket))
    }

    fn start_spdk(self, lab: &Lab, mode: &str) -> Result<(Server, PathBuf)> {
        let mut command = Command::new(spdk::script(lab)?);
        command.arg(mode).env("STRONGROOM_PERF_CORE", lab.server_core.to_string());
        let (server, (socket, pid)) = Server::until(self.name(), &command, serves)?;
        Ok((server.served_by(pid), socket))
    }

    fn config(self, lab: &Lab) -> Result<String> {
        let encryption = match self {
            Self::OursPlain => "\"none\"".to_owned(),
            _ => format!("{{ key_file = {:?} }}", lab.key_file()?.display().to_string()),
        };
        Ok(format!(
            "[reactor]\ncores = [{core}]\n\n\
             [vhost_user]\ndirectory = {directory:?}\n\n\
             [[vhost_user.exports]]\nname = \"{EXPORT}\"\ndisk = \"{EXPORT}\"\n\n\
             [[device]]\nname = \"d0\"\nkind = \"memory\"\nsize = \"{mib} MiB\"\n\n\
             [[disk]]\nname = \"{EXPORT}\"\ndevice = \"d0\"\nsector_size = {sector}\nencryption = {encryption}\n",
            core = lab.server_core,
            directory = lab.run_path(&format!("vhost-{self:?}")).display().to_string(),
            mib = lab.memory_mib,
            sector = if self == Self::Ours512 { 512 } else { 4096 },
        ))
    }
}

/// The line by which SPDK's script says where its socket is: `serves SOCKET PID`.
fn serves(printed: &str) -> Option<(PathBuf, u32)> {
    let line = printed.lines().find_map(|line| line.strip_prefix("serves "))?;
    let (socket, pid) = line.trim().rsplit_once(' ')?;
    Some((socket.into(), pid.parse().ok()?))
}

/// `strongroom bench` on a back end's socket.
pub fn front_end(lab: &Lab, socket: &Path) -> Command {
    let mut command = Command::new(&lab.strongroom);
    command.arg("bench").arg(format!("vhost-user:{}", socket.display())).arg("--json");
    command.args(["--cores", &lab.client_core.to_string()]);
    command
}

/// The load of a workload. The CPU time in the sample is the front end's.
fn load(lab: &Lab, socket: &Path, workload: Workload) -> Result<Sample> {
    let mut command = front_end(lab, socket);
    command.args(["--rw", workload.rw.name(), "--bs", &workload.block_size()]);
    command.args(["--iodepth", &workload.depth.to_string(), "--runtime", &lab.seconds.to_string()]);
    command.args(["--ramp", &lab.ramp_s.to_string()]);
    bench::parse(&process::run("strongroom bench", &mut command)?, lab.ramp_s)
}

/// Reads of 4 KiB, one at a time, with silence between them. Nothing of the sample is about the back end but the latency.
fn seldom(lab: &Lab, socket: &Path, silence: Duration) -> Result<Sample> {
    let mut command = front_end(lab, socket);
    command.args(["--rw", "randread", "--bs", "4k", "--iodepth", "1", "--ramp", "0"]);
    command.args(["--runtime", &lab.seconds.to_string(), "--thinktime", &silence.as_secs_f64().to_string()]);
    let sample = bench::parse(&process::run("strongroom bench", &mut command)?, 0)?;
    Ok(Sample { latency_us: sample.latency_us, ..Sample::default() })
}

/// Writes for a second, which is several times the time that the disk takes.
fn fill(lab: &Lab, socket: &Path) -> Result<()> {
    let mut command = front_end(lab, socket);
    command.args(["--rw", "write", "--bs", "128k", "--iodepth", "8", "--runtime", "1", "--ramp", "0"]);
    process::run("strongroom bench", &mut command).map(|_| ())
}

/// A back end under load, or one whose guest is silent between any two reads.
pub struct VhostDisk {
    kind: Kind,
    dir: Option<TempDir>,
    silence: Option<Duration>,
}

impl VhostDisk {
    /// Of a kind; not yet started.
    pub fn new(kind: Kind) -> Self {
        Self { kind, dir: None, silence: None }
    }

    /// The same, for a guest that is silent for so long before each read.
    pub fn with_silence(kind: Kind, silence: Duration) -> Self {
        Self { silence: Some(silence), ..Self::new(kind) }
    }
}

impl Contender for VhostDisk {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        self.dir = self.kind.prepare(lab)?;
        Ok(())
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let (server, socket) = self.kind.start(lab, self.dir.as_ref().map(TempDir::path))?;
        fill(lab, &socket)?;
        if let Some(silence) = self.silence {
            // The front end spins for an answer, so that its own way out of sleep is not measured.
            return seldom(lab, &socket, silence);
        }
        let workload = workload.ok_or_else(|| Failure::Request("a loaded disk needs a workload".into()))?;
        let (cpu, sample) = server.cpu_while(|| load(lab, &socket, workload))?;
        Ok(Sample { cpu: Some(cpu), ..sample })
    }
}

/// `strongroom bench` against a device without data: the most that it can measure.
pub struct FrontEndAlone;

impl FrontEndAlone {
    /// Its name in rows.
    pub const NAME: &str = "no target behind bench";
}

impl Contender for FrontEndAlone {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn prepare(&mut self, _: &Lab) -> Result<()> {
        Ok(())
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("bench needs a workload".into()))?;
        let socket = lab.run_path("vhost-null.sock");
        process::remove_socket(&socket)?;
        let device = NullDevice::start(&socket, lab.server_core, lab.memory_mib << 20, Manners::Good);
        let _device = device.context(|| "cannot start a device without data".into())?;
        Ok(Sample { cpu: None, ..load(lab, &socket, workload)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_says_where_its_socket_is() {
        assert_eq!(serves("starting\nserves /run/a b/v.0 42\n"), Some(("/run/a b/v.0".into(), 42)));
        assert_eq!(serves("serves /run/v.0"), None);
    }
}
