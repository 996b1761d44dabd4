//! A disk of the cloud keeps its namespace identifier and its UUID for life, whatever the order in which disks come and go, and whether hosts have them
//! when the target starts: a host that comes back finds the same disk under the same identifier.

mod keeper;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
mod operator;

use std::collections::BTreeMap;

use keeper::{folder, json_of};
use operator::Target;
use serde_json::{Value, json};

const ZONE: &str = "cn-test-a";

/// A cloud beside a disk of the operator's in the same account, which says nothing of its identifier.
fn site() -> String {
    format!(
        "region = 'cn-test'\n[reactor]\nmemory_mib = 16\nhugepages = 'never'\n[control]\nsocket = 'c'\n[[account]]\nname = 'acme'\n\
         [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '512M'\ncreate = true\n\
         [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n\
         [[disk]]\nname = 'own'\npool = 'p'\nsize = '1M'\nencryption = 'none'\naccount = 'acme'\n\
         [kms]\naudit_log = 'audit.log'\n\
         [kms.embedded]\npath = 'keys.store'\ncreate = true\nunlock = {{ passphrase = 'file:passphrase' }}\n\
         [nvme_tcp]\nlisten = ['127.0.0.1:0']\n\
         [cloud]\nstate_dir = 'cloud'\n[[cloud.zone]]\nname = '{ZONE}'\npool = 'p'\n"
    )
}

fn call(target: &Target, action: &str, params: Value) -> Value {
    target.client().result("cloud.call", json!({"account": "acme", "action": action, "params": params}))
}

fn new_disk(target: &Target) -> String {
    let made = call(target, "CreateDisk", json!({"Size": "20", "DiskCategory": "cloud_ssd"}));
    made["DiskId"].as_str().expect("an identifier").to_owned()
}

fn new_instance(target: &Target) -> String {
    let made = call(target, "RunInstances", json!({"ImageId": "m-blank", "InstanceType": "ecs.test"}));
    made["InstanceIdSets"]["InstanceIdSet"][0].as_str().expect("an identifier").to_owned()
}

/// Identifier and UUID of each disk of the cloud.
fn identities(target: &Target) -> BTreeMap<String, (Value, Value)> {
    let disks = json_of(target, &["disk", "list"]);
    let name = |disk: &Value| disk["name"].as_str().expect("a name").to_owned();
    let all = disks.as_array().expect("a list").iter().map(|disk| (name(disk), disk));
    all.filter(|(name, _)| name != "own")
        .map(|(name, disk)| (name, (disk["nsid"].clone(), disk["uuid"].clone())))
        .collect()
}

/// The namespaces that instances' hosts see, by identifier.
fn namespaces(target: &Target) -> Vec<(u64, String)> {
    let exports = json_of(target, &["export", "list"]);
    let mut found = Vec::new();
    for subsystem in exports["nvme_tcp"]["subsystems"].as_array().expect("a list") {
        for namespace in subsystem["namespaces"].as_array().expect("a list") {
            let disk = namespace["disk"].as_str().expect("a name").to_owned();
            if namespace["attached_to"] == json!([]) {
                continue;
            }
            found.push((namespace["nsid"].as_u64().expect("a number"), disk));
        }
    }
    found.sort();
    found
}

#[test]
fn disks_are_found_under_their_identifiers_after_a_restart() {
    let target = Target::start_with(folder(), &site());
    let instance = new_instance(&target);
    let mut disks: Vec<String> = (0..6).map(|_| new_disk(&target)).collect();
    let attach = |target: &Target, disk: &str| {
        target.done(&["disk", "attach", disk, &instance]);
    };
    // The first that is attached is the last by name.
    disks.sort();
    disks.iter().rev().for_each(|disk| attach(&target, disk));
    for disk in [&disks[1], &disks[4]] {
        target.done(&["disk", "detach", disk, &instance]);
    }
    let gone = disks.remove(2);
    target.done(&["disk", "detach", &gone, &instance]);
    let freed = identities(&target)[&gone].0.clone();
    target.done(&["disk", "delete", &gone]);
    // What is free is taken again, and what a detached disk has is not: neither by the cloud's nor by the operator's.
    let next = new_disk(&target);
    attach(&target, &next);
    assert_eq!(identities(&target)[&next].0, freed);
    // The operator's disk has what nobody has.
    let host = ["--nqn", "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555"];
    target.done(&[&["host", "add", "web1", "--account", "acme"][..], &host].concat());
    target.done(&["disk", "attach", "own", "--host", "web1"]);
    let own = json_of(&target, &["disk", "show", "own"])["nsid"].clone();
    let before = identities(&target);
    assert!(before.values().all(|(nsid, _)| *nsid != own && nsid.is_u64()), "{before:?}");
    target.done(&["disk", "detach", "own", "--host", "web1"]);
    let seen = namespaces(&target);

    let target = Target::start_with(target.stop(), &site());
    assert_eq!((identities(&target), namespaces(&target)), (before.clone(), seen));
    // Those that were detached come back as what they were.
    for disk in [&disks[1], &disks[3]] {
        attach(&target, disk);
    }
    assert_eq!(identities(&target), before);
    let seen = namespaces(&target);
    assert_eq!(seen.len(), before.len());

    // After a crash as well, and while the instance is stopped.
    let target = Target::start_with(target.kill(), &site());
    assert_eq!((identities(&target), namespaces(&target)), (before.clone(), seen.clone()));
    target.done(&["instance", "stop", &instance]);
    let target = Target::start_with(target.stop(), &site());
    assert_eq!((identities(&target), namespaces(&target)), (before.clone(), Vec::new()));
    target.done(&["instance", "start", &instance]);
    assert_eq!((identities(&target), namespaces(&target)), (before, seen));
    target.stop();
}
