//! Over HTTP, by both generations of the cloud's official SDKs and by requests that a test signs itself: who has not signed rightly, asks too much or asks
//! for what is another's is refused, the rules of encryption hold with the codes that applications know, and an account is billed for what it asked.

mod cloud;
mod keeper;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
mod operator;
mod sdk;

use cloud::{REGION, ZONE, shown, text};
use keeper::{json_of, write_secret};
use operator::{Target, command};
use sdk::Generation::{Classic, Current};
use sdk::signing::{Signing, get};
use sdk::{GENERATIONS, Generation, Raised, Sdk};
use serde_json::{Value, json};
use strongroom::time::Time;

const ACME: (&str, &str) = ("acme", "AKACME");
const UMBRELLA: (&str, &str) = ("umbrella", "AKUMBRELLA");
const SECRET: &str = "a secret of access keys";

fn site(api: &str) -> String {
    cloud::site("[nvme_tcp]\nlisten = ['127.0.0.1:0']", api)
}

/// A target with the API and both accounts.
fn target(api: &str) -> Target {
    let dir = keeper::folder();
    write_secret(&dir.path().join("secret"), SECRET.as_bytes());
    let target = Target::start_with(dir, &site(api));
    let secret = format!("file:{}", target.dir.path().join("secret").display());
    for (account, key) in [ACME, UMBRELLA] {
        target.done(&["account", "add", account]);
        target.done(&["access-key", "add", account, "--id", key, "--secret", &secret]);
    }
    target
}

fn sdk_as(target: &Target, key: &str, secret: &str) -> Option<Sdk> {
    Sdk::start(cloud::address(target), REGION, key, secret)
}

#[track_caller]
fn refused(answer: Result<Value, Raised>, code: &str, status: u64) {
    let raised = answer.expect_err(code);
    assert_eq!((raised.code.as_str(), raised.status), (code, status), "{}", raised.message);
}

/// Parameters with others among them.
fn with(params: &Value, more: Value) -> Value {
    let mut params = params.clone();
    params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    params
}

fn create_disk(sdk: &mut Sdk, by: Generation, more: Value) -> String {
    let params = with(&json!({"ZoneId": ZONE, "Size": 20, "DiskCategory": "cloud_ssd"}), more);
    text(&sdk.ecs(by, "CreateDisk", params).expect("made"), "DiskId")
}

fn run_instance(sdk: &mut Sdk, by: Generation) -> String {
    let params = json!({"ImageId": "m-blank", "InstanceType": "ecs.test", "ZoneId": ZONE});
    let answer = sdk.ecs(by, "RunInstances", params).expect("it runs");
    answer["InstanceIdSets"]["InstanceIdSet"][0].as_str().expect("an identifier").to_owned()
}

/// A snapshot of a disk, which is attached for it and detached again.
fn snapshot(sdk: &mut Sdk, by: Generation, disk: &str, instance: &str) -> String {
    let pair = json!({"DiskId": disk, "InstanceId": instance});
    sdk.ecs(by, "AttachDisk", pair.clone()).expect("attached");
    let made = sdk.ecs(by, "CreateSnapshot", json!({"DiskId": disk})).expect("taken");
    sdk.ecs(by, "DetachDisk", pair).expect("detached");
    text(&made, "SnapshotId")
}

#[test]
fn who_does_not_sign_rightly_is_refused() {
    let target = target("");
    target.done(&["access-key", "disable", UMBRELLA.1]);
    let wrong = [
        (ACME.1, "another secret", ("InvalidAccessKeySecret", 400), ("SignatureDoesNotMatch", 400)),
        ("AKNOBODY", SECRET, ("InvalidAccessKeyId.NotFound", 400), ("InvalidAccessKeyId.NotFound", 400)),
        (UMBRELLA.1, SECRET, ("Forbidden.AccessKeyDisabled", 403), ("Forbidden.AccessKeyDisabled", 403)),
    ];
    for (key, secret, classic, current) in wrong {
        let Some(mut sdk) = sdk_as(&target, key, secret) else { return };
        refused(sdk.ecs(Classic, "DescribeDisks", json!({})), classic.0, classic.1);
        refused(sdk.ecs(Current, "DescribeDisks", json!({})), current.0, current.1);
    }
    target.done(&["access-key", "enable", UMBRELLA.1]);
    let mut sdk = sdk_as(&target, UMBRELLA.1, SECRET).expect("it was there before");
    GENERATIONS.iter().for_each(|by| drop(sdk.ecs(*by, "DescribeDisks", json!({})).expect("it may ask again")));
    target.done(&["access-key", "remove", UMBRELLA.1]);
    for by in GENERATIONS {
        refused(sdk.ecs(by, "DescribeDisks", json!({})), "InvalidAccessKeyId.NotFound", 400);
    }
    target.stop();
}

