//! What may be done with a key in which state, and what nobody may do with the service key.

use super::*;

/// How an operation ends for a key that is enabled, disabled, or waits for its destruction.
type Row = (&'static str, [&'static str; 3]);

const USE: [&str; 3] = ["", "Rejected.Disabled", "Rejected.PendingDeletion"];
const ALWAYS: [&str; 3] = ["", "", ""];
const SWITCH: [&str; 3] = ["", "", "Rejected.StateModifiedFailed"];
const SAY: [&str; 3] = ["", "", "Rejected.PendingDeletion"];
const CANCEL: [&str; 3] = ["Rejected.StateModifiedFailed", "Rejected.StateModifiedFailed", ""];

/// The documentation's table "Impact of CMK states on API calls", as far as its operations are offered.
const TABLE: [Row; 24] = [
    ("GenerateDataKey", USE),
    ("GenerateDataKeyWithoutPlaintext", USE),
    ("Encrypt", USE),
    ("Decrypt", USE),
    ("ReEncrypt", USE),
    ("CreateKeyVersion", USE),
    ("UpdateRotationPolicy", USE),
    ("CreateKey", ALWAYS),
    ("ListKeys", ALWAYS),
    ("DescribeKey", ALWAYS),
    ("ListAliases", ALWAYS),
    ("ListAliasesByKeyId", ALWAYS),
    ("DeleteAlias", ALWAYS),
    ("DescribeKeyVersion", ALWAYS),
    ("ListKeyVersions", ALWAYS),
    ("DescribeAccountKmsStatus", ALWAYS),
    ("UpdateKeyDescription", SAY),
    ("SetDeletionProtection", SAY),
    ("UpdateAlias", SAY),
    ("EnableKey", SWITCH),
    ("DisableKey", SWITCH),
    ("ScheduleKeyDeletion", SWITCH),
    ("CreateAlias", SWITCH),
    ("CancelKeyDeletion", CANCEL),
];

/// All parameters that an operation may need of a key.
struct Wanted {
    key: String,
    arn: String,
    version: String,
    alias: &'static str,
    blob: String,
}

impl Wanted {
    fn ask(&self, cloud: &Cloud, action: &str) -> Result<Value, ApiError> {
        let key_id = if action == "CreateKey" { "" } else { &self.key };
        let alias = if action == "CreateAlias" { "alias/new" } else { self.alias };
        let params = [
            ("KeyId", key_id),
            ("DestinationKeyId", &self.key),
            ("ProtectedResourceArn", &self.arn),
            ("EnableDeletionProtection", "true"),
            ("KeyVersionId", &self.version),
            ("AliasName", alias),
            ("CiphertextBlob", &self.blob),
            ("Plaintext", "c2VjcmV0"),
            ("Description", "text"),
            ("PendingWindowInDays", "7"),
            ("EnableAutomaticRotation", "true"),
            ("RotationInterval", "30d"),
        ];
        kms(cloud, action, &params)
    }
}

/// A key with an alias and something that it has sealed.
fn site_with_key() -> (Site, Wanted) {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    kms(&cloud, "CreateAlias", &[("KeyId", &key), ("AliasName", "alias/a")]).expect("it is free");
    let sealed = kms(&cloud, "Encrypt", &[("KeyId", &key), ("Plaintext", "c2VjcmV0")]).expect("it is enabled");
    let view = described(&cloud, &key);
    let (arn, version) = (text(&view["Arn"]), text(&view["PrimaryKeyVersion"]));
    (site, Wanted { key, arn, version, alias: "alias/a", blob: text(&sealed["CiphertextBlob"]) })
}

#[test]
fn every_operation_asks_for_the_state_of_the_key() {
    let (site, wanted) = site_with_key();
    for (action, row) in TABLE {
        for (state, expected) in [KeyState::Enabled, KeyState::Disabled, KeyState::PendingDeletion].into_iter().zip(row)
        {
            let site = site.fork();
            put_state(&site, &wanted.key, state);
            let answer = wanted.ask(&site.open(), action);
            match (expected, answer) {
                ("", answer) => drop(answer.unwrap_or_else(|e| panic!("{action}, {state:?}: {e}"))),
                (expected, answer) => assert_eq!(refusal(answer), code(expected, 409), "{action}, {state:?}"),
            }
        }
    }
}

#[test]
fn every_operation_is_in_the_table() {
    let others = ["DescribeRegions", "OpenKmsService"];
    for (name, _) in OPERATIONS {
        assert!(others.contains(name) || TABLE.iter().any(|(action, _)| action == name), "{name}");
    }
}

#[test]
fn the_state_of_a_key_is_its_users() {
    let (site, wanted) = site_with_key();
    let cloud = site.open();
    let state = || text(&described(&cloud, &wanted.key)["KeyState"]);
    for (action, after) in [
        ("DisableKey", "Disabled"),
        ("ScheduleKeyDeletion", "PendingDeletion"),
        ("CancelKeyDeletion", "Enabled"),
        ("EnableKey", "Enabled"),
    ] {
        assert_eq!(wanted.ask(&cloud, action), Ok(serde_json::json!({})), "{action}");
        assert_eq!(state(), after, "{action}");
        assert_eq!(!text(&described(&cloud, &wanted.key)["DeleteDate"]).is_empty(), after == "PendingDeletion");
    }
}

