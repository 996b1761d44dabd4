//! The embedded key store as a KMS: keys open for what they were wrapped for and for nothing else, states bind, versions last.

mod keystore;

use std::fs;
use std::time::{Duration, SystemTime};

use keystore::{Place, context, disk_key, open, owner};
use strongroom::kms::embedded::{DEFAULT_WAITING_DAYS, EmbeddedStore};
use strongroom::kms::{
    Change, CmkId, CmkState, Creator, KeyProvider, KmsError, ProviderKind, SERVICE_KEY_ALIAS, WrappedKey,
};

fn made(place: &Place) -> (EmbeddedStore, CmkId, WrappedKey) {
    let store = open(&place.by_root_key()).expect("made");
    let id = store.service_key(&owner("a")).expect("made").value.id;
    let wrapped = store.wrap(&id, &disk_key(1), &context("a", 1)).expect("wrapped").value;
    (store, id, wrapped)
}

#[test]
fn a_service_key_is_made_once_for_each_account() {
    let place = Place::new();
    let (store, id, _) = made(&place);
    let cmk = store.service_key(&owner("a")).expect("found").value;
    assert_eq!((&cmk.id, cmk.creator, cmk.state), (&id, Creator::Service, CmkState::Enabled));
    assert_eq!(cmk.alias.as_deref(), Some(SERVICE_KEY_ALIAS));
    assert_ne!(store.service_key(&owner("b")).expect("made").value.id, id);
    drop(store);
    let store = open(&place.by_root_key()).expect("opened");
    assert_eq!(store.service_key(&owner("a")).expect("found").value.id, id);
    assert_eq!(store.keys().expect("told").value.len(), 2);
    assert!(matches!(store.key(&CmkId("none".to_owned())), Err(KmsError::NotFound { .. })));
    store.health().expect("well");
}

#[test]
fn a_wrapped_key_opens_for_what_it_was_wrapped_for_only() {
    let place = Place::new();
    let (store, id, wrapped) = made(&place);
    assert_eq!(store.unwrap(&wrapped).expect("opened").value.0, disk_key(1).0);
    let other = store.service_key(&owner("b")).expect("made").value.id;
    let refused = |change: &dyn Fn(&mut WrappedKey)| {
        let mut wrapped = wrapped.clone();
        change(&mut wrapped);
        store.unwrap(&wrapped).map(drop).expect_err("refused")
    };
    let not_authentic = |error| assert!(matches!(error, KmsError::NotAuthentic { .. }), "{error}");
    not_authentic(refused(&|it| it.context = context("a", 2)));
    not_authentic(refused(&|it| it.context = context("b", 1)));
    not_authentic(refused(&|it| it.context.owner.region = "elsewhere".to_owned()));
    not_authentic(refused(&|it| it.cmk = other.clone()));
    not_authentic(refused(&|it| it.cmk_version = 2));
    not_authentic(refused(&|it| it.blob.clear()));
    for at in 0..wrapped.blob.len() {
        not_authentic(refused(&|it| it.blob[at] ^= 1));
    }
    assert!(matches!(refused(&|it| it.cmk.0.clear()), KmsError::NotFound { .. }));
    assert!(matches!(refused(&|it| it.provider = ProviderKind::Vault), KmsError::Unsupported { .. }));
    let foreign = store.wrap(&id, &disk_key(1), &context("b", 1)).expect_err("refused");
    assert!(matches!(foreign, KmsError::Refused { .. }), "{foreign}");
}

#[test]
fn a_rotated_key_opens_what_it_wrapped_and_wraps_anew() {
    let place = Place::new();
    let (store, id, wrapped) = made(&place);
    assert_eq!(store.rotate(&id).expect("rotated").value.newest(), 2);
    drop(store);
    let store = open(&place.by_root_key()).expect("opened");
    assert_eq!(store.unwrap(&wrapped).expect("opened").value.0, disk_key(1).0);
    let again = store.rewrap(&wrapped).expect("wrapped").value;
    assert_eq!((again.cmk_version, &again.context), (2, &wrapped.context));
    assert_ne!(again.blob, wrapped.blob);
    assert_eq!(store.unwrap(&again).expect("opened").value.0, disk_key(1).0);
    assert_eq!(store.wrap(&id, &disk_key(2), &context("a", 2)).expect("wrapped").value.cmk_version, 2);
}

