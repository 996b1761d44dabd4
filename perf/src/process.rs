//! Programs that the harness starts: run to their end, or kept as a server for as long as its handle lives.
//!
//! Holds always: a server ends when its [`Server`] is dropped, and also when the harness dies (`setpriv --pdeathsig`); no process is ended
//! that was not started here. Cores are set with `taskset`, which keeps the process id over its `exec`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
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
/// How long a server may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(5);

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
    log: File,
}

impl Server {
    /// Starts a server on one core and waits until its socket accepts a connection.
    pub fn start(name: &str, core: usize, program: &Path, arguments: &[String], socket: &Path) -> Result<Self> {
        let log = tempfile::tempfile().context(|| format!("cannot make a log file for {name}"))?;
        let output = log.try_clone().context(|| format!("cannot share the log file of {name}"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "-c", &core.to_string()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .context(|| format!("cannot start {name}"))?;
        let mut server = Self { name: name.into(), child, log };
        server.wait_for(socket)?;
        Ok(server)
    }

    fn wait_for(&mut self, socket: &Path) -> Result<()> {
        let start = Instant::now();
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = self.child.try_wait().context(|| format!("cannot wait for {}", self.name))? {
                return Err(Failure::Program {
                    program: self.name.clone(),
                    status: status.to_string(),
                    said: self.said(),
                });
            }
            if start.elapsed() > START_LIMIT {
                return Err(Failure::Program {
                    program: self.name.clone(),
                    status: format!("does not accept on {} after {START_LIMIT:?}", socket.display()),
                    said: self.said(),
                });
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn said(&mut self) -> String {
        let mut text = Vec::new();
        let read = self.log.seek(SeekFrom::Start(0)).and_then(|_| self.log.read_to_end(&mut text));
        match read {
            Ok(_) => tail(&String::from_utf8_lossy(&text)),
            Err(e) => format!("its log cannot be read: {e}"),
        }
    }

    /// CPU time of the process since its start, in seconds.
    pub fn cpu_s(&self) -> Result<f64> {
        let path = PathBuf::from(format!("/proc/{}/stat", self.child.id()));
        let text = fs::read_to_string(&path).on_file("read", &path)?;
        cpu_seconds(&text).ok_or_else(|| Failure::Answer { program: path.display().to_string(), why: text })
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
