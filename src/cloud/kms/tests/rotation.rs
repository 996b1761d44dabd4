//! Versions of keys, by hand and by themselves.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::*;
use crate::cloud::kms::rotate_due;

const DAY: u64 = 86_400;

fn versions(site: &Site, key: &str) -> usize {
    site.target().keys.iter().find(|there| there.id == key).expect("it is there").versions.len()
}

fn rotate_every(cloud: &Cloud, key: &str, interval: &str) -> Result<Value, ApiError> {
    let params = [("KeyId", key), ("EnableAutomaticRotation", "true"), ("RotationInterval", interval)];
    kms(cloud, "UpdateRotationPolicy", &params)
}

#[test]
fn versions_have_identifiers_that_stay() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    let old = text(&described(&cloud, &key)["PrimaryKeyVersion"]);
    let sealed = kms(&cloud, "Encrypt", &[("KeyId", &key), ("Plaintext", "c2VjcmV0")]).expect("it is enabled");
    let made = kms(&cloud, "CreateKeyVersion", &[("KeyId", &key)]).expect("the old one is old");
    let new = text(&made["KeyVersion"]["KeyVersionId"]);
    assert_ne!(old, new);
    assert_eq!(uuid::Uuid::parse_str(&new).expect("a UUID").to_string(), new);
    assert_eq!(described(&site.open(), &key)["PrimaryKeyVersion"], new);
    let view = |id: &str, date: &str| json!({ "KeyId": key, "KeyVersionId": id, "CreationDate": date });
    let (first, second) = (view(&old, "1970-01-01T00:00:01Z"), view(&new, "1970-01-01T00:00:02Z"));
    assert_eq!(made["KeyVersion"], second);
    let list = kms(&cloud, "ListKeyVersions", &[("KeyId", &key)]).expect("two");
    assert_eq!(list["KeyVersions"]["KeyVersion"], json!([second, first]));
    let page = kms(&cloud, "ListKeyVersions", &[("KeyId", &key), ("PageSize", "1"), ("PageNumber", "2")]);
    assert_eq!(page.expect("one")["KeyVersions"]["KeyVersion"], json!([first]));
    let describe = |id: &str| kms(&cloud, "DescribeKeyVersion", &[("KeyId", &key), ("KeyVersionId", id)]);
    assert_eq!(describe(&old), Ok(json!({ "KeyVersion": first })));
    assert_eq!(refusal(describe("none")), code("Forbidden.KeyVersionNotFound", 404));
    let others = text(&described(&cloud, &new_key(&cloud))["PrimaryKeyVersion"]);
    assert_eq!(refusal(describe(&others)), code("Forbidden.KeyVersionNotFound", 404));
    // The older version goes on opening what it has sealed.
    let opened = kms(&cloud, "Decrypt", &[("CiphertextBlob", &text(&sealed["CiphertextBlob"]))]);
    assert_eq!(opened.expect("it opens")["KeyVersionId"], old);
}

#[test]
fn versions_made_by_hand_are_7_days_apart() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    let create = || kms(&cloud, "CreateKeyVersion", &[("KeyId", &key)]);
    with_key(&site, &key, |key| key.versions[0].created_at = cloud.now() - 7 * DAY + 1);
    assert_eq!(refusal(create()), code("Rejected.LimitExceeded", 400));
    site.clock.fetch_add(1, Ordering::Relaxed);
    create().expect("7 days have passed");
    with_key(&site, &key, |key| {
        let first = key.versions[0];
        key.versions = vec![crate::cloud::backend::KeyVersion { created_at: 0, ..first }; 50];
    });
    assert_eq!(refusal(create()), code("Rejected.LimitExceeded", 400));
}

#[test]
fn an_interval_is_7_to_730_days_in_any_unit() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    for (interval, shown) in
        [("7d", "604800s"), ("168h", "604800s"), ("10080m", "604800s"), ("604800s", "604800s"), ("730d", "63072000s")]
    {
        assert_eq!(rotate_every(&cloud, &key, interval), Ok(json!({})), "{interval}");
        assert_eq!(described(&cloud, &key)["RotationInterval"], shown);
    }
    for interval in ["6d", "731d", "604799s", "7", "d", "-7d", "+7d", "7w", "7 d", "99999999999999999999d", "7日"] {
        assert_eq!(refusal(rotate_every(&cloud, &key, interval)), code("InvalidParameter", 400), "{interval}");
    }
    assert_eq!(refusal(rotate_every(&cloud, &key, "")), code("MissingParameter", 400));
    let off = |value| kms(&cloud, "UpdateRotationPolicy", &[("KeyId", &key), ("EnableAutomaticRotation", value)]);
    assert_eq!(refusal(off("")), code("MissingParameter", 400));
    off("False").expect("it can be stopped");
    let view = described(&cloud, &key);
    assert_eq!(view["AutomaticRotation"], "Disabled");
    assert_eq!((view.get("RotationInterval"), view.get("NextRotationDate")), (None, None));
}

#[test]
fn a_policy_is_shown_and_suspended_with_its_key() {
    let site = Site::new();
    let cloud = site.open();
    let made = kms(&cloud, "CreateKey", &[("EnableAutomaticRotation", "true"), ("RotationInterval", "365d")]);
    let view = made.expect("it is made")["KeyMetadata"].clone();
    assert_eq!(view["AutomaticRotation"], "Enabled");
    assert_eq!(view["RotationInterval"], "31536000s");
    assert_eq!(view["NextRotationDate"], "1971-01-01T00:00:01Z");
    let key = text(&view["KeyId"]);
    for state in [KeyState::Disabled, KeyState::PendingDeletion] {
        put_state(&site, &key, state);
        assert_eq!(described(&cloud, &key)["AutomaticRotation"], "Suspended");
        rotate_due(&cloud);
        assert_eq!(versions(&site, &key), 1, "{state:?}");
    }
}

#[test]
fn keys_get_versions_by_themselves_when_their_time_has_come() {
    let site = Site::new();
    let cloud = site.open();
    let (key, other) = (new_key(&cloud), new_key(&cloud));
    with_key(&site, &key, |key| key.versions[0].created_at = cloud.now());
    rotate_every(&cloud, &key, "7d").expect("it is enabled");
    rotate_due(&cloud);
    site.clock.fetch_add(7 * DAY - 1, Ordering::Relaxed);
    rotate_due(&cloud);
    assert_eq!(versions(&site, &key), 1, "it is too early");
    site.clock.fetch_add(1, Ordering::Relaxed);
    rotate_due(&cloud);
    rotate_due(&cloud);
    assert_eq!((versions(&site, &key), versions(&site, &other)), (2, 1));
    assert_eq!(described(&cloud, &key)["LastRotationDate"], "2018-06-14T06:08:54Z");
    assert_eq!(described(&cloud, &key)["NextRotationDate"], "2018-06-21T06:08:54Z");
    site.clock.fetch_add(7 * DAY, Ordering::Relaxed);
    site.target().kms_is_away = true;
    rotate_due(&cloud);
    assert_eq!(versions(&site, &key), 2);
    site.target().kms_is_away = false;
    rotate_due(&cloud);
    assert_eq!(versions(&site, &key), 3, "it is made up for");
}
