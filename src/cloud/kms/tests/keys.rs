//! Accounts and keys: who has opened the KMS, what a key can be, and whose it is.

use serde_json::json;

use super::*;

#[test]
fn nothing_is_done_for_who_has_not_opened_the_kms() {
    let site = Site::new();
    let cloud = site.open();
    let status = || kms_as(&cloud, "other", "DescribeAccountKmsStatus", &[]).expect("anybody may ask");
    assert_eq!(status(), json!({ "AccountStatus": "NotEnabled" }));
    for (action, _) in OPERATIONS {
        if !["DescribeAccountKmsStatus", "DescribeRegions", "OpenKmsService"].contains(action) {
            let refused = refusal(kms_as(&cloud, "other", action, &[]));
            assert_eq!(refused, code("Forbidden.KmsServiceNotEnabled", 403), "{action}");
        }
    }
    assert_eq!(kms_as(&cloud, "other", "OpenKmsService", &[]), Ok(json!({})));
    assert_eq!(status(), json!({ "AccountStatus": "Enabled" }));
    assert_eq!(refusal(kms_as(&cloud, "other", "OpenKmsService", &[])), code("Forbidden.Opened", 400));
    kms_as(&cloud, "other", "CreateKey", &[]).expect("it is open");
    let regions = kms(&cloud, "DescribeRegions", &[]).expect("there is one");
    assert_eq!(regions, json!({ "Regions": { "Region": [{ "RegionId": "cn-test" }] } }));
}

#[test]
fn a_key_is_described_as_documented() {
    let site = Site::new();
    let cloud = site.open();
    let made = kms(&cloud, "CreateKey", &[("Description", "for the books"), ("Origin", "Aliyun_KMS")]);
    let made = made.expect("it is made")["KeyMetadata"].clone();
    let id = text(&made["KeyId"]);
    assert_eq!(
        made,
        json!({
            "KeyId": id,
            "Arn": format!("acs:kms:cn-test:acme:key/{id}"),
            "Creator": "acme",
            "CreationDate": "1970-01-01T00:00:01Z",
            "Description": "for the books",
            "KeySpec": "Aliyun_AES_256",
            "KeyUsage": "ENCRYPT/DECRYPT",
            "KeyState": "Enabled",
            "Origin": "Aliyun_KMS",
            "ProtectionLevel": "SOFTWARE",
            "PrimaryKeyVersion": made["PrimaryKeyVersion"],
            "DeleteDate": "",
            "MaterialExpireTime": "",
            "LastRotationDate": "1970-01-01T00:00:01Z",
            "AutomaticRotation": "Disabled",
            "DeletionProtection": "Disabled",
        })
    );
    assert_eq!(described(&cloud, &id), made);
    assert_eq!(described(&cloud, &format!("acs:kms:cn-test:acme:key/{id}")), made);
    with_key(&site, &id, |key| key.created_at = 0);
    assert_eq!(described(&cloud, &id)["CreationDate"], "", "the KMS does not tell");
}

#[test]
fn keys_are_symmetric_and_made_by_the_kms() {
    let site = Site::new();
    let cloud = site.open();
    let long = "d".repeat(8193);
    for (name, value, expected) in [
        ("Origin", "EXTERNAL", "Unsupported.Origin"),
        ("Origin", "external", "InvalidParameter"),
        ("ProtectionLevel", "HSM", "Unsupported.ProtectionLevel"),
        ("ProtectionLevel", "software", "InvalidParameter"),
        ("KeySpec", "RSA_2048", "InvalidParameter"),
        ("KeySpec", "Aliyun_SM4", "InvalidParameter"),
        ("KeyUsage", "SIGN/VERIFY", "InvalidParameter"),
        ("Description", &long, "InvalidParameter"),
        ("EnableAutomaticRotation", "maybe", "InvalidParameter"),
        ("EnableAutomaticRotation", "true", "MissingParameter"),
        ("DryRun", "true", "UnsupportedOperation"),
    ] {
        assert_eq!(refused(&cloud, "CreateKey", &[(name, value)]), code(expected, 400), "{name}={value:.20}");
    }
    assert!(site.target().keys.is_empty());
    kms(&cloud, "CreateKey", &[("Description", &long[1..]), ("DryRun", "false")]).expect("that is short enough");
}

