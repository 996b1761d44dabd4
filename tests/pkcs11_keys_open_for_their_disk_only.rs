//! A key that a PKCS#11 token has wrapped opens for its disk and by its master key only, through rotation, and the master key stays in the token.

#[path = "servers/softhsm.rs"]
mod softhsm;

use std::time::Duration;

use softhsm::{SoftHsm, context, disk_key, error_of, owner, plain};
use strongroom::kms::{Change, CmkId, CmkState, KeyProvider, KmsError, ProviderKind, WrappedKey};

#[test]
fn a_wrapped_key_is_bound_to_its_context() {
    let Some(token) = SoftHsm::new() else { return };
    let kms = token.provider();
    let cmk = kms.service_key(&owner("a")).expect("made").value;
    assert_eq!((cmk.id.0.as_str(), cmk.newest(), cmk.state), ("strongroom.local.a", 1, CmkState::Enabled));
    assert_eq!(kms.service_key(&owner("a")).expect("found").value, cmk);

    let wrapped = kms.wrap(&cmk.id, &disk_key(1), &context("a", 1)).expect("wrapped").value;
    assert_eq!((wrapped.provider, wrapped.cmk_version), (ProviderKind::Pkcs11, 1));
    let stored = WrappedKey::decode(&wrapped.encode().expect("it fits")).expect("it comes back");
    assert_eq!(kms.unwrap(&stored).expect("opened").value.0, plain(1));
    assert_ne!(kms.wrap(&cmk.id, &disk_key(1), &context("a", 1)).expect("wrapped").value.blob, wrapped.blob);

    let other = kms.service_key(&owner("b")).expect("made").value;
    let changed = |change: &dyn Fn(&mut WrappedKey)| {
        let mut key = wrapped.clone();
        change(&mut key);
        error_of(kms.unwrap(&key))
    };
    for (what, error) in [
        ("another disk", changed(&|key| key.context = context("a", 2))),
        ("another account", changed(&|key| key.context = context("b", 1))),
        ("a byte of the nonce", changed(&|key| key.blob[16] ^= 1)),
        ("a byte of the text", changed(&|key| key.blob[30] ^= 1)),
        ("a byte of the tag", changed(&|key| *key.blob.last_mut().expect("not empty") ^= 1)),
        ("its end", changed(&|key| key.blob.truncate(40))),
        ("all of it", changed(&|key| key.blob.clear())),
    ] {
        assert!(matches!(error, KmsError::NotAuthentic { .. }), "{what}: {error}");
    }
    for (what, error) in [
        ("another master key", changed(&|key| key.cmk = other.id.clone())),
        ("a version that is not there", changed(&|key| key.cmk_version = 2)),
        ("another object", changed(&|key| key.blob[0] ^= 1)),
    ] {
        assert!(matches!(error, KmsError::NotFound { .. }), "{what}: {error}");
    }
    assert_eq!(kms.unwrap(&wrapped).expect("opened").value.0, plain(1), "after all that");
}

#[test]
fn rotation_makes_a_version_and_rewrap_moves_a_key_to_it() {
    let Some(token) = SoftHsm::new() else { return };
    let kms = token.provider();
    let id = kms.service_key(&owner("a")).expect("made").value.id;
    let old = kms.wrap(&id, &disk_key(2), &context("a", 7)).expect("wrapped").value;
    let rotated = kms.rotate(&id).expect("rotated").value;
    assert_eq!(rotated.versions.iter().map(|version| version.number).collect::<Vec<_>>(), [1, 2]);
    let new = kms.rewrap(&old).expect("wrapped anew").value;
    assert_eq!((new.cmk_version, &new.context), (2, &old.context));
    assert_eq!(kms.wrap(&id, &disk_key(3), &context("a", 8)).expect("wrapped").value.cmk_version, 2);
    for key in [&old, &new] {
        assert_eq!(kms.unwrap(key).expect("opened").value.0, plain(2));
    }
    let stranger = WrappedKey { context: context("a", 8), ..old };
    assert!(matches!(error_of(kms.rewrap(&stranger)), KmsError::NotAuthentic { .. }));
    // Another target sees the same.
    assert_eq!(token.provider().key(&id).expect("there").value, rotated);
}

