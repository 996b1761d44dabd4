//! The model: which volumes and snapshots there are, and what each sector of them may hold.
//!
//! Every change is told twice, when it begins and when it is answered. What was begun and not answered when the power went is
//! either done or not; [`Model::cut`] and [`Model::reopened`] work that out from what is found.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::{KeyId, Keys, LineageId};
use super::sectors::{Content, Entry, NEVER, SECTOR, Tick, Value, fill, value_of};

/// Whether a volume or snapshot exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its creation is not answered.
    Making,
    Here,
    /// Its deletion is not answered.
    Going,
}

/// When a snapshot was taken: between these two ticks.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub from: Tick,
    pub to: Tick,
}

/// A volume or snapshot.
#[derive(Clone)]
pub struct Volume {
    /// Stands in the sectors that are written through it.
    pub stamp: u32,
    pub size: u64,
    /// The size that it has if what is not answered was done.
    pub new_size: Option<u64>,
    pub content: Content,
    /// The newest flush: what was superseded before it is gone for ever.
    pub floor: Tick,
    pub state: State,
    /// Of a snapshot: its volume.
    pub parent: Option<String>,
    /// Of a snapshot whose content was not read yet.
    pub taken: Option<Taken>,
    /// A rollback that is not answered began then.
    pub rollback: Option<Tick>,
    /// Since when reads and snapshots are under way.
    running: Vec<Tick>,
    /// Something changes it as a whole.
    pub is_busy: bool,
    /// Commands in flight.
    pub users: u32,
    /// No new commands.
    pub is_closed: bool,
    /// With which others it has its key in common, if it has one.
    pub lineage: Option<LineageId>,
    /// The stamp of the volume that it comes from in the end, by snapshots and clones.
    pub origin: u32,
}

impl Volume {
    pub fn is_snapshot(&self) -> bool {
        self.parent.is_some()
    }

    fn forget_before(&self) -> Tick {
        self.running.iter().copied().fold(self.floor, Tick::min)
    }
}

/// A listed volume or snapshot.
#[derive(Clone, Debug)]
pub struct Listed {
    pub name: String,
    pub size: u64,
    pub key: Option<Vec<u8>>,
}

#[derive(Clone, Default)]
pub struct Model {
    now: Tick,
    /// The stamp of the volume that each value was written through.
    writers: Vec<u32>,
    pub volumes: BTreeMap<String, Volume>,
    names: u32,
    pub keys: Keys,
}

/// What reading a volume as a whole proves about the moment of a snapshot or an unanswered rollback.
#[derive(Default)]
struct Evidence {
    earliest: Tick,
    latest: Tick,
    /// A sector that says so, and what it holds.
    is_done: Option<(u64, Value)>,
    is_not_done: Option<(u64, Value)>,
}

impl Model {
    pub fn tick(&mut self) -> Tick {
        self.now += 1;
        self.now
    }

    /// A name that was never used.
    pub fn new_name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    pub fn volume(&mut self, name: &str) -> &mut Volume {
        self.volumes.get_mut(name).unwrap_or_else(|| panic!("the model has no {name}"))
    }

    /// A value to be written through a volume.
    pub fn new_value(&mut self, name: &str) -> Value {
        let stamp = self.volume(name).stamp;
        if self.writers.is_empty() {
            self.writers.push(0);
        }
        self.writers.push(stamp);
        (self.writers.len() - 1) as Value
    }

    pub fn fill(&self, bytes: &mut [u8], value: Value, sector: u64) {
        let writer = self.writers.get(value as usize).copied().unwrap_or(0);
        for (place, sector_bytes) in bytes.chunks_exact_mut(SECTOR as usize).enumerate() {
            fill(sector_bytes, value, writer, sector + place as u64);
        }
    }

