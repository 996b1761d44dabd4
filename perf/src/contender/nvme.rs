//! NVMe/TCP targets under the load of `strongroom bench nvme-tcp://…`: the target on one core, the client on another, one connection over
//! loopback. The same client for ours and for SPDK's.
//!
//! A target is started for each measurement, because SPDK's spins on its core for as long as it lives. Its disk in memory is written once before
//! it is measured, so that reads find memory and not one page of zeros.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::lab::Lab;
use crate::process::{self, Server};
use crate::sample::Sample;
use crate::workload::Workload;

use super::{Contender, OURS, bench, spdk};

/// The host that our target lets in, and the subsystem that it sees.
pub const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:5c5f8f2e-0d0c-4b7a-9a43-2f6f0a1b7c11";
const SUBSYSTEM_NQN: &str = "nqn.2026-11.io.strongroom:perf";
/// Our plain disk's name in rows.
pub const PLAIN: &str = "strongroom, plain";
/// What a strongroom target prints before the address at which it listens.
const LISTENS: &str = "nvme_tcp listens on ";

/// An NVMe/TCP target and what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours with an encrypted disk in memory.
    Ours,
    /// Ours with a plain disk in memory.
    OursPlain,
    /// Ours with an encrypted disk on a null device: what it takes without its data.
    OursNull,
    /// SPDK's with a crypto bdev over malloc.
    Spdk,
    /// SPDK's with malloc.
    SpdkPlain,
}

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address and port.
    pub address: SocketAddr,
    /// The subsystem.
    pub subsystem: String,
    /// The host that is let in; nothing if anyone is.
    pub host: Option<&'static str>,
}

impl Place {
    /// One of ours with an account `perf` that lets [`HOST_NQN`] in.
    pub fn of_ours(address: SocketAddr) -> Self {
        Self { address, subsystem: SUBSYSTEM_NQN.into(), host: Some(HOST_NQN) }
    }

    /// `strongroom bench` against it, on the client's core.
    pub fn bench(&self, lab: &Lab) -> Command {
        let mut command = Command::new(&lab.strongroom);
        command.arg("bench").arg(format!("nvme-tcp://{}/{}", self.address, self.subsystem)).arg("--json");
        command.args(["--cores", &lab.client_core.to_string()]);
        if let Some(host) = self.host {
            command.args(["--host-nqn", host]);
        }
        command
    }

    /// The load of a workload, by `strongroom bench`. The CPU time in the sample is the client's.
    pub fn load(&self, lab: &Lab, workload: Workload) -> Result<Sample> {
        let mut command = self.bench(lab);
        command.args(["--rw", workload.rw.name(), "--bs", &workload.block_size()]);
        command.args(["--iodepth", &workload.depth.to_string(), "--runtime", &lab.seconds.to_string()]);
        command.args(["--ramp", &lab.ramp_s.to_string()]);
        bench::parse(&process::run("strongroom bench", &mut command)?, lab.ramp_s)
    }

    /// Writes for a second, which is several times the time that the disk takes.
    fn fill(&self, lab: &Lab) -> Result<()> {
        let mut command = self.bench(lab);
        command.args(["--rw", "write", "--bs", "128k", "--iodepth", "8", "--runtime", "1", "--ramp", "0"]);
        process::run("strongroom bench", &mut command).map(|_| ())
    }
}

impl Kind {
    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours | Self::OursNull => OURS,
            Self::OursPlain => PLAIN,
            Self::Spdk => "SPDK nvmf, encrypted",
            Self::SpdkPlain => "SPDK nvmf, plain",
        }
    }

    /// Checks what it needs and makes its files.
    pub fn prepare(self, lab: &Lab) -> Result<()> {
        if matches!(self, Self::Spdk | Self::SpdkPlain) {
            return spdk::script(lab).map(|_| ());
        }
        let path = lab.run_path(&format!("nvme-{self:?}.toml"));
        fs::write(&path, self.config(lab)?).on_file("write", &path)
    }

    /// Starts it and waits until it listens.
    pub fn start(self, lab: &Lab) -> Result<(Server, Place)> {
        match self {
            Self::Spdk => self.start_spdk(lab, "serve-crypto"),
            Self::SpdkPlain => self.start_spdk(lab, "serve-plain"),
            Self::Ours | Self::OursPlain | Self::OursNull => {
                let mut command = process::on_core(lab.server_core, &lab.strongroom);
                command.args(["serve", "--log", "warn", "--config"]);
                command.arg(lab.run_path(&format!("nvme-{self:?}.toml")));
                let (server, address) = Server::until(self.name(), &command, listens)?;
                Ok((server, Place::of_ours(address)))
            }
        }
    }

    fn start_spdk(self, lab: &Lab, mode: &str) -> Result<(Server, Place)> {
        let mut command = Command::new(spdk::script(lab)?);
        command.arg(mode).env("STRONGROOM_PERF_CORE", lab.server_core.to_string());
        let (server, (place, pid)) = Server::until(self.name(), &command, serves)?;
        Ok((server.served_by(pid), place))
    }

    fn config(self, lab: &Lab) -> Result<String> {
        let device = match self {
            Self::OursNull => format!("kind = \"null\"\nsize = \"{} MiB\"", lab.memory_mib),
            _ => format!("kind = \"memory\"\nsize = \"{} MiB\"", lab.memory_mib),
        };
        let encryption = match self {
            Self::OursPlain => "\"none\"".to_owned(),
            _ => format!("{{ key_file = {:?} }}", lab.key_file()?.display().to_string()),
        };
        Ok(format!(
            "[reactor]\ncores = [{core}]\n\n\
             [nvme_tcp]\nlisten = [\"127.0.0.1:0\"]\n\n\
             [[account]]\nname = \"perf\"\n\n\
             [[host]]\nname = \"client\"\naccount = \"perf\"\nnqn = \"{HOST_NQN}\"\n\n\
             [[device]]\nname = \"d0\"\n{device}\n\n\
             [[disk]]\nname = \"d\"\ndevice = \"d0\"\nsector_size = 4096\nencryption = {encryption}\n\
             account = \"perf\"\nattached_to = [\"client\"]\n",
            core = lab.server_core
        ))
    }
}

