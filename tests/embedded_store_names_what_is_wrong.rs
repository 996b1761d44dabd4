//! A store that does not open says what is wrong with it and what to do, whatever its file has become; and never anything secret.

mod keystore;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use keystore::{Place, open, owner, private, refusal};
use proptest::prelude::*;
use strongroom::kms::embedded::{EmbeddedConfig, EmbeddedStore, Overwrite, SlotKind, Unlock, fuzzing};
use strongroom::kms::{KeyProvider, WrappedKey};

#[test]
fn a_wrong_passphrase_and_a_wrong_root_key_are_told_apart() {
    let place = Place::new();
    drop(open(&place.by_passphrase("correct horse\n")).expect("made"));
    open(&place.by_passphrase("correct horse")).expect("opened");
    let error = refusal(&place.by_passphrase("wrong-horse"));
    assert!(error.contains("wrong passphrase") && !error.contains("horse"), "{error}");
    assert!(error.contains(place.path("keys.store").to_str().expect("text")), "{error}");
    assert!(refusal(&place.by_root_key()).contains("no root key slot"), "{error}");
    let place = Place::new();
    drop(open(&place.by_root_key()).expect("made"));
    let wrong = place.by(Unlock::RootKey(place.secret("wrong.key", &[7; 32])));
    assert!(refusal(&wrong).contains("wrong root key"));
    let none = place.by(Unlock::RootKey(place.secret("none.key", &[7; 31])));
    assert!(refusal(&none).contains("openssl rand"));
}

#[test]
fn slots_are_added_and_removed_and_one_stays() {
    let place = Place::new();
    let (by_key, by_passphrase) = (place.by_root_key(), place.by_passphrase("correct horse"));
    let store = open(&by_key).expect("made");
    assert!(store.remove_slot(0).expect_err("refused").to_string().contains("is the last one"));
    let slot = store.add_slot(&by_passphrase.unlock).expect("added");
    assert_eq!((slot.number, slot.kind), (1, SlotKind::Passphrase));
    let key = store.service_key(&owner("a")).expect("made").value.id;
    drop(store);
    let store = open(&by_passphrase).expect("opened");
    assert_eq!(store.service_key(&owner("a")).expect("found").value.id, key);
    store.remove_slot(0).expect("removed");
    assert!(store.remove_slot(9).expect_err("refused").to_string().contains("no slot 9"));
    drop(store);
    assert!(refusal(&by_key).contains("no root key slot"));
    open(&by_passphrase).expect("opened");
}

#[test]
fn a_missing_file_is_made_only_if_that_is_asked_for() {
    let place = Place::new();
    let config = EmbeddedConfig { create: false, ..place.by_root_key() };
    assert!(refusal(&config).contains("create = true"));
    drop(open(&place.by_root_key()).expect("made"));
    drop(open(&config).expect("opened"));
    let mode = |name| fs::metadata(place.path(name)).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode("keys.store"), mode("keys.store.generation")), (0o600, 0o600));
    fs::remove_file(place.path("keys.store")).expect("removed");
    // Not even then: there was one.
    assert!(refusal(&place.by_root_key()).contains("it was moved or deleted"));
}

#[test]
fn a_store_has_one_user_at_a_time() {
    let place = Place::new();
    let store = open(&place.by_root_key()).expect("made");
    assert!(refusal(&place.by_root_key()).contains("another process has it open"));
    let restored = EmbeddedStore::restore(&place.by_root_key(), &place.path("none"), Overwrite::Anything);
    assert!(restored.expect_err("refused").to_string().contains("another process has it open"));
    drop(store);
    open(&place.by_root_key()).expect("opened");
}

