//! A conversion at work: rounds of copying, each from one snapshot of the source to the next, until little is left.
//!
//! What the destination's volume says is written before what follows from it: that a round was begun after its snapshot was taken, that bytes are
//! copied after they are durable, that a round is over before the snapshot of the one before is deleted. A destination whose rounds
//! cannot be gone on with, because somebody has deleted their snapshots, is emptied and filled anew.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::control::config::ConfigError;
use crate::control::conversion::{Filling, Note, note_of, set_note, volume_if_any};
use crate::control::rpc::{Kind, Refusal};
use crate::disk::Disk;
use crate::kms::audit::{Actor, Operation};
use crate::volume::{Difference, Pool, PoolError, Volume, once_free};

use super::super::disk::refuse_if_attached;
use super::copy::{self, Fault, Progress, Task, Work, between, data_in, union};
use super::{Conversion, ConversionReport, Target};

/// So little is copied while hosts wait.
const LITTLE: u64 = 8 << 20;
/// More rounds than this do not bring the two closer.
const MOST_ROUNDS: u32 = 16;
/// How often it is written down how far the copying is.
const SAVE_INTERVAL: Duration = Duration::from_millis(250);
/// How long a snapshot may still be open on a reactor.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Where a conversion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Copying,
    Differences,
    Verifying,
    Switching,
    Done,
    Behind,
    Failed,
    Cancelled,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Copying => "copying",
            Self::Differences => "differences",
            Self::Verifying => "verifying",
            Self::Switching => "switching",
            Self::Done => "done",
            Self::Behind => "behind",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Behind | Self::Failed | Self::Cancelled)
    }
}

/// A conversion that was asked for.
pub(super) struct Job {
    pub(super) wanted: Conversion,
    pub(super) actor: Actor,
    progress: Arc<Progress>,
    standing: Mutex<Standing>,
}

struct Standing {
    phase: Phase,
    since: Instant,
    /// How long the last phase of copying took, once it is over.
    took: Option<Duration>,
    round: u32,
    verified: bool,
    switched: bool,
    error: Option<String>,
    note: Option<String>,
}

impl Job {
    pub(super) fn new(wanted: Conversion, actor: Actor) -> Self {
        let standing = Standing {
            phase: Phase::Waiting,
            since: Instant::now(),
            took: None,
            round: 0,
            verified: false,
            switched: false,
            error: None,
            note: None,
        };
        Self { wanted, actor, progress: Arc::default(), standing: Mutex::new(standing) }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().expect("no thread panics while it holds this lock")
    }

    pub(super) fn phase(&self) -> Phase {
        self.standing().phase
    }

    pub(super) fn enter(&self, phase: Phase) {
        let mut standing = self.standing();
        if phase.is_end() {
            let took = standing.since.elapsed();
            standing.took.get_or_insert(took);
        } else if standing.phase != phase {
            (standing.since, standing.took) = (Instant::now(), None);
        }
        standing.phase = phase;
    }

    /// It ends as soon as what is in flight has ended.
    pub(super) fn cancel(&self) {
        self.progress.cancelled.store(true, Ordering::Relaxed);
        let mut standing = self.standing();
        if standing.phase == Phase::Waiting {
            standing.phase = Phase::Cancelled;
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.progress.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn set_switched(&self) {
        self.standing().switched = true;
    }

    pub(super) fn report(&self) -> ConversionReport {
        let standing = self.standing();
        let done = self.progress.done.load(Ordering::Relaxed);
        let took = standing.took.unwrap_or_else(|| standing.since.elapsed()).as_secs_f64();
        ConversionReport {
            source: self.wanted.source.clone(),
            destination: self.wanted.destination.clone(),
            phase: standing.phase.name().to_owned(),
            ended: standing.phase.is_end(),
            round: standing.round,
            bytes_done: done,
            bytes_total: self.progress.total.load(Ordering::Relaxed).max(done),
            bytes_per_s: (done as f64 / took.max(0.001)) as u64,
            verified: standing.verified,
            switched: standing.switched,
            error: standing.error.clone(),
            note: standing.note.clone(),
        }
    }

    /// Carries the conversion out, on the thread for that.
    pub(super) fn carry_out(&self, target: &Target) {
        let Conversion { source, destination, .. } = &self.wanted;
        info!("conversion of disk {source} to disk {destination} begins");
        self.enter(Phase::Copying);
        let ended = Converting::begin(self, target).and_then(Converting::convert);
        target.note_detached(source, self.actor);
        if !self.standing().switched {
            target.note_detached(destination, self.actor);
        }
        let (phase, note) = match ended {
            Ok(ended) => ended,
            Err(_) if self.is_cancelled() => (Phase::Cancelled, None),
            Err(refusal) => {
                warn!("conversion of disk {source} to disk {destination} failed: {refusal}");
                self.standing().error = Some(refusal.to_string());
                (Phase::Failed, None)
            }
        };
        info!("conversion of disk {source} to disk {destination} ended: {}", phase.name());
        self.standing().note = note;
        self.enter(phase);
    }
}

/// How a conversion has ended, and what a person has to know.
type Ended = (Phase, Option<String>);

/// A conversion with what it works on.
pub(super) struct Converting<'a> {
    pub(super) job: &'a Job,
    pub(super) target: &'a Target,
    from: Arc<Pool>,
    pub(super) source: Arc<Volume>,
    to: Arc<Pool>,
    destination: Arc<Volume>,
    /// The source, for its key: while hosts wait, no KMS is asked.
    origin: Arc<Disk>,
    pub(super) disk: Arc<Disk>,
    pub(super) filling: Filling,
}

impl<'a> Converting<'a> {
    fn begin(job: &'a Job, target: &'a Target) -> Result<Self, Refusal> {
        let (from, source) = target.volume_of_disk(&job.wanted.source)?;
        let (to, destination) = target.volume_of_disk(&job.wanted.destination)?;
        let Some(Note::Destination(filling)) = note_of(&destination) else {
            let what = format!("disk {} does not say any more what it is filled from", job.wanted.destination);
            return Err(Refusal::new(Kind::Failed, what));
        };
        let config = target.state().config.clone();
        let open = |name: &str| target.storage.open_for_conversion(&config, name, job.actor);
        let (origin, disk) = (open(&job.wanted.source)?, open(&job.wanted.destination)?);
        Ok(Self { job, target, from, source, to, destination, origin, disk, filling })
    }

