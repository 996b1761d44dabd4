//! Conversions of the cloud's disks: what may be converted, the switch with the rows that follow it, and giving up without deleting a disk behind the
//! cloud's back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::conversion::{self, Filling, Note, note_of, set_note};
use crate::control::rpc::{Kind, Refusal};
use crate::volume::{Pool, Volume};

use super::job::Converting;
use super::{Conversion, Target};

/// How long what is being done to a disk may keep its hosts from being switched.
const BUSY_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked whether it is over.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

impl Target {
    /// Refuses what the cloud does not bear.
    pub(super) fn refuse_by_cloud(&self, Conversion { source, destination, .. }: &Conversion) -> Result<(), Refusal> {
        let Ok(cloud) = self.cloud() else { return Ok(()) };
        cloud.check_conversion(source, destination)?;
        if cloud.has_disk(source) {
            return Ok(());
        }
        self.refuse_if_of_cloud(source)?;
        self.refuse_if_of_cloud(destination)
    }

    pub(super) fn is_of_cloud(&self, disk: &str) -> bool {
        self.cloud().is_ok_and(|cloud| cloud.has_disk(disk))
    }

    /// The disk that hosts of this one were switched to, if they were.
    pub(in crate::control) fn switched_to(&self, disk: &str) -> Result<Option<String>, Refusal> {
        let (_, volume) = self.volume_of_disk(disk)?;
        Ok(match note_of(&volume) {
            Some(Note::Switched { to }) => Some(to),
            _ => None,
        })
    }

    /// Refuses to have a host use a disk that is filled by a conversion, or that hosts were switched from.
    pub(in crate::control) fn refuse_part_of_conversion(&self, disk: &str) -> Result<(), Refusal> {
        let volume = self.volume_of_disk(disk).ok();
        match volume.and_then(|(_, volume)| conversion::why_not(&volume)) {
            Some(why) => Err(Refusal::new(Kind::InUse, format!("disk {disk}: {why}"))),
            None => Ok(()),
        }
    }

    /// Refuses to delete a disk that a conversion at work reads or fills, or that one fills which is not at work: its rounds' snapshots would be left.
    pub(in crate::control) fn refuse_deletion(&self, disk: &str) -> Result<(), Refusal> {
        self.refuse_conversion(disk)?;
        match self.volume_of_disk(disk).ok().and_then(|(_, volume)| note_of(&volume)) {
            Some(Note::Destination(_)) => self.refuse_part_of_conversion(disk),
            _ => Ok(()),
        }
    }

    /// A destination of the cloud is as it was made: empty.
    pub(super) fn empty_destination(
        &self,
        pool: &Arc<Pool>,
        volume: &Arc<Volume>,
        filling: Filling,
    ) -> Result<(), Refusal> {
        // Before it is emptied: a note that tells of content must not outlive it.
        let filling = Filling { base: 0, begun: false, position: 0, ..filling };
        set_note(pool, volume, Some(&Note::Destination(filling)))?;
        pool.reinitialise(&volume.name(), None)?;
        Ok(set_note(pool, volume, None)?)
    }
}

impl Converting<'_> {
    /// Switches, with the rows of the cloud if the disks are its own: nothing else is done to them meanwhile.
    pub(super) fn try_to_switch(&mut self) -> Result<String, Refusal> {
        let Conversion { source, destination, .. } = self.job.wanted.clone();
        let Some(cloud) = self.target.cloud().ok().filter(|cloud| cloud.has_disk(&source)) else {
            return self.switch_now();
        };
        let deadline = Instant::now() + BUSY_LIMIT;
        loop {
            match cloud.switch(&source, &destination, || self.switch_now()) {
                Ok(done) => {
                    done?;
                    return Ok(format!(
                        "the instances of disk {source} have disk {destination} now, also after a restart; disk {source} is old and available: delete it"
                    ));
                }
                Err(busy) if busy.status == 409 && Instant::now() < deadline && !self.job.is_cancelled() => {
                    std::thread::sleep(BUSY_INTERVAL);
                }
                Err(e) if e.status == 409 => return Err(Refusal::new(Kind::InUse, e.to_string())),
                Err(e) => return Err(e.into()),
            }
        }
    }
}
