//! A helper process as the target sees it: started, talked to within a time, and never waited for longer than that.
//!
//! A thread stands beside each helper. It starts the helper, since the kernel ends the helper together with the *thread* that has started it
//! (`PR_SET_PDEATHSIG`, prctl(2)), and waits for its end, so that none is left as a zombie.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::memory::Secret;

use super::Pkcs11Config;
use super::frame::{Frame, WireError};
use super::message::{Answer, Failure, Request};

/// How long a helper that was let go of may take to log out.
const GOODBYE: Duration = Duration::from_millis(500);

/// What the helper gets of the target's environment: nothing that could hold a secret.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// glibc overwrites what is freed, in the vendor's library too (mallopt(3), `M_PERTURB`); its cache for each thread would go round that.
const WIPING_MALLOC: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0");

/// Why a helper did not do what it was asked for.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It said so itself.
    Failed { failure: Failure, what: String },
    /// There is none.
    NotStarted(io::Error),
    /// It has ended without an answer.
    Ended(Ending),
    /// It did not answer in time.
    TimedOut,
    /// It answers what is no answer to that.
    Nonsense(&'static str),
    /// The conversation broke in another way.
    Wire(WireError),
}

/// How a helper has ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// In order, before it saw the request.
    Idle,
    /// By a signal, or with an error.
    Crashed(ExitStatus),
    /// It has closed its socket, and lives on.
    Unknown,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("the helper process ended without an answer"),
            Self::Crashed(status) => match status.signal() {
                Some(signal) => {
                    write!(f, "the vendor's library crashed in its helper process ({})", signal_name(signal))
                }
                None => write!(f, "the helper process ended by itself ({status})"),
            },
            Self::Unknown => f.write_str("the helper process has hung up"),
        }
    }
}

fn signal_name(signal: i32) -> String {
    let known = [
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    let name = known.iter().find(|(number, _)| *number == signal);
    name.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

/// A running helper. Dropped, it is told to end, and made to if it does not.
pub(super) struct Helper {
    stream: Option<UnixStream>,
    life: Arc<Life>,
}

/// What the target and the thread beside a helper share.
struct Life {
    pid: u32,
    child: Mutex<Child>,
    ended: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

impl Helper {
    /// Starts the program as a helper.
    pub(super) fn start(config: &Pkcs11Config) -> Result<Self, Trouble> {
        let (stream, theirs) = UnixStream::pair().map_err(Trouble::NotStarted)?;
        let command = command(config, theirs);
        let (tell, told) = mpsc::sync_channel(1);
        let beside = thread::Builder::new().name("pkcs11-helper".to_owned());
        beside.spawn(move || stand_beside(command, &tell)).map_err(Trouble::NotStarted)?;
        let started = told.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
        Ok(Self { stream: Some(stream), life: started.map_err(Trouble::NotStarted)? })
    }

    pub(super) fn pid(&self) -> u32 {
        self.life.pid
    }

    /// Whether it has ended in the meantime.
    pub(super) fn has_ended(&self) -> bool {
        lock(&self.life.ended).is_some()
    }

    /// Sends a request.
    pub(super) fn ask(&self, request: &Request<'_>, until: Instant) -> Result<(), Trouble> {
        let frame = request.encode().map_err(Trouble::Wire)?;
        frame.send(self.stream(), Some(until)).map_err(|error| self.explain(error))
    }

    /// Waits for an answer; one that tells of a failure comes back as an error.
    pub(super) fn hear(&self, until: Instant) -> Result<Secret<Frame>, Trouble> {
        let frame = Frame::receive(self.stream(), Some(until)).map_err(|error| self.explain(error))?;
        match Answer::decode(&frame) {
            Ok(Answer::Failed { failure, what }) => Err(Trouble::Failed { failure, what: what.to_owned() }),
            Ok(_) => Ok(frame),
            Err(error) => Err(Trouble::Wire(error.into())),
        }
    }

    /// Asks for something that is answered by [`Answer::Done`].
    pub(super) fn have_done(&self, request: &Request<'_>, until: Instant) -> Result<(), Trouble> {
        self.ask(request, until)?;
        match Answer::decode(&*self.hear(until)?) {
            Ok(Answer::Done) => Ok(()),
            _ => Err(Trouble::Nonsense("another answer than that it is done")),
        }
    }

    /// Ends it at once: it hangs, perhaps in the middle of a call.
    pub(super) fn kill(&self) {
        // After its end has been seen this does nothing: std keeps the process's number from being used again.
        let _ = lock(&self.life.child).kill();
    }

    fn stream(&self) -> &UnixStream {
        self.stream.as_ref().expect("it is there until drop")
    }

    fn explain(&self, error: WireError) -> Trouble {
        match error {
            WireError::TimedOut => Trouble::TimedOut,
            WireError::Gone => Trouble::Ended(match self.life.wait(GOODBYE) {
                Some(status) if status.success() => Ending::Idle,
                Some(status) => Ending::Crashed(status),
                None => Ending::Unknown,
            }),
            other => Trouble::Wire(other),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stream = None;
        if self.life.wait(GOODBYE).is_none() {
            self.kill();
        }
    }
}

impl Life {
    /// How it ended, if it does within this time.
    fn wait(&self, patience: Duration) -> Option<ExitStatus> {
        let waited = self.changed.wait_timeout_while(lock(&self.ended), patience, |ended| ended.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Nothing that these locks protect is ever half changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn command(config: &Pkcs11Config, socket: UnixStream) -> Command {
    let mut command = Command::new(&config.program);
    command.arg0("strongroom").args(["kms-helper", "pkcs11"]).env_clear();
    command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env(WIPING_MALLOC.0, WIPING_MALLOC.1).envs(&config.environment);
    // Signals for the target's process group, such as that of Ctrl-C, are the target's to act on.
    command.process_group(0).current_dir(Path::new("/"));
    command.stdin(Stdio::from(OwnedFd::from(socket))).stdout(Stdio::null());
    command
}

fn stand_beside(mut command: Command, tell: &mpsc::SyncSender<io::Result<Arc<Life>>>) {
    let started = command.spawn().map(|child| {
        let (pid, child, ended) = (child.id(), Mutex::new(child), Mutex::new(None));
        Arc::new(Life { pid, child, ended, changed: Condvar::new() })
    });
    // It holds the helper's end of the socket, which would hide the helper's end.
    drop(command);
    let life = started.as_ref().ok().cloned();
    if tell.send(started).is_err() {
        return;
    }
    let Some(life) = life else { return };
    wait_for_end(life.pid);
    let status = lock(&life.child).wait();
    *lock(&life.ended) = Some(status.unwrap_or_default());
    life.changed.notify_all();
}

/// Returns when the process has ended, and leaves it to be reaped, so that its number stays its own until nobody can signal it any more.
fn wait_for_end(pid: u32) {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: the call writes one siginfo_t, for which there is room, and touches nothing else of this process.
        let waited = unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
        if waited == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_no_helper_is_noticed() {
        let started = |program: &str| {
            let mut config = Pkcs11Config::example();
            config.program = program.into();
            Helper::start(&config)
        };
        assert!(matches!(started("/nonexistent"), Err(Trouble::NotStarted(_))));
        let until = Instant::now() + Duration::from_secs(20);
        for (program, words) in [("/bin/true", "without an answer"), ("/bin/false", "exit status: 1")] {
            let helper = started(program).expect("started");
            let outcome = helper.have_done(&Request::Health, until);
            let Err(Trouble::Ended(ending)) = outcome else { panic!("{program}: {outcome:?}") };
            assert!(ending.to_string().contains(words), "{ending}");
        }
    }
}
