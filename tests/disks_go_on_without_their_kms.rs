//! While the KMS does not answer, disks that are attached go on, detaching works, and what needs a key fails soon, says so, and can be repeated; a
//! target that is started meanwhile serves the rest, and the disks by itself when the KMS is back. The KMS is a real OpenBao.

mod keeper;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
#[path = "servers/openbao.rs"]
mod openbao;
mod operator;

use keeper::{audit, byte_at, client, json_of, until, write};
use openbao::OpenBao;
use operator::Target;
use serde_json::json;

const MIB: u64 = 1 << 20;

/// The whole of a target whose KMS is the server.
fn site(bao: &OpenBao) -> String {
    let folder = bao.dir.path().display();
    format!(
        "region = 'r1'\n[reactor]\nmemory_mib = 16\nhugepages = 'never'\n[control]\nsocket = 'c'\n\
         [[account]]\nname = 'acme'\n[[host]]\nname = 'web1'\naccount = 'acme'\n\
         nqn = 'nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555'\n\
         [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '64M'\ncreate = true\n\
         [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n\
         [[disk]]\nname = 'd'\npool = 'p'\nsize = '16M'\nencryption = 'kms'\naccount = 'acme'\n\
         [[disk]]\nname = 'h'\npool = 'p'\nsize = '1M'\nencryption = 'kms'\naccount = 'acme'\nattached_to = ['web1']\n\
         [[disk]]\nname = 'plain'\npool = 'p'\nsize = '1M'\nencryption = 'none'\n\
         [nvme_tcp]\nlisten = ['127.0.0.1:0']\n\
         [nbd]\nlisten = ['unix:n']\n[[nbd.exports]]\nname = 'd'\ndisk = 'd'\n[[nbd.exports]]\nname = 'plain'\ndisk = 'plain'\n\
         [kms.vault]\naddress = '{}'\ntimeout_s = 1\nca_file = '{folder}/ca.pem'\n\
         auth = {{ role_id = 'file:{folder}/role', secret_id = 'file:{folder}/secret' }}\n",
        bao.address()
    )
}

#[test]
fn attached_disks_go_on_and_the_others_come_back() {
    let Some(bao) = OpenBao::start("1h") else { return };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let target = Target::start_with(dir, &site(&bao));
    let mut nbd = client(&target, "d");
    write(&mut nbd, MIB, 5);
    target.done(&["snapshot", "create", "d", "before"]);
    assert!(target.done(&["kms", "status"]).contains("available    yes"));

    bao.freeze();
    write(&mut nbd, 2 * MIB, 6);
    assert_eq!(byte_at(&mut nbd, MIB), 5);
    let (kind, why) = target.client().refusal("snapshot.create", json!({"disk": "d", "name": "during"}));
    assert_eq!(kind, "unavailable");
    assert!(why.contains(&bao.address()) && why.contains("try again"), "{why}");
    let new = json!({"name": "n", "pool": "p", "size": "1 MiB", "encryption": "kms", "account": "acme"});
    assert_eq!(target.client().refusal("disk.create", new.clone()).0, "unavailable");
    assert_eq!(json_of(&target, &["pool", "show", "p"])["contents"].as_array().expect("a list").len(), 4);
    // Wiping a key needs nobody.
    target.done(&["disk", "detach", "h", "--host", "web1"]);
    assert_eq!(json_of(&target, &["disk", "show", "h"])["state"], "detached");
    assert_eq!(target.client().refusal("disk.attach", json!({"name": "h", "host": "web1"})).0, "unavailable");
    assert_eq!(json_of(&target, &["disk", "show", "h"])["state"], "detached");
    assert!(target.done(&["kms", "status"]).contains("available    NO"));

    bao.thaw();
    target.done(&["disk", "attach", "h", "--host", "web1"]);
    target.client().result("disk.create", new);
    target.done(&["snapshot", "create", "d", "after"]);
    drop(nbd);

    let dir = target.stop();
    bao.freeze();
    let target = Target::start_with(dir, &site(&bao));
    write(&mut client(&target, "plain"), 0, 1);
    let shown = json_of(&target, &["disk", "show", "d"]);
    assert_eq!(shown["state"], "offline");
    assert!(shown["offline"].as_str().expect("a reason").contains("not available"), "{shown}");
    bao.thaw();
    until("the disk is served", || json_of(&target, &["disk", "show", "d"])["state"] == "open");
    let mut nbd = client(&target, "d");
    assert_eq!((byte_at(&mut nbd, MIB), byte_at(&mut nbd, 2 * MIB)), (5, 6));
    until("the other one is a namespace", || !json_of(&target, &["disk", "show", "h"])["nsid"].is_null());
    // Each operation, done or not, once.
    let count = |wanted: &str| audit(&target).iter().filter(|(operation, _)| operation == wanted).count();
    assert_eq!((count("snapshot"), count("create_disk"), count("detach")), (3, 4, 1));
    target.done(&["audit", "verify", target.dir.path().join("audit.log").to_str().expect("text")]);
}
