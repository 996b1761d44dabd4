//! A disk key that a KMIP server wrapped opens for its disk, account and key, unchanged, while its master key is active; for nothing else.

#[path = "servers/pykmip.rs"]
mod pykmip;

use pykmip::{PyKmip, context, owner};
use strongroom::kms::{Change, CmkId, CmkState, DiskKey, KmsError, WrappedKey};

#[test]
fn a_wrapped_key_opens_for_its_disk_only() {
    let Some(server) = PyKmip::start() else { return };
    let kms = server.provider();
    let health = kms.health().expect("healthy");
    assert!(health.contains("PyKMIP"), "{health}");

    let cmk = kms.service_key(&owner("a")).expect("a key");
    assert!(cmk.request_id.is_some(), "it was made");
    let cmk = cmk.value;
    assert_eq!((cmk.state, cmk.newest(), cmk.account.as_str()), (CmkState::Enabled, 1, "a"));
    assert_eq!(cmk.id.0, "strongroom.local.a");
    let again = kms.service_key(&owner("a")).expect("a key");
    assert_eq!((again.value, again.request_id), (cmk.clone(), None));
    let other = kms.service_key(&owner("b")).expect("a key").value;

    let key = DiskKey::random().expect("a key");
    let wrapped = kms.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value;
    let wrapped = WrappedKey::decode(&wrapped.encode().expect("fits")).expect("stored");
    assert!(!wrapped.blob.windows(32).any(|window| window == key.0));
    let opened = kms.unwrap(&wrapped).expect("opened");
    assert_eq!(opened.value.0, key.0);
    assert!(opened.request_id.is_some());
    let second = kms.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value;
    assert_ne!(second.blob, wrapped.blob, "another nonce");

    let refused = |changed: WrappedKey| match kms.unwrap(&changed).map(|_| ()) {
        Err(KmsError::NotAuthentic { .. }) => {}
        other => panic!("{changed:?}: {other:?}"),
    };
    refused(WrappedKey { context: context("a", 2), ..wrapped.clone() });
    refused(WrappedKey { context: context("b", 1), cmk: other.id.clone(), ..wrapped.clone() });
    for from_end in [1, 40, 55] {
        let mut changed = wrapped.clone();
        let at = changed.blob.len() - from_end;
        changed.blob[at] ^= 1;
        refused(changed);
    }
    let cut = WrappedKey { blob: wrapped.blob[..20].to_vec(), ..wrapped.clone() };
    assert!(matches!(kms.unwrap(&cut), Err(KmsError::Wrapped(_))));

    let all = kms.keys().expect("all").value;
    assert_eq!(all.iter().map(|cmk| cmk.account.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(matches!(kms.key(&CmkId("x".to_owned())), Err(KmsError::NotFound { .. })));
}

#[test]
fn a_key_out_of_use_opens_and_wraps_nothing() {
    let Some(server) = PyKmip::start() else { return };
    let kms = server.provider();
    let key = DiskKey::random().expect("a key");
    for (account, what, state) in [
        ("deactivated", "CESSATION_OF_OPERATION", CmkState::Disabled),
        ("compromised", "KEY_COMPROMISE", CmkState::Disabled),
        ("destroyed", "DESTROY", CmkState::Destroyed),
    ] {
        let cmk = kms.service_key(&owner(account)).expect("a key").value;
        let wrapped = kms.wrap(&cmk.id, &key, &context(account, 1)).expect("wrapped").value;
        if what == "DESTROY" {
            server.operate(&format!("{}-v1", cmk.id), "CESSATION_OF_OPERATION");
        }
        server.operate(&format!("{}-v1", cmk.id), what);
        match kms.unwrap(&wrapped).map(|_| ()) {
            Err(KmsError::State { state: told, key, .. }) => assert_eq!((told, key), (state, format!("{}-v1", cmk.id))),
            other => panic!("{account}: {other:?}"),
        }
        match kms.wrap(&cmk.id, &key, &context(account, 1)).map(|_| ()) {
            Err(KmsError::State { state: told, .. }) => assert_eq!(told, state),
            // PyKMIP forgets what it destroys.
            Err(KmsError::NotFound { .. }) if what == "DESTROY" => {}
            other => panic!("{account}: {other:?}"),
        }
    }
    let change = kms.change(&CmkId("strongroom.local.a".to_owned()), Change::Disable);
    assert!(change.is_err_and(|e| matches!(e, KmsError::Unsupported { .. }) && e.to_string().contains("Revoke")));
}
