//! The control socket answers JSON-RPC 2.0: each method does what the list says, errors have code, message and kind, and nobody's bad behaviour
//! is felt by anybody else.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
mod operator;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use operator::{Client, Target};
use serde_json::{Value, json};

/// Two memory disks, of which NBD exports one.
const SITE: &str = "\
    [[account]]\nname = 'acme'\n\
    [[host]]\nname = 'web1'\naccount = 'acme'\nnqn = 'nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555'\n\
    [[device]]\nname = 'm0'\nkind = 'memory'\nsize = '4M'\nhugepages = 'never'\n\
    [[disk]]\nname = 'vol0'\ndevice = 'm0'\nencryption = 'none'\n\
    [[device]]\nname = 'm1'\nkind = 'memory'\nsize = '8M'\nhugepages = 'never'\n\
    [[disk]]\nname = 'vol1'\ndevice = 'm1'\nencryption = 'none'\naccount = 'acme'\n\
    [nbd]\nlisten = ['unix:n', 'tcp:127.0.0.1:0']\n[[nbd.exports]]\nname = 'vol0'\ndisk = 'vol0'\n";

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("an array").iter().map(|one| one["name"].as_str().expect("a name")).collect()
}

#[test]
fn the_list_names_every_method_and_each_can_be_asked() {
    let target = Target::start(SITE);
    let mut client = target.client();
    let methods = client.result("rpc.list", json!({}));
    let methods = methods.as_array().expect("an array");
    assert!(methods.len() >= 15);
    for method in methods {
        let name = method["name"].as_str().expect("a name");
        client.send(format!("{}\n", method["example"]).as_bytes());
        let answer = client.line().expect("an answer");
        let kind = answer["error"]["data"]["kind"].as_str();
        assert!(!matches!(kind, Some("invalid_params" | "method_not_found" | "invalid_request")), "{name}: {answer}");
    }
    target.stop();
}

#[test]
fn what_is_asked_is_told() {
    let target = Target::start(SITE);
    let mut client = target.client();
    let info = client.result("target.info", json!({}));
    assert_eq!((&info["pid"], &info["region"]), (&json!(target.pid()), &json!("local")));
    assert_eq!(info["reactors"][0]["memory_bytes"], json!(16 << 20));
    assert_eq!(names(&client.result("disk.list", json!({}))), ["vol0", "vol1"]);
    let vol0 = client.result("disk.show", json!({"name": "vol0"}));
    assert_eq!((&vol0["size_bytes"], &vol0["nbd_exports"]), (&json!(4 << 20), &json!(["vol0"])));
    assert!(vol0["device_is"].as_str().expect("text").starts_with("memory"));
    assert_eq!(client.result("disk.show", json!(["vol0"])), vol0, "by position");
    let accounts = client.result("account.list", json!({}));
    assert_eq!(accounts, json!([{"name": "acme", "subsystem": null, "hosts": ["web1"], "disks": ["vol1"]}]));
    let exports = client.result("export.list", json!({}));
    assert_eq!(
        exports["nbd"]["exports"],
        json!([{"name": "vol0", "disk": "vol0", "read_only": false, "offline": false}])
    );
    assert_eq!(exports["nbd"]["listen"].as_array().map(Vec::len), Some(2));
    let stat = client.result("stat", json!({"name": "vol1"}));
    assert_eq!((names(&stat), &stat[0]["read"]["commands"]), (vec!["vol1"], &json!(0)));
    target.stop();
}