    fn convert(mut self) -> Result<Ended, Refusal> {
        let verify = self.job.wanted.verify;
        if self.filling.before_base() > 0 {
            self.delete_snapshot(self.filling.before_base());
        }
        self.come_close(false)?;
        if verify {
            self.verify_all()?;
            // It has taken a while.
            self.come_close(true)?;
        }
        if self.job.wanted.switch {
            let note = self.switch()?;
            return Ok((Phase::Done, Some(note)));
        }
        if self.is_source_seen() {
            let (source, destination) = (&self.job.wanted.source, &self.job.wanted.destination);
            let note = format!(
                "disk {destination} is like snapshot {} and differs from disk {source} by what was written since; go on with --switch, or when disk \
                 {source} is detached",
                self.filling.full_snapshot_of(self.filling.base)
            );
            return Ok((Phase::Behind, Some(note)));
        }
        self.finish_unseen()?;
        Ok((Phase::Done, None))
    }

    /// Rounds until little is left.
    pub(super) fn come_close(&mut self, compare: bool) -> Result<(), Refusal> {
        let mut before = u64::MAX;
        for _ in 0..MOST_ROUNDS {
            self.job.enter(if self.filling.base == 0 { Phase::Copying } else { Phase::Differences });
            let is_first = self.filling.base == 0;
            let bytes = self.round(None, compare)?;
            if !is_first && (bytes <= LITTLE || bytes > before / 4 * 3) {
                break;
            }
            before = if is_first { u64::MAX } else { bytes };
        }
        Ok(())
    }

    /// Brings the destination to a new snapshot of the source, or to the one of a round that was begun; gives the bytes of data that it took.
    pub(super) fn round(&mut self, until: Option<Instant>, compare: bool) -> Result<u64, Refusal> {
        self.begin_round()?;
        let (base, round) = (self.filling.base, self.filling.round);
        self.job.standing().round = round;
        let snapshot = self.filling.full_snapshot_of(round);
        let before = self.filling.full_snapshot_of(base);
        let all = self.from.diff((base > 0).then_some(before.as_str()), &snapshot)?;
        let frozen = self.frozen(&snapshot)?;
        let end = frozen.size().min(self.disk.size());
        let left = between(all, self.filling.position, end);
        let bytes = data_in(&left);
        self.work(Task::Copy, &frozen, left.clone(), until)?;
        if compare {
            self.work(Task::Compare, &frozen, left, until)?;
        }
        drop(frozen);
        (self.filling.base, self.filling.round) = (round, round + 1);
        (self.filling.begun, self.filling.position) = (false, 0);
        self.save()?;
        if base > 0 {
            self.delete_snapshot(base);
        }
        Ok(bytes)
    }

    /// Takes the round's snapshot, unless that was done before a crash.
    fn begin_round(&mut self) -> Result<(), Refusal> {
        let is_there = |name: &str| volume_if_any(&self.from, name).map(|volume| volume.is_some());
        let base_is_gone = self.filling.base > 0 && !is_there(&self.filling.full_snapshot_of(self.filling.base))?;
        let has_snapshot = is_there(&self.filling.full_snapshot_of(self.filling.round))?;
        if base_is_gone || self.filling.begun && !has_snapshot {
            warn!("snapshots of the conversion to disk {} are gone; it is filled anew", self.job.wanted.destination);
            // Before it is emptied: a note that tells of content must not outlive it.
            (self.filling.base, self.filling.begun, self.filling.position) = (0, false, 0);
            self.save()?;
            self.to.reinitialise(&self.job.wanted.destination, None)?;
        }
        if !has_snapshot {
            let (source, name) = (&self.job.wanted.source, self.filling.snapshot_of(self.filling.round));
            self.from.snapshot(source, &name)?;
            self.target.note_operation(source, self.job.actor, Operation::Snapshot);
        }
        if !self.filling.begun {
            self.filling.begun = true;
            self.save()?;
        }
        Ok(())
    }

