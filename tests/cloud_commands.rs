//! Operators look after accounts, access keys, disks, snapshots and instances of the cloud by the `strongroom` command, and cannot go behind its back.

mod keeper;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
mod operator;

use keeper::{json_of, write_secret};
use operator::Target;
use serde_json::{Value, json};

const CLOUD: &str = "[cloud]\nstate_dir = 'cloud'\n[[cloud.zone]]\nname = 'z'\npool = 'p'\n";

fn site(more: &str) -> String {
    format!(
        "[reactor]\nmemory_mib = 32\nhugepages = 'never'\n[control]\nsocket = 'c'\n\
         [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '256M'\ncreate = true\n\
         [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n\
         [kms]\naudit_log = 'audit.log'\n\
         [kms.embedded]\npath = 'keys.store'\ncreate = true\nunlock = {{ passphrase = 'file:passphrase' }}\n\
         [nvme_tcp]\nlisten = ['127.0.0.1:0']\n{more}"
    )
}

/// A target with a cloud and the account `acme`, whose KMS is open.
fn target() -> Target {
    let target = Target::start_with(keeper::folder(), &site(CLOUD));
    target.done(&["account", "add", "acme"]);
    target.done(&["account", "open-kms", "acme"]);
    target
}

/// What a command prints that makes something: an identifier in a line of its own.
fn made(target: &Target, prefix: &str, args: &[&str]) -> String {
    let said = target.done(args);
    let id = said.strip_suffix('\n').expect("a line");
    assert!(id.starts_with(prefix) && id.len() == prefix.len() + 20, "{args:?}: {said}");
    id.to_owned()
}

fn disk(target: &Target, more: &[&str]) -> String {
    let create = ["disk", "create", "--size", "40G", "--category", "cloud_ssd", "--account", "acme"];
    made(target, "d-", &[&create[..], more].concat())
}

fn instance(target: &Target, more: &[&str]) -> String {
    made(target, "i-", &[&["instance", "create", "--account", "acme"], more].concat())
}