#[test]
fn an_account_has_200_keys_beside_the_service_key() {
    let site = Site::new();
    service_key(&site);
    let cloud = site.open();
    (0..200).for_each(|_| drop(new_key(&cloud)));
    assert_eq!(refused(&cloud, "CreateKey", &[]), code("Rejected.LimitExceeded", 400));
}

#[test]
fn keys_are_listed_in_pages_and_filtered() {
    let site = Site::new();
    let service = service_key(&site);
    let cloud = site.open();
    let keys: Vec<String> = (0..12).map(|_| new_key(&cloud)).collect();
    for (at, id) in keys.iter().enumerate() {
        with_key(&site, id, |key| key.created_at = 100 - at as u64);
    }
    put_state(&site, &keys[3], KeyState::Disabled);
    put_state(&site, &keys[4], KeyState::PendingDeletion);
    let list = |params: &[(&str, &str)]| {
        let answer = kms(&cloud, "ListKeys", params).expect("it is a list");
        let ids = answer["Keys"]["Key"].as_array().expect("a list").iter().map(|key| text(&key["KeyId"]));
        (ids.collect::<Vec<_>>(), answer["TotalCount"].as_u64().expect("a number"))
    };
    let (first, total) = list(&[]);
    assert_eq!((first.len(), total, &first[0], &first[1]), (10, 13, &service, &keys[11]));
    let (second, _) = list(&[("PageNumber", "2")]);
    assert_eq!(second, [keys[2].clone(), keys[1].clone(), keys[0].clone()]);
    let of = |filters| list(&[("Filters", filters)]).0;
    assert_eq!(
        of(r#"[{"Key":"KeyState","Values":["Disabled","PendingDeletion"]}]"#),
        [keys[4].clone(), keys[3].clone()]
    );
    assert_eq!(of(r#"[{"Key":"CreatorType","Values":["Service"]}]"#), [service]);
    let both = r#"[{"Key":"CreatorType","Values":["User"]},{"Key":"KeyState","Values":["Disabled"]}]"#;
    assert_eq!(of(both), [keys[3].clone()]);
    assert!(of(r#"[{"Key":"KeySpec","Values":["RSA_2048"]}]"#).is_empty());
    for filters in ["x", "{}", r#"[{"Key":"Colour","Values":["red"]}]"#, r#"[{"Key":"KeyState"}]"#] {
        assert_eq!(refused(&cloud, "ListKeys", &[("Filters", filters)]), code("InvalidParameter", 400), "{filters}");
    }
    for (name, value) in [("PageNumber", "0"), ("PageSize", "101")] {
        assert_eq!(refused(&cloud, "ListKeys", &[(name, value)]), code("InvalidParameter", 400));
    }
    let page = kms(&cloud, "ListKeys", &[("PageSize", "1")]).expect("a page");
    let id = text(&page["Keys"]["Key"][0]["KeyId"]);
    assert_eq!(page["Keys"]["Key"][0]["KeyArn"], format!("acs:kms:cn-test:acme:key/{id}"));
}

#[test]
fn a_description_can_be_taken_away() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    let update = |text| kms(&cloud, "UpdateKeyDescription", &[("KeyId", &key), ("Description", text)]);
    for text in ["数据", ""] {
        assert_eq!(update(text), Ok(json!({})));
        assert_eq!(described(&site.open(), &key)["Description"], text);
    }
    assert_eq!(refused(&cloud, "UpdateKeyDescription", &[("KeyId", &key)]), code("MissingParameter", 400));
    assert_eq!(refusal(update(&"d".repeat(8193))), code("InvalidParameter", 400));
}

#[test]
fn what_belongs_to_another_account_is_not_there() {
    let site = Site::new();
    let cloud = site.open();
    kms_as(&cloud, "other", "OpenKmsService", &[]).expect("it is not open");
    let key = new_key(&cloud);
    kms(&cloud, "CreateAlias", &[("KeyId", &key), ("AliasName", "alias/a")]).expect("it is free");
    let sealed = kms(&cloud, "Encrypt", &[("KeyId", &key), ("Plaintext", "c2VjcmV0")]).expect("it is enabled");
    let blob = text(&sealed["CiphertextBlob"]);
    let version = text(&sealed["KeyVersionId"]);
    let ask = |action: &str, key: &str| {
        let params = [
            ("KeyId", key),
            ("KeyVersionId", &version),
            ("Plaintext", "c2VjcmV0"),
            ("Description", "text"),
            ("PendingWindowInDays", "7"),
            ("EnableAutomaticRotation", "false"),
            ("AliasName", "alias/b"),
        ];
        kms_as(&cloud, "other", action, &params)
    };
    let there = site.target().keys.clone();
    for action in [
        "CancelKeyDeletion",
        "CreateAlias",
        "CreateKeyVersion",
        "DescribeKey",
        "DescribeKeyVersion",
        "DisableKey",
        "EnableKey",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "ListAliasesByKeyId",
        "ListKeyVersions",
        "ScheduleKeyDeletion",
        "UpdateKeyDescription",
        "UpdateRotationPolicy",
    ] {
        for name in
            [key.as_str(), &format!("acs:kms:cn-test:acme:key/{key}"), &format!("acs:kms:cn-test:other:key/{key}")]
        {
            assert_eq!(refusal(ask(action, name)), code("Forbidden.KeyNotFound", 404), "{action} {name}");
        }
        assert_eq!(refusal(ask(action, "alias/a")), code("Forbidden.AliasNotFound", 404), "{action}");
    }
    let other = |action, params: &[(&str, &str)]| kms_as(&cloud, "other", action, params);
    assert_eq!(refusal(other("Decrypt", &[("CiphertextBlob", &blob)])), code("InvalidParameter", 400));
    assert_eq!(refusal(other("DeleteAlias", &[("AliasName", "alias/a")])), code("Forbidden.AliasNotFound", 404));
    assert_eq!(other("ListKeys", &[]).expect("none")["TotalCount"], 0);
    assert_eq!(other("ListAliases", &[]).expect("none")["TotalCount"], 0);
    assert_eq!(site.target().keys, there);
    assert_eq!(described(&cloud, &key)["Description"], "");
}

#[test]
fn the_kms_has_words_of_its_own_for_what_fails() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    assert_eq!(refused(&cloud, "DescribeKey", &[]), code("MissingParameter", 400));
    site.target().kms_is_away = true;
    for action in ["CreateKey", "DescribeKey", "ListKeys", "ListAliases", "GenerateDataKey"] {
        let refused = refused(&cloud, action, &[("KeyId", &key)]);
        // CreateKey has no KeyId, and does not mind one.
        assert_eq!(refused, code("ServiceUnavailableTemporary", 503), "{action}");
    }
}

#[test]
fn a_change_of_rows_is_not_done_twice_for_a_token() {
    let site = Site::new();
    let cloud = site.open();
    let (key, token) = (new_key(&cloud), ("ClientToken", "t"));
    let alias = |name| kms(&cloud, "CreateAlias", &[("KeyId", &key), ("AliasName", name), token]);
    assert_eq!((alias("alias/a"), alias("alias/a")), (Ok(json!({})), Ok(json!({}))));
    assert_eq!(refusal(alias("alias/b")), code("IdempotentParameterMismatch", 403));
}

#[test]
fn an_arn_of_another_region_or_account_names_no_key() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    for prefix in [
        "acs:kms:elsewhere:acme:key/",
        "acs:kms:cn-test:other:key/",
        "acs:ecs:cn-test:acme:key/",
        "acs:kms:cn-test:acme:",
    ] {
        let arn = format!("{prefix}{key}");
        assert_eq!(refused(&cloud, "DescribeKey", &[("KeyId", &arn)]), code("Forbidden.KeyNotFound", 404), "{arn}");
    }
}
