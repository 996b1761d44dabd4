//! Conversion: an encrypted copy of a plain disk, or a plain one of an encrypted disk, made while hosts go on writing.
//!
//! 1. A snapshot of the source is copied to the destination; blocks that were never written stay absent, and blocks of zeros become so.
//! 2. Then what a newer snapshot has that the first does not, and so on, until little is left (`job.rs`).
//! 3. If it is asked for, all of the destination is compared with the snapshot that it equals, and each later round with its own.
//! 4. Without a switch, the last round is copied while nobody has the source; if somebody has it, the two differ by what was written since the last
//!    round, and the conversion can be gone on with at any time. With one, the source's hosts wait while the last round is copied, and find the
//!    destination in its place when they go on (`switch.rs`).
//!
//! How far it is stands in the destination's volume ([`conversion`]): the same call goes on after a crash, from the last window that was flushed.
//! One conversion is at work at a time, on one reactor; others wait.

mod cloud;
mod copy;
mod destination;
mod export;
mod job;
mod switch;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::control::conversion::{self, Filling, Note, note_of, set_note, volume_if_any};
use crate::control::rpc::{Kind, Refusal};
use crate::kms::audit::Actor;
use crate::volume::{Pool, PoolError, Volume};

use super::volume::pool_name_of;
use super::{DiskName, Removed, Target};

use job::{Job, Phase};

/// How long a conversion may take to end when it is asked to.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A conversion to be started, or gone on with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// The disk that is copied.
    pub source: String,
    /// The disk that it is copied to: made, unless it is there and empty, or the copy was begun before.
    pub destination: String,
    /// `kms` or `none`: how the destination is encrypted.
    pub encryption: ConversionEncryption,
    /// The pool that the destination is made in; the source's, if it is left out.
    #[serde(default)]
    pub pool: Option<String>,
    /// In the end the source's hosts go on with the destination.
    #[serde(default)]
    pub switch: bool,
    /// All that was copied is read again and compared.
    #[serde(default)]
    pub verify: bool,
}

/// How the destination is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConversionEncryption {
    /// With a key of its own, which the KMS keeps.
    Kms,
    /// Not at all.
    None,
}

/// A conversion to be given up; or a disk from which hosts were switched, to be used again as it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancellation {
    /// The conversion's destination, or the disk that hosts were switched from.
    pub name: String,
    /// The destination stays, with the content of the last round that was finished; otherwise it is deleted.
    #[serde(default)]
    pub keep: bool,
}

/// How a conversion stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConversionReport {
    /// The disk that is copied.
    pub source: String,
    /// The disk that it is copied to.
    pub destination: String,
    /// `waiting`, `copying`, `differences`, `verifying`, `switching`; or how it ended: `done`, `behind` (the source was written since), `failed`,
    /// `cancelled`.
    pub phase: String,
    /// Whether it has ended.
    pub ended: bool,
    /// The snapshot that is copied, counted from 1.
    pub round: u32,
    /// Bytes of data that are done in this phase.
    pub bytes_done: u64,
    /// Bytes of data to be done in it.
    pub bytes_total: u64,
    /// Bytes in a second, in this phase.
    pub bytes_per_s: u64,
    /// All that was copied was compared.
    pub verified: bool,
    /// The source's hosts have the destination now.
    pub switched: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// What a person has to know.
    pub note: Option<String>,
}

/// The conversions of a target, since it was started.
#[derive(Default)]
pub(super) struct Conversions {
    jobs: Mutex<Vec<Arc<Job>>>,
    /// A job waits, or all has to end.
    news: Condvar,
    ends: AtomicBool,
    /// Held while one is started or given up.
    starting: Mutex<()>,
}

