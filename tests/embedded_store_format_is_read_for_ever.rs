//! A key store that the first version of the program has written opens, with all that was wrapped by it, and takes keys of users.
//!
//! The files in `tests/vectors/keystore` were made by the commit 69c3fa2, before users had keys: the service key of account `a` has wrapped a disk key and
//! was rotated since, that of account `b` was disabled.

mod keystore;

use std::fs;
use std::path::Path;

use keystore::{Place, disk_key, open, owner};
use strongroom::kms::{Cmk, CmkState, Creator, KeyProvider, WrappedKey};

fn file(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/keystore").join(name)).expect("a vector")
}

#[test]
fn a_store_from_before_users_had_keys_opens_and_takes_some() {
    let place = Place::new();
    for name in ["keys.store", "keys.store.generation"] {
        keystore::private(&place.path(name), &file(name));
    }
    let told = |keys: &[Cmk]| {
        keys.iter().map(|cmk| (cmk.account.clone(), cmk.creator, cmk.state, cmk.newest())).collect::<Vec<_>>()
    };
    let before = [
        ("a".to_owned(), Creator::Service, CmkState::Enabled, 2),
        ("b".to_owned(), Creator::Service, CmkState::Disabled, 1),
    ];
    let wrapped = WrappedKey::decode(&file("wrapped")).expect("read");
    let store = open(&place.by_root_key()).expect("opened");
    assert_eq!(told(&store.keys().expect("told").value), before);
    assert_eq!(store.unwrap(&wrapped).expect("opened").value.0, disk_key(1).0);

    let made = store.create_key(&owner("a")).expect("made").value;
    drop(store);
    let store = open(&place.by_root_key()).expect("opened");
    let keys = store.keys().expect("told").value;
    assert_eq!(told(&keys[..2]), before);
    assert_eq!(keys[2..], [made]);
    assert_eq!(store.unwrap(&wrapped).expect("opened").value.0, disk_key(1).0);
}