#[test]
fn what_is_changed_is_checked_like_a_configuration() {
    let target = Target::start(SITE);
    let mut client = target.client();
    let disk = |name: &str| {
        json!({"disk": {"name": name, "device": name, "encryption": "none"},
               "device": {"name": name, "kind": "memory", "size": "1M", "hugepages": "never"}})
    };
    let added = client.result("disk.add", disk("vol2"));
    assert_eq!(added["size_bytes"], json!(1 << 20));
    assert!(added["note"].as_str().expect("text").contains("configuration"), "{added}");
    let unlike = json!({"disk": {"name": "a", "device": "b", "encryption": "none"},
                        "device": {"name": "c", "kind": "null", "size": 4096}});
    let secret =
        json!({"name": "w", "account": "acme", "nqn": "nqn.2014-08.org.x:w", "dhchap_secret": "DHHC-1:00:c2VjcmV0:"});
    for (method, params, kind, message) in [
        ("disk.add", disk("vol2"), "exists", "vol2 is there twice"),
        ("disk.add", unlike, "refused", "disk a: it names device b, but device c is given"),
        ("disk.add", json!({"disk": {"name": "a"}, "device": {}}), "invalid_params", "missing field"),
        ("disk.show", json!({"name": "vol9"}), "not_found", "there is no disk vol9; the disks are: vol0, vol1, vol2"),
        ("disk.show", json!({}), "invalid_params", "missing field `name`"),
        ("disk.show", json!({"name": "vol0", "nme": 1}), "invalid_params", "unknown field `nme`"),
        ("disk.list", json!({"name": "vol0"}), "invalid_params", "no parameters"),
        ("disk.remove", json!({"name": "vol0"}), "in_use", "NBD export"),
        ("disk.attach", json!({"name": "vol1", "host": "web9"}), "not_found", "no host web9; the hosts are: web1"),
        ("disk.attach", json!({"name": "vol0", "host": "web1"}), "refused", "needs an account"),
        ("disk.attach", json!({"name": "vol1", "host": "web1"}), "refused", "there is no [nvme_tcp]"),
        ("disk.detach", json!({"name": "vol1", "host": "web1"}), "not_found", "not attached to host web1"),
        ("disk.resize", json!({"name": "vol1", "size": "1G"}), "refused", "m1"),
        ("host.add", json!({"name": "w", "account": "b", "nqn": "nqn.x"}), "not_found", "no account b"),
        ("host.add", secret, "invalid_params", "file:PATH"),
        ("account.add", json!({"name": "acme"}), "exists", "acme is there twice"),
        ("log.level", json!({"filter": "loud"}), "refused", "\"loud\" is no level"),
        ("disk.unplug", json!({}), "method_not_found", "rpc.list"),
    ] {
        let refusal = client.refusal(method, params);
        assert!(refusal.0 == kind && refusal.1.contains(message), "{method}: {refusal:?}");
        assert!(!refusal.1.contains("c2VjcmV0"), "{refusal:?}");
    }
    assert_eq!(client.result("disk.remove", json!({"name": "vol2"}))["removed"], json!("vol2"));
    client.result("disk.add", disk("vol2"));
    client.result("account.add", json!({"name": "other"}));
    client.result("host.add", json!({"name": "db1", "account": "other", "nqn": "nqn.2014-08.org.nvmexpress:db1"}));
    assert_eq!(names(&client.result("host.list", json!({}))), ["web1", "db1"]);
    client.result("host.remove", json!({"name": "db1"}));
    assert_eq!(names(&client.result("disk.list", json!({}))), ["vol0", "vol1", "vol2"]);
    assert!(!target.log().contains("c2VjcmV0"));
    target.stop();
}

