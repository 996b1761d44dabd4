//! One guest: its QEMU process, its identity as an NVMe host, and commands in its shell.
//!
//! The process ends with the value. Should this process be killed, the guest sees its line closed, its `init` ends, and QEMU with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::agent::{Agent, Answer, Running};
use super::qmp::Monitor;

pub const QEMU: &str = "qemu-system-x86_64";

/// Processors take turns: side by side, QEMU 7.2 may go on with instructions that the kernel has changed since, and the kernel ends with
/// "Oops: int3" (2 of some 30 boots on a busy machine). Little room for translated code: what is left there of the kernel before a reboot makes the
/// next one slow (20 to 130 s, not 7).
const EMULATION: &str = "tcg,thread=single,tb-size=64";

/// A boot takes seconds on an idle machine; ten times as long was seen on a loaded one.
const BOOT: Duration = Duration::from_secs(300);
/// What one command may take, unless said otherwise.
const PATIENCE: Duration = Duration::from_secs(120);
const MEMORY_MIB: u32 = 1024;

/// Who a guest is to an NVMe target.
#[derive(Clone, Debug)]
pub struct Host {
    /// The name in messages, and in the target's configuration.
    pub name: &'static str,
    /// Its host identifier.
    pub id: &'static str,
}

impl Host {
    pub fn nqn(&self) -> String {
        format!("nqn.2014-08.org.nvmexpress:uuid:{}", self.id)
    }
}

/// Where a guest with disks over vhost-user has room for one more, which it gets while it runs.
pub const FREE_SLOT: &str = "free";

/// A disk that QEMU gives a guest over vhost-user.
pub struct VhostUser {
    /// Where it is.
    pub socket: PathBuf,
    /// Options of the device, such as `num-queues=2`.
    pub options: &'static str,
}

/// A running guest.
pub struct Guest {
    pub host: Host,
    folder: TempDir,
    process: Child,
    agent: Agent,
}

