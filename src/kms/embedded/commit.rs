//! How one file takes the place of another, so that a crash at any point leaves a store that opens, and no stale copy for good.
//!
//! 1. the new file is written as `PATH.new` and made durable;
//! 2. the present one gets a second name, `PATH.old`, and the names are made durable;
//! 3. `PATH.new` is renamed to `PATH`: **from here on the change is made**; the names are made durable;
//! 4. the counter file is replaced in the same way;
//! 5. `PATH.old` is overwritten, and loses its name.
//!
//! A crash before 3 leaves the store of before: then `PATH.old` is the same file as `PATH`, and only its name is taken away. A crash
//! after it leaves the store of after, with a counter file that is one behind, and the old file by its name. [`clear`] puts both right when the
//! store is opened. The second name is made durable before 3, because otherwise the old file could go back to the file system as it is.

use super::error::StoreError;
use super::folder::{Folder, Name};

/// Steps 1 to 3 but for the last names: fails only if the store is what it was.
pub(super) fn replace(folder: &dyn Folder, store: &[u8]) -> Result<(), StoreError> {
    retire(folder)?;
    folder.write(Name::New, store)?;
    folder.link(Name::Store, Name::Old)?;
    folder.sync()?;
    folder.rename(Name::New, Name::Store)
}

/// The rest: fails with the change made.
pub(super) fn finish(folder: &dyn Folder, witness: &[u8]) -> Result<(), StoreError> {
    folder.sync()?;
    count(folder, witness)?;
    retire(folder).map_err(|error| StoreError::OldCopy(Box::new(error)))
}

/// Replaces the counter file.
pub(super) fn count(folder: &dyn Folder, witness: &[u8]) -> Result<(), StoreError> {
    folder.write(Name::NewWitness, witness)?;
    folder.rename(Name::NewWitness, Name::Witness)?;
    folder.sync()
}

/// Takes away what a crash has left, once the store has proved to be whole.
pub(super) fn clear(folder: &dyn Folder) -> Result<(), StoreError> {
    retire(folder)?;
    folder.wipe(Name::New)?;
    folder.remove(Name::New)?;
    folder.remove(Name::NewWitness)?;
    folder.sync()
}