/// The cells of the line that begins with this word.
fn cells<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(first));
    let line = line.unwrap_or_else(|| panic!("no {first} in:\n{table}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// The item of a list in JSON that has this value.
fn item(list: &Value, name: &str, value: &str) -> Value {
    let found = list.as_array().expect("a list").iter().find(|item| item[name] == value);
    found.unwrap_or_else(|| panic!("no {value} in {list}")).clone()
}

#[test]
fn accounts_stay_and_their_kms_is_opened() {
    let target = Target::start_with(keeper::folder(), &site(CLOUD));
    assert!(target.refused(&["disk", "create", "--size", "40G", "--category", "cloud"]).contains("account add"));
    let said = target.done(&["account", "add", "acme"]);
    assert!(said.starts_with("account acme added\n") && said.contains("kept across restarts"), "{said}");
    assert!(target.refused(&["account", "add", "acme"]).contains("account acme is there already"));
    let create = ["disk", "create", "--size", "40G", "--category", "cloud_ssd", "--encrypted"];
    assert!(target.refused(&create).contains("InvalidParameter.Encrypted.KmsNotEnabled"));
    assert_eq!(target.done(&["account", "open-kms", "acme"]), "the KMS is open for account acme\n");
    // The only account need not be named.
    let id = made(&target, "d-", &create);
    target.done(&["account", "add", "umbrella"]);
    assert!(target.refused(&create).contains("--account"));
    assert!(target.refused(&["account", "open-kms", "nobody"]).contains("account add"));

    let target = Target::start_with(target.stop(), &site(CLOUD));
    let list = json_of(&target, &["account", "list"]);
    assert_eq!(item(&list, "name", "acme")["disks"], json!([id]));
    item(&list, "name", "umbrella");
    target.done(&[&create[..], &["--account", "acme"]].concat());
    let refused = target.refused(&[&create[..], &["--account", "umbrella"]].concat());
    assert!(refused.contains("KmsNotEnabled"), "{refused}");
    target.stop();
}

#[test]
fn access_keys_come_and_go_and_their_secrets_are_never_shown() {
    const SECRET: &str = "nobody must see this";
    let target = target();
    let file = target.dir.path().join("secret");
    write_secret(&file, SECRET.as_bytes());
    let reference = format!("file:{}", file.display());
    let add = ["access-key", "add", "acme", "--secret", &reference];
    let said = target.done(&[&add[..], &["--id", "AKONE"]].concat());
    assert_eq!(said, "access key AKONE of account acme added\n");
    assert!(target.refused(&[&add[..], &["--id", "AKONE"]].concat()).contains("AKONE is there already"));
    assert!(target.refused(&[&add[..], &["--id", "operator"]].concat()).contains("choose another"));
    assert!(target.refused(&["access-key", "add", "nobody", "--secret", &reference]).contains("no account nobody"));
    let error = target.refused(&["access-key", "add", "acme", "--secret", SECRET])
        + &target.refused(&["instance", "create", "--dhchap-secret", SECRET]);
    assert_eq!(error.matches("file:PATH").count(), 2, "{error}");
    let nowhere = target.refused(&["access-key", "add", "acme", "--secret", "file:/nowhere"]);
    assert!(nowhere.contains("/nowhere"), "{nowhere}");
    let own = serde_json::from_str::<Value>(&target.done(&[&add[..], &["--json"]].concat())).expect("JSON");
    let own = own["id"].as_str().expect("a text").to_owned();
    assert!(own.starts_with("AK") && own.len() == 22, "{own}");

    assert_eq!(target.done(&["access-key", "disable", "AKONE"]), "access key AKONE of account acme disabled\n");
    // Also over a restart.
    let target = Target::start_with(target.stop(), &site(CLOUD));
    let list = target.done(&["access-key", "list", "acme"]);
    assert_eq!(cells(&list, "AKONE")[..4], ["AKONE", "acme", "disabled", &reference], "{list}");
    assert_eq!(cells(&list, &own)[2], "enabled", "{list}");
    assert_eq!(target.done(&["access-key", "enable", "AKONE"]), "access key AKONE of account acme enabled\n");
    assert_eq!(item(&json_of(&target, &["access-key", "list"]), "id", "AKONE")["enabled"], true);
    assert_eq!(target.done(&["access-key", "remove", "AKONE"]), "access key AKONE removed\n");
    for change in ["remove", "enable", "disable"] {
        assert!(target.refused(&["access-key", change, "AKONE"]).contains("there is no access key AKONE"));
    }
    let shown = [target.done(&["access-key", "list"]), json_of(&target, &["access-key", "list"]).to_string()].concat();
    assert!(shown.contains(&own) && !shown.contains("AKONE"), "{shown}");
    assert!(!(shown + &error + &target.log()).contains(SECRET));
    target.stop();
}

#[test]
fn a_disk_is_made_attached_grown_begun_anew_and_deleted() {
    let target = target();
    assert_eq!(target.done(&["disk", "list", "--account", "acme"]), "the account has no disks\n");
    let id = disk(&target, &["--encrypted", "--label", "data"]);
    let row = |target: &Target| target.done(&["disk", "list", "--account", "acme"]);
    let now = row(&target);
    let shown = cells(&now, &id);
    assert_eq!(shown[..5], [&id, "data", "Available", "40 GiB", "cloud_ssd"], "{now}");
    let as_json = item(&json_of(&target, &["disk", "list", "--account", "acme"]), "DiskId", &id);
    assert_eq!((&as_json["Encrypted"], &as_json["KMSKeyId"]), (&json!(true), &json!(shown[5])));
    assert!(target.done(&["disk", "show", &id]).contains("40 GiB"));

    let vm = instance(&target, &[]);
    let said = target.done(&["disk", "attach", &id, &vm]);
    assert_eq!(said, format!("disk {id} attached to instance {vm}\n"));
    assert_eq!(cells(&row(&target), &id)[2], "In_use");
    assert_eq!(cells(&row(&target), &id)[6], vm);
    assert!(target.done(&["export", "list"]).contains(&format!("disk {id}, 40 GiB, seen by {vm}")));
    assert_eq!(target.done(&["disk", "resize", &id, "41G"]), format!("disk {id} resized: 41 GiB\n"));
    assert!(target.done(&["export", "list"]).contains(&format!("disk {id}, 41 GiB")));
    assert!(target.refused(&["disk", "resize", &id, "1000M"]).contains("whole GiB"));
    assert!(target.refused(&["disk", "resize", &id, "41G"]).contains("InvalidDiskSize.TooSmall"));

    assert!(target.refused(&["disk", "reinit", &id]).contains("IncorrectInstanceStatus"));
    target.done(&["instance", "stop", &vm]);
    assert_eq!(target.done(&["disk", "reinit", &id]), format!("disk {id} has its first content\n"));
    assert!(target.refused(&["disk", "delete", &id]).contains("DiskStillAttached"));
    let said = target.done(&["disk", "detach", &id, &vm]);
    assert_eq!(said, format!("disk {id} detached from instance {vm}\n"));
    assert_eq!(target.done(&["disk", "delete", &id]), format!("disk {id} deleted\n"));
    assert!(!row(&target).contains(&id) && !target.done(&["pool", "show", "p"]).contains(&id));
    assert!(target.refused(&["disk", "attach", &id, &vm]).contains("InvalidDiskId.NotFound"));
    target.stop();
}

#[test]
fn a_disk_keeps_its_place_while_it_is_detached() {
    let target = target();
    let vm = instance(&target, &[]);
    let [first, second] = [(); 2].map(|()| disk(&target, &["--encrypted"]));
    let place = |id: &str| json_of(&target, &["disk", "show", id])["nsid"].clone();
    target.done(&["disk", "attach", &first, &vm]);
    let was = place(&first);
    target.done(&["disk", "detach", &first, &vm]);
    target.done(&["disk", "attach", &second, &vm]);
    target.done(&["disk", "attach", &first, &vm]);
    assert!(was.is_u64() && place(&first) == was && place(&second) != was, "{was}");
    target.stop();
}

#[test]
fn snapshots_are_taken_rolled_back_to_and_deleted() {
    let target = target();
    let (id, vm) = (disk(&target, &["--encrypted"]), instance(&target, &[]));
    assert!(target.refused(&["snapshot", "create", &id]).contains("IncorrectDiskStatus.NeverAttached"));
    target.done(&["disk", "attach", &id, &vm]);
    let first = made(&target, "s-", &["snapshot", "create", &id, "first"]);
    let second = made(&target, "s-", &["snapshot", "create", &id]);
    let list = target.done(&["snapshot", "list", "--account", "acme"]);
    assert_eq!(cells(&list, &first)[..5], [&first, "first", &id, "40 GiB", "accomplished"], "{list}");
    let of_disk = json_of(&target, &["snapshot", "list", &id, "--account", "acme"]);
    assert_eq!(item(&of_disk, "SnapshotId", &second)["Encrypted"], true);
    // The operator's own list has them by their names in the pool.
    assert!(target.done(&["snapshot", "list"]).contains(&format!("{id}@{first}")));

    assert!(target.refused(&["snapshot", "rollback", &id, &first]).contains("IncorrectInstanceStatus"));
    target.done(&["instance", "stop", &vm]);
    let said = target.done(&["snapshot", "rollback", &id, &first]);
    assert_eq!(said, format!("disk {id} rolled back to {first}\n"));
    assert_eq!(target.done(&["snapshot", "delete", &second]), format!("snapshot {second} deleted\n"));
    let from = ["disk", "create", "--category", "cloud_ssd", "--account", "acme", "--from-snapshot", &first];
    let clone = made(&target, "d-", &from);
    let shown = item(&json_of(&target, &["disk", "list", "--account", "acme"]), "DiskId", &clone);
    assert_eq!((&shown["Encrypted"], &shown["Size"]), (&json!(true), &json!(40)), "it is what the snapshot is");
    assert!(target.refused(&["snapshot", "delete", &first]).contains("SnapshotCreatedDisk"));
    let forced = ["cloud", "DeleteSnapshot", &format!("SnapshotId={first}"), "Force=true"];
    target.done(&forced);
    assert_eq!(target.done(&["snapshot", "list", "--account", "acme"]), "the account has no snapshots\n");
    target.stop();
}

#[test]
fn instances_are_made_started_stopped_and_deleted() {
    let target = target();
    assert_eq!(target.done(&["instance", "list"]), "the account has no instances\n");
    let nqn = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555";
    let host_id = "11111111-2222-4333-8444-555555555556";
    let vm = instance(&target, &["--label", "web", "--nqn", nqn, "--host-id", host_id]);
    let list = target.done(&["instance", "list", "--account", "acme"]);
    assert_eq!(cells(&list, &vm), [&vm, "web", "Running", "z", nqn], "{list}");
    item(&json_of(&target, &["instance", "list"]), "InstanceId", &vm);
    let shown = target.done(&["instance", "show", &vm]);
    for part in [&vm, "web", "Running", nqn, host_id] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(json_of(&target, &["instance", "show", &vm])["HostId"], host_id);
    assert!(target.refused(&["instance", "show", "i-nobody"]).contains("there is no instance i-nobody"));
    assert_eq!(target.done(&["instance", "stop", &vm]), format!("instance {vm} stopped\n"));
    assert!(target.refused(&["instance", "stop", &vm]).contains("IncorrectInstanceStatus"));
    assert_eq!(target.done(&["instance", "start", &vm]), format!("instance {vm} started\n"));
    assert!(target.refused(&["instance", "delete", &vm]).contains("IncorrectInstanceStatus"));
    let said = target.done(&["instance", "delete", "--force", &vm]);
    assert_eq!(said, format!("instance {vm} deleted\n"));
    assert!(!target.done(&["host", "list"]).contains(&vm));
    assert_eq!(target.done(&["disk", "list", "--account", "acme"]), "the account has no disks\n", "its own went along");
    target.stop();
}

#[test]
fn any_operation_can_be_called() {
    let target = target();
    for number in 0..7 {
        disk(&target, &["--label", &format!("disk{number}")]);
    }
    let call = |args: &[&str]| serde_json::from_str::<Value>(&target.done(args)).expect("JSON");
    let page = call(&["cloud", "DescribeDisks", "PageSize=5", "PageNumber=2"]);
    assert_eq!(page["Disks"]["Disk"].as_array().map(Vec::len), Some(2), "{page}");
    assert_eq!((&page["TotalCount"], &page["PageSize"]), (&json!(7), &json!(5)));
    let as_json = ["cloud", "DescribeDisks", "PageSize=5", "PageNumber=2", "--json"];
    assert_eq!(call(&as_json), page);
    let keys = call(&["cloud", "--product", "kms", "ListKeys", "--account", "acme"]);
    assert!(keys["TotalCount"].is_u64(), "{keys}");
    assert!(target.refused(&["cloud", "DescribeNothing"]).contains("there is no operation DescribeNothing"));
    assert!(target.refused(&["cloud", "DescribeDisks", "--account", "nobody"]).contains("account add"));
    let (_, error, code) = target.run(&["cloud", "DescribeDisks", "PageSize"]);
    assert!(code == 2 && error.contains("NAME=VALUE"), "{error}");
    target.stop();
}

#[test]
fn nothing_of_the_cloud_is_changed_behind_its_back() {
    let target = target();
    let (id, vm) = (disk(&target, &[]), instance(&target, &[]));
    target.done(&["disk", "attach", &id, &vm]);
    let snapshot = made(&target, "s-", &["snapshot", "create", &id]);
    let in_pool = format!("{id}@{snapshot}");
    target.done(&["disk", "create", "own", "--pool", "p", "--size", "1M", "--encryption", "none"]);
    let mut client = target.client();
    for (method, params) in [
        ("disk.attach", json!({"name": id, "host": vm})),
        ("disk.detach", json!({"name": id, "host": vm})),
        ("disk.resize", json!({"name": id, "size": 1u64 << 40})),
        ("disk.delete", json!({"name": id})),
        ("disk.remove", json!({"name": id})),
        ("disk.reinitialise", json!({"name": id})),
        ("snapshot.create", json!({"disk": id, "name": "mine"})),
        ("snapshot.rollback", json!({"disk": id, "snapshot": snapshot})),
        ("snapshot.delete", json!({"name": in_pool})),
        ("host.remove", json!({"name": vm})),
    ] {
        let (kind, why) = client.refusal(method, params);
        assert_eq!(kind, "refused", "{method}: {why}");
        assert!(why.contains("belongs to the cloud API") && why.contains("`strongroom cloud`"), "{method}: {why}");
    }
    for wrong in [&["disk", "remove", &id][..], &["disk", "attach", &id, "--host", &vm], &["host", "remove", &vm]] {
        assert!(target.refused(wrong).contains("`strongroom cloud`"), "{wrong:?}");
    }
    assert!(target.refused(&["disk", "resize", &id, "39G", "--shrink"]).contains("`strongroom cloud`"));
    // Also once the disk is gone and its snapshot is not.
    target.done(&["disk", "detach", &id, &vm]);
    target.done(&["disk", "delete", &id]);
    assert!(target.refused(&["snapshot", "delete", &in_pool]).contains("`strongroom cloud`"));
    target.done(&["disk", "resize", "own", "2M"]);
    target.stop();
}

#[test]
fn a_target_without_a_cloud_says_what_to_add() {
    let target = Target::start_with(keeper::folder(), &site(""));
    let said = target.done(&["account", "add", "acme"]);
    assert!(said.contains("restart"), "{said}");
    let secret = format!("file:{}", target.dir.path().join("passphrase").display());
    for args in [
        &["disk", "create", "--size", "40G", "--category", "cloud_ssd"][..],
        &["disk", "list", "--account", "acme"],
        &["instance", "list"],
        &["snapshot", "list", "--account", "acme"],
        &["account", "open-kms", "acme"],
        &["access-key", "list"],
        &["access-key", "add", "acme", "--secret", &secret],
        &["cloud", "DescribeDisks"],
    ] {
        let why = target.refused(args);
        assert!(why.contains("no cloud API; add [cloud] to its configuration"), "{args:?}: {why}");
    }
    target.stop();
}
