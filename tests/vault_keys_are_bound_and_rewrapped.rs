//! Keys in OpenBao: each disk's key opens for its disk only, is wrapped anew without being seen, and a master key's state is obeyed.

#[path = "servers/openbao.rs"]
mod openbao;

use openbao::{OpenBao, REGION, context, owner};
use strongroom::kms::{Change, CmkId, CmkState, DiskKey, KmsError, ProviderKind, WrappedKey};

#[test]
fn a_key_opens_for_its_disk_only_and_lives_through_rotations() {
    let Some(bao) = OpenBao::start("10m") else { return };
    let vault = bao.client("");
    assert!(vault.health().expect("healthy").contains("2.7.2"));
    assert!(vault.keys().expect("a list").value.is_empty());

    let made = vault.service_key(&owner("a")).expect("made");
    assert!(made.request_id.is_some_and(|id| id.len() == 36));
    let cmk = made.value;
    assert_eq!((cmk.id.0.as_str(), cmk.account.as_str(), cmk.newest()), ("strongroom.r1.a", "a", 1));
    assert_eq!(cmk.state, CmkState::Enabled);
    assert!(cmk.created_at.is_some_and(|at| at > 1_700_000_000));
    assert_eq!(vault.service_key(&owner("a")).expect("found").value, cmk);

    let key = DiskKey::random().expect("a key");
    let wrapped = vault.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped");
    assert!(wrapped.request_id.is_some());
    let wrapped = wrapped.value;
    assert_eq!((wrapped.provider, wrapped.cmk_version), (ProviderKind::Vault, 1));
    assert!(wrapped.blob.starts_with(b"vault:v1:"));
    let stored = WrappedKey::decode(&wrapped.encode().expect("fits")).expect("read");
    let opened = vault.unwrap(&stored).expect("opened");
    assert!(opened.request_id.is_some());
    assert_eq!(opened.value.0, key.0);

    // Another disk, another account, another text.
    vault.service_key(&owner("b")).expect("made");
    let others = [
        WrappedKey { context: context("a", 2), ..wrapped.clone() },
        WrappedKey { context: context("b", 1), ..wrapped.clone() },
        WrappedKey { cmk: CmkId("strongroom.r1.b".to_owned()), ..wrapped.clone() },
        WrappedKey { blob: [&wrapped.blob[..20], b"AAAA", &wrapped.blob[24..]].concat(), ..wrapped.clone() },
        WrappedKey { blob: b"vault:v1:AAAA".to_vec(), ..wrapped.clone() },
        WrappedKey { blob: b"vault:v7:".iter().chain(&wrapped.blob[9..]).copied().collect(), ..wrapped.clone() },
    ];
    for (at, other) in others.iter().enumerate() {
        let error = vault.unwrap(other).map(|_| ()).expect_err("another one's");
        assert!(matches!(error, KmsError::NotAuthentic { .. }), "{at}: {error}");
        assert!(vault.rewrap(other).is_err(), "{at}");
    }
    let wild = WrappedKey { blob: b"vault:v1:A\"B".to_vec(), ..wrapped.clone() };
    assert!(matches!(vault.unwrap(&wild), Err(KmsError::Wrapped(_))));

    let rotated = vault.rotate(&cmk.id).expect("rotated");
    assert!(rotated.request_id.is_some());
    assert_eq!(rotated.value.newest(), 2);
    assert_eq!(vault.unwrap(&wrapped).expect("still opens").value.0, key.0);
    let anew = vault.rewrap(&wrapped).expect("rewrapped").value;
    assert_eq!((anew.cmk_version, &anew.context), (2, &wrapped.context));
    assert_eq!(vault.unwrap(&anew).expect("opened").value.0, key.0);
    assert_eq!(vault.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value.cmk_version, 2);

    let listed = vault.keys().expect("a list").value;
    assert_eq!(listed.iter().map(|cmk| cmk.account.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    bao.bao(&["write", "transit/keys/strongroom.r1.a/config", "min_decryption_version=2"]);
    let error = vault.unwrap(&wrapped).map(|_| ()).expect_err("too old");
    assert!(matches!(&error, KmsError::State { .. }) && error.to_string().contains("min_decryption"), "{error}");
    assert_eq!(vault.unwrap(&anew).expect("opened").value.0, key.0);

    bao.bao(&["delete", "transit/keys/strongroom.r1.a/soft-delete"]);
    let error = vault.unwrap(&anew).map(|_| ()).expect_err("disabled");
    assert!(matches!(error, KmsError::State { state: CmkState::Disabled, .. }), "{error}");
    assert_eq!(vault.key(&cmk.id).expect("it is there").value.state, CmkState::Disabled);
    assert!(matches!(vault.wrap(&cmk.id, &key, &context("a", 3)), Err(KmsError::State { .. })));
    bao.bao(&["write", "-f", "transit/keys/strongroom.r1.a/soft-delete-restore"]);
    assert_eq!(vault.unwrap(&anew).expect("enabled again").value.0, key.0);
}

#[test]
fn what_vault_decides_is_left_to_vault_and_told() {
    let Some(bao) = OpenBao::start("10m") else { return };
    let vault = bao.client("");
    let cmk = vault.service_key(&owner("a")).expect("made").value;
    for change in [Change::Disable, Change::Enable, Change::ScheduleDeletion { days: 7 }, Change::CancelDeletion] {
        let error = vault.change(&cmk.id, change).expect_err("its operators' affair");
        assert!(matches!(&error, KmsError::Unsupported { .. }) && error.to_string().contains(&cmk.id.0), "{error}");
    }
    let none = CmkId("strongroom.r1.none".to_owned());
    assert!(matches!(vault.key(&none), Err(KmsError::NotFound { .. })));
    let key = DiskKey::random().expect("a key");
    let error = vault.wrap(&none, &key, &context("none", 1)).map(|_| ()).expect_err("no key");
    assert!(matches!(error, KmsError::NotFound { .. } | KmsError::Refused { .. }), "{error}");
    for elsewhere in ["other.r1.a", "strongroom.r1.../a", "strongroom.r2.a"] {
        assert!(matches!(vault.key(&CmkId(elsewhere.to_owned())), Err(KmsError::NotFound { .. })), "{elsewhere}");
    }

    // Keys that others have made under our name.
    for (account, settings) in
        [("plain", "derived=false"), ("out", "exportable=true"), ("rsa", "type=chacha20-poly1305")]
    {
        let derived = if account == "plain" { "" } else { "derived=true" };
        let path = format!("transit/keys/strongroom.{REGION}.{account}");
        let words: Vec<_> =
            ["write", "-f", &path, settings, derived].into_iter().filter(|word| !word.is_empty()).collect();
        bao.bao(&words);
        let error = vault.service_key(&owner(account)).expect_err("not fit");
        assert!(matches!(error, KmsError::Refused { .. }), "{account}: {error}");
    }

    // Another prefix is not in the policy.
    let error = bao.client("key_prefix = 'foreign'").service_key(&owner("a")).expect_err("no policy");
    assert!(
        matches!(&error, KmsError::Refused { .. }) && error.to_string().contains("transit/keys/foreign.r1.a"),
        "{error}"
    );
    // A role may use keys, and cannot have them exported.
    assert!(vault.service_key(&owner("a")).is_ok());
}
