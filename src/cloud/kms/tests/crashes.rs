//! Operations that change keys, cut off at every durable step: what is there afterwards can be used, and asked for again.

use super::*;
use crate::cloud::crash_tests::cut_everywhere;
use crate::cloud::kms::rotate_due;
use crate::cloud::testing::Fate;

#[test]
fn a_key_that_lost_its_note_is_a_key() {
    let params = [("Description", "text"), ("EnableAutomaticRotation", "true"), ("RotationInterval", "7d")];
    cut_everywhere(&Site::new(), |cloud| kms(cloud, "CreateKey", &params));
    // The KMS makes it, then the note is written.
    for (step, done, keys, description) in
        [(0, false, 0, ""), (0, true, 1, ""), (1, false, 1, ""), (1, true, 1, "text")]
    {
        let site = Site::new();
        kms(&site.open_until(&Fate::at(step, done)), "CreateKey", &params).expect_err("it died");
        let cloud = site.open();
        cloud.recover();
        let list = kms(&cloud, "ListKeys", &[]).expect("it lives");
        assert_eq!(list["TotalCount"], keys, "step {step}, {done}");
        for key in list["Keys"]["Key"].as_array().expect("a list") {
            let id = text(&key["KeyId"]);
            let view = described(&cloud, &id);
            assert_eq!((&view["Description"], &view["Creator"]), (&description.into(), &"acme".into()));
            kms(&cloud, "Encrypt", &[("KeyId", &id), ("Plaintext", "c2VjcmV0")]).expect("it is the user's");
            kms(&cloud, "UpdateKeyDescription", &[("KeyId", &id), ("Description", "again")]).expect("it is the user's");
            assert_eq!(described(&cloud, &id)["Description"], "again");
        }
        new_key(&cloud);
    }
}

#[test]
fn a_change_of_a_key_is_done_or_not() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    let arn = text(&described(&cloud, &key)["Arn"]);
    let by_id = ("KeyId", key.as_str());
    cut_everywhere(&site, |cloud| kms(cloud, "DisableKey", &[by_id]));
    cut_everywhere(&site, |cloud| kms(cloud, "EnableKey", &[by_id]));
    cut_everywhere(&site, |cloud| kms(cloud, "ScheduleKeyDeletion", &[by_id, ("PendingWindowInDays", "7")]));
    cut_everywhere(&site, |cloud| kms(cloud, "CreateKeyVersion", &[by_id]));
    cut_everywhere(&site, |cloud| kms(cloud, "UpdateKeyDescription", &[by_id, ("Description", "text")]));
    let policy = [by_id, ("EnableAutomaticRotation", "true"), ("RotationInterval", "7d")];
    cut_everywhere(&site, |cloud| kms(cloud, "UpdateRotationPolicy", &policy));
    let protection = [("ProtectedResourceArn", arn.as_str()), ("EnableDeletionProtection", "true")];
    cut_everywhere(&site, |cloud| kms(cloud, "SetDeletionProtection", &protection));
    let alias = [by_id, ("AliasName", "alias/a")];
    cut_everywhere(&site, |cloud| kms(cloud, "CreateAlias", &alias));
    kms(&cloud, "CreateAlias", &alias).expect("it is free");
    cut_everywhere(&site, |cloud| kms(cloud, "UpdateAlias", &alias));
    cut_everywhere(&site, |cloud| kms(cloud, "DeleteAlias", &alias));
    put_state(&site, &key, KeyState::PendingDeletion);
    cut_everywhere(&site, |cloud| kms(cloud, "CancelKeyDeletion", &[by_id]));
    cut_everywhere(&site, |cloud| kms_as(cloud, "other", "OpenKmsService", &[]));
}

#[test]
fn a_rotation_that_was_cut_off_is_made_up_for() {
    let params = [("EnableAutomaticRotation", "true"), ("RotationInterval", "7d")];
    for (step, done) in [(0, false), (0, true), (1, false), (1, true)] {
        let site = Site::new();
        kms(&site.open(), "CreateKey", &params).expect("it lives");
        rotate_due(&site.open_until(&Fate::at(step, done)));
        let cloud = site.open();
        rotate_due(&cloud);
        rotate_due(&cloud);
        let versions = site.target().keys[0].versions.len();
        // This KMS tells times that are long past: it is asked once more if the note was lost, and never again after that.
        let lost = (step, done) == (0, true) || (step, done) == (1, false);
        assert_eq!(versions, if lost { 3 } else { 2 }, "step {step}, {done}");
    }
}
