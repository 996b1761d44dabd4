//! The life of the target: start everything, say what was got, serve until a signal, drain, end.
//!
//! SIGTERM and the first SIGINT drain: no new connections, what is in flight is finished, answered and flushed, exit code 0. A second SIGINT
//! ends the process at once with code 130; what was not flushed is then as it is after a crash.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use thiserror::Error;
use tracing::{info, warn};

use crate::device::DeviceError;
use crate::disk::Ground;
use crate::export::nbd::NbdError;
use crate::export::nvme_tcp::Subsystem;
use crate::export::stream::ListenError;
use crate::export::vhost_user::VhostUserServer;
use crate::memory::{SecretMemory, swap_areas};
use crate::reactor::{ReactorError, ReactorThread, Remote, StartReport};

use super::cloud::{CloudError, Ledger, RunningCloud};
use super::config::{Config, ConfigError};
use super::hardening::forbid_dumps;
use super::log::LogFilter;
use super::rpc::ControlSocket;
use super::storage::{Storage, try_unused_devices};
use super::target::{Converter, Disks, KeyWatch, Target, describe_pages};

/// How long a drain may take before connections that hang are given up.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// What a shell expects of a command that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Why the target did not start, or did not end well.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A reactor.
    #[error(transparent)]
    Reactor(#[from] ReactorError),
    /// The NBD export.
    #[error(transparent)]
    Nbd(#[from] NbdError),
    /// Core dumps cannot be forbidden.
    #[error("core dumps cannot be switched off, and keys could be dumped: {0}")]
    Dumps(std::io::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// There is nothing to serve.
    #[error(
        "the configuration has no export; add [nvme_tcp], [vhost_user], or [nbd] with at least one [[nbd.exports]]"
    )]
    NothingToServe,
    /// The control socket cannot be had.
    #[error("control: {0}")]
    Control(ListenError),
    /// The cloud's API cannot be served.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// A thread cannot be had.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// Connections hung while draining.
    #[error(
        "some connections did not end within {0:?} and were cut; their clients have no answer to what was in flight"
    )]
    NotDrained(Duration),
    /// A pool was left as after a crash.
    #[error("{}; what was flushed is safe, and the next start recovers the rest", .0.join("; "))]
    NotClosed(Vec<String>),
}

/// Serves a configuration until a signal ends the process. What is logged can be changed meanwhile through `log`.
pub fn serve(config: &Config, log: LogFilter) -> Result<(), ServeError> {
    let has_nbd = config.nbd.as_ref().is_some_and(|nbd| !nbd.exports.is_empty());
    if config.nvme_tcp.is_none() && config.vhost_user.is_none() && !has_nbd {
        return Err(ServeError::NothingToServe);
    }
    let mut config = config.clone();
    let cloud = Ledger::open(&mut config)?;
    let signals = listen_for_signals()?;
    forbid_dumps().map_err(ServeError::Dumps)?;
    warn_of_swap();

    try_unused_devices(&config)?;
    let cores = config.cores()?;
    let reactors: Vec<ReactorThread> =
        cores.iter().map(|&core| ReactorThread::start(core, &config.reactor)).collect::<Result<_, _>>()?;
    let storage = Arc::new(Storage::new(&config, reactors[0].remote())?);
    storage.open_pools(&config);
    if let Some(cloud) = &cloud {
        cloud.follow_switches(&mut config, &storage);
    }
    let served = serve_until_stopped(&config, cloud, &storage, &reactors, log, &signals);
    if matches!(served, Err(ServeError::NotDrained(_))) {
        return served;
    }
    // Whatever ended it, pools are left in order.
    let wrong = storage.close(DRAIN_LIMIT);
    served?;
    for reactor in reactors {
        reactor.remote().stop();
        reactor.join();
    }
    if !wrong.is_empty() {
        return Err(ServeError::NotClosed(wrong));
    }
    say("strongroom: drained and stopped\n");
    Ok(())
}