    /// A volume is about to be made, with the content of a snapshot or empty.
    pub fn begin_making(&mut self, name: &str, size: u64, content: Content, parent: Option<&str>) -> Tick {
        self.names += 1;
        let (stamp, now) = (self.names, self.tick());
        let volume = Volume {
            stamp,
            size,
            new_size: None,
            content,
            floor: 0,
            state: State::Making,
            parent: parent.map(str::to_owned),
            taken: parent.map(|_| Taken { from: now, to: NEVER }),
            rollback: None,
            running: Vec::new(),
            is_busy: true,
            users: 0,
            is_closed: false,
            lineage: parent.and_then(|parent| self.volumes[parent].lineage),
            origin: parent.map_or(stamp, |parent| self.volumes[parent].origin),
        };
        self.volumes.insert(name.to_owned(), volume);
        if let Some(parent) = parent {
            self.volume(parent).running.push(now);
        }
        now
    }

    /// The volume that is being made gets a key of its own.
    pub fn begin_lineage(&mut self, name: &str) -> KeyId {
        let (lineage, key) = self.keys.begin();
        self.volume(name).lineage = Some(lineage);
        key
    }

    /// A volume or snapshot is gone, or was never made. True if its key has to be gone with it.
    pub fn remove(&mut self, name: &str) -> bool {
        let lineage = self.volumes.remove(name).and_then(|volume| volume.lineage);
        let left = self.lineages();
        self.keys.keep(&left);
        lineage.is_some_and(|lineage| !left.contains(&lineage))
    }

    fn lineages(&self) -> BTreeSet<LineageId> {
        self.volumes.values().filter_map(|volume| volume.lineage).collect()
    }

    /// The snapshot is answered: it holds what its volume held at some moment since then.
    pub fn end_snapshot(&mut self, name: &str) {
        let now = self.tick();
        self.fill_snapshot(name, now);
        let snapshot = self.volume(name);
        (snapshot.state, snapshot.is_busy) = (State::Here, false);
    }

    fn fill_snapshot(&mut self, name: &str, now: Tick) {
        let snapshot = self.volume(name);
        let from = snapshot.taken.expect("a snapshot that was begun").from;
        let parent = snapshot.parent.clone().expect("a snapshot");
        snapshot.taken = Some(Taken { from, to: now });
        self.end_running(&parent, from);
        let content = self.volume(&parent).content.clone();
        self.volume(name).content = content;
    }

    pub fn begin_running(&mut self, name: &str) -> Tick {
        let now = self.tick();
        self.volume(name).running.push(now);
        now
    }

    pub fn end_running(&mut self, name: &str, start: Tick) {
        self.volume(name).running.retain(|&tick| tick != start);
    }

    pub fn begin_write(&mut self, name: &str, sectors: std::ops::Range<u64>, value: Value) -> Tick {
        let now = self.tick();
        let volume = self.volume(name);
        let forget_before = volume.forget_before();
        volume.content.begin(sectors, value, now, forget_before);
        now
    }

    pub fn end_write(&mut self, name: &str, sectors: std::ops::Range<u64>, start: Tick) {
        let now = self.tick();
        self.volume(name).content.end(sectors, start, now);
    }

    pub fn fail_write(&mut self, name: &str, sectors: std::ops::Range<u64>, start: Tick) {
        let now = self.tick();
        self.volume(name).content.fail(sectors, start, now);
    }

    /// A flush that began then is answered.
    pub fn flushed(&mut self, name: &str, start: Tick) {
        let volume = self.volume(name);
        volume.floor = volume.floor.max(start);
    }

    /// Everything that was answered before then is durable.
    pub fn all_flushed(&mut self, start: Tick) {
        for volume in self.volumes.values_mut() {
            volume.floor = volume.floor.max(start);
        }
    }

    /// All of the volume becomes what the snapshot is, or nothing.
    pub fn begin_rollback(&mut self, name: &str, snapshot: Option<&str>) -> Tick {
        let now = self.tick();
        let (content, size) = match snapshot {
            Some(snapshot) => (self.volume(snapshot).content.clone(), self.volume(snapshot).size),
            None => (Content::default(), 0),
        };
        let volume = self.volume(name);
        let forget_before = volume.forget_before();
        volume.content.begin_replacing(&content, now, forget_before);
        volume.rollback = Some(now);
        // It gets no smaller.
        volume.new_size = Some(volume.size.max(size));
        now
    }