#[test]
fn pools_and_what_is_in_them_are_changed_over_the_socket() {
    let target = Target::start(SITE);
    let mut client = target.client();
    let pool = |name: &str, create: bool| {
        json!({"pool": {"name": name, "device": name, "create": create},
               "device": {"name": name, "kind": "memory", "size": "64M", "hugepages": "never"}})
    };
    let (kind, message) = client.refusal("pool.add", pool("p", false));
    assert!(kind == "refused" && message.contains("create = true formats it if it is blank"), "{kind}: {message}");
    let added = client.result("pool.add", pool("p", true));
    assert_eq!(
        (&added["name"], &added["offline"], &added["size_bytes"]),
        (&json!("p"), &Value::Null, &json!(64 << 20))
    );
    let disk = |name: &str, more: Value| {
        let mut disk = json!({"name": name, "pool": "p", "encryption": "none"});
        disk.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        disk
    };
    let made = client.result("disk.create", disk("thin", json!({"size": "1G", "sector_size": 512, "account": "acme"})));
    assert_eq!(
        (&made["size_bytes"], &made["sector_bytes"], &made["pool"]),
        (&json!(1 << 30), &json!(512), &json!("p"))
    );
    client.result("snapshot.create", json!({"disk": "thin", "name": "s"}));
    let clone = client.result("disk.create", disk("clone", json!({"from_snapshot": "thin@s"})));
    assert_eq!(clone["sector_bytes"], json!(512), "as the snapshot");
    for (method, params, kind, message) in [
        ("pool.add", pool("p", true), "exists", "p is there twice"),
        (
            "pool.add",
            json!({"pool": {"name": "q", "device": "r"}, "device": {"name": "q", "kind": "null", "size": 4096}}),
            "refused",
            "names device r",
        ),
        ("pool.show", json!({"name": "q"}), "not_found", "there is no pool q; the pools are: p"),
        ("pool.remove", json!({"name": "p"}), "in_use", "remove them first: thin, clone"),
        ("pool.grow", json!({"name": "p", "size": "1G"}), "refused", "memory device is fixed"),
        ("disk.create", disk("thin", json!({"size": "1G"})), "exists", "thin is there twice"),
        ("disk.create", disk("other", json!({})), "refused", "give it a size"),
        ("disk.create", disk("other", json!({"size": "1G", "pool": "q"})), "not_found", "no pool q"),
        ("disk.create", disk("other", json!({"size": 1000})), "refused", "1000 bytes"),
        ("disk.create", disk("other", json!({"size": "1G", "sector_size": 1024})), "refused", "1024"),
        ("disk.create", disk("a name", json!({"size": "1G"})), "refused", "\"a name\" is no name"),
        ("disk.create", disk("other", json!({"from_snapshot": "thin@x"})), "not_found", "thin@x"),
        (
            "disk.create",
            disk("other", json!({"from_snapshot": "thin@s", "sector_size": 4096})),
            "failed",
            "sector_size",
        ),
        ("disk.add", json!({"disk": disk("other", json!({"size": "1G"}))}), "refused", "disk.create makes one"),
        ("disk.add", json!({"disk": disk("other", json!({}))}), "not_found", "give it a size or a snapshot"),
        ("disk.delete", json!({"name": "vol1"}), "refused", "only disks in pools have volumes"),
        ("disk.delete", json!({"name": "vol0"}), "in_use", "NBD export"),
        ("disk.resize", json!({"name": "thin", "size": "1M"}), "refused", "--shrink"),
        ("disk.resize", json!({"name": "vol1", "size": "1M", "shrink": true}), "refused", "does not become smaller"),
        ("snapshot.create", json!({"disk": "thin", "name": "s"}), "exists", "thin@s"),
        ("snapshot.create", json!({"disk": "vol1", "name": "s"}), "refused", "only disks in pools"),
        ("snapshot.rollback", json!({"disk": "thin", "snapshot": "t"}), "not_found", "thin@t"),
        ("snapshot.delete", json!({"name": "thin@t"}), "not_found", "no pool has thin@t"),
        ("snapshot.diff", json!({"to": "thin", "from": "thin@t"}), "not_found", "no pool has thin@t"),
    ] {
        let refusal = client.refusal(method, params);
        assert!(refusal.0 == kind && refusal.1.contains(message), "{method}: {refusal:?}");
    }
    client.result("disk.resize", json!({"name": "thin", "size": "1M", "shrink": true}));
    let back = client.result("snapshot.rollback", json!({"disk": "thin", "snapshot": "s"}));
    assert_eq!(back["size_bytes"], json!(1 << 30), "a snapshot has its size");
    // Any order of deletion.
    client.result("disk.delete", json!({"name": "thin"}));
    let left = client.result("snapshot.list", json!({}));
    assert_eq!(names(&left), ["thin@s"]);
    client.result("snapshot.delete", json!({"name": "thin@s"}));
    assert_eq!(client.result("disk.show", json!({"name": "clone"}))["volume"]["made_from"], Value::Null);
    client.result("disk.delete", json!({"name": "clone"}));
    assert_eq!(client.result("pool.show", json!({"name": "p"}))["contents"], json!([]));
    assert_eq!(client.result("pool.remove", json!({"name": "p"}))["removed"], json!("p"));
    assert_eq!(client.result("pool.list", json!({})), json!([]));
    target.stop();
}

#[test]
fn a_file_grows_while_it_is_served() {
    let target = Target::start(
        "[[device]]\nname = 'f'\nkind = 'file'\npath = 'blocks'\nsize = '1M'\ncreate = true\n\
         [[disk]]\nname = 'vol0'\ndevice = 'f'\nencryption = 'none'\n\
         [nbd]\nlisten = ['unix:n']\n[[nbd.exports]]\nname = 'vol0'\ndisk = 'vol0'\n",
    );
    let mut client = target.client();
    let resized = client.result("disk.resize", json!({"name": "vol0", "size": "2 MiB"}));
    assert_eq!(resized["size_bytes"], json!(2 << 20));
    let (kind, message) = client.refusal("disk.resize", json!({"name": "vol0", "size": 4096}));
    assert_eq!(kind, "refused", "{message}");
    std::fs::OpenOptions::new()
        .write(true)
        .open(target.dir.path().join("blocks"))
        .and_then(|file| file.set_len(3 << 20))
        .expect("grown");
    assert_eq!(client.result("disk.resize", json!({"name": "vol0"}))["size_bytes"], json!(3 << 20));
    target.stop();
}