/// Keys are never swapped out; what clients read and write may be.
fn warn_of_swap() {
    match swap_areas() {
        Ok(areas) if areas.is_empty() => {}
        Ok(areas) => warn!("this machine swaps to {}: plain text of disks may be written there", areas.join(", ")),
        Err(e) => warn!("it cannot be told whether this machine swaps: {e}"),
    }
}

/// Opens disks and exports on what is open already, and closes them again when a signal comes.
fn serve_until_stopped(
    config: &Config,
    cloud: Option<Ledger>,
    storage: &Arc<Storage>,
    reactors: &[ReactorThread],
    log: LogFilter,
    signals: &mpsc::Receiver<()>,
) -> Result<(), ServeError> {
    let remotes: Vec<Remote> = reactors.iter().map(|reactor| reactor.remote().clone()).collect();
    let disks = Disks::open_all(config, storage)?;
    let lines = describe(reactors, storage, &disks, config);
    let target = Arc::new(Target::start(config, storage.clone(), disks, reactors, log)?);
    let cloud = cloud.map(|cloud| cloud.start(target.clone(), config)).transpose()?;
    let socket = config.control.as_ref().map(|control| ControlSocket::start(&control.socket, target.clone()));
    let socket = socket.transpose().map_err(ServeError::Control)?;
    let watch = KeyWatch::start(target.clone())?;
    let converter = Converter::start(target.clone())?;

    report(lines, &target, cloud.as_ref(), config);
    notify(&[sd_notify::NotifyState::Ready]);
    wait_for_stop(signals, &remotes);
    notify(&[sd_notify::NotifyState::Stopping]);

    // Nobody changes the target from here on.
    drop(socket);
    drop(watch);
    drop(converter);
    if !cloud.is_none_or(RunningCloud::stop) {
        return Err(ServeError::NotDrained(DRAIN_LIMIT));
    }
    let target = Arc::into_inner(target).expect("the control threads have ended");
    info!("draining {} connections", target.connections());
    if !target.stop(DRAIN_LIMIT) {
        return Err(ServeError::NotDrained(DRAIN_LIMIT));
    }
    Ok(())
}

/// Starts the thread that receives signals; it sends a message when the target shall stop.
fn listen_for_signals() -> Result<mpsc::Receiver<()>, ServeError> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(ServeError::Signals)?;
    let (stop, stopped) = mpsc::channel();
    let interrupted = AtomicBool::new(false);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in &mut signals {
                if signal == SIGINT && interrupted.swap(true, Ordering::Relaxed) {
                    eprintln!("strongroom: interrupted twice: ending at once");
                    std::process::exit(INTERRUPTED);
                }
                // The receiver is gone once the target is ending anyway.
                let _ = stop.send(());
            }
        })
        .map_err(ServeError::Signals)?;
    Ok(stopped)
}

/// Waits for the signal; tells systemd's watchdog meanwhile that all reactors turn, as long as they do.
fn wait_for_stop(signals: &mpsc::Receiver<()>, reactors: &[Remote]) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        // The sender lives in a thread that never ends.
        let _ = signals.recv();
        return;
    };
    while signals.recv_timeout(limit / 3) == Err(mpsc::RecvTimeoutError::Timeout) {
        if all_turn(reactors, limit / 3) {
            notify(&[sd_notify::NotifyState::Watchdog]);
        } else {
            warn!("a reactor has not answered for {:?}; the watchdog is not fed", limit / 3);
        }
    }
}

fn all_turn(reactors: &[Remote], limit: Duration) -> bool {
    let (alive, answers) = mpsc::channel();
    for reactor in reactors {
        let alive = alive.clone();
        reactor.post(move |_| {
            // Nobody listens any more if another reactor was too slow.
            let _ = alive.send(());
        });
    }
    reactors.iter().all(|_| answers.recv_timeout(limit).is_ok())
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        warn!("systemd was not notified: {e}");
    }
}

