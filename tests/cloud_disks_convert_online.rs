//! A plain disk of the cloud becomes an encrypted one while its instance's host writes: the host does not notice, the API shows the copy in the disk's
//! place, and what would hurt meanwhile is refused. A target that is killed around the switch comes back with the disk or with its copy, never with an
//! old one, and the API says which.

mod keeper;
#[path = "common/load.rs"]
mod load;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nvme_client.rs"]
mod nvme_client;
mod operator;

use std::time::Duration;

use keeper::{folder, json_of, until};
use load::{At, Load, Written, expect, fill, nvme_address};
use operator::Target;
use serde_json::{Value, json};

/// A pool under `layers`, and a cloud with two zones in it.
fn site(layers: &str) -> String {
    format!(
        "region = 'cn-test'\n[reactor]\nmemory_mib = 16\nhugepages = 'never'\n[control]\nsocket = 'c'\n\
         [[account]]\nname = 'acme'\n\
         [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '512M'\ncreate = true\n{layers}\
         [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n\
         [kms]\naudit_log = 'audit.log'\n\
         [kms.embedded]\npath = 'keys.store'\ncreate = true\nunlock = {{ passphrase = 'file:passphrase' }}\n\
         [nvme_tcp]\nlisten = ['127.0.0.1:0']\n\
         [cloud]\nstate_dir = 'cloud'\n[[cloud.zone]]\nname = 'a'\npool = 'p'\n[[cloud.zone]]\nname = 'b'\npool = 'p'\n"
    )
}

/// Writes that take so many milliseconds.
fn slow(ms: u64) -> String {
    format!("[[device.layers]]\nkind = 'delay'\nwrite_us = {ms}000\n")
}

fn ask(target: &Target, action: &str, params: Value) -> Value {
    target.client().result("cloud.call", json!({"account": "acme", "action": action, "params": params}))
}

/// The message of a refusal, which has the code.
fn refused(target: &Target, action: &str, params: Value) -> String {
    target.client().refusal("cloud.call", json!({"account": "acme", "action": action, "params": params})).1
}

fn new_disk(target: &Target, more: &[(&str, &str)]) -> String {
    let mut wish = json!({"ZoneId": "a", "Size": "20", "DiskCategory": "cloud_ssd"});
    more.iter().for_each(|(name, value)| wish[*name] = json!(value));
    ask(target, "CreateDisk", wish)["DiskId"].as_str().expect("an identifier").to_owned()
}

fn described(target: &Target, disk: &str) -> Value {
    let answer = ask(target, "DescribeDisks", json!({"DiskIds": json!([disk]).to_string()}));
    answer["Disks"]["Disk"][0].clone()
}

/// A plain disk as namespace 1, with what was written to it, its instance, and an encrypted disk.
struct Scene {
    target: Target,
    plain: String,
    encrypted: String,
    instance: String,
}

impl Scene {
    fn new() -> Self {
        let target = Target::start_with(folder(), &site(""));
        target.done(&["account", "open-kms", "acme"]);
        let plain = new_disk(&target, &[]);
        let encrypted = new_disk(&target, &[("Encrypted", "true"), ("DiskName", "encrypted")]);
        let wish = json!({"ImageId": "m-blank", "InstanceType": "ecs.test", "ZoneId": "a"});
        let made = ask(&target, "RunInstances", wish);
        let instance = made["InstanceIdSets"]["InstanceIdSet"][0].as_str().expect("an identifier").to_owned();
        let pair =
            json!({"DiskId": plain, "InstanceId": instance, "Device": "/dev/xvdk", "DeleteWithInstance": "true"});
        ask(&target, "AttachDisk", pair);
        assert_eq!(json_of(&target, &["disk", "show", &plain])["nsid"], 1);
        Self { target, plain, encrypted, instance }
    }

    fn at(&self) -> At {
        let host = json_of(&self.target, &["instance", "show", &self.instance]);
        let host = host["HostId"].as_str().expect("a text").parse().expect("a UUID");
        At { address: nvme_address(&self.target), host }
    }