#[test]
fn each_damaged_part_is_named() {
    let place = Place::new();
    drop(open(&place.by_root_key()).expect("made"));
    let path = place.path("keys.store");
    let good = fs::read(&path).expect("read");
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        private(&path, &bytes);
        let error = refusal(&place.by_root_key());
        let part = match at {
            0..8 => "it is no key store",
            8..64 => "its header is damaged",
            // One root key slot and the digest.
            64..164 => "its table of slots is damaged",
            _ => "its body is damaged",
        };
        assert!(error.contains(part), "{at}: {error}");
    }
    for len in 0..good.len() {
        private(&path, &good[..len]);
        assert!(refusal(&place.by_root_key()).contains("it is cut off"), "{len}");
    }
    private(&path, &good);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode set");
    assert!(refusal(&place.by_root_key()).contains("chmod 600"));
    private(&path, &good);
    open(&place.by_root_key()).expect("opened");
}

#[test]
fn an_older_file_and_another_store_are_named() {
    let place = Place::new();
    let path = place.path("keys.store");
    let store = open(&place.by_root_key()).expect("made");
    let (old, noted) = (fs::read(&path).expect("read"), store.generation());
    store.service_key(&owner("a")).expect("made");
    store.check_witness(&noted).expect("newer");
    // Under way too.
    let newest = fs::read(&path).expect("read");
    private(&path, &old);
    assert!(store.health().expect_err("noticed").to_string().contains("it is an older file"));
    drop(store);
    assert!(refusal(&place.by_root_key()).contains("it is an older file: it has generation 1, and generation 2"));
    let other = Place::new();
    drop(open(&other.by_passphrase("another store")).expect("made"));
    private(&path, &fs::read(other.path("keys.store")).expect("read"));
    assert!(refusal(&place.by_root_key()).contains("it is another store"));
    private(&path, &newest);
    fs::remove_file(place.path("keys.store.generation")).expect("removed");
    assert!(refusal(&place.by_root_key()).contains("counter file"));
}

#[test]
fn a_backup_comes_back_and_loses_nothing_unasked() {
    let place = Place::new();
    let config = place.by_root_key();
    let (path, backup) = (place.path("keys.store"), place.path("backup"));
    let store = open(&config).expect("made");
    let first = store.service_key(&owner("a")).expect("made").value.id;
    assert_eq!(store.backup(&backup).expect("copied"), store.generation());
    assert!(store.backup(&backup).expect_err("it is there").to_string().contains("exists"));
    let second = store.service_key(&owner("b")).expect("made").value.id;
    let (newest, noted) = (fs::read(&path).expect("read"), store.generation());
    drop(store);
    let restore = |overwrite| EmbeddedStore::restore(&config, &backup, overwrite).map_err(|error| error.to_string());
    assert!(restore(Overwrite::NothingNewer).expect_err("newer").contains("would lose"));
    assert_eq!(fs::read(&path).expect("read"), newest, "nothing was changed");
    let wrong = place.by(Unlock::RootKey(place.secret("wrong.key", &[7; 32])));
    let error = EmbeddedStore::restore(&wrong, &backup, Overwrite::Anything).expect_err("refused").to_string();
    assert!(error.contains("nothing was changed") && error.contains("wrong root key"), "{error}");
    // What is there is damaged: the counter file still says what would be lost.
    private(&path, b"damaged");
    assert!(restore(Overwrite::NothingNewer).expect_err("newer").contains("would lose"));
    assert!(restore(Overwrite::Anything).expect("restored").number > noted.number);
    let store = open(&config).expect("opened");
    store.key(&first).expect("it was there");
    store.key(&second).expect_err("it was made later");
    store.check_witness(&noted).expect("it counts as the newest");
    drop(store);
    // To another machine.
    let elsewhere = Place::new();
    let config = elsewhere.by_root_key();
    EmbeddedStore::restore(&config, &backup, Overwrite::NothingNewer).expect("restored");
    open(&config).expect("opened").key(&first).expect("it was there");
    let other = Place::new();
    drop(open(&other.by_root_key()).expect("made"));
    let error = EmbeddedStore::restore(&other.by_root_key(), &backup, Overwrite::NothingNewer).expect_err("refused");
    assert!(error.to_string().contains("the backup is of store"), "{error}");
    EmbeddedStore::restore(&other.by_root_key(), &backup, Overwrite::Anything).expect("restored");
}