/// What the process has got.
fn describe(reactors: &[ReactorThread], storage: &Storage, disks: &Disks, config: &Config) -> Vec<String> {
    let mut lines = vec![format!("strongroom {} (pid {})", env!("CARGO_PKG_VERSION"), std::process::id())];
    for reactor in reactors {
        let StartReport { core, memory, pages, ring } = reactor.report();
        let (mib, pages, ring) = (memory >> 20, describe_pages(pages), ring.describe());
        lines.push(format!("  reactor on core {core}: {mib} MiB of buffers on {pages}; io_uring: {ring}"));
    }
    let idle = match config.reactor.idle_us {
        0 => "poll for ever".to_owned(),
        us => format!("sleep after {us} µs without work"),
    };
    lines.push(format!("  reactors {idle}; core dumps are off; {}", SecretMemory::in_use().describe()));
    lines.extend(storage.keys().describe());
    lines.extend(storage.describe());
    for disk in &config.disks {
        match disks.open(&disk.name) {
            Ok(opened) => {
                if let Ground::Device(device) = opened.ground() {
                    lines.push(format!("  device {}: {}", device.name(), device.describe()));
                }
                lines.push(format!("  disk {}: {}", disk.name, opened.describe()));
            }
            Err(why) if disks.is_detached(&disk.name) => lines.push(format!("  disk {}: {why}", disk.name)),
            Err(why) => lines.push(format!("  disk {}: OFFLINE: {why}", disk.name)),
        }
    }
    lines
}

/// What an operator wants to know before the load comes.
fn report(mut lines: Vec<String>, target: &Target, cloud: Option<&RunningCloud>, config: &Config) {
    if let Some(server) = target.nvme_tcp() {
        lines.extend(server.addresses().iter().map(|address| format!("  nvme_tcp listens on {address}")));
        for subsystem in server.subsystems().subsystems() {
            lines.extend(describe_subsystem(&subsystem));
        }
    }
    if let Some(nbd) = target.nbd() {
        lines.extend(nbd.addresses().iter().map(|address| format!("  nbd listens on {address}")));
    }
    for export in config.nbd.iter().flat_map(|nbd| &nbd.exports) {
        let mode = if export.read_only { "read-only" } else { "read-write" };
        let offline = if target.is_offline(&export.disk) { ", OFFLINE" } else { "" };
        lines.push(format!("  nbd export {:?}: disk {}, {mode}{offline}", export.name, export.disk));
    }
    for socket in target.vhost_user().map(VhostUserServer::report).unwrap_or_default() {
        let mode = if socket.read_only { "read-only" } else { "read-write" };
        lines.push(format!("  vhost_user {}: disk {}, {mode}", socket.path.display(), socket.disk));
    }
    lines.extend(cloud.into_iter().flat_map(RunningCloud::describe));
    if let Some(control) = &config.control {
        lines.push(format!("  control listens on unix:{}", control.socket.display()));
    }
    say(&(lines.join("\n") + "\n"));
}

fn describe_subsystem(subsystem: &Subsystem) -> Vec<String> {
    let mut lines = vec![format!("  nvme_tcp subsystem {}", subsystem.nqn())];
    for host in subsystem.hosts() {
        let how = if host.authentication.is_some() { ", which has to authenticate" } else { "" };
        lines.push(format!("    host {}: {}{how}", host.name, host.nqn));
    }
    for (namespace, hosts) in subsystem.namespaces() {
        let seen_by =
            if hosts.is_empty() { "seen by nobody".to_owned() } else { format!("seen by {}", hosts.join(", ")) };
        let shared = if namespace.is_shared() { ", shared" } else { "" };
        lines.push(format!("    namespace {}: disk {}{shared}, {seen_by}", namespace.nsid(), namespace.disk().name()));
    }
    lines
}

/// Writes to standard output. Whoever read it may have gone, which is no reason to stop serving.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