#[test]
fn what_disks_do_is_counted() {
    let target = Target::start(SITE);
    let mut nbd = nbd_client::Client::silent(&target.dir.path().join("n")).greet().go("vol0", false);
    for _ in 0..3 {
        assert_eq!(nbd.write(0, 4096, &[7; 8192]), 0);
    }
    assert_eq!(nbd.ask(nbd_client::READ, 0, 4096, 4096).data, vec![7; 4096]);
    let stat = target.client().result("stat", json!({"name": "vol0"}))[0].clone();
    assert_eq!((&stat["write"]["commands"], &stat["write"]["bytes"]), (&json!(3), &json!(3 * 8192)));
    assert_eq!((&stat["read"]["commands"], &stat["read"]["errors"]), (&json!(1), &json!(0)));
    assert!(stat["write"]["latency_us"]["p99"].as_f64().is_some_and(|us| us > 0.0), "{stat}");
    let counted: u64 =
        stat["write"]["histogram_ns"].as_array().expect("an array").iter().filter_map(|b| b[2].as_u64()).sum();
    assert_eq!(counted, 3);
    drop(nbd);
    target.stop();
}

#[test]
fn the_log_level_changes_while_it_serves() {
    let target = Target::start(SITE);
    let mut client = target.client();
    assert_eq!(client.result("log.level", json!({}))["filter"], json!("info"));
    client.result("log.level", json!({"filter": "error"}));
    client.result("account.add", json!({"name": "quiet"}));
    client.result("log.level", json!({"filter": "info,strongroom::control=debug"}));
    client.result("account.add", json!({"name": "loud"}));
    let dir = target.stop();
    let log = std::fs::read_to_string(dir.path().join("log")).expect("text");
    assert_eq!(log.matches("account.add done").count(), 1, "{log}");
}

#[test]
fn only_its_owner_can_use_the_socket_and_a_second_target_does_not_take_it() {
    let target = Target::start(SITE);
    let mode = std::fs::metadata(target.socket()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let config = format!(
        "[reactor]\nmemory_mib = 8\nhugepages = 'never'\n[control]\nsocket = '{}'\n\
         [[device]]\nname = 'm'\nkind = 'null'\nsize = 4096\n[[disk]]\nname = 'v'\ndevice = 'm'\nencryption = 'none'\n\
         [nbd]\nlisten = ['unix:n2']\n[[nbd.exports]]\nname = 'v'\ndisk = 'v'\n",
        target.socket().display()
    );
    let path = target.dir.path().join("second.toml");
    std::fs::write(&path, config).expect("written");
    let (_, error, code) = operator::command(&["serve", "--config", path.to_str().expect("text")], &target.socket());
    assert!(code == 1 && error.contains("taken by a server that answers"), "{error}");
    expect_served(&mut target.client());
    target.stop();
}

#[test]
fn batches_and_notifications_are_answered_as_the_specification_says() {
    let target = Target::start(SITE);
    let mut client = target.client();
    client.send(b"{\"jsonrpc\": \"2.0\", \"method\": \"account.add\", \"params\": [\"silent\"]}\n");
    client.send(b"\n  \r\n[{\"jsonrpc\":\"2.0\",\"method\":\"disk.list\",\"id\":1},7,{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"id\":\"2\"}]\n");
    let answers = client.line().expect("an answer");
    assert_eq!(answers[0]["id"], json!(1));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&Value::Null, &json!(-32600)));
    assert_eq!((&answers[2]["id"], &answers[2]["error"]["code"]), (&json!("2"), &json!(-32601)));
    assert_eq!(
        names(&client.result("account.list", json!({}))),
        ["acme", "silent"],
        "the notification was carried out"
    );
    // Two requests in one write, and one in many.
    let request = |id: u32| format!("{}\n", json!({"jsonrpc": "2.0", "method": "account.list", "id": id}));
    client.send((request(1) + &request(2)).as_bytes());
    for byte in request(3).bytes() {
        client.send(&[byte]);
    }
    for id in 1..=3 {
        assert_eq!(client.line().expect("an answer")["id"], json!(id));
    }
    target.stop();
}