    pub fn end_rollback(&mut self, name: &str, start: Tick) {
        let now = self.tick();
        let volume = self.volume(name);
        volume.content.end_replacing(start, now);
        volume.rollback = None;
        volume.size = volume.new_size.take().unwrap_or(volume.size);
    }

    pub fn withdraw_rollback(&mut self, name: &str, start: Tick) {
        let volume = self.volume(name);
        volume.content.withdraw(start);
        (volume.rollback, volume.new_size) = (None, None);
    }

    pub fn resized(&mut self, name: &str) {
        let volume = self.volume(name);
        volume.size = volume.new_size.take().unwrap_or(volume.size);
        volume.content.truncate(volume.size / SECTOR);
    }

    /// Holds what a read that began then returned against the model.
    pub fn check_read(&self, name: &str, first: u64, bytes: &[u8], start: Tick) -> Result<(), String> {
        let volume = &self.volumes[name];
        for (place, bytes) in bytes.chunks_exact(SECTOR as usize).enumerate() {
            let sector = first + place as u64;
            let value = self.value(name, sector, bytes)?;
            let is_possible = |entry: &Entry| entry.value == value && entry.superseded >= start;
            if !volume.content.entries(sector).iter().any(is_possible) {
                return Err(self.unexpected(name, sector, value, start));
            }
        }
        Ok(())
    }