#[test]
fn a_key_that_is_not_enabled_neither_wraps_nor_opens() {
    let place = Place::new();
    let (store, id, wrapped) = made(&place);
    let change = |change| store.change(&id, change).map(|answer| answer.value);
    let is_shut = |state| {
        for refused in [
            store.wrap(&id, &disk_key(1), &context("a", 1)).map(drop),
            store.unwrap(&wrapped).map(drop),
            store.rewrap(&wrapped).map(drop),
            store.rotate(&id).map(drop),
        ] {
            assert!(matches!(refused, Err(KmsError::State { state: is, .. }) if is == state), "{refused:?}");
        }
    };
    change(Change::Disable).expect("disabled");
    is_shut(CmkState::Disabled);
    change(Change::Enable).expect("enabled");
    store.unwrap(&wrapped).expect("opened");
    for days in [0, 6, 367, u32::MAX] {
        let refused = change(Change::ScheduleDeletion { days });
        assert!(matches!(refused, Err(KmsError::Unsupported { .. })), "{refused:?}");
    }
    assert!(matches!(change(Change::CancelDeletion), Err(KmsError::State { .. })));
    let pending = change(Change::ScheduleDeletion { days: DEFAULT_WAITING_DAYS }).expect("scheduled");
    assert!(pending.deletion_at.is_some());
    is_shut(CmkState::PendingDeletion);
    assert!(matches!(change(Change::Enable), Err(KmsError::State { .. })));
    let cancelled = change(Change::CancelDeletion).expect("cancelled");
    assert_eq!((cancelled.state, cancelled.deletion_at), (CmkState::Disabled, None));
    change(Change::Enable).expect("enabled");
    assert_eq!(store.unwrap(&wrapped).expect("opened").value.0, disk_key(1).0);
}

#[test]
fn a_destroyed_key_is_gone_and_its_old_file_overwritten() {
    let place = Place::new();
    let (store, id, wrapped) = made(&place);
    let kept = store.service_key(&owner("b")).expect("made").value.id;
    let other = store.wrap(&kept, &disk_key(2), &context("b", 2)).expect("wrapped").value;
    store.change(&id, Change::ScheduleDeletion { days: 7 }).expect("scheduled");
    let in_days = |days: u64| SystemTime::now() + Duration::from_secs(days * 24 * 60 * 60);
    assert_eq!(store.destroy_due(in_days(6)).expect("nothing"), []);
    // Who holds the old file open sees what its blocks hold afterwards.
    let old = place.path("keys.store");
    let (before, held) = (fs::read(&old).expect("read"), fs::File::open(&old).expect("opened"));
    assert_eq!(store.destroy_due(in_days(8)).expect("destroyed"), std::slice::from_ref(&id));
    let mut left = vec![];
    std::io::Read::read_to_end(&mut &held, &mut left).expect("read");
    assert_eq!(left, vec![0; before.len()]);
    let body = &before[before.len() - 300..before.len() - 200];
    let holds = |content: &[u8]| content.windows(body.len()).any(|window| window == body);
    assert!(holds(&before), "the scan finds what is there");
    assert!(!place.files().iter().any(|(_, content)| holds(content)));
    for store in [store, /* and after a restart */ open_again(&place)] {
        assert_eq!(store.key(&id).expect("its name is left").value.state, CmkState::Destroyed);
        assert!(matches!(store.unwrap(&wrapped), Err(KmsError::State { state: CmkState::Destroyed, .. })));
        assert!(matches!(store.change(&id, Change::CancelDeletion), Err(KmsError::State { .. })));
        assert_eq!(store.unwrap(&other).expect("opened").value.0, disk_key(2).0);
        drop(store);
    }
    let store = open(&place.by_root_key()).expect("opened");
    assert_ne!(store.service_key(&owner("a")).expect("a new one").value.id, id);
}

/// A copy of the folder, opened: the store itself is still open.
fn open_again(place: &Place) -> EmbeddedStore {
    let copy = Place::new();
    for name in ["keys.store", "keys.store.generation"] {
        keystore::private(&copy.path(name), &fs::read(place.path(name)).expect("read"));
    }
    open(&copy.by_root_key()).expect("opened")
}

#[test]
fn no_plain_key_lies_in_any_file() {
    let place = Place::new();
    let (store, _, wrapped) = made(&place);
    let key = store.unwrap(&wrapped).expect("opened").value.0;
    private_copy(&place, &key);
    let holders = || place.files().into_iter().filter(|(_, content)| content.windows(32).any(|at| at == key)).count();
    assert_eq!(holders(), 1, "the scan finds the copy");
    fs::remove_file(place.path("control")).expect("removed");
    assert_eq!(holders(), 0);
    let plain = fs::read(place.path("keys.store")).expect("read");
    assert!(!plain.windows(8).any(|at| at == b"accounts" || at == b"versions"), "the body is sealed");
}

fn private_copy(place: &Place, key: &[u8]) {
    keystore::private(&place.path("control"), &[b"before", key, b"after"].concat());
}

#[test]
fn many_threads_may_call_at_once() {
    let place = Place::new();
    let (store, id, _) = made(&place);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (store, id) = (&store, &id);
            scope.spawn(move || {
                for round in 0..5 {
                    let context = context("a", u128::from(thread) << 8 | round);
                    let wrapped = store.wrap(id, &disk_key(thread), &context).expect("wrapped").value;
                    store.rotate(id).expect("rotated");
                    let again = store.rewrap(&wrapped).expect("wrapped").value;
                    assert!(again.cmk_version > wrapped.cmk_version);
                    assert_eq!(store.unwrap(&again).expect("opened").value.0, disk_key(thread).0);
                }
            });
        }
    });
    assert_eq!(store.key(&id).expect("there").value.newest(), 21);
}