#[test]
fn a_client_in_another_language_is_served() {
    let target = Target::start(SITE);
    let script = "
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile('rw')
def ask(method, **params):
    json.dump({'jsonrpc': '2.0', 'method': method, 'params': params, 'id': 1}, f); f.write('\\n'); f.flush()
    return json.loads(f.readline())
assert [d['name'] for d in ask('disk.list')['result']] == ['vol0', 'vol1']
assert ask('disk.show', name='é€😀')['error']['data']['kind'] == 'not_found'
s.shutdown(socket.SHUT_WR)
assert f.readline() == ''
";
    match Command::new("timeout").args(["60", "python3", "-c", script]).arg(target.socket()).output() {
        Ok(output) if output.status.code() == Some(127) => eprintln!("SKIPPED: no python3"),
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(e) => panic!("{e}"),
    }
    target.stop();
}

/// A client that is served, again and again, whatever others do.
fn expect_served(client: &mut Client) {
    assert_eq!(names(&client.result("disk.list", json!({}))), ["vol0", "vol1"]);
}

#[test]
fn garbage_is_answered_with_an_error_and_ends_nothing() {
    let target = Target::start(SITE);
    let mut good = target.client();
    let mut bad = target.client();
    for garbage in [&b"garbage\n"[..], b"\x00\xFF\xFE\n", b"{\n", b"[[[[\n", b"GET / HTTP/1.1\r\n", b"\"\\ud800\"\n"] {
        bad.send(garbage);
        let answer = bad.line().expect("an answer");
        assert!(matches!(answer["error"]["code"].as_i64(), Some(-32700 | -32600)), "{answer}");
        expect_served(&mut good);
    }
    bad.send(format!("{}\n", "[".repeat(100_000)).as_bytes());
    assert_eq!(bad.line().expect("an answer")["error"]["code"], json!(-32700));
    expect_served(&mut bad);
    target.stop();
}

#[test]
fn an_endless_line_ends_its_connection_alone() {
    let target = Target::start(SITE);
    let mut good = target.client();
    let mut bad = target.client();
    let mut sent = 0;
    // The target stops reading after a while, and closes.
    while bad.stream.get_mut().write_all(&[b' '; 4096]).is_ok() {
        sent += 4096;
        assert!(sent < 64 << 20, "the target takes a line of any length");
    }
    expect_served(&mut good);
    if let Some(answer) = bad.line() {
        assert_eq!(answer["error"]["code"], json!(-32600));
        assert_eq!(bad.line(), None);
    }
    target.stop();
}

#[test]
fn a_thousand_connections_and_half_requests_leave_others_untouched() {
    let target = Target::start(SITE);
    let mut good = target.client();
    expect_served(&mut good);
    let mut crowd: Vec<UnixStream> = Vec::new();
    for n in 0..1000 {
        // The target may refuse or end some of them.
        let Ok(mut one) = UnixStream::connect(target.socket()) else { continue };
        if n % 2 == 0 {
            let _ = one.write_all(b"{\"jsonrpc\": \"2.0\", \"method\": \"disk.l");
        }
        crowd.push(one);
        if n % 100 == 0 {
            expect_served(&mut good);
        }
    }
    expect_served(&mut good);
    expect_served(&mut target.client());
    let threads = std::fs::read_dir(format!("/proc/{}/task", target.pid())).expect("a process").count();
    assert!(threads < 400, "{threads} threads");
    drop(crowd);
    expect_served(&mut good);
    target.stop();
}

#[test]
fn who_does_not_take_his_answers_holds_up_nobody() {
    let target = Target::start(SITE);
    let mut good = target.client();
    let deaf = UnixStream::connect(target.socket()).expect("connected");
    deaf.set_nonblocking(true).expect("set");
    let request = format!("{}\n", json!({"jsonrpc": "2.0", "method": "rpc.list", "id": 1})).repeat(100);
    // Until both directions are full.
    for _ in 0..10_000 {
        if (&deaf).write(request.as_bytes()).is_err() {
            break;
        }
    }
    expect_served(&mut good);
    expect_served(&mut target.client());
    target.stop();
}