/// Where one of ours says that it listens.
pub fn listens(printed: &str) -> Option<SocketAddr> {
    let line = printed.lines().find_map(|line| line.split_once(LISTENS))?;
    line.1.split_whitespace().next()?.parse().ok()
}

/// The line by which SPDK's script says where its target is: `serves ADDRESS:PORT NQN PID`.
fn serves(printed: &str) -> Option<(Place, u32)> {
    let line = printed.lines().find_map(|line| line.strip_prefix("serves "))?;
    let mut words = line.split_whitespace();
    let (address, subsystem) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    Some((Place { address, subsystem, host: None }, words.next()?.parse().ok()?))
}

/// Who loads a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Ours,
    Spdk,
}

/// A target under load.
pub struct NvmeTarget {
    name: &'static str,
    kind: Kind,
    client: Client,
}

impl NvmeTarget {
    /// Of a kind, loaded by `strongroom bench`.
    pub fn new(kind: Kind) -> Self {
        Self { name: kind.name(), kind, client: Client::Ours }
    }

    /// Of a kind, loaded by SPDK's client.
    pub fn under_spdk(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, client: Client::Spdk }
    }
}

impl Contender for NvmeTarget {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        if self.client == Client::Spdk {
            spdk::script(lab)?;
        }
        self.kind.prepare(lab)
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("a loaded target needs a workload".into()))?;
        let (server, place) = self.kind.start(lab)?;
        place.fill(lab)?;
        let (cpu, sample) = server.cpu_while(|| match self.client {
            Client::Ours => place.load(lab, workload),
            Client::Spdk => spdk::nvmf_load(lab, &place, workload),
        })?;
        Ok(Sample { cpu: Some(cpu), ..sample })
    }
}

/// A target with connections that do nothing: what is measured is its memory.
pub struct IdleQueues {
    kind: Kind,
}

/// I/O queues of the memory measurement.
pub const IDLE_QUEUES: u32 = 1000;
/// Their depth.
pub const IDLE_DEPTH: u32 = 128;

impl IdleQueues {
    /// On a target of a kind.
    pub fn new(kind: Kind) -> Self {
        Self { kind }
    }
}

impl Contender for IdleQueues {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        self.kind.prepare(lab)
    }

    fn measure(&mut self, lab: &Lab, _: Option<Workload>) -> Result<Sample> {
        let (server, place) = self.kind.start(lab)?;
        let before = server.memory_mib()?;
        let mut command = place.bench(lab);
        command.args(["--idle", "--connections", &IDLE_QUEUES.to_string(), "--iodepth", &IDLE_DEPTH.to_string()]);
        command.args(["--runtime", HOLD_S]);
        // The client holds its connections for a while after the last is open; the target's memory is the most of that time.
        let memory = process::most_while("strongroom bench", &mut command, || server.memory_mib())?;
        let note = format!("{before:.0} MiB before");
        Ok(Sample { memory_mib: Some(memory), note: Some(note), ..Sample::default() })
    }
}

/// Seconds for which connections are held.
const HOLD_S: &str = "3";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_says_where_its_target_is() {
        let printed = "starting\nserves 127.0.0.1:4420 nqn.2016-06.io.spdk:cnode1 42\n";
        let place = Place {
            address: "127.0.0.1:4420".parse().unwrap(),
            subsystem: "nqn.2016-06.io.spdk:cnode1".into(),
            host: None,
        };
        assert_eq!(serves(printed), Some((place, 42)));
        assert_eq!(serves("serves 127.0.0.1:4420 nqn.x"), None);
    }
}
