//! Programs that the harness starts: run to their end, or kept as a server for as long as its handle lives.
//!
//! Holds always: a server ends when its [`Server`] is dropped, and also when the harness dies (`setpriv --pdeathsig`); no process is ended
//! that was not started here. Cores are set with `taskset`, which keeps the process id over its `exec`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Context, Failure, Result};
use crate::sample::CpuTime;

/// Ticks a second in `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that Linux exports to (proc(5)).
const USER_HZ: f64 = 100.0;
/// How long a server may take until it accepts a connection.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a server may take to end after SIGTERM. SPDK's script has a target to stop and hugepages to give back.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Where a program is, if `PATH` has it.
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Fails with a remedy if a program is not on this machine.
pub fn require(program: &str, package: &str) -> Result<()> {
    match find(program) {
        Some(_) => Ok(()),
        None => Err(Failure::Missing { program: program.into(), remedy: format!("install the package {package}") }),
    }
}

/// A command that runs on one core.
pub fn on_core(core: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program.as_ref());
    command
}

/// Runs a program to its end and gives what it printed.
pub fn run(name: &str, command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context(|| format!("cannot start {name}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(ended(name, &output)),
    }
}

/// Runs a program to its end and gives the largest value that was read meanwhile.
pub fn most_while(name: &str, command: &mut Command, read: impl Fn() -> Result<f64>) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context(|| format!("cannot start {name}"))?;
    let mut most = f64::MIN;
    // What it prints fits into the pipes, so that it cannot wait for a reader.
    while child.try_wait().context(|| format!("cannot wait for {name}"))?.is_none() {
        match read() {
            Ok(value) => most = most.max(value),
            Err(failure) => {
                let _ = child.kill().and_then(|()| child.wait().map(|_| ()));
                return Err(failure);
            }
        }
        sleep(Duration::from_millis(100));
    }
    let output = child.wait_with_output().context(|| format!("cannot wait for {name}"))?;
    if output.status.success() { Ok(most) } else { Err(ended(name, &output)) }
}

/// The first line that a program prints about its version, if it is here.
pub fn version(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next()?.trim().to_owned())
}

fn ended(name: &str, output: &Output) -> Failure {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = if said.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { said };
    Failure::Program { program: name.into(), status: output.status.to_string(), said: tail(&said) }
}

/// The end of an error output: its last lines, in one.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join(" | ")
}

/// A server under test.
pub struct Server {
    name: String,
    child: Child,
    output: File,
    log: File,
    /// The process that serves: the child, or one that it started.
    pid: u32,
}

impl Server {
    /// Starts a server on one core and waits until its socket accepts a connection.
    pub fn start(name: &str, core: usize, program: &Path, arguments: &[String], socket: &Path) -> Result<Self> {
        let mut command = on_core(core, program);
        command.args(arguments);
        let accepts = |_: &str| UnixStream::connect(socket).is_ok().then_some(());
        Self::until(name, &command, accepts).map(|(server, ())| server)
    }

