//! Keys in OpenBao: each disk's key opens for its disk only, is wrapped anew without being seen, and a master key's state is obeyed.

#[path = "servers/openbao.rs"]
mod openbao;

use openbao::{OpenBao, REGION, context, owner};
use strongroom::kms::{
    Change, CmkId, CmkState, Creator, DataContext, DiskKey, KmsError, MOST_PLAINTEXT, ProviderKind, WrappedKey,
};

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
fn users_have_keys_of_their_own_and_data_that_these_encrypt() {
    let Some(bao) = OpenBao::start("10m") else { return };
    let vault = bao.client("");
    let service = vault.service_key(&owner("a")).expect("made").value;
    let cmk = vault.create_key(&owner("a")).expect("made").value;
    assert_eq!((cmk.creator, cmk.account.as_str(), &cmk.alias, cmk.newest()), (Creator::User, "a", &None, 1));
    assert!(cmk.id.0.starts_with("strongroom.r1._") && cmk.id.0.ends_with(".a"), "{}", cmk.id);
    let other = vault.create_key(&owner("a")).expect("made").value;
    assert_ne!(other.id, cmk.id);
    let mut listed = vault.keys().expect("a list").value;
    listed.sort_by_key(|cmk| cmk.creator == Creator::User);
    assert_eq!(listed[0], service);
    assert!(listed.len() == 3 && listed.contains(&cmk) && listed.contains(&other));
    assert_eq!(vault.service_key(&owner("a")).expect("found").value, service);

    // Of a disk, as the service key.
    let key = DiskKey::random().expect("a key");
    let wrapped = vault.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value;
    let stored = WrappedKey::decode(&wrapped.encode().expect("fits")).expect("read");
    assert_eq!(vault.unwrap(&stored).expect("opened").value.0, key.0);

    // Data, which opens in its context only; a long context does no harm.
    let long = "x".repeat(30_000);
    let bound = |account: &str, value: &str| DataContext {
        owner: owner(account),
        pairs: [("disk".to_owned(), value.to_owned())].into(),
    };
    for plain in [&b"s"[..], b"small data", &[0x5A; MOST_PLAINTEXT]] {
        let sealed = vault.seal(&cmk.id, plain, &bound("a", &long)).expect("sealed");
        assert!(sealed.request_id.is_some());
        let (version, sealed) = sealed.value;
        let opened = vault.open(&cmk.id, version, &sealed, &bound("a", &long)).expect("opened");
        assert!(opened.request_id.is_some());
        assert_eq!(&**opened.value, plain);
    }
    let (version, sealed) = vault.seal(&cmk.id, b"small data", &bound("a", "1")).expect("sealed").value;
    assert_eq!(version, 1);
    vault.rotate(&cmk.id).expect("rotated");
    vault.rotate(&other.id).expect("rotated");
    let refused = |id: &CmkId, version, sealed: &[u8], bound: &DataContext| {
        vault.open(id, version, sealed, bound).map(drop).expect_err("refused")
    };
    let swapped: Vec<u8> = b"vault:v2:".iter().chain(&sealed[9..]).copied().collect();
    let broken = [&sealed[..20], b"AAAA", &sealed[24..]].concat();
    for (at, error) in [
        refused(&cmk.id, version, &sealed, &bound("a", "2")),
        refused(&other.id, version, &sealed, &bound("a", "1")),
        refused(&cmk.id, 2, &sealed, &bound("a", "1")),
        refused(&cmk.id, 2, &swapped, &bound("a", "1")),
        refused(&cmk.id, version, &broken, &bound("a", "1")),
        refused(&cmk.id, version, b"vault:v1:A\"B", &bound("a", "1")),
        // The key of a disk is no data, and data is no key of a disk.
        refused(&cmk.id, 1, &wrapped.blob, &bound("a", "1")),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(matches!(error, KmsError::CipherText { .. }), "{at}: {error}");
    }
    let (_, as_key) = vault.seal(&cmk.id, &key.0, &bound("a", "1")).expect("sealed").value;
    let taken = WrappedKey { blob: as_key, ..wrapped };
    assert!(matches!(vault.unwrap(&taken), Err(KmsError::NotAuthentic { .. })));
    // Another account has no such key.
    for (id, account) in [(&cmk.id, "b"), (&CmkId("strongroom.r1._0000000000000000.a".to_owned()), "b")] {
        assert!(matches!(refused(id, version, &sealed, &bound(account, "1")), KmsError::NotFound { .. }));
        assert!(matches!(vault.seal(id, b"x", &bound(account, "1")), Err(KmsError::NotFound { .. })));
    }
    assert_eq!(vault.seal(&cmk.id, b"x", &bound("a", "1")).expect("sealed").value.0, 2);
    assert_eq!(&**vault.open(&cmk.id, version, &sealed, &bound("a", "1")).expect("opened").value, b"small data");

    bao.bao(&["delete", &format!("transit/keys/{}/soft-delete", cmk.id)]);
    let error = refused(&cmk.id, version, &sealed, &bound("a", "1"));
    assert!(matches!(error, KmsError::State { state: CmkState::Disabled, .. }), "{error}");
    assert!(matches!(vault.seal(&cmk.id, b"x", &bound("a", "1")), Err(KmsError::State { .. })));
    assert_eq!(vault.key(&cmk.id).expect("it is there").value.state, CmkState::Disabled);
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
