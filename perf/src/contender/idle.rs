//! Targets that have nothing to do: a client is connected, has read once, and stays silent. What is measured is the target's CPU time, and
//! how soon it answers when the client reads again.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::failure::{Context, Result};
use crate::lab::Lab;
use crate::nbd_client::Connection;
use crate::process::Server;
use crate::sample::{CpuTime, Latency, Sample};
use crate::workload::Workload;

use super::nbd::{EXPORT, Kind};
use super::nvme::{HOST_NQN, Place, listens};
use super::{Contender, vhost};

/// How long the server may settle after its last command.
const SETTLE: Duration = Duration::from_secs(1);
/// The shortest measurement: CPU time comes in ticks of 10 ms, which is 0.2 % of a core over five seconds.
const LEAST_S: u32 = 5;
/// Silence before each first command: fifty times what our reactors wait before they sleep.
pub const SILENCE: Duration = Duration::from_millis(10);
const BLOCK: u32 = 4096;

/// CPU time of a server while its clients are silent.
fn cpu_in_silence(lab: &Lab, server: &Server) -> Result<CpuTime> {
    sleep(SETTLE);
    let span = Duration::from_secs(lab.seconds.max(LEAST_S).into());
    let (cpu, ()) = server.cpu_while(|| {
        sleep(span);
        Ok(())
    })?;
    Ok(cpu)
}

/// An NBD server with a silent connection.
pub struct IdleServer {
    name: &'static str,
    kind: Kind,
}

impl IdleServer {
    /// Of a kind, under a name that tells which.
    pub fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind }
    }
}

impl Contender for IdleServer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        self.kind.prepare(lab)
    }

    fn measure(&mut self, lab: &Lab, _: Option<Workload>) -> Result<Sample> {
        let (server, socket) = self.kind.start(lab)?;
        let mut connection = Connection::open(&socket, EXPORT)?;
        connection.read(0, BLOCK)?;
        let cpu = cpu_in_silence(lab, &server)?;
        // The connection was there all the time, and still works.
        connection.read(0, BLOCK)?;
        Ok(Sample { cpu: Some(cpu), ..Sample::default() })
    }
}

/// An NBD server whose client is silent between any two reads.
pub struct FirstAnswer {
    name: &'static str,
    kind: Kind,
}

impl FirstAnswer {
    /// Of a kind, under a name that tells which.
    pub fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind }
    }
}

impl Contender for FirstAnswer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        self.kind.prepare(lab)
    }

    fn measure(&mut self, lab: &Lab, _: Option<Workload>) -> Result<Sample> {
        let (_server, socket) = self.kind.start(lab)?;
        let mut connection = Connection::open(&socket, EXPORT)?;
        connection.read(0, BLOCK)?;
        let begun = Instant::now();
        let mut latencies = Vec::new();
        while begun.elapsed() < Duration::from_secs(lab.seconds.into()) {
            sleep(SILENCE);
            // The client spins, so that its own way out of sleep is not measured.
            let asked = Instant::now();
            connection.read_spinning(latencies.len() as u64 * u64::from(BLOCK), BLOCK)?;
            latencies.push(asked.elapsed().as_nanos() as f64 / 1e3);
        }
        Ok(Sample { latency_us: Some(Latency::of(latencies)), ..Sample::default() })
    }
}

/// A target with everything open that it has: NBD, NVMe/TCP, vhost-user, the cloud's API and the control socket, with a silent client at each export.
pub struct IdleTarget(());

impl IdleTarget {
    /// Its name in rows.
    pub const NAME: &'static str = "strongroom, all exports";

    /// Not yet started.
    pub fn new() -> Self {
        Self(())
    }