#[cfg(not(feature = "tpm"))]
#[test]
fn a_build_without_tpm_says_so() {
    let place = Place::new();
    let unlock = Unlock::Tpm { tcti: "device:/dev/tpmrm0".to_owned(), pcrs: vec![] };
    assert!(refusal(&place.by(unlock)).contains("--features tpm"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzzing::store(&bytes);
        fuzzing::wrapped_key(&bytes);
    }

    #[test]
    fn a_store_with_any_bytes_changed_is_answered(changes in proptest::collection::vec((8..1000usize, any::<u8>()), 1..6), which in 0..2u8) {
        let mut bytes = [&[which], &seed("store/file")[1..]].concat();
        for (at, value) in changes {
            let at = at % bytes.len();
            if at > 0 {
                bytes[at] = value;
            }
        }
        fuzzing::store(&bytes);
    }

    #[test]
    fn a_wrapped_key_with_any_bytes_changed_is_answered(changes in proptest::collection::vec((0..400usize, any::<u8>()), 1..6)) {
        let mut bytes = seed("wrapped_key/embedded");
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        fuzzing::wrapped_key(&bytes);
    }
}

fn seed_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name)
}

fn seed(name: &str) -> Vec<u8> {
    fs::read(seed_path(name)).expect("a seed")
}

#[test]
fn the_seeds_are_what_they_say() {
    for name in ["store/file", "store/file-with-checksums", "store/body", "store/counter", "store/tpm"] {
        fuzzing::store(&seed(name));
    }
    let place = Place::new();
    private(&place.path("keys.store"), &seed("store/file")[1..]);
    private(&place.path("keys.store.generation"), &seed("store/counter")[1..]);
    let config = place.by(Unlock::Passphrase(place.secret("passphrase", b"seed")));
    assert_eq!(open(&config).expect("the seed is a store").keys().expect("told").value.len(), 1);
    fuzzing::wrapped_key(&seed("wrapped_key/embedded"));
    WrappedKey::decode(&seed("wrapped_key/embedded")).expect("it is one");
}

#[test]
#[ignore = "writes into tests/fuzz/corpus"]
fn write_the_seeds() {
    let place = Place::new();
    let store = open(&place.by_root_key()).expect("made");
    store.add_slot(&place.by_passphrase("seed").unlock).expect("added");
    let id = store.service_key(&owner("a")).expect("made").value.id;
    let wrapped = store.wrap(&id, &keystore::disk_key(1), &keystore::context("a", 1)).expect("wrapped").value;
    let file = fs::read(place.path("keys.store")).expect("read");
    let counter = fs::read(place.path("keys.store.generation")).expect("read");
    let body = br#"{"cmks":[{"id":"00000000-0000-4000-8000-000000000001","owner":{"region":"r","account":"a"},"alias":null,"creator":"service","state":"enabled","created_at":1,"deletion_at":null,"versions":[{"number":1,"created_at":1,"material":"AA=="}]}]}"#;
    let tpm = [&[0x80, 0, 0, 0, 2, 0, 1, 0][..], &[1, 2, 3]].concat();
    for (name, which, content) in [
        ("store/file", 0, file.clone()),
        ("store/file-with-checksums", 1, file),
        ("store/body", 2, body.to_vec()),
        ("store/counter", 3, counter),
        ("store/tpm", 4, tpm),
    ] {
        fs::create_dir_all(seed_path("store")).expect("a folder");
        fs::write(seed_path(name), [&[which], &content[..]].concat()).expect("written");
    }
    fs::create_dir_all(seed_path("wrapped_key")).expect("a folder");
    fs::write(seed_path("wrapped_key/embedded"), wrapped.encode().expect("fits")).expect("written");
}