    /// Compares all of the destination with the snapshot that it is like.
    fn verify_all(&self) -> Result<(), Refusal> {
        self.job.enter(Phase::Verifying);
        let snapshot = self.filling.full_snapshot_of(self.filling.base);
        let (expected, found) = (self.from.diff(None, &snapshot)?, self.to.diff(None, &self.job.wanted.destination)?);
        let frozen = self.frozen(&snapshot)?;
        let end = frozen.size().min(self.disk.size());
        self.work(Task::Compare, &frozen, between(union(&expected, &found), 0, end), None)?;
        self.job.standing().verified = true;
        Ok(())
    }

    fn frozen(&self, snapshot: &str) -> Result<Arc<Disk>, Refusal> {
        Ok(self.origin.as_of(self.from.volume(snapshot)?).map_err(ConfigError::from)?)
    }

    /// Does something with ranges of both disks on a reactor, and writes down how far it is meanwhile.
    fn work(
        &self,
        task: Task,
        frozen: &Arc<Disk>,
        ranges: Vec<Difference>,
        until: Option<Instant>,
    ) -> Result<(), Refusal> {
        let progress = &self.job.progress;
        progress.done.store(0, Ordering::Relaxed);
        progress.durable.store(0, Ordering::Relaxed);
        progress.total.store(data_in(&ranges), Ordering::Relaxed);
        let work = Work {
            source: frozen.clone(),
            destination: self.disk.clone(),
            ranges,
            task,
            until,
            progress: progress.clone(),
        };
        let (ended, end) = sync_channel(1);
        // Not the one where pools are kept, if there is another.
        let remote = self.target.remotes.last().expect("a target has reactors");
        remote.post(move |reactor| {
            let task = copy::run(reactor.clone(), work);
            reactor.spawn(async move {
                // Whoever waits does so to the end.
                let _ = ended.send(task.await);
            });
        });
        let mut saved = Ok(());
        let outcome = loop {
            match end.recv_timeout(SAVE_INTERVAL) {
                Ok(outcome) => break outcome,
                Err(RecvTimeoutError::Timeout) => {
                    saved = saved.and_then(|()| self.save_position());
                    if saved.is_err() {
                        progress.cancelled.store(true, Ordering::Relaxed);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("the reactor runs until the target has stopped"),
            }
        };
        saved?;
        if outcome.is_err() {
            self.save_position()?;
        }
        Ok(outcome?)
    }

    /// Writes down what is durable of the round.
    fn save_position(&self) -> Result<(), Refusal> {
        let durable = self.job.progress.durable.load(Ordering::Acquire);
        if durable <= self.filling.position {
            return Ok(());
        }
        let filling = Filling { position: durable, ..self.filling.clone() };
        Ok(set_note(&self.to, &self.destination, Some(&Note::Destination(filling)))?)
    }

    pub(super) fn save(&self) -> Result<(), Refusal> {
        let note = Note::Destination(self.filling.clone());
        Ok(set_note(&self.to, &self.destination, Some(&note))?)
    }

    /// The destination is a disk like any other from now on.
    pub(super) fn release_destination(&self) -> Result<(), Refusal> {
        Ok(set_note(&self.to, &self.destination, None)?)
    }

    /// The source says that its hosts are with the destination, or nothing.
    pub(super) fn mark_source(&self, note: Option<&Note>) -> Result<(), Refusal> {
        Ok(set_note(&self.from, &self.source, note)?)
    }

    /// Deletes a round's snapshot. One that is left does no harm but keep space.
    pub(super) fn delete_snapshot(&self, round: u32) {
        let name = self.filling.full_snapshot_of(round);
        match once_free(CLOSE_LIMIT, || self.from.delete(&name)) {
            Ok(_) | Err(PoolError::NotFound { .. }) => {}
            Err(e) => warn!("snapshot {name} of a conversion is left: {e}"),
        }
    }

    fn is_source_seen(&self) -> bool {
        let source = &self.job.wanted.source;
        let is_attached = self.target.state().config.disk(source).is_ok_and(|disk| !disk.attached_to.is_empty());
        is_attached || self.target.hold_clients(source).is_err()
    }

    /// The last round of a disk that nobody has.
    fn finish_unseen(&mut self) -> Result<(), Refusal> {
        let (target, Conversion { source, destination, .. }) = (self.target, self.job.wanted.clone());
        {
            let _one_at_a_time = target.changing();
            refuse_if_attached(&target.state().config, &source)?;
            let _held = target.hold_clients(&source)?;
            self.round(None, self.job.wanted.verify)?;
            self.release_destination()?;
        }
        self.delete_snapshot(self.filling.base);
        target.put_into_service(&destination, self.job.actor)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::TooSlow => Kind::TimedOut,
            _ => Kind::Failed,
        };
        Self::new(kind, fault.to_string())
    }
}