    /// Starts a server and waits until `announced` finds what it looks for in what the server has printed.
    pub fn until<T>(name: &str, command: &Command, announced: impl Fn(&str) -> Option<T>) -> Result<(Self, T)> {
        let file = || tempfile::tempfile().context(|| format!("cannot make a log file for {name}"));
        let (output, log) = (file()?, file()?);
        let share = |file: &File| file.try_clone().context(|| format!("cannot share the log file of {name}"));
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "TERM"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            guarded.env(key, value.unwrap_or_default());
        }
        guarded.stdin(Stdio::null()).stdout(share(&output)?).stderr(share(&log)?);
        let child = guarded.spawn().context(|| format!("cannot start {name}"))?;
        let mut server = Self { name: name.into(), pid: child.id(), child, output, log };
        let found = server.wait_for(announced)?;
        Ok((server, found))
    }

    /// Says which process serves, if it is not the one that was started.
    pub fn served_by(mut self, pid: u32) -> Self {
        self.pid = pid;
        self
    }

    fn wait_for<T>(&mut self, announced: impl Fn(&str) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            let printed = content(&self.output).context(|| format!("cannot read the output of {}", self.name))?;
            if let Some(found) = announced(&printed) {
                return Ok(found);
            }
            let status = self.child.try_wait().context(|| format!("cannot wait for {}", self.name))?;
            let failed = match status {
                Some(status) => status.to_string(),
                None if start.elapsed() > START_LIMIT => format!("does not serve after {START_LIMIT:?}"),
                None => {
                    sleep(Duration::from_millis(20));
                    continue;
                }
            };
            return Err(Failure::Program { program: self.name.clone(), status: failed, said: self.said() });
        }
    }

    fn said(&self) -> String {
        content(&self.log).map_or_else(|e| format!("its log cannot be read: {e}"), |text| tail(&text))
    }

    /// CPU time of the process since its start, in seconds.
    pub fn cpu_s(&self) -> Result<f64> {
        let path = PathBuf::from(format!("/proc/{}/stat", self.pid));
        let text = fs::read_to_string(&path).on_file("read", &path)?;
        cpu_seconds(&text).ok_or_else(|| Failure::Answer { program: path.display().to_string(), why: text })
    }

    /// MiB of memory that the process has: its share of normal pages, and its hugepages, which that share leaves out (proc(5)).
    pub fn memory_mib(&self) -> Result<f64> {
        let path = PathBuf::from(format!("/proc/{}/smaps_rollup", self.pid));
        let text = fs::read_to_string(&path).on_file("read", &path)?;
        memory_kib(&text)
            .map(|kib| kib as f64 / 1024.0)
            .ok_or_else(|| Failure::Answer { program: path.display().to_string(), why: text })
    }

    /// What the process spends while `during` runs, and the result of that.
    pub fn cpu_while<T>(&self, during: impl FnOnce() -> Result<T>) -> Result<(CpuTime, T)> {
        let (start, before) = (Instant::now(), self.cpu_s()?);
        let result = during()?;
        let spent_s = self.cpu_s()? - before;
        Ok((CpuTime { spent_s, elapsed_s: start.elapsed().as_secs_f64() }, result))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not yet waited for, so the id is still this child's.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT {
            match self.child.try_wait() {
                Ok(None) => sleep(Duration::from_millis(10)),
                _ => return,
            }
        }
        eprintln!("{} does not end after SIGTERM; it is killed", self.name);
        let _ = self.child.kill().and_then(|()| self.child.wait().map(|_| ()));
    }
}

/// All that was written to a file so far. The place at which the child writes on stays where it is.
fn content(file: &File) -> io::Result<String> {
    let mut text = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut text, 0)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// CPU seconds of this process so far, or 0 if the kernel does not tell.
pub fn own_cpu_s() -> f64 {
    fs::read_to_string("/proc/self/stat").ok().and_then(|text| cpu_seconds(&text)).unwrap_or(0.0)
}

/// `Pss`, `Shared_Hugetlb` and `Private_Hugetlb` of `/proc/PID/smaps_rollup`.
fn memory_kib(rollup: &str) -> Option<u64> {
    let kib = |name: &str| -> Option<u64> {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(kib("Pss")? + kib("Shared_Hugetlb")? + kib("Private_Hugetlb")?)
}

/// `utime` + `stime`, fields 14 and 15 of `/proc/PID/stat` (proc(5)). The command's name, field 2, may hold blanks and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / USER_HZ)
}

/// Removes a socket that an ended server may have left, so that the next one can bind it.
pub fn remove_socket(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).on_file("remove", path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_with_parentheses() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 1 0 5 1000 10 18446744073709551615";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds("42 (cut"), None);
    }

    #[test]
    fn memory_counts_hugepages() {
        let rollup = "55-7f ---p 00000000 00:00 0 [rollup]\nRss: 9 kB\nPss:                 100 kB\nPss_Anon: 7 kB\n\
                      Shared_Hugetlb: 2048 kB\nPrivate_Hugetlb:    4096 kB\n";
        assert_eq!(memory_kib(rollup), Some(6244));
        assert_eq!(memory_kib("Rss: 9 kB"), None);
    }

    #[test]
    fn a_server_is_ready_when_it_says_so() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo starting; echo port $PORT; exec sleep 60"]).env("PORT", "7");
        let port = |text: &str| text.lines().find_map(|line| line.strip_prefix("port ")?.parse::<u16>().ok());
        let (server, port) = Server::until("sh", &command, port).unwrap();
        assert_eq!(port, 7);
        assert!(server.memory_mib().unwrap() > 0.0);
    }

    #[test]
    fn the_tail_of_an_error_output_is_one_line() {
        assert_eq!(tail("a\n\nb\nc\nd\ne\n"), "b | c | d | e");
        assert_eq!(tail(""), "");
    }

    #[test]
    fn a_program_that_fails_says_what_it_said() {
        let failure = run("sh", Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err();
        assert!(failure.to_string().contains("broken"), "{failure}");
    }

    #[test]
    fn a_server_that_ends_at_once_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = ["-c".to_owned(), "echo no such device >&2; exit 1".to_owned()];
        let failure = Server::start("sh", 0, Path::new("sh"), &arguments, &dir.path().join("socket")).err().unwrap();
        assert!(failure.to_string().contains("no such device"), "{failure}");
    }
}