#[test]
fn a_request_counts_once_and_as_it_was_signed() {
    let target = target("");
    let at = cloud::address(&target);
    let code = |query: &str| {
        let (status, body) = get(at, query);
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        (status, answer["Code"].as_str().unwrap_or_default().to_owned())
    };
    let refusal = |status: u16, code: &str| (status, code.to_owned());
    let create = [("Action", "CreateDisk"), ("ZoneId", ZONE), ("Size", "20"), ("Format", "JSON")];
    let query = Signing::now(ACME.1, SECRET).query(&create);
    assert_eq!(code(&query), refusal(200, ""));
    assert_eq!(code(&query), refusal(400, "SignatureNonceUsed"));
    let larger = Signing::now(ACME.1, SECRET).query(&create).replace("Size=20", "Size=21");
    assert_eq!(code(&larger), refusal(400, "SignatureDoesNotMatch"));
    for seconds in [Time::now().seconds() - 3600, Time::now().seconds() + 3600] {
        let late = Signing { time: Time::from_seconds(seconds), ..Signing::now(ACME.1, SECRET) }.query(&create);
        assert_eq!(code(&late), refusal(400, "IllegalTimestamp"));
    }

    // A target that was killed has not forgotten what it has seen.
    let target = Target::start_with(target.kill(), &site(""));
    let (status, body) = get(cloud::address(&target), &query);
    assert!(status == 400 && body.contains("SignatureNonceUsed"), "{body}");
    let list = target.done(&["disk", "list", "--account", ACME.0]);
    assert_eq!(list.matches("d-").count(), 1, "{list}");
    target.stop();
}

#[test]
fn ecs_answers_xml_unless_asked_for_json() {
    let target = target("");
    let ask = |given: &[(&str, &str)]| get(cloud::address(&target), &Signing::now(ACME.1, SECRET).query(given));
    let (status, body) = ask(&[("Action", "DescribeDisks")]);
    assert!(status == 200 && body.starts_with("<?xml") && body.contains("<DescribeDisksResponse>"), "{body}");
    assert!(body.contains("<TotalCount>0</TotalCount>") && body.contains("<RequestId>"), "{body}");
    let (status, body) = ask(&[("Action", "AttachDisk"), ("DiskId", "d-x"), ("InstanceId", "i-x")]);
    assert!(
        status == 404 && body.contains("<Error>") && body.contains("<Code>InvalidDiskId.NotFound</Code>"),
        "{body}"
    );
    let (status, body) = ask(&[("Action", "DescribeDisks"), ("Format", "JSON")]);
    assert!(status == 200 && body.starts_with('{'), "{body}");
    let (status, body) = ask(&[("Action", "EncryptDisk")]);
    assert!(
        status == 404 && body.contains("<Code>InvalidAction.NotFound</Code>"),
        "no operation converts a disk: {body}"
    );
    target.stop();
}