#[test]
fn keys_are_those_of_the_region_and_states_are_the_tokens_affair() {
    let Some(token) = SoftHsm::new() else { return };
    let kms = token.provider();
    assert_eq!(kms.keys().expect("listed").value, []);
    assert!(kms.health().expect("well").contains("SoftHSM"));
    let mut made: Vec<_> = ["a", "b-v1"].map(|account| kms.service_key(&owner(account)).expect("made").value).into();
    made[1] = kms.rotate(&made[1].id).expect("rotated").value;
    let elsewhere = token.config().provider("elsewhere").expect("a provider");
    assert_eq!(elsewhere.keys().expect("listed").value, []);
    let output =
        token.pkcs11_tool(&["--keygen", "--key-type", "AES:32", "--label", "strongroom.local.c", "--id", "01"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(kms.keys().expect("listed").value, made);
    assert_eq!(made[1].account, "b-v1");

    let error = error_of(kms.change(&made[0].id, Change::Disable));
    assert!(matches!(error, KmsError::Unsupported { .. }) && error.to_string().contains("CKA_DECRYPT"), "{error}");
    for name in ["strongroom.local.nobody", "strongroom.elsewhere.a", "x"] {
        let id = CmkId(name.to_owned());
        assert!(matches!(error_of(kms.key(&id)), KmsError::NotFound { .. }), "{name}");
        assert!(matches!(error_of(kms.rotate(&id)), KmsError::NotFound { .. }), "{name}");
        assert!(matches!(error_of(kms.wrap(&id, &disk_key(1), &context("a", 1))), KmsError::NotFound { .. }), "{name}");
    }
    assert!(matches!(error_of(kms.service_key(&owner(&"x".repeat(60)))), KmsError::Config(_)));
}

/// Repeats a call as the KMS layer does: SoftHSM answers `CKR_GENERAL_ERROR` when another process logs in or writes at the same moment.
fn patiently<T>(call: impl Fn() -> Result<T, KmsError>) -> T {
    let mut outcome = call();
    for _ in 0..50 {
        match outcome {
            Err(error) if error.is_retryable() => std::thread::sleep(Duration::from_millis(20)),
            other => return other.expect("done"),
        }
        outcome = call();
    }
    outcome.expect("done")
}

#[test]
fn targets_that_race_for_a_key_lose_none() {
    let Some(token) = SoftHsm::new() else { return };
    let start = std::sync::Barrier::new(4);
    let wrapped: Vec<_> = std::thread::scope(|scope| {
        let racers = [1, 2, 3, 4].map(|seed| {
            let (token, start) = (&token, &start);
            scope.spawn(move || {
                let kms = token.provider();
                patiently(|| kms.health());
                start.wait();
                let id = patiently(|| kms.service_key(&owner("a"))).value.id;
                (seed, patiently(|| kms.wrap(&id, &disk_key(seed), &context("a", seed.into()))).value)
            })
        });
        racers.into_iter().map(|racer| racer.join().expect("done")).collect()
    });
    let kms = token.provider();
    for (seed, key) in &wrapped {
        assert_eq!(kms.unwrap(key).expect("opened").value.0, plain(*seed));
    }
    let id = &wrapped[0].1.cmk;
    assert_eq!(kms.key(id).expect("there").value.newest(), 1);
    // From now on all agree on one object.
    let object = |kms: &dyn KeyProvider| {
        kms.wrap(id, &disk_key(9), &context("a", 9)).expect("wrapped").value.blob[..16].to_vec()
    };
    assert_eq!(object(&kms), object(&token.provider()));
}

#[test]
fn a_master_key_cannot_be_read_out_of_the_token() {
    let Some(token) = SoftHsm::new() else { return };
    let kms = token.provider();
    let id = kms.service_key(&owner("a")).expect("made").value.id;
    let label = format!("{id}-v1");
    let listed = token.pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for fact in
        [&*label, "AES length 32", "encrypt, decrypt", "sensitive", "always sensitive", "never extractable", "local"]
    {
        assert!(listed.contains(fact), "{fact}: {listed}");
    }
    assert!(!listed.contains("wrap"), "{listed}");
    let read = token.pkcs11_tool(&["--read-object", "--type", "secrkey", "--label", &label]);
    let said = String::from_utf8_lossy(&[read.stdout, read.stderr].concat()).into_owned();
    assert!(!read.status.success() || said.contains("ensitive"), "{said}");

    // A key of that name which somebody else has made, and which can be read, wraps nothing.
    let make =
        ["--keygen", "--key-type", "AES:32", "--extractable", "--usage-decrypt", "--label", "strongroom.local.b-v1"];
    let id = ["--id", "00000000000000000000000000000001"];
    let output = token.pkcs11_tool(&[&make[..], &id].concat());
    assert!(output.status.success(), "{output:?}");
    let cmk = kms.service_key(&owner("b")).expect("found").value;
    let error = error_of(kms.wrap(&cmk.id, &disk_key(1), &context("b", 1)));
    assert!(matches!(error, KmsError::Refused { .. }) && error.to_string().contains("read out"), "{error}");
}