impl Conversions {
    fn jobs(&self) -> MutexGuard<'_, Vec<Arc<Job>>> {
        self.jobs.lock().expect("no thread panics while it holds this lock")
    }

    fn job_to(&self, destination: &str) -> Option<Arc<Job>> {
        self.jobs().iter().find(|job| job.wanted.destination == destination).cloned()
    }

    /// The next job; none once all has to end.
    fn next(&self) -> Option<Arc<Job>> {
        let mut jobs = self.jobs();
        loop {
            if self.ends.load(Ordering::SeqCst) {
                return None;
            }
            if let Some(job) = jobs.iter().find(|job| job.phase() == Phase::Waiting) {
                return Some(job.clone());
            }
            jobs = self.news.wait(jobs).expect("no thread panics while it holds this lock");
        }
    }

    /// Whether a conversion that has not ended reads or fills the disk.
    fn concern(&self, disk: &str) -> bool {
        let has = |job: &Arc<Job>| job.wanted.source == disk || job.wanted.destination == disk;
        self.jobs().iter().any(|job| has(job) && !job.phase().is_end())
    }
}

/// The thread that carries conversions out, until it is dropped.
pub(in crate::control) struct Converter {
    target: Arc<Target>,
    thread: Option<JoinHandle<()>>,
}

impl Converter {
    pub(in crate::control) fn start(target: Arc<Target>) -> io::Result<Self> {
        let of_thread = target.clone();
        let thread = std::thread::Builder::new().name("convert".to_owned()).spawn(move || {
            while let Some(job) = of_thread.conversions.next() {
                job.carry_out(&of_thread);
            }
        })?;
        Ok(Self { target, thread: Some(thread) })
    }
}