#[test]
fn what_is_anothers_is_not_there() {
    let target = target("");
    let Some(mut acme) = sdk_as(&target, ACME.1, SECRET) else { return };
    let mut umbrella = sdk_as(&target, UMBRELLA.1, SECRET).expect("it was there before");
    target.done(&["account", "open-kms", ACME.0]);
    target.done(&["account", "open-kms", UMBRELLA.0]);
    let disk = create_disk(&mut acme, Current, json!({"Encrypted": true}));
    let instance = run_instance(&mut acme, Classic);
    let snapshot = snapshot(&mut acme, Current, &disk, &instance);
    let key = text(&acme.kms(Current, "CreateKey", json!({})).expect("made")["KeyMetadata"], "KeyId");
    let (own_disk, own_instance) =
        (create_disk(&mut umbrella, Classic, json!({})), run_instance(&mut umbrella, Current));
    let nobody = |prefix: &str| prefix.to_owned() + &"a".repeat(20);
    let new = json!({"ZoneId": ZONE, "Size": 20});
    let no_key: String = key.chars().map(|c| if c.is_ascii_hexdigit() { '0' } else { c }).collect();
    // What umbrella asks for, with acme's and with what nobody has.
    let asks = |disk: &str, instance: &str, snapshot: &str, key: &str| {
        [
            ("ecs", "AttachDisk", json!({"DiskId": disk, "InstanceId": own_instance})),
            ("ecs", "AttachDisk", json!({"DiskId": own_disk, "InstanceId": instance})),
            ("ecs", "DetachDisk", json!({"DiskId": disk, "InstanceId": instance})),
            ("ecs", "ResizeDisk", json!({"DiskId": disk, "NewSize": 30})),
            ("ecs", "ReInitDisk", json!({"DiskId": disk})),
            ("ecs", "ResetDisk", json!({"DiskId": disk, "SnapshotId": snapshot})),
            ("ecs", "ResetDisk", json!({"DiskId": own_disk, "SnapshotId": snapshot})),
            ("ecs", "ModifyDiskAttribute", json!({"DiskId": disk, "DiskName": "mine"})),
            ("ecs", "CreateSnapshot", json!({"DiskId": disk})),
            ("ecs", "CreateDisk", with(&new, json!({"SnapshotId": snapshot}))),
            ("ecs", "CreateDisk", with(&new, json!({"Encrypted": true, "KMSKeyId": key}))),
            ("ecs", "DeleteDisk", json!({"DiskId": disk})),
            ("ecs", "DeleteSnapshot", json!({"SnapshotId": snapshot, "Force": true})),
            ("ecs", "StopInstance", json!({"InstanceId": instance})),
            ("ecs", "DeleteInstance", json!({"InstanceId": instance, "Force": true})),
            ("ecs", "DescribeDisks", json!({"DiskIds": json!([disk]).to_string()})),
            ("ecs", "DescribeSnapshots", json!({"SnapshotIds": json!([snapshot]).to_string()})),
            ("ecs", "DescribeInstances", json!({"InstanceIds": json!([instance]).to_string()})),
            ("kms", "DescribeKey", json!({"KeyId": key})),
            ("kms", "DisableKey", json!({"KeyId": key})),
            ("kms", "Encrypt", json!({"KeyId": key, "Plaintext": "QUJD"})),
            ("kms", "ScheduleKeyDeletion", json!({"KeyId": key, "PendingWindowInDays": 7})),
        ]
    };
    let theirs = asks(&disk, &instance, &snapshot, &key);
    let nobodys = asks(&nobody("d-"), &nobody("i-"), &nobody("s-"), &no_key);
    for by in GENERATIONS {
        let mut answer = |(product, action, params): &(&str, &str, Value)| {
            let answer = match *product {
                "ecs" => umbrella.ecs(by, action, params.clone()),
                _ => umbrella.kms(by, action, params.clone()),
            };
            // Each answer has an identity of its own, which the newer SDK also puts into the message.
            answer.map(|answer| with(&answer, json!({"RequestId": ""}))).map_err(|raised| {
                let message = raised.message.split(" request id:").next().unwrap_or_default().to_owned();
                Raised { message, ..raised }
            })
        };
        for (theirs, nobodys) in theirs.iter().zip(&nobodys) {
            assert_eq!(answer(theirs), answer(nobodys), "{by:?}: {} {}", theirs.1, theirs.2);
        }
    }
    // And nothing has happened to it.
    let state = shown(&mut acme, Current, &disk);
    assert_eq!(
        (text(&state, "Status"), &state["Size"], text(&state, "DiskName")),
        ("Available".to_owned(), &json!(20), String::new())
    );
    let state = acme.kms(Classic, "DescribeKey", json!({"KeyId": key})).expect("it is there");
    assert_eq!(text(&state["KeyMetadata"], "KeyState"), "Enabled");
    create_disk(&mut acme, Classic, json!({"SnapshotId": snapshot, "Encrypted": true}));
    target.stop();
}

#[test]
fn who_asks_too_much_waits_and_others_do_not() {
    let target = target("requests_per_second = 1\n");
    let Some(mut acme) = sdk_as(&target, ACME.1, SECRET) else { return };
    for by in GENERATIONS {
        let mut raised = (0..100).filter_map(|_| acme.ecs(by, "DescribeDisks", json!({})).err());
        let raised = raised.next().expect("one of a hundred comes too early");
        assert_eq!((raised.code.as_str(), raised.status), ("Throttling", 400), "{}", raised.message);
    }
    let mut umbrella = sdk_as(&target, UMBRELLA.1, SECRET).expect("it was there before");
    umbrella.ecs(Classic, "DescribeDisks", json!({})).expect("it has not asked before");
    target.stop();
}

