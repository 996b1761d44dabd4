//! Where reservations survive a loss of power: one file for each disk, in a directory of the caller's.
//!
//! At any instant the file is whole, of one state or of the one before: a new one is written beside it, made durable, renamed over it,
//! and the rename made durable. When the reservations are not to survive there is no file. A file that cannot be believed is
//! refused and left as it is: an empty state in its place would open the disk to hosts that were locked out, so the operator
//! decides.
//!
//! Everything here blocks and belongs on a control thread. One process at a time may use the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::image::{self, ImageError};
use super::{Durability, Reservations, Transition};

/// The place of one disk's reservations.
#[derive(Clone, Debug)]
pub struct ReservationStore {
    disk: String,
    directory: PathBuf,
    file: PathBuf,
    /// What is written before it takes the file's place; no disk's file can have this name.
    draft: PathBuf,
}

/// Why reservations cannot be stored or read back.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The system failed.
    #[error("disk {disk}: cannot {doing} {path}, which keeps its reservations through a loss of power: {source}")]
    System {
        /// The disk.
        disk: String,
        /// What was tried.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The file cannot be believed.
    #[error(
        "disk {disk}: {path} does not tell its reservations: {why}. Put back the right file, or move this one away to start \
         without reservations, once no host relies on them"
    )]
    Refused {
        /// The disk.
        disk: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: ImageError,
    },
    /// The disk's name does not fit the file.
    #[error("disk {disk:.64}…: its name is too long to keep reservations under it; give it a shorter one")]
    Name {
        /// The disk.
        disk: String,
    },
}

impl ReservationStore {
    /// The place of this disk's reservations. The directory has to be there when it is used.
    pub fn new(directory: &Path, disk: &str) -> Self {
        let name = file_name(disk);
        Self {
            disk: disk.to_owned(),
            directory: directory.to_owned(),
            file: directory.join(format!("{name}.reservations")),
            draft: directory.join(format!("{name}.reservations.new")),
        }
    }

    /// The file, which is there while the reservations are to survive a loss of power.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// What survived: the state in the file, or an empty one when there is none.
    pub fn load(&self) -> Result<Reservations, StoreError> {
        // What a crash left of a state that was never answered for.
        self.unlink("remove", &self.draft)?;
        let Some(bytes) = self.read()? else { return Ok(Reservations::durable()) };
        match image::decode(&self.disk, &bytes) {
            Ok(state) => Ok(Reservations::restored(state, true)),
            Err(why) => Err(StoreError::Refused { disk: self.disk.clone(), path: self.file.clone(), why }),
        }
    }

    /// Does what the transition needs before it may be installed. After an error it must not be installed; what would come back
    /// after a loss of power is then the old state or the new one, and the next commit that succeeds settles it.
    pub fn commit(&self, transition: &Transition) -> Result<(), StoreError> {
        match transition.durability() {
            Durability::Unconcerned => Ok(()),
            Durability::Remove => self.remove(),
            Durability::Write => {
                self.write_draft(transition)?;
                self.publish_draft()
            }
        }
    }

    /// Forgets the reservations, as when the disk is deleted: a later disk of the same name has none.
    pub fn remove(&self) -> Result<(), StoreError> {
        self.unlink("remove", &self.draft)?;
        self.unlink("remove", &self.file)?;
        self.sync_directory()
    }

    fn write_draft(&self, transition: &Transition) -> Result<(), StoreError> {
        let bytes = image::encode(&self.disk, &transition.next);
        let bytes = bytes.map_err(|_| StoreError::Name { disk: self.disk.clone() })?;
        let write = || {
            let mut options = OpenOptions::new();
            options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            let mut draft = options.open(&self.draft)?;
            draft.write_all(&bytes)?;
            draft.sync_all()
        };
        write().map_err(|source| self.failed("write", &self.draft, source))
    }

    fn publish_draft(&self) -> Result<(), StoreError> {
        fs::rename(&self.draft, &self.file).map_err(|source| self.failed("replace", &self.file, source))?;
        self.sync_directory()
    }

    /// The file's bytes, or one more than a valid file can have.
    fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let failed = |source| self.failed("read", &self.file, source);
        let mut options = OpenOptions::new();
        // What somebody else put there must not hold up the start.
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = match options.open(&self.file) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut bytes = Vec::new();
        file.take(image::MOST_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    fn unlink(&self, doing: &'static str, path: &Path) -> Result<(), StoreError> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.failed(doing, path, e)),
            _ => Ok(()),
        }
    }

    fn sync_directory(&self) -> Result<(), StoreError> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(|source| self.failed("make durable", &self.directory, source))
    }

    fn failed(&self, doing: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError::System { disk: self.disk.clone(), doing, path: path.to_owned(), source }
    }
}