    fn config(lab: &Lab) -> Result<String> {
        let path = |name: &str| lab.run_path(name).display().to_string();
        let key = lab.key_file()?.display().to_string();
        Ok(format!(
            "[reactor]\ncores = [{core}]\n\n\
             [[account]]\nname = \"perf\"\n\n\
             [[host]]\nname = \"client\"\naccount = \"perf\"\nnqn = \"{HOST_NQN}\"\n\n\
             [[device]]\nname = \"d0\"\nkind = \"memory\"\nsize = \"64 MiB\"\n\n\
             [[device]]\nname = \"d1\"\nkind = \"memory\"\nsize = \"64 MiB\"\n\n\
             [[device]]\nname = \"d2\"\nkind = \"memory\"\nsize = \"64 MiB\"\n\n\
             [[pool]]\nname = \"p0\"\ndevice = \"d2\"\ncreate = true\n\n\
             [[disk]]\nname = \"{EXPORT}\"\ndevice = \"d0\"\nencryption = {{ key_file = {key:?} }}\n\n\
             [[disk]]\nname = \"d\"\ndevice = \"d1\"\nsector_size = 4096\nencryption = {{ key_file = {key:?} }}\n\
             account = \"perf\"\nattached_to = [\"client\"]\n\n\
             [nbd]\nlisten = [{nbd:?}]\n\n\
             [[nbd.exports]]\nname = \"{EXPORT}\"\ndisk = \"{EXPORT}\"\n\n\
             [nvme_tcp]\nlisten = [\"127.0.0.1:0\"]\n\n\
             [vhost_user]\ndirectory = {sockets:?}\n\n\
             [kms]\naudit_log = {audit:?}\n\n\
             [kms.embedded]\npath = {store:?}\ncreate = true\nunlock = {{ passphrase = {passphrase:?} }}\n\n\
             [cloud]\nstate_dir = {state:?}\n\n\
             [[cloud.zone]]\nname = \"z\"\npool = \"p0\"\n\n\
             [cloud.api]\nlisten = [\"127.0.0.1:0\"]\n\n\
             [control]\nsocket = {control:?}\n",
            core = lab.server_core,
            nbd = format!("unix:{}", path("all.sock")),
            audit = path("all.audit"),
            store = path("all.store"),
            passphrase = format!("file:{}", lab.passphrase()?.display()),
            sockets = path("all-vhost"),
            state = path("all.state"),
            control = path("all-control.sock"),
        ))
    }
}

impl Contender for IdleTarget {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        let path = lab.run_path("all.toml");
        fs::write(&path, Self::config(lab)?).on_file("write", &path)
    }

    fn measure(&mut self, lab: &Lab, _: Option<Workload>) -> Result<Sample> {
        let mut command = crate::process::on_core(lab.server_core, &lab.strongroom);
        command.args(["serve", "--log", "warn", "--config"]).arg(lab.run_path("all.toml"));
        let (server, address) = Server::until(Self::NAME, &command, listens)?;
        let place = Place::of_ours(address);
        let mut connection = Connection::open(&lab.run_path("all.sock"), EXPORT)?;
        connection.read(0, BLOCK)?;
        let hold_s = lab.seconds.max(LEAST_S) + 2 * SETTLE.as_secs() as u32;
        let mut host = place.bench(lab);
        host.args(["--idle", "--connections", "1", "--iodepth", "32", "--runtime", &hold_s.to_string()]);
        let mut guest = vhost::front_end(lab, &lab.run_path("all-vhost").join("client/d.sock"));
        guest.args(["--rw", "randread", "--iodepth", "1", "--ramp", "0"]);
        guest.args(["--runtime", &hold_s.to_string(), "--thinktime", &hold_s.to_string()]);
        let clients = [silent("NVMe/TCP", host)?, silent("vhost-user", guest)?];
        let cpu = cpu_in_silence(lab, &server);
        let mut note = None;
        for (name, mut client) in clients {
            let ended = client.wait().context(|| format!("cannot wait for the {name} client"))?;
            if !ended.success() {
                note = Some(format!("the {name} client ended: {ended}"));
            }
        }
        connection.read(0, BLOCK)?;
        Ok(Sample { cpu: Some(cpu?), note, ..Sample::default() })
    }
}

/// Starts a client that does nothing until its time is over.
fn silent(name: &'static str, mut command: Command) -> Result<(&'static str, Child)> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Ok((name, child.context(|| format!("cannot start the {name} client"))?))
}