#[test]
fn lists_come_in_pages() {
    let target = target("");
    let Some(mut sdk) = sdk_as(&target, ACME.1, SECRET) else { return };
    let made: Vec<_> = (0..7).map(|n| create_disk(&mut sdk, GENERATIONS[n % 2], json!({}))).collect();
    for by in GENERATIONS {
        let (mut seen, mut made) = (Vec::new(), made.clone());
        for (page, items) in [(1, 3), (2, 3), (3, 1), (4, 0)] {
            let answer = sdk.ecs(by, "DescribeDisks", json!({"PageSize": 3, "PageNumber": page})).expect("a page");
            let disks = answer["Disks"]["Disk"].as_array().expect("a list");
            assert_eq!((disks.len(), &answer["TotalCount"], &answer["PageNumber"]), (items, &json!(7), &json!(page)));
            seen.extend(disks.iter().map(|disk| text(disk, "DiskId")));
        }
        seen.sort();
        made.sort();
        assert_eq!(seen, made, "{by:?}");
        refused(sdk.ecs(by, "DescribeDisks", json!({"PageSize": 101})), "InvalidParameter", 400);
    }
    target.stop();
}

#[test]
fn the_rules_of_encryption_hold() {
    let target = target("");
    let Some(sdk) = &mut sdk_as(&target, ACME.1, SECRET) else { return };
    let new = json!({"ZoneId": ZONE, "Size": 20, "DiskCategory": "cloud_ssd"});
    // E1
    for by in GENERATIONS {
        let wish = with(&new, json!({"Encrypted": true}));
        refused(sdk.ecs(by, "CreateDisk", wish), "InvalidParameter.Encrypted.KmsNotEnabled", 400);
    }
    target.done(&["account", "open-kms", ACME.0]);
    for by in GENERATIONS {
        // E2, E3
        let mut no = |more: Value, code: &str| refused(sdk.ecs(by, "CreateDisk", with(&new, more)), code, 400);
        no(json!({"Encrypted": "perhaps"}), "InvalidParameter.EncryptedIllegal");
        no(json!({"KMSKeyId": "any"}), "InvalidParameter.EncryptedIllegal");
        no(json!({"Encrypted": true, "DiskCategory": "ephemeral_ssd"}), "InvalidParameter.EncryptedNotSupported");
        // E4
        let instance = run_instance(sdk, by);
        let [plain, encrypted] = [false, true].map(|encrypted| create_disk(sdk, by, json!({"Encrypted": encrypted})));
        let [of_plain, of_encrypted] = [&plain, &encrypted].map(|disk| snapshot(sdk, by, disk, &instance));
        for (snapshot, encrypted) in [(&of_plain, true), (&of_encrypted, false)] {
            let wish = with(&new, json!({"SnapshotId": snapshot, "Encrypted": encrypted}));
            refused(sdk.ecs(by, "CreateDisk", wish), "EncryptedOption.Conflict", 400);
        }
        // E5
        let key = text(&shown(sdk, by, &encrypted), "KMSKeyId");
        let child = create_disk(sdk, by, json!({"SnapshotId": of_encrypted}));
        let state = shown(sdk, by, &child);
        assert_eq!((&state["Encrypted"], text(&state, "KMSKeyId")), (&json!(true), key.clone()));
        // E6
        let systems = sdk.ecs(by, "DescribeDisks", json!({"DiskType": "system"})).expect("a list");
        let systems = systems["Disks"]["Disk"].as_array().expect("a list");
        assert!(!systems.is_empty() && systems.iter().all(|disk| disk["Encrypted"] == false), "{systems:?}");
        // E7 and E8: what changes attributes changes neither of these.
        for (disk, more) in
            [(&encrypted, ("Encrypted", "false")), (&plain, ("Encrypted", "true")), (&encrypted, ("KMSKeyId", "any"))]
        {
            let given = [("Action", "ModifyDiskAttribute"), ("DiskId", disk), ("DiskName", "still"), more];
            let (status, body) = get(cloud::address(&target), &Signing::now(ACME.1, SECRET).query(&given));
            assert_eq!(status, 200, "{body}");
        }
        assert_eq!(shown(sdk, by, &plain)["Encrypted"], false);
        assert_eq!(text(&shown(sdk, by, &encrypted), "KMSKeyId"), key);
        // E9 to E11. E12 has no disk that it could be tried with: no operation makes an encrypted system disk.
        let pair = json!({"DiskId": encrypted, "InstanceId": instance});
        sdk.ecs(by, "AttachDisk", pair.clone()).expect("attached");
        let image = text(&sdk.ecs(by, "CreateImage", json!({"InstanceId": instance})).expect("made"), "ImageId");
        sdk.ecs(by, "DetachDisk", pair).expect("detached");
        let denied = "OperationDeined.EncryptedSnapshot";
        for (action, more, code, status) in [
            ("CopyImage", json!({"DestinationRegionId": "cn-beijing"}), denied, 403),
            ("ModifyImageSharePermission", json!({"AddAccount": ["umbrella"]}), denied, 403),
            ("ExportImage", json!({"OSSBucket": "bucket"}), "ImageNotSupported", 400),
        ] {
            refused(sdk.ecs(by, action, with(&json!({"ImageId": image}), more)), code, status);
        }
        // E13
        for (disk, snapshot) in [(&plain, &of_encrypted), (&encrypted, &of_plain), (&child, &of_encrypted)] {
            let to = json!({"DiskId": disk, "SnapshotId": snapshot});
            refused(sdk.ecs(by, "ResetDisk", to), "InvalidParameter.Mismatch", 403);
        }
        // E19
        for (action, more) in [("DisableKey", json!({})), ("ScheduleKeyDeletion", json!({"PendingWindowInDays": 7}))] {
            let wish = with(&json!({"KeyId": key}), more);
            refused(sdk.kms(by, action, wish), "Forbidden.NoPermission", 403);
        }
    }
    target.stop();
}