#[test]
fn a_key_waits_7_to_366_days_for_its_destruction() {
    let (site, wanted) = site_with_key();
    let cloud = site.open();
    let schedule = |days| kms(&cloud, "ScheduleKeyDeletion", &[("KeyId", &wanted.key), ("PendingWindowInDays", days)]);
    assert_eq!(refusal(schedule("")), code("MissingParameter", 400));
    for days in ["6", "367", "-7", "7.5", "soon"] {
        assert_eq!(refusal(schedule(days)), code("InvalidParameter", 400), "{days}");
    }
    for days in ["7", "366"] {
        schedule(days).expect("that is long enough, and not too long");
        wanted.ask(&cloud, "CancelKeyDeletion").expect("it waits");
    }
}

#[test]
fn a_protected_key_is_not_destroyed() {
    let (site, wanted) = site_with_key();
    let cloud = site.open();
    assert_eq!(described(&cloud, &wanted.key)["DeletionProtection"], "Disabled");
    wanted.ask(&cloud, "SetDeletionProtection").expect("it is enabled");
    assert_eq!(described(&cloud, &wanted.key)["DeletionProtection"], "Enabled");
    assert_eq!(refusal(wanted.ask(&cloud, "ScheduleKeyDeletion")), code("Rejected.StateModifiedFailed", 409));
    wanted.ask(&cloud, "DisableKey").expect("that destroys nothing");
    let arn = wanted.arn.as_str();
    let set = |arn, enable| {
        kms(&cloud, "SetDeletionProtection", &[("ProtectedResourceArn", arn), ("EnableDeletionProtection", enable)])
    };
    assert_eq!(refusal(set(arn, "")), code("MissingParameter", 400));
    assert_eq!(refusal(set("", "true")), code("MissingParameter", 400));
    assert_eq!(refusal(set(&wanted.key, "true")), code("InvalidParameter", 400));
    assert_eq!(refusal(set("acs:kms:cn-test:other:key/x", "true")), code("Forbidden.KeyNotFound", 404));
    set(arn, "false").expect("it is the user's");
    wanted.ask(&cloud, "ScheduleKeyDeletion").expect("it is not protected any more");
}

#[test]
fn e19_the_service_key_is_only_looked_at() {
    let site = Site::new();
    let key = service_key(&site);
    let cloud = site.open();
    let view = described(&cloud, &key);
    assert_eq!((&view["Creator"], &view["KeyState"]), (&"Ecs".into(), &"Enabled".into()));
    kms(&cloud, "CreateAlias", &[("KeyId", &new_key(&cloud)), ("AliasName", "alias/a")]).expect("it is free");
    let (arn, version) = (text(&view["Arn"]), text(&view["PrimaryKeyVersion"]));
    let caller = Caller { account: "acme".to_owned(), access_key: "test".to_owned() };
    let sealed =
        cloud.backend().seal("acme", &key, b"a disk's key", &Default::default(), &caller).expect("it is enabled");
    let blob = <base64ct::Base64 as base64ct::Encoding>::encode_string(&sealed.blob);
    for key in [key.as_str(), arn.as_str(), "alias/acs/ecs"] {
        let (key, arn, version, blob) = (key.to_owned(), arn.clone(), version.clone(), blob.clone());
        let wanted = Wanted { key, arn, version, alias: "alias/a", blob };
        for (action, _) in TABLE {
            let looks = action.starts_with("List") || action.starts_with("Describe");
            let touches_no_key = matches!(action, "CreateKey" | "DeleteAlias");
            if looks {
                wanted.ask(&cloud, action).unwrap_or_else(|e| panic!("{action}: {e}"));
            } else if !touches_no_key {
                assert_eq!(refusal(wanted.ask(&cloud, action)), code("Forbidden.NoPermission", 403), "{action}");
            }
        }
    }
    let own = new_key(&cloud);
    let re_encrypt = [("CiphertextBlob", blob.as_str()), ("DestinationKeyId", own.as_str())];
    assert_eq!(refused(&cloud, "ReEncrypt", &re_encrypt), code("Forbidden.NoPermission", 403));
    assert_eq!(described(&cloud, &key), view);
}

#[test]
fn e20_a_key_of_disks_can_be_destroyed_by_its_user() {
    let (site, wanted) = site_with_key();
    let cloud = site.open();
    let disk = [("ZoneId", ZONE), ("Size", "20"), ("Encrypted", "true"), ("KMSKeyId", wanted.key.as_str())];
    ask(&cloud, "CreateDisk", &disk).expect("the key is enabled");
    wanted.ask(&cloud, "ScheduleKeyDeletion").expect("it is the user's");
    assert_eq!(refusal(ask(&cloud, "CreateDisk", &disk)), code("InvalidParameter.KMSKeyId.CMKNotEnabled", 403));
}
