//! Disks are attached to hosts, taken from them, added and removed while hosts are connected, and the target tells who sees what.

mod operator;

use operator::nvme::Host;
use operator::{Client, Target};
use serde_json::{Value, json};

const SUBSYSTEM: &str = "nqn.2026-11.io.strongroom:acme";
const WEB1: &str = "nqn.2014-08.org.nvmexpress:uuid:web1";
const WEB2: &str = "nqn.2014-08.org.nvmexpress:uuid:web2";
/// NVMe status 184h: Connect Invalid Host (Base section 6.3).
const INVALID_HOST: u16 = 0x184;

fn start(more: &str) -> (Target, String) {
    let target = Target::start(&format!(
        "[[account]]\nname = 'acme'\n[[host]]\nname = 'web1'\naccount = 'acme'\nnqn = '{WEB1}'\n\
         [[host]]\nname = 'web2'\naccount = 'acme'\nnqn = '{WEB2}'\n\
         [[device]]\nname = 'm0'\nkind = 'memory'\nsize = '4M'\nhugepages = 'never'\n\
         [[disk]]\nname = 'vol0'\ndevice = 'm0'\nencryption = 'none'\naccount = 'acme'\nattached_to = ['web1']\nnsid = 7\n\
         [nvme_tcp]\nlisten = ['127.0.0.1:0']\nstate_dir = 'state'\n{more}"
    ));
    let mut client = target.client();
    let exports = client.result("export.list", json!({}));
    let address = exports["nvme_tcp"]["listen"][0].as_str().expect("an address").to_owned();
    (target, address)
}

fn memory_disk(name: &str, more: &Value) -> Value {
    let mut disk = json!({"name": name, "device": name, "encryption": "none", "account": "acme"});
    disk.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    json!({"disk": disk, "device": {"name": name, "kind": "memory", "size": "1M", "hugepages": "never"}})
}

/// Which hosts see the namespace of a disk.
fn seen_by(client: &mut Client, disk: &str) -> Value {
    let exports = client.result("export.list", json!({}));
    let namespaces = exports["nvme_tcp"]["subsystems"][0]["namespaces"].as_array().expect("an array").clone();
    let namespace = namespaces.into_iter().find(|namespace| namespace["disk"] == disk);
    namespace.unwrap_or_else(|| panic!("{disk} is no namespace"))["attached_to"].take()
}

#[test]
fn the_report_says_where_hosts_connect_and_what_they_see() {
    let (target, address) = start("");
    let report = &target.report;
    for wanted in [
        format!("  nvme_tcp listens on {address}\n"),
        format!("  nvme_tcp subsystem {SUBSYSTEM}\n"),
        format!("    host web1: {WEB1}\n"),
        "    namespace 7: disk vol0, seen by web1\n".to_owned(),
    ] {
        assert!(report.contains(&wanted), "{wanted:?} is not in the report:\n{report}");
    }
    target.stop();
}

#[test]
fn connected_hosts_are_listed_and_end_when_they_are_removed() {
    let (target, address) = start("");
    let mut client = target.client();
    assert_eq!(client.result("connection.list", json!({})), json!([]));
    let host = Host::connect(&address, SUBSYSTEM, WEB1);
    assert_eq!(host.status, 0);
    let controllers = client.result("connection.list", json!({}));
    let controller = &controllers[0];
    assert_eq!((&controller["host"], &controller["account"]), (&json!("web1"), &json!("acme")), "{controllers}");
    assert_eq!((&controller["host_nqn"], &controller["keep_alive_ms"]), (&json!(WEB1), &json!(60_000)));
    assert_eq!(controller["queues"][0]["id"], json!(0));
    assert!(controller["queues"][0]["peer"].as_str().expect("text").starts_with("tcp 127.0.0.1:"), "{controllers}");
    let text = target.done(&["export", "connections"]);
    assert!(text.contains("web1") && text.contains("60.0"), "{text}");
    assert!(target.done(&["export", "list"]).contains("controller"));

    assert_eq!(Host::connect(&address, SUBSYSTEM, "nqn.2014-08.org.nvmexpress:uuid:stranger").status, INVALID_HOST);
    let (kind, message) = client.refusal("host.remove", json!({"name": "web1"}));
    assert!(kind == "in_use" && message.contains("vol0"), "{message}");
    client.result("disk.detach", json!({"name": "vol0", "host": "web1"}));
    client.result("host.remove", json!({"name": "web1"}));
    host.expect_end();
    assert_eq!(Host::connect(&address, SUBSYSTEM, WEB1).status, INVALID_HOST);
    client.result("host.add", json!({"name": "web1", "account": "acme", "nqn": WEB1}));
    assert_eq!(Host::connect(&address, SUBSYSTEM, WEB1).status, 0);
    target.stop();
}

