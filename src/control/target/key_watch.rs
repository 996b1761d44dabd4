//! Keeps an eye on the KMS: says when it is away and when it is back, keeps its session alive, and opens disks that wait for it as soon as their keys
//! can be had.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::control::config::ConfigError;
use crate::kms::audit::Actor;

use super::{Target, namespace};

/// How often it looks whether a disk waits and the KMS answers.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the KMS is asked while nobody waits: tokens are renewed then, and keys destroyed whose time has come.
const CALM: Duration = Duration::from_secs(60);
/// A disk whose key is not given by a KMS that answers is tried so often: each try is a line in the audit log.
const SELDOM: Duration = Duration::from_secs(60);

/// The thread that looks, until it is dropped.
pub(in crate::control) struct KeyWatch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KeyWatch {
    pub(in crate::control) fn start(target: Arc<Target>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            let mut seen = Seen::default();
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                seen.look(&target);
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for KeyWatch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// What the last looks have shown.
#[derive(Default)]
struct Seen {
    was_away: bool,
    asked_at: Option<Instant>,
    tried_at: Option<Instant>,
}

impl Seen {
    fn look(&mut self, target: &Target) {
        let waiting = target.state().disks.waiting_for_kms();
        let is_calm = waiting.is_empty() && !self.was_away;
        if !target.storage.keys().are_kept() || is_calm && self.asked_at.is_some_and(|at| at.elapsed() < CALM) {
            return;
        }
        let came_back = self.ask(target);
        let is_time = self.tried_at.is_none_or(|at| at.elapsed() >= SELDOM);
        if self.was_away || waiting.is_empty() || !came_back && !is_time {
            return;
        }
        self.tried_at = Some(Instant::now());
        for name in waiting {
            match target.open_waiting(&name) {
                Ok(true) => info!("disk {name}: its key is there now, and it is served"),
                Ok(false) => {}
                Err(e) => warn!("disk {name}: it stays offline: {e}"),
            }
        }
    }
}

impl Seen {
    /// Asks the KMS how it is, and says what has changed; whether it came back.
    fn ask(&mut self, target: &Target) -> bool {
        self.asked_at = Some(Instant::now());
        // One that cannot be opened is tried again with the disks that wait for it.
        let Ok(kms) = target.storage.keys().kms() else { return false };
        let health = kms.status().health;
        let was_away = std::mem::replace(&mut self.was_away, health.is_err());
        match health {
            Err(why) if !was_away => warn!("{why}; disks that are attached go on"),
            Ok(_) if was_away => info!("{} is available again", kms.name()),
            _ => {}
        }
        was_away && !self.was_away
    }
}

impl Target {
    /// Opens a disk that waits, and everything through which it is reached; false if it waits no more.
    fn open_waiting(&self, name: &str) -> Result<bool, ConfigError> {
        let _one_at_a_time = self.changing();
        if !self.state().disks.waiting_for_kms().iter().any(|waiting| waiting == name) {
            return Ok(false);
        }
        let config = self.state().config.clone();
        let opened = match config.is_used(name)? {
            true => self.storage.open_disk(&config, name, Actor::System).map(Some),
            false => self.storage.make_disk(&config, name, Actor::System).map(|()| None),
        };
        let disk = match opened {
            Ok(Some(disk)) => disk,
            Ok(None) => {
                self.state().disks.set_detached(name);
                return Ok(true);
            }
            Err(e) => {
                self.state().disks.refuse(name, &e);
                return Err(e);
            }
        };
        if let Some(server) = self.nvme_tcp() {
            namespace::place(server, &config, config.disk(name)?, &disk)?;
        }
        self.export_over_nbd(&config, &disk)?;
        self.place_sockets(&config, &disk)?;
        self.state().disks.insert(disk);
        Ok(true)
    }
}