/// An instance's host writes to a disk of it, and nobody is asked for its key.
fn write(target: &Target, disk: &str, instance: &str) {
    let host = json_of(target, &["instance", "show", instance]);
    let exports = json_of(target, &["export", "list"])["nvme_tcp"].take();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let subsystem = list(&exports["subsystems"]).into_iter().find(|one| one["account"] == ACME.0).expect("there");
    let namespace = list(&subsystem["namespaces"]).into_iter().find(|one| one["disk"] == disk).expect("there");
    let at = format!("nvme-tcp://{}/{}", exports["listen"][0].as_str().expect("an address"), text(&subsystem, "nqn"));
    let (nqn, nsid) = (text(&host, "HostNqn"), namespace["nsid"].to_string());
    let how =
        ["--rw", "write", "--runtime", "0.2", "--ramp", "0", "--iodepth", "4", "--host-nqn", &nqn, "--nsid", &nsid];
    target.done(&[&["bench", &at][..], &how].concat());
    assert_ne!(json_of(target, &["stat", disk])[0]["write"]["commands"], 0);
}

#[test]
fn an_account_is_billed_for_what_it_asked_of_its_keys() {
    let target = target("");
    let Some(mut sdk) = sdk_as(&target, ACME.1, SECRET) else { return };
    target.done(&["account", "open-kms", ACME.0]);
    let instance = run_instance(&mut sdk, Classic);
    let disk = create_disk(&mut sdk, Current, json!({"Encrypted": true}));
    let pair = json!({"DiskId": disk, "InstanceId": instance});
    sdk.ecs(Classic, "AttachDisk", pair.clone()).expect("attached");
    write(&target, &disk, &instance);
    let made = sdk.ecs(Current, "CreateSnapshot", json!({"DiskId": disk})).expect("taken");
    sdk.ecs(Classic, "DetachDisk", pair.clone()).expect("detached");
    sdk.ecs(Current, "ResetDisk", json!({"DiskId": disk, "SnapshotId": made["SnapshotId"]})).expect("rolled back");
    sdk.ecs(Classic, "StopInstance", json!({"InstanceId": instance})).expect("stopped");
    sdk.ecs(Current, "AttachDisk", pair).expect("attached");
    sdk.ecs(Classic, "ReInitDisk", json!({"DiskId": disk})).expect("begun anew");
    GENERATIONS.iter().for_each(|by| drop(shown(&mut sdk, *by, &disk)));
    drop(sdk);
    let dir = target.stop();
    let log = dir.path().join("audit.log");
    let (out, err, code) = command(&["audit", "usage", log.to_str().expect("text"), "--json"], dir.path());
    assert_eq!(code, 0, "{err}");
    let usage: Value = serde_json::from_str(&out).expect("JSON");
    let counted = usage.as_array().expect("a list").iter().filter(|one| one["account"] == ACME.0);
    let counted: Vec<_> = counted.map(|one| (&one["by_operation"], &one["failed"])).collect();
    // The instance was stopped when the disk was attached again: nobody needed the key.
    let wanted = json!({"create_disk": 1, "attach": 1, "detach": 1, "snapshot": 1, "rollback": 1, "reinitialise": 1});
    assert_eq!(counted, [(&wanted, &json!(0))], "{out}");
}