impl Guest {
    /// A guest with such disks is rebooted when it wants to be; any other ends then.
    pub fn power_on(image: &Path, cpus: usize, host: Host, disks: &[VhostUser]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let words = File::create(folder.path().join("qemu")).expect("a file");
        let mut process = Command::new(QEMU)
            .args(["-accel", EMULATION, "-cpu", "max", "-nodefaults", "-no-user-config"])
            .args(["-smp", &cpus.to_string(), "-display", "none"])
            .args(hardware(disks))
            .args(["-qmp", &format!("unix:{},server=on,wait=off", folder.path().join("qmp").display())])
            .args(["-serial", &format!("file:{}", folder.path().join("console").display())])
            .args(["-chardev", "stdio,id=agent,signal=off", "-device", "virtio-serial-pci"])
            .args(["-device", "virtserialport,chardev=agent,name=agent"])
            .args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="])
            .arg("-kernel")
            .arg(image.join("vmlinuz"))
            .arg("-initrd")
            .arg(image.join("initrd"))
            .args(["-append", &kernel_options()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(words)
            .spawn()
            .expect("QEMU starts");
        let agent = Agent::new(process.stdin.take().expect("a pipe"), process.stdout.take().expect("a pipe"));
        Self { host, folder, process, agent }
    }

    pub fn wait_until_ready(&self) {
        let begin = Instant::now();
        self.agent.wait_until_ready(BOOT).unwrap_or_else(|reason| self.give_up(reason, "booting"));
        eprintln!("[{}] up after another {:.1} s", self.host.name, begin.elapsed().as_secs_f64());
        let (nqn, id) = (self.host.nqn(), self.host.id);
        self.sh(&format!("echo {nqn} > /etc/nvme/hostnqn; echo {id} > /etc/nvme/hostid"));
    }

    /// Boots it again at once, as a person does by the button; it waits until it is up.
    pub fn reboot(&self) {
        // The answer never comes: the guest is gone before.
        drop(self.start(PATIENCE, "echo 1 > /proc/sys/kernel/sysrq; echo b > /proc/sysrq-trigger"));
        self.wait_until_ready();
    }

    /// Turns it off, as its button does: QEMU ends. What it has mounted is not unmounted.
    pub fn power_off(mut self) {
        // The answer never comes: the guest is gone before.
        drop(self.start(PATIENCE, "echo 1 > /proc/sys/kernel/sysrq; echo o > /proc/sysrq-trigger"));
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().expect("a child") {
                break status;
            }
            if Instant::now() > deadline {
                self.give_up("the guest does not end", "turning it off");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{}: QEMU ended with {status}", self.host.name);
    }

    /// Its machine's monitor, which serves one at a time.
    pub fn monitor(&self) -> Monitor {
        Monitor::connect(&self.folder.path().join("qmp"))
    }

    /// Runs a script that has to succeed, and gives what it printed.
    pub fn sh(&self, script: &str) -> String {
        self.sh_within(PATIENCE, script)
    }

    /// The same for one that needs longer.
    pub fn sh_within(&self, time: Duration, script: &str) -> String {
        self.finish(self.start(time, script)).success().out
    }

    /// Runs a script, whatever becomes of it.
    pub fn attempt(&self, script: &str) -> Answer {
        self.finish(self.start(PATIENCE, script))
    }

    /// Starts a script that goes on while the test does something else.
    pub fn start(&self, time: Duration, script: &str) -> Running {
        eprintln!("[{}] $ {}", self.host.name, script.trim());
        self.agent.start(time, &format!("set -o pipefail\n{script}"))
    }

    /// Waits for a script that was started.
    pub fn finish(&self, running: Running) -> Answer {
        let begin = Instant::now();
        let answer = running.finish().unwrap_or_else(|reason| self.give_up(reason, "running a command"));
        eprintln!("[{}] exit code {} after {:.1} s", self.host.name, answer.code, begin.elapsed().as_secs_f64());
        answer.say();
        answer
    }

    /// Repeats a script until it succeeds, and gives what it printed.
    pub fn wait_for(&self, what: &str, script: &str) -> String {
        let begin = Instant::now();
        let polled = format!("until out=$({script}); do sleep 0.1; done; echo \"$out\"");
        let answer = self.agent.start(PATIENCE, &polled).finish().unwrap_or_else(|reason| self.give_up(reason, what));
        eprintln!("[{}] waited {:.1} s for {what}", self.host.name, begin.elapsed().as_secs_f64());
        if answer.code != 0 {
            self.sh("grep -s . /sys/class/nvme/*/state /sys/block/*/size; dmesg | tail -n 40");
            let last = answer.err.lines().last().unwrap_or_default();
            panic!("{}: waited in vain for {what}: {last}", self.host.name);
        }
        answer.out
    }

    /// What the kernel has said so far.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn give_up(&self, reason: &str, during: &str) -> ! {
        let console = self.console();
        let last: Vec<_> = console.lines().rev().take(60).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        let words = std::fs::read_to_string(self.folder.path().join("qemu")).unwrap_or_default();
        panic!("{}: {reason} ({during})\n{words}\nthe end of its console:\n{}", self.host.name, last.join("\n"));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Answer {
    /// Itself, if the command succeeded.
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "the command failed:\n{}{}", self.out, self.err);
        self
    }

    fn say(&self) {
        self.out.lines().chain(self.err.lines()).take(60).for_each(|line| eprintln!("    {line:.200}"));
    }
}

/// The machine, and its disks over vhost-user: these need memory that the target shares. Such a machine can get more of both.
fn hardware(disks: &[VhostUser]) -> Vec<String> {
    let memory = format!("{MEMORY_MIB}M");
    if disks.is_empty() {
        return ["-machine", "q35", "-m", &memory, "-no-reboot"].map(str::to_owned).to_vec();
    }
    let slots = format!("{memory},slots=2,maxmem={}M", 2 * MEMORY_MIB);
    let shared = format!("memory-backend-memfd,id=mem,size={memory},share=on");
    let slot = format!("pcie-root-port,id={FREE_SLOT},chassis=1");
    let machine = ["-machine", "q35,memory-backend=mem", "-m", &slots, "-object", &shared, "-device", &slot];
    let mut all = machine.map(str::to_owned).to_vec();
    for (n, VhostUser { socket, options }) in disks.iter().enumerate() {
        let socket = socket.display();
        all.extend(["-chardev".to_owned(), format!("socket,id=disk{n},path={socket},reconnect=1")]);
        all.extend(["-device".to_owned(), format!("vhost-user-blk-pci,chardev=disk{n},{options}")]);
    }
    all
}

fn kernel_options() -> String {
    // The guest reads this machine's time stamp counter and would measure its rate against emulated timers: on a loaded machine that
    // went so wrong that the guest's clock ran many times too fast. It is told the rate instead.
    format!("console=ttyS0 loglevel=5 panic=-1 mitigations=off tsc=reliable tsc_early_khz={}", tsc_khz())
}

#[allow(unsafe_code)]
fn tsc_khz() -> u128 {
    // SAFETY: the instruction only reads a counter; every x86-64 CPU has it.
    let read = || unsafe { core::arch::x86_64::_rdtsc() };
    let (begin, first) = (Instant::now(), read());
    std::thread::sleep(Duration::from_millis(200));
    let (ticks, time) = (read() - first, begin.elapsed());
    u128::from(ticks) * 1_000_000 / time.as_nanos()
}