/// A file name of its own for each disk's name, whatever stands in that.
fn file_name(disk: &str) -> String {
    let mut name = String::new();
    for (at, byte) in disk.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            b'.' if at > 0 => name.push('.'),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, B, Node, host, key};
    use super::super::{
        Access, Acquire, AcquireAction, PowerLossChange, Refusal, Register, RegisterAction, ReservationType,
    };
    use super::*;

    struct Place {
        directory: tempfile::TempDir,
        store: ReservationStore,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let store = ReservationStore::new(directory.path(), "data");
            Self { directory, store }
        }

        fn files(&self) -> Vec<String> {
            let entries = fs::read_dir(self.directory.path()).expect("listed");
            let mut names: Vec<_> =
                entries.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect();
            names.sort();
            names
        }
    }

    fn registering(name: u8, power_loss: PowerLossChange) -> impl Fn(&Reservations) -> Result<Transition, Refusal> {
        let action = RegisterAction::Register { new: key(u64::from(name)) };
        move |r| r.register(host(name), &Register { action, power_loss })
    }

    /// Work out, store, install.
    fn run(
        store: &ReservationStore,
        reservations: &mut Reservations,
        work_out: impl Fn(&Reservations) -> Result<Transition, Refusal>,
    ) -> Result<(), StoreError> {
        let transition = work_out(reservations).expect("worked out");
        store.commit(&transition)?;
        reservations.install(transition);
        Ok(())
    }

    fn holding(place: &Place) -> Reservations {
        let mut reservations = place.store.load().expect("loaded");
        run(&place.store, &mut reservations, registering(A, PowerLossChange::Survive)).expect("stored");
        run(&place.store, &mut reservations, |r| {
            let kind = ReservationType::ExclusiveAccess;
            r.acquire(host(A), &Acquire { current: key(1), kind, action: AcquireAction::Acquire })
        })
        .expect("stored");
        reservations
    }

    #[test]
    fn what_was_stored_comes_back() {
        let place = Place::new();
        let reservations = holding(&place);
        let again = place.store.load().expect("loaded");
        assert_eq!(again.state, reservations.state);
        assert!(again.report().survives_power_loss());
        assert_eq!(again.access(&host(B)), Access::NONE);
        assert_eq!(again.access(&host(A)), Access::FULL);
        assert_eq!(place.files(), ["data.reservations"]);
    }

    #[test]
    fn there_is_no_file_unless_it_is_to_survive() {
        let place = Place::new();
        let mut reservations = place.store.load().expect("loaded");
        run(&place.store, &mut reservations, registering(A, PowerLossChange::Keep)).expect("nothing to store");
        assert_eq!(place.files(), [""; 0]);
        run(&place.store, &mut reservations, registering(B, PowerLossChange::Survive)).expect("stored");
        assert_eq!(place.files(), ["data.reservations"]);
        run(&place.store, &mut reservations, registering(B, PowerLossChange::Forget)).expect("removed");
        assert_eq!(place.files(), [""; 0]);
        assert_eq!(place.store.load().expect("loaded").report().registrants().len(), 0);
    }

    #[test]
    fn a_failed_store_changes_nothing() {
        let place = Place::new();
        let mut reservations = holding(&place);
        let before = reservations.state.clone();
        // A draft that cannot be written, also not by root.
        fs::create_dir(&place.store.draft).expect("in the way");
        let error = run(&place.store, &mut reservations, registering(B, PowerLossChange::Keep)).expect_err("failed");
        assert!(error.to_string().contains("data.reservations.new"), "{error}");
        assert_eq!(reservations.state, before);
        fs::remove_dir(&place.store.draft).expect("out of the way");
        assert_eq!(place.store.load().expect("loaded").state, before);
        run(&place.store, &mut reservations, registering(B, PowerLossChange::Keep)).expect("stored");
        assert_eq!(place.store.load().expect("loaded").state, reservations.state);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let place = Place::new();
        let store = ReservationStore::new(&place.directory.path().join("absent"), "data");
        let transition = registering(A, PowerLossChange::Survive)(&Reservations::durable()).expect("worked out");
        let error = store.commit(&transition).expect_err("failed").to_string();
        assert!(error.contains("absent/data.reservations.new") && error.contains("disk data"), "{error}");
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_state() {
        let place = Place::new();
        let reservations = holding(&place);
        let transition = registering(B, PowerLossChange::Keep)(&reservations).expect("worked out");
        place.store.write_draft(&transition).expect("written");
        let whole = fs::read(&place.store.draft).expect("read");
        for len in [0, 1, whole.len() / 2, whole.len()] {
            fs::write(&place.store.draft, &whole[..len]).expect("cut off");
            assert_eq!(place.files(), ["data.reservations", "data.reservations.new"]);
            assert_eq!(place.store.load().expect("loaded").state, reservations.state);
            assert_eq!(place.files(), ["data.reservations"]);
        }
    }

    #[test]
    fn a_crash_before_the_first_rename_leaves_none() {
        let place = Place::new();
        let transition = registering(A, PowerLossChange::Survive)(&Reservations::durable()).expect("worked out");
        place.store.write_draft(&transition).expect("written");
        assert!(!place.store.load().expect("loaded").report().survives_power_loss());
        assert_eq!(place.files(), [""; 0]);
    }

    #[test]
    fn a_crash_after_the_rename_leaves_the_new_state() {
        let place = Place::new();
        let reservations = holding(&place);
        let transition = registering(B, PowerLossChange::Keep)(&reservations).expect("worked out");
        place.store.commit(&transition).expect("stored");
        assert_eq!(place.store.load().expect("loaded").state, transition.next);
    }

    #[test]
    fn a_longer_draft_of_a_crash_does_not_show_through() {
        let place = Place::new();
        fs::write(&place.store.draft, [0xEE; 4096]).expect("written");
        let mut reservations = Reservations::durable();
        run(&place.store, &mut reservations, registering(A, PowerLossChange::Survive)).expect("stored");
        assert_eq!(place.store.load().expect("loaded").state, reservations.state);
    }

    #[test]
    fn a_file_that_cannot_be_believed_is_refused_named_and_kept() {
        let place = Place::new();
        holding(&place);
        let good = fs::read(place.store.path()).expect("read");
        let mut flipped = good.clone();
        flipped[40] ^= 1;
        let mut newer = good.clone();
        newer[8] = 2;
        let files = [
            (good[..good.len() - 1].to_vec(), "cut off"),
            (Vec::new(), "cut off"),
            (flipped, "damaged"),
            (newer, "format version 2"),
            (b"{\"ptpl\": true}".to_vec(), "not a file of reservations"),
            (vec![b'S'; image::MOST_BYTES * 2], "not a file of reservations"),
            ([good.as_slice(), &vec![0; image::MOST_BYTES]].concat(), "overlong"),
        ];
        for (content, why) in files {
            fs::write(place.store.path(), &content).expect("written");
            let error = place.store.load().expect_err(why).to_string();
            let path = place.store.path().to_str().expect("text");
            assert!(error.contains(why) && error.contains(path) && error.contains("move this one away"), "{error}");
            assert_eq!(fs::read(place.store.path()).expect("read"), content);
        }
    }

    #[test]
    fn another_disks_file_is_refused() {
        let place = Place::new();
        holding(&place);
        let other = ReservationStore::new(place.directory.path(), "other");
        fs::copy(place.store.path(), other.path()).expect("copied");
        let error = other.load().expect_err("refused").to_string();
        assert!(error.contains("it belongs to disk data"), "{error}");
    }

    #[test]
    fn a_directory_in_its_place_is_an_error() {
        let place = Place::new();
        fs::create_dir(place.store.path()).expect("in the way");
        assert!(matches!(place.store.load(), Err(StoreError::System { .. })));
    }

    #[test]
    fn a_deleted_disk_leaves_nothing() {
        let place = Place::new();
        holding(&place);
        fs::write(&place.store.draft, b"half").expect("written");
        place.store.remove().expect("removed");
        place.store.remove().expect("nothing is no error");
        assert_eq!(place.files(), [""; 0]);
    }

    #[test]
    fn each_disk_has_a_file_of_its_own_in_the_directory() {
        let names = ["a", "A", "a.b", ".", "..", "../x", "a/b", "a%2Fb", "Ä", "", "a.reservations.new", "a b"];
        let files: std::collections::HashSet<_> = names.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), names.len());
        assert!(files.iter().all(|file| !file.contains('/') && !file.starts_with('.')));
        assert_eq!(file_name("../x"), "%2E.%2Fx");
    }

    #[test]
    fn only_its_owner_may_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let place = Place::new();
        holding(&place);
        let mode = fs::metadata(place.store.path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }

    #[test]
    fn a_hosts_state_survives_a_restart_command_by_command() {
        let place = Place::new();
        let mut node = Node::durable();
        node.change(|r| r.change_persistence(PowerLossChange::Survive)).expect("set");
        for name in [A, B] {
            let transition = registering(name, PowerLossChange::Keep)(node.reservations()).expect("worked out");
            place.store.commit(&transition).expect("stored");
            node.install(transition);
            assert_eq!(place.store.load().expect("loaded").state, node.reservations().state);
        }
    }
}