fn retire(folder: &dyn Folder) -> Result<(), StoreError> {
    // A rename that is not durable yet may be undone by a power cut, and the old file is the store again.
    folder.sync()?;
    if !folder.is_same(Name::Old, Name::Store)? {
        folder.wipe(Name::Old)?;
    }
    folder.remove(Name::Old)?;
    folder.sync()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::kms::embedded::EmbeddedStore;
    use crate::kms::embedded::testing::{Simulated, config};
    use crate::kms::{Change, CmkId, CmkState, DiskKey, KeyContext, KeyProvider, KmsError, Owner, WrappedKey};
    use uuid::Uuid;

    /// What is done while the power goes away.
    type Deed = fn(&EmbeddedStore, &CmkId) -> Result<(), KmsError>;

    const DEEDS: [(&str, Deed); 6] = [
        ("rotate", |store, id| store.rotate(id).map(drop)),
        ("disable", |store, id| store.change(id, Change::Disable).map(drop)),
        ("make a key", |store, _| store.service_key(&owner("new")).map(drop)),
        ("make a user's key", |store, _| store.create_key(&owner("a")).map(drop)),
        ("schedule", |store, id| store.change(id, Change::ScheduleDeletion { days: 7 }).map(drop)),
        ("destroy", |store, _| store.destroy_due(after_all_waiting()).map(drop)),
    ];

    fn owner(account: &str) -> Owner {
        Owner { region: "local".to_owned(), account: account.to_owned() }
    }

    fn after_all_waiting() -> SystemTime {
        SystemTime::now() + Duration::from_secs(400 * 24 * 60 * 60)
    }

    fn context() -> KeyContext {
        KeyContext::disk(owner("a"), Uuid::from_u128(1))
    }

    /// A store with a key that has wrapped something, and one that waits for its destruction.
    struct Scene {
        dir: tempfile::TempDir,
        folder: Simulated,
        id: CmkId,
        wrapped: WrappedKey,
        plain: [u8; 32],
    }

    impl Scene {
        fn new() -> Self {
            let (dir, folder) = (tempfile::tempdir().expect("a directory"), Simulated::default());
            let store = open(&folder, &dir).expect("made");
            let id = store.service_key(&owner("a")).expect("made").value.id;
            let key = DiskKey::random().expect("a key");
            let wrapped = store.wrap(&id, &key, &context()).expect("wrapped").value;
            let doomed = store.service_key(&owner("doomed")).expect("made").value.id;
            store.change(&doomed, Change::ScheduleDeletion { days: 7 }).expect("scheduled");
            let plain = key.0;
            Self { dir, folder, id, wrapped, plain }
        }

        /// The store opens, says the same as before or after the deed, and opens what was wrapped before.
        fn check(&self, folder: &Simulated, before: &str, after: &str, what: &str) {
            let store = open(folder, &self.dir).unwrap_or_else(|e| panic!("{what}: {e}"));
            let now = said(&store);
            assert!(now == before || now == after, "{what}:\n{now}\nis neither\n{before}\nnor\n{after}");
            if store.key(&self.id).expect("there").value.state == CmkState::Enabled {
                assert_eq!(store.unwrap(&self.wrapped).expect("opened").value.0, self.plain, "{what}");
            }
            let names = folder.names();
            assert_eq!(names, [Name::Store, Name::Witness], "{what}: nothing is left lying about");
            // And it goes on.
            store.service_key(&owner("later")).unwrap_or_else(|e| panic!("{what}: {e}"));
        }
    }

    fn open(folder: &Simulated, dir: &tempfile::TempDir) -> Result<EmbeddedStore, StoreError> {
        EmbeddedStore::open_in(Box::new(folder.clone()), &config(dir.path()), "local")
    }

    /// All that is told of keys. Identities and times of new keys are random.
    fn said(store: &EmbeddedStore) -> String {
        let keys = store.keys().expect("told").value;
        let told = |cmk: &crate::kms::Cmk| format!("{} {:?} {} {}", cmk.account, cmk.creator, cmk.state, cmk.newest());
        keys.iter().map(told).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_store_of_before_or_after() {
        for (name, deed) in DEEDS {
            let scene = Scene::new();
            let untouched = scene.folder.after_kill();
            let store = open(&scene.folder, &scene.dir).expect("opened");
            let before = said(&store);
            let start = scene.folder.steps();
            deed(&store, &scene.id).expect("done");
            let (after, steps) = (said(&store), scene.folder.steps() - start);
            assert_ne!(before, after, "{name}");
            assert!(steps >= 12, "{name}: {steps} steps");
            for step in 0..steps {
                let folder = untouched.after_kill();
                let store = open(&folder, &scene.dir).expect("opened");
                folder.cut_after(step);
                deed(&store, &scene.id).expect_err("the power is gone");
                let what = format!("{name}, power cut in step {step}");
                for (at, left) in folder.after_power_cut().iter().enumerate() {
                    scene.check(left, &before, &after, &format!("{what}, outcome {at}"));
                }
                scene.check(&folder.after_kill(), &before, &after, &format!("{what}, killed"));
                // A crash while the crash is cleared up; deeds write all alike.
                let again_steps = if name == "destroy" { 14 } else { 0 };
                for again in 0..again_steps {
                    let folder = folder.after_kill();
                    folder.cut_after(again);
                    let _ = open(&folder, &scene.dir);
                    for (at, left) in folder.after_power_cut().iter().enumerate() {
                        scene.check(left, &before, &after, &format!("{what}, then in step {again}, outcome {at}"));
                    }
                }
            }
        }
    }

    #[test]
    fn a_crash_while_a_store_is_made_lets_it_be_made_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let whole = Simulated::default();
        open(&whole, &dir).expect("made");
        for step in 0..whole.steps() {
            let folder = Simulated::default();
            folder.cut_after(step);
            assert!(open(&folder, &dir).is_err());
            for left in folder.after_power_cut() {
                open(&left, &dir).unwrap_or_else(|e| panic!("step {step}: {e}"));
            }
        }
    }

    #[test]
    fn an_error_before_the_rename_changes_nothing_and_one_after_it_is_made_good() {
        for step in 0..16 {
            let scene = Scene::new();
            let store = open(&scene.folder, &scene.dir).expect("opened");
            let (before, folder) = (said(&store), &scene.folder);
            folder.cut_after(step);
            if store.rotate(&scene.id).is_ok() {
                continue;
            }
            let now = said(&store);
            let opened = said(&open(&folder.after_kill(), &scene.dir).expect("opened"));
            assert_eq!(now, opened, "step {step}: memory and file say the same");
            if now == before {
                continue;
            }
            assert!(step > 3, "step {step}: the new file is not there yet");
        }
    }

    #[test]
    fn nothing_of_a_destroyed_key_is_left_on_the_device() {
        let scene = Scene::new();
        let store = open(&scene.folder, &scene.dir).expect("opened");
        let sealed: Vec<String> =
            store.state().body.cmks.iter().map(|cmk| cmk.newest().material.clone().expect("there")).collect();
        let old_file = scene.folder.read(Name::Store).expect("read").expect("there");
        let bodies = |device: Vec<Vec<u8>>| {
            let tail = &old_file[old_file.len() - 200..];
            device.iter().filter(|file| file.windows(tail.len()).any(|window| window == tail)).count()
        };
        assert!(bodies(scene.folder.device()) > 0, "the scan finds what is there");
        store.destroy_due(after_all_waiting()).expect("destroyed");
        assert_eq!(bodies(scene.folder.device()), 0);
        let state = store.state();
        for cmk in &state.body.cmks {
            let material = cmk.newest().material.as_ref();
            assert_eq!(material.is_none(), cmk.state == CmkState::Destroyed);
            assert!(material.is_none_or(|material| !sealed.contains(material)), "a new epoch seals anew");
        }
        assert_eq!(state.header.epoch, 2);
    }

    #[test]
    fn files_that_were_put_back_are_named() {
        let scene = Scene::new();
        let Scene { dir, folder, .. } = &scene;
        let older = |name| folder.read(name).expect("read").expect("there");
        let (store, witness) = (older(Name::Store), older(Name::Witness));
        open(folder, dir).expect("opened").rotate(&scene.id).expect("rotated");
        let newest = folder.after_kill();
        let check = |change: &dyn Fn(&Simulated), hint: &str| {
            let folder = newest.after_kill();
            change(&folder);
            let error = open(&folder, dir).err().expect("refused").to_string();
            assert!(error.contains(hint), "{error}");
        };
        check(&|folder| folder.put(Name::Store, Some(store.clone())), "it is an older file");
        check(&|folder| folder.put(Name::Witness, None), "counter file Witness is missing");
        check(&|folder| folder.put(Name::Witness, Some(vec![0; 64])), "counter file Witness is damaged");
        check(&|folder| folder.put(Name::Store, None), "it was moved or deleted");
        let mut forged = witness.clone();
        forged[24] = 1;
        check(&|folder| folder.put(Name::Witness, Some(forged.clone())), "counter file Witness is damaged");
        let other = Simulated::default();
        open(&other, dir).expect("made");
        let file = other.read(Name::Store).expect("read").expect("there");
        check(&|folder| folder.put(Name::Store, Some(file.clone())), "it is another store");
        // Both put back: only a number kept elsewhere tells.
        let noted = open(&newest.after_kill(), dir).expect("opened").generation();
        newest.put(Name::Store, Some(store.clone()));
        newest.put(Name::Witness, Some(witness.clone()));
        let store = open(&newest, dir).expect("opened");
        let error = store.check_witness(&noted).expect_err("older").to_string();
        assert!(error.contains("it is an older file"), "{error}");
        store.check_witness(&store.generation()).expect("itself");
    }
}