    fn convert(&self, more: &[&str]) -> Vec<String> {
        let args = ["disk", "convert", &self.plain, &self.encrypted, "--encryption", "kms"];
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    fn done(&self, args: &[String]) -> String {
        self.target.done(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The target after it was ended in some way.
    fn again(self, end: impl FnOnce(Target) -> tempfile::TempDir, layers: &str) -> Self {
        Self { target: Target::start_with(end(self.target), &site(layers)), ..self }
    }

    /// Whether the instance has the copy; whichever it has, the API and the target agree on it.
    fn is_switched(&self) -> bool {
        let [old, new] = [&self.plain, &self.encrypted].map(|disk| described(&self.target, disk));
        let is_switched = new["Status"] == "In_use";
        let (has, has_not, name) = match is_switched {
            true => (&new, &old, &self.encrypted),
            false => (&old, &new, &self.plain),
        };
        assert_eq!((&has["Status"], &has_not["Status"]), (&json!("In_use"), &json!("Available")), "{old} {new}");
        assert_eq!((&has["InstanceId"], &has["Device"]), (&json!(self.instance), &json!("/dev/xvdk")));
        assert_eq!((&has["DeleteWithInstance"], &has_not["DeleteWithInstance"]), (&json!(true), &json!(false)));
        assert_eq!((&has_not["InstanceId"], &has_not["Device"]), (&json!(""), &json!("")));
        let shown = json_of(&self.target, &["disk", "show", name]);
        assert_eq!((&shown["nsid"], &shown["attached_to"]), (&json!(1), &json!([self.instance])), "{shown}");
        is_switched
    }
}

fn identity(target: &Target, disk: &str) -> (Value, Value) {
    let shown = json_of(target, &["disk", "show", disk]);
    (shown["nsid"].clone(), shown["uuid"].clone())
}

#[test]
fn the_instance_goes_on_with_the_encrypted_disk_and_the_api_shows_it() {
    let scene = Scene::new();
    let at = scene.at();
    let before = [&scene.plain, &scene.encrypted].map(|disk| identity(&scene.target, disk));
    let load = Load::start(at, fill(at));
    load.go_on_for(100);
    let said = scene.done(&scene.convert(&["--switch", "--verify"]));
    assert!(said.contains("done, verified, switched") && said.contains("delete it"), "{said}");
    load.go_on_for(100);
    let written = load.stop();
    expect(at, &written);
    load::Queue::connect(at).flush();
    assert!(scene.is_switched());
    let after = [&scene.encrypted, &scene.plain].map(|disk| identity(&scene.target, disk));
    assert_eq!(after, before, "each has what the other had");
    let shown = described(&scene.target, &scene.encrypted);
    assert_eq!((&shown["Encrypted"], &shown["DiskName"]), (&json!(true), &json!("encrypted")));
    let snapshots = scene.target.client().result("snapshot.list", json!({}));
    assert_eq!(snapshots, json!([]), "the conversion's snapshots are left");
    // The old copy is nobody's any more.
    let pair = json!({"DiskId": scene.plain, "InstanceId": scene.instance});
    assert!(refused(&scene.target, "AttachDisk", pair.clone()).contains("OperationConflict"));

    // After a crash right then, too.
    let scene = scene.again(Target::kill, "");
    expect(scene.at(), &written);
    assert!(scene.is_switched());
    assert_eq!([&scene.encrypted, &scene.plain].map(|disk| identity(&scene.target, disk)), before);
    ask(&scene.target, "DetachDisk", json!({"DiskId": scene.encrypted, "InstanceId": scene.instance}));
    ask(&scene.target, "StopInstance", json!({"InstanceId": scene.instance}));
    // Nor does an instance that is stopped get it.
    assert!(refused(&scene.target, "AttachDisk", pair).contains("OperationConflict"));
    assert_eq!(described(&scene.target, &scene.plain)["Status"], "Available");
    ask(&scene.target, "DeleteDisk", json!({"DiskId": scene.plain}));
    scene.target.stop();
}

#[test]
fn a_target_that_is_killed_around_the_switch_shows_no_old_copy() {
    let mut scene = Scene::new();
    let written: Written = fill(scene.at());
    // Flushes and notes take a while each: the process ends between other two each time.
    for wait in (0..).map(|round| round * 90) {
        scene = scene.again(Target::stop, &slow(50));
        scene.done(&scene.convert(&["--switch", "--detach"]));
        let state =
            |scene: &Scene| scene.target.client().result("disk.convert_status", json!({"name": scene.encrypted}));
        until("it switches", || ["switching", "done"].contains(&state(&scene)["phase"].as_str().expect("a phase")));
        std::thread::sleep(Duration::from_millis(wait));
        scene = scene.again(Target::kill, "");
        expect(scene.at(), &written);
        if scene.is_switched() {
            break;
        }
    }
    let snapshots = scene.target.client().result("snapshot.list", json!({}));
    assert_eq!(snapshots, json!([]), "the conversion's snapshots are left");
    // The copy is a disk like any other.
    ask(&scene.target, "StopInstance", json!({"InstanceId": scene.instance}));
    ask(&scene.target, "StartInstance", json!({"InstanceId": scene.instance}));
    expect(scene.at(), &written);
    assert!(scene.is_switched());
    scene.target.stop();
}

#[test]
fn what_would_hurt_is_refused_while_it_goes_on() {
    let scene = Scene::new();
    fill(scene.at());
    let scene = scene.again(Target::stop, &slow(150));
    let (target, plain, encrypted, instance) = (&scene.target, &scene.plain, &scene.encrypted, &scene.instance);
    let snapshot = ask(target, "CreateSnapshot", json!({"DiskId": plain}))["SnapshotId"].clone();
    let snapshots = target.client().result("snapshot.list", json!({})).as_array().expect("a list").len();
    scene.done(&scene.convert(&["--detach"]));
    let pair = json!({"DiskId": encrypted, "InstanceId": instance});
    let conflict = |action: &str, params: Value| {
        let why = refused(target, action, params);
        assert!(why.contains("OperationConflict"), "{action}: {why}");
    };
    let at_work = || target.client().result("disk.convert_status", json!({"name": encrypted}))["ended"] == false;
    conflict("AttachDisk", pair.clone());
    conflict("DeleteDisk", json!({"DiskId": encrypted}));
    conflict("ResizeDisk", json!({"DiskId": encrypted, "NewSize": "21"}));
    conflict("ResizeDisk", json!({"DiskId": plain, "NewSize": "21", "Type": "online"}));
    // Its host may lose the disk, and the instance be stopped.
    ask(target, "StopInstance", json!({"InstanceId": instance}));
    conflict("AttachDisk", pair);
    conflict("ResetDisk", json!({"DiskId": plain, "SnapshotId": snapshot}));
    conflict("ReInitDisk", json!({"DiskId": plain}));
    ask(target, "DetachDisk", json!({"DiskId": plain, "InstanceId": instance}));
    conflict("DeleteDisk", json!({"DiskId": plain}));
    assert!(at_work(), "it ended too early for this test to tell anything");
    for disk in [plain, encrypted] {
        let shown = described(target, disk);
        assert_eq!((&shown["Status"], &shown["Size"]), (&json!("Available"), &json!(20)));
    }
    // Given up, the copy is empty and may be used; not behind the cloud's back deleted.
    target.done(&["disk", "convert-cancel", encrypted]);
    assert_eq!(target.client().result("snapshot.list", json!({})).as_array().expect("a list").len(), snapshots);
    ask(target, "ResizeDisk", json!({"DiskId": encrypted, "NewSize": "21"}));
    ask(target, "DeleteDisk", json!({"DiskId": encrypted}));
    scene.target.stop();
}

#[test]
fn pairs_that_do_not_fit_are_refused() {
    let scene = Scene::new();
    let target = &scene.target;
    let convert =
        |from: &str, to: &str| target.refused(&["disk", "convert", from, to, "--encryption", "kms", "--switch"]);
    let own = json!({"name": "own", "pool": "p", "size": "1M", "encryption": "none"});
    target.client().result("disk.create", own);
    assert!(convert(&scene.plain, "new").contains("CreateDisk"));
    assert!(convert("own", &scene.encrypted).contains("is the cloud's, and own is not"));
    let encrypted = |more: &[(&str, &str)]| new_disk(target, &[&[("Encrypted", "true")], more].concat());
    assert!(convert(&scene.plain, &encrypted(&[("ZoneId", "b")])).contains("the same zone"));
    assert!(convert(&scene.plain, &encrypted(&[("Size", "21")])).contains("the same size"));
    assert!(convert(&scene.plain, &encrypted(&[("MultiAttach", "Enabled")])).contains("the same MultiAttach"));
    target.done(&["account", "add", "other"]);
    let params = json!({"account": "other", "action": "CreateDisk", "params": {"ZoneId": "a", "Size": "20"}});
    let others = target.client().result("cloud.call", params)["DiskId"].as_str().expect("a text").to_owned();
    assert!(convert(&scene.plain, &others).contains("the same account"));
    let pair = json!({"DiskId": scene.encrypted, "InstanceId": scene.instance});
    ask(target, "AttachDisk", pair.clone());
    assert!(convert(&scene.plain, &scene.encrypted).contains("was attached"));
    ask(target, "DetachDisk", pair);
    assert!(convert(&scene.plain, &scene.encrypted).contains("was attached"));
    assert!(convert(&scene.plain, &new_disk(target, &[])).contains("encrypted in another way"));
    scene.target.stop();
}