    /// The power went: what is under way has ended for ever.
    pub fn cut(&mut self) {
        let now = self.tick();
        let begun = self.volumes.iter().filter(|(_, volume)| volume.is_snapshot() && volume.state == State::Making);
        for name in begun.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.fill_snapshot(&name, now);
        }
        for volume in self.volumes.values_mut() {
            volume.running.clear();
            (volume.is_busy, volume.is_closed, volume.users) = (false, false, 0);
        }
    }

    /// Holds the list of a pool that was opened after a cut against the model, and settles what was not answered.
    pub fn reopened(&mut self, found: &[Listed]) -> Result<(), String> {
        if let Some(extra) = found.iter().find(|listed| !self.volumes.contains_key(&listed.name)) {
            return Err(format!("{} exists, which was deleted or never made", extra.name));
        }
        for name in self.volumes.keys().cloned().collect::<Vec<_>>() {
            let volume = self.volume(&name);
            let Some(listed) = found.iter().find(|listed| listed.name == name) else {
                if volume.state == State::Here {
                    return Err(format!("{name} is gone"));
                }
                self.volumes.remove(&name);
                continue;
            };
            volume.state = State::Here;
            if listed.size != volume.size && Some(listed.size) != volume.new_size {
                let sizes = (volume.size, volume.new_size);
                return Err(format!("{name} has {} bytes; possible are {sizes:?}", listed.size));
            }
            let is_changed = listed.size != volume.size;
            (volume.size, volume.new_size) = (listed.size, None);
            if is_changed && volume.rollback.is_none() {
                volume.content.truncate(listed.size / SECTOR);
            }
        }
        let left = self.lineages();
        self.keys.keep(&left);
        for listed in found {
            let wrong = |what| format!("{}: {what}", listed.name);
            let lineage = self.volume(&listed.name).lineage;
            self.keys.check(lineage, listed.key.as_deref()).map_err(wrong)?;
            if let (Some(lineage), Some(key)) = (lineage, &listed.key) {
                self.keys.settle(lineage, key).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Holds the whole content of a volume or snapshot against the model; from then on it is exactly this.
    pub fn check_whole(&mut self, name: &str, pieces: &[(u64, Vec<u8>)]) -> Result<(), String> {
        let volume = &self.volumes[name];
        let since = volume.taken.map_or(volume.floor, |taken| taken.from);
        let mut evidence = Evidence { latest: NEVER, ..Evidence::default() };
        let mut settled = volume.content.clone();
        settled.is_settled();
        for (first, bytes) in pieces {
            for (place, bytes) in bytes.chunks_exact(SECTOR as usize).enumerate() {
                let sector = first + place as u64;
                let value = self.value(name, sector, bytes)?;
                let is_possible = |entry: &&Entry| entry.value == value && entry.superseded >= since && !entry.is_gone;
                let entries = volume.content.entries(sector);
                let matching: Vec<&Entry> = entries.iter().filter(is_possible).collect();
                if matching.is_empty() {
                    return Err(self.unexpected(name, sector, value, since));
                }
                // Where nothing was written before a rollback and by it, zeros prove nothing.
                let rollback = volume.rollback.filter(|start| entries.iter().any(|entry| entry.start == *start));
                evidence.add(sector, &matching, rollback);
                settled.settle(sector, value);
            }
        }
        evidence.judge(name, volume)?;
        let end = volume.size / SECTOR;
        let volume = self.volume(name);
        settled.truncate(end);
        volume.content = settled;
        (volume.taken, volume.rollback, volume.floor) = (None, None, 0);
        Ok(())
    }

    /// Which write a sector holds; an error if the bytes are none that were ever written there.
    pub fn value(&self, name: &str, sector: u64, bytes: &[u8]) -> Result<Value, String> {
        let value = value_of(bytes);
        let mut expected = [0; SECTOR as usize];
        if value < self.writers.len().max(1) as u64 {
            self.fill(&mut expected, value as Value, sector);
            if bytes == expected {
                return Ok(value as Value);
            }
        }
        let words = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Err(format!(
            "{name} sector {sector}: bytes that nobody wrote there: they say write {}, stamp {}, sector {}; the last say write {}",
            words(0),
            words(8),
            words(16),
            words(480)
        ))
    }

    fn unexpected(&self, name: &str, sector: u64, value: Value, since: Tick) -> String {
        let volume = &self.volumes[name];
        let by = self.writers.get(value as usize).copied().unwrap_or(0);
        let of = self.volumes.iter().find(|(_, volume)| volume.stamp == by).map_or("nobody of now", |(name, _)| name);
        format!(
            "{name} (stamp {}) sector {sector} (cluster {}, block {}): holds write {value}, by stamp {by} ({of}); possible since {since} \
             (floor {}, taken {:?}): {:?}",
            volume.stamp,
            sector / 128,
            sector / 8,
            volume.floor,
            volume.taken,
            volume.content.entries(sector)
        )
    }
}

impl Evidence {
    fn add(&mut self, sector: u64, matching: &[&Entry], rollback: Option<Tick>) {
        // With several writes of the same value (zeros), any of them may be the one.
        let start = matching.iter().map(|entry| entry.start).min().unwrap_or(0);
        let superseded = matching.iter().map(|entry| entry.superseded).max().unwrap_or(NEVER);
        self.earliest = self.earliest.max(start);
        self.latest = self.latest.min(superseded);
        if let Some(rollback) = rollback {
            if matching.iter().all(|entry| entry.start == rollback) {
                self.is_done = Some((sector, matching[0].value));
            }
            if matching.iter().all(|entry| entry.end < rollback) {
                self.is_not_done = Some((sector, matching[0].value));
            }
        }
    }

    fn judge(&self, name: &str, volume: &Volume) -> Result<(), String> {
        if let (Some(done), Some(not_done)) = (self.is_done, self.is_not_done) {
            let tell = |(sector, value)| {
                let entries = volume.content.entries(sector);
                format!("sector {sector}, which holds write {value}; possible: {entries:?}")
            };
            return Err(format!("{name}: the rollback was done in {}, and not in {}", tell(done), tell(not_done)));
        }
        let Some(taken) = volume.taken else { return Ok(()) };
        let (earliest, latest) = (self.earliest.max(taken.from), self.latest.min(taken.to));
        if earliest > latest {
            return Err(format!(
                "{name}: not of one moment: it holds a write that began at {earliest} and lacks one that ended at {latest} (taken {taken:?})"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_volume() -> Model {
        let mut model = Model::default();
        model.begin_making("v", 1 << 20, Content::default(), None);
        model.volume("v").state = State::Here;
        model
    }

    fn write(model: &mut Model, sector: u64) -> Value {
        let value = model.new_value("v");
        let start = model.begin_write("v", sector..sector + 1, value);
        model.end_write("v", sector..sector + 1, start);
        value
    }

    fn bytes(model: &Model, values: &[Value]) -> Vec<(u64, Vec<u8>)> {
        let mut bytes = vec![0; values.len() * SECTOR as usize];
        for (sector, value) in values.iter().enumerate() {
            model.fill(&mut bytes[sector * 512..][..512], *value, sector as u64);
        }
        vec![(0, bytes)]
    }

    fn listed(model: &Model) -> Vec<Listed> {
        model.volumes.iter().map(|(name, volume)| Listed { name: name.clone(), size: volume.size, key: None }).collect()
    }

    #[test]
    fn flushed_writes_must_be_there_and_others_may() {
        let mut model = with_volume();
        let first = write(&mut model, 0);
        let flush = model.tick();
        model.flushed("v", flush);
        let second = write(&mut model, 0);
        let third = write(&mut model, 1);
        model.cut();
        for (values, is_fine) in [
            ([first, 0], true),
            ([second, third], true),
            ([first, third], true),
            ([0, third], false),
            ([first, second], false),
        ] {
            let mut outcome = model.clone();
            outcome.reopened(&listed(&model)).expect("the list is right");
            assert_eq!(outcome.check_whole("v", &bytes(&model, &values)).is_ok(), is_fine, "{values:?}");
        }
    }

    #[test]
    fn a_snapshot_is_of_one_moment() {
        let mut model = with_volume();
        model.begin_making("v@s", 1 << 20, Content::default(), Some("v"));
        let first = write(&mut model, 0);
        let second = write(&mut model, 1);
        model.end_snapshot("v@s");
        let third = write(&mut model, 0);
        for (values, is_fine) in [
            ([0, 0], true),
            ([first, 0], true),
            ([first, second], true),
            ([0, second], false),
            ([third, second], false),
        ] {
            let mut outcome = model.clone();
            assert_eq!(outcome.check_whole("v@s", &bytes(&model, &values)).is_ok(), is_fine, "{values:?}");
            if is_fine {
                outcome.check_whole("v@s", &bytes(&model, &values)).expect("it stays what it was");
                assert!(outcome.check_whole("v@s", &bytes(&model, &[third, third])).is_err());
            }
        }
    }

    #[test]
    fn an_unanswered_rollback_is_done_or_not_but_not_by_halves() {
        let mut model = with_volume();
        let old = [write(&mut model, 0), write(&mut model, 1)];
        model.begin_making("v@s", 1 << 20, Content::default(), Some("v"));
        model.end_snapshot("v@s");
        model.check_whole("v@s", &bytes(&model.clone(), &old)).expect("exact");
        let new = [write(&mut model, 0), write(&mut model, 1)];
        let flush = model.tick();
        model.flushed("v", flush);
        model.begin_rollback("v", Some("v@s"));
        model.cut();
        for (values, is_fine) in [(old, true), (new, true), ([old[0], new[1]], false)] {
            let mut outcome = model.clone();
            outcome.reopened(&listed(&model)).expect("the list is right");
            assert_eq!(outcome.check_whole("v", &bytes(&model, &values)).is_ok(), is_fine, "{values:?}");
        }
    }

    #[test]
    fn what_was_answered_stays_made_or_deleted() {
        let mut model = with_volume();
        assert!(model.clone().reopened(&[]).is_err());
        let found = listed(&model);
        model.volumes.remove("v");
        assert!(model.reopened(&found).is_err());
    }
}