#[test]
fn disks_are_attached_and_detached_under_connected_hosts() {
    let (target, address) = start("");
    let mut client = target.client();
    let hosts = [WEB1, WEB2].map(|nqn| Host::connect(&address, SUBSYSTEM, nqn));
    assert_eq!(seen_by(&mut client, "vol0"), json!(["web1"]));
    let (kind, message) = client.refusal("disk.attach", json!({"name": "vol0", "host": "web2"}));
    assert!(kind == "in_use" && message.contains("not shared"), "{message}");
    client.result("disk.detach", json!({"name": "vol0", "host": "web1"}));
    assert_eq!(client.result("disk.attach", json!({"name": "vol0", "host": "web2"}))["nsid"], json!(7));
    assert_eq!(seen_by(&mut client, "vol0"), json!(["web2"]));

    let added =
        client.result("disk.add", memory_disk("pair", &json!({"shared": true, "attached_to": ["web1", "web2"]})));
    assert_eq!(added["nsid"], json!(1));
    assert_eq!(seen_by(&mut client, "pair"), json!(["web1", "web2"]));
    let (kind, message) = client.refusal("disk.add", memory_disk("more", &json!({"nsid": 7})));
    assert!(kind == "exists" && message.contains("nsid"), "{message}");
    let (kind, message) = client.refusal("disk.remove", json!({"name": "pair"}));
    assert!(kind == "in_use" && message.contains("web1, web2"), "{message}");
    for host in ["web1", "web2"] {
        client.result("disk.detach", json!({"name": "pair", "host": host}));
    }
    client.result("disk.remove", json!({"name": "pair"}));
    assert_eq!(
        client.result("export.list", json!({}))["nvme_tcp"]["subsystems"][0]["namespaces"].as_array().map(Vec::len),
        Some(1)
    );
    // What was refused has left nothing behind.
    client.result("disk.add", memory_disk("more", &json!({})));
    drop(hosts);
    target.stop();
}

#[test]
fn accounts_and_hosts_are_added_while_it_serves() {
    use std::os::unix::fs::PermissionsExt;
    let (target, address) = start("");
    let mut client = target.client();
    let account = client.result("account.add", json!({"name": "globex"}));
    let subsystem = account["subsystem"].as_str().expect("a name").to_owned();
    let secret = target.dir.path().join("secret");
    std::fs::write(&secret, "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaS:").expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let host =
        json!({"name": "db1", "account": "globex", "nqn": "nqn.2014-08.org.x:db1", "dhchap_secret": "file:secret"});
    let (kind, message) = client.refusal("host.add", host.clone());
    assert!(kind == "refused" && message.contains("checksum") && !message.contains("AAEC"), "{message}");
    std::fs::write(&secret, "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:").expect("written");
    let added = client.result("host.add", host);
    assert_eq!(added["authenticates"], json!(true));
    // Connect succeeds; nothing else does before the host has authenticated.
    assert_eq!(Host::connect(&address, &subsystem, "nqn.2014-08.org.x:db1").status, 0);
    let wrong = client.refusal("account.add", json!({"name": "not plain"}));
    assert_eq!(wrong.0, "refused", "{}", wrong.1);
    target.stop();
}

#[test]
fn both_exports_are_served_at_once() {
    let nbd = "[[device]]\nname = 'm1'\nkind = 'memory'\nsize = '4M'\nhugepages = 'never'\n\
               [[disk]]\nname = 'vol1'\ndevice = 'm1'\nencryption = 'none'\naccount = 'acme'\n\
               [nbd]\nlisten = ['unix:n']\n[[nbd.exports]]\nname = 'vol1'\ndisk = 'vol1'\n";
    let (target, address) = start(nbd);
    let mut client = target.client();
    let (kind, message) = client.refusal("disk.attach", json!({"name": "vol1", "host": "web1"}));
    assert!(kind == "in_use" && message.contains("NBD export"), "{message}");
    let host = Host::connect(&address, SUBSYSTEM, WEB1);
    assert_eq!(client.result("export.list", json!({}))["nvme_tcp"]["connections"], json!(1));
    assert!(std::os::unix::net::UnixStream::connect(target.dir.path().join("n")).is_ok());
    target.stop();
    host.expect_end();
}