impl Drop for Converter {
    /// What is under way ends after the requests in flight, and can be gone on with.
    fn drop(&mut self) {
        let conversions = &self.target.conversions;
        {
            let jobs = conversions.jobs();
            conversions.ends.store(true, Ordering::SeqCst);
            jobs.iter().for_each(|job| job.cancel());
        }
        conversions.news.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Target {
    /// Starts a conversion, or goes on with it; the answer comes at once.
    pub(in crate::control) fn convert(&self, wanted: Conversion, actor: Actor) -> Result<ConversionReport, Refusal> {
        let _starting = self.conversions.starting.lock().expect("no thread panics while it holds this lock");
        for disk in [&wanted.source, &wanted.destination] {
            self.refuse_conversion(disk)?;
        }
        self.refuse_by_cloud(&wanted)?;
        self.refuse_source(&wanted)?;
        self.prepare_destination(&wanted, actor)?;
        let job = Arc::new(Job::new(wanted, actor));
        {
            let mut jobs = self.conversions.jobs();
            jobs.retain(|other| other.wanted.destination != job.wanted.destination);
            jobs.push(job.clone());
        }
        self.conversions.news.notify_all();
        Ok(job.report())
    }

    /// All conversions since the target was started.
    pub(in crate::control) fn conversion_reports(&self) -> Vec<ConversionReport> {
        self.conversions.jobs().iter().map(|job| job.report()).collect()
    }

    /// How the conversion to a disk stands.
    pub(in crate::control) fn conversion(&self, DiskName { name }: &DiskName) -> Result<ConversionReport, Refusal> {
        let job = self.conversions.job_to(name).ok_or_else(|| {
            let what = format!("no conversion to disk {name} was started since the target was");
            Refusal::new(Kind::NotFound, what)
        })?;
        Ok(job.report())
    }

    /// Gives a conversion up.
    pub(in crate::control) fn cancel_conversion(
        &self,
        Cancellation { name, keep }: &Cancellation,
        actor: Actor,
    ) -> Result<Removed, Refusal> {
        let _starting = self.conversions.starting.lock().expect("no thread panics while it holds this lock");
        if let Some(job) = self.conversions.job_to(name) {
            job.cancel();
            let deadline = Instant::now() + END_LIMIT;
            while !job.phase().is_end() {
                if Instant::now() > deadline {
                    let what = format!("the conversion to disk {name} has not ended within {END_LIMIT:?}; try again");
                    return Err(Refusal::new(Kind::TimedOut, what));
                }
                std::thread::sleep(LOOK_INTERVAL);
            }
        }
        let Some((pool, volume, note)) = self.volume_of_conversion(name) else {
            let what = format!("disk {name} is no part of a conversion that is not finished");
            return Err(Refusal::new(Kind::NotFound, what));
        };
        match note {
            Note::Switched { .. } => {
                self.refuse_conversion(name)?;
                set_note(&pool, &volume, None)?;
            }
            Note::Destination(filling) if *keep => {
                if filling.base == 0 || filling.begun {
                    let what =
                        format!("disk {name} is like no snapshot of disk {}: a round is not finished", filling.name);
                    return Err(Refusal::new(Kind::Refused, what));
                }
                set_note(&pool, &volume, None)?;
                self.delete_rounds(&filling, actor);
            }
            Note::Destination(filling) if self.is_of_cloud(name) => {
                self.delete_rounds(&filling, actor);
                self.empty_destination(&pool, &volume, filling)?;
            }
            Note::Destination(filling) => {
                self.delete_rounds(&filling, actor);
                return self.delete_destination(&pool, name, actor);
            }
        }
        self.put_into_service(name, actor)?;
        Ok(Removed { removed: name.clone() })
    }

    /// Refuses what a conversion that is at work does not bear.
    pub(super) fn refuse_conversion(&self, disk: &str) -> Result<(), Refusal> {
        if !self.conversions.concern(disk) {
            return Ok(());
        }
        let what = format!(
            "disk {disk} is being converted; wait until that has ended (`strongroom disk conversions`), or end it with \
             `strongroom disk convert-cancel`"
        );
        Err(Refusal::new(Kind::InUse, what))
    }

    fn refuse_source(&self, wanted: &Conversion) -> Result<(), Refusal> {
        let (source, destination) = (&wanted.source, &wanted.destination);
        if source == destination {
            return Err(Refusal::new(
                Kind::Refused,
                format!("disk {source} cannot be converted to itself; name another"),
            ));
        }
        let (_, volume) = self.volume_of_disk(source)?;
        conversion::refuse_part_of(&volume)?;
        self.state().disks.usable(source)?;
        if wanted.switch { self.refuse_switch(source) } else { Ok(()) }
    }

    /// Deletes the snapshots of a conversion, as far as they are there.
    fn delete_rounds(&self, filling: &Filling, actor: Actor) {
        let pools = self.storage.all().into_iter().filter_map(|(_, pool)| Some(pool.ok()?.pool));
        for pool in pools.filter(|pool| pool.uuid() == filling.pool) {
            let rounds = [filling.before_base(), filling.base, filling.round];
            for round in rounds.into_iter().filter(|round| *round > 0) {
                let name = filling.full_snapshot_of(round);
                match self.delete_volume(&pool, &name, None, actor) {
                    Ok(()) | Err(PoolError::NotFound { .. }) => {}
                    Err(e) => tracing::warn!("snapshot {name} of a conversion is left: {e}"),
                }
            }
        }
    }

    /// The volume of a disk, and its pool.
    fn volume_of_disk(&self, disk: &str) -> Result<(Arc<Pool>, Arc<Volume>), Refusal> {
        let pool = pool_name_of(&self.state().config, disk)?;
        let pool = self.storage.pool(&pool)?.pool;
        let volume = pool.volume(disk)?;
        Ok((pool, volume))
    }

    /// A volume that says that it is part of a conversion, whether it is configured as a disk or not.
    fn volume_of_conversion(&self, name: &str) -> Option<(Arc<Pool>, Arc<Volume>, Note)> {
        let mut pools = self.storage.all().into_iter().filter_map(|(_, pool)| Some(pool.ok()?.pool));
        pools.find_map(|pool| {
            let volume = volume_if_any(&pool, name).ok()??;
            let note = note_of(&volume)?;
            Some((pool, volume, note))
        })
    }
}
