//! A plain disk becomes an encrypted one, and an encrypted one a plain one, while a host writes: no command fails, no byte is lost, and the host goes on
//! with the same namespace. A target that is killed in between goes on where it was, and a copy that is not the same is found.

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

use std::os::unix::fs::FileExt;

use keeper::{audit, folder, json_of, site, until};
use load::{At, BLOCK, BLOCKS, Load, MANY, MARKER, Queue, Written, content, expect, fill, nvme_address};
use nvme_client::blocks;
use operator::Target;
use serde_json::{Value, json};
use strongroom::export::nvme_tcp::wire::opcode::io as op;
use uuid::{Uuid, uuid};

const WEB1: Uuid = uuid!("11111111-2222-4333-8444-555555555555");

/// A second pool `q`, and the disk `d` of 32 MiB in `p`, which the host has.
fn two_pools(encryption: &str, layers: &str) -> String {
    site(&format!(
        "[[device]]\nname = 'g'\nkind = 'file'\npath = 'other'\nsize = '128M'\ncreate = true\n{layers}\
         [[pool]]\nname = 'q'\ndevice = 'g'\ncreate = true\n\
         [[disk]]\nname = 'd'\npool = 'p'\nsize = '32M'\nencryption = '{encryption}'\naccount = 'acme'\nnsid = 1\nattached_to = ['web1']\n"
    ))
}

fn address(target: &Target) -> At {
    At { address: nvme_address(target), host: WEB1 }
}

/// Where in a pool's file the marker is: blocks lie there as they are.
fn marker_in(target: &Target, file: &str) -> Option<usize> {
    let bytes = std::fs::read(target.dir.path().join(file)).expect("read");
    Some(bytes.chunks(BLOCK).position(|block| block.starts_with(MARKER))? * BLOCK)
}

fn status(target: &Target) -> Value {
    target.client().result("disk.convert_status", json!({"name": "e"}))
}

fn snapshots(target: &Target) -> usize {
    target.client().result("snapshot.list", json!({})).as_array().expect("a list").len()
}

/// Makes a snapshot look like the one of the round before the last, as if the target had been killed before it was deleted.
fn leave_a_round(target: &Target) {
    let all = target.client().result("snapshot.list", json!({}));
    let last = all[0]["name"].as_str().expect("the snapshot of the last round");
    let (conversion, round) = last.rsplit_once('-').expect("a round");
    let before = round.parse::<u32>().expect("a number") - 1;
    let (disk, conversion) = conversion.split_once('@').expect("of a disk");
    target.done(&["snapshot", "create", disk, &format!("{conversion}-{before}")]);
    assert_eq!(snapshots(target), 2);
}

#[test]
fn a_host_goes_on_with_the_encrypted_disk_and_does_not_notice() {
    let target = Target::start_in(folder(), &two_pools("none", ""));
    let address = address(&target);
    let written = fill(address);
    let before = json_of(&target, &["disk", "show", "d"]);
    let load = Load::start(address, written);
    load.go_on_for(200);
    let said =
        target.done(&["disk", "convert", "d", "e", "--encryption", "kms", "--pool", "q", "--switch", "--verify"]);
    assert!(said.contains("done, verified, switched") && said.contains("configuration file"), "{said}");
    load.go_on_for(200);
    expect(address, &load.stop());
    let (old, new) = (json_of(&target, &["disk", "show", "d"]), json_of(&target, &["disk", "show", "e"]));
    for key in ["uuid", "nsid", "attached_to", "size_bytes"] {
        assert_eq!(new[key], before[key], "{key}");
    }
    assert_eq!((&new["state"], &new["encryption"]), (&json!("open"), &json!("aes-256-xts")));
    assert_eq!((&old["state"], &old["attached_to"]), (&json!("offline"), &json!([])));
    assert!(old["offline"].as_str().expect("why").contains("switched to disk e"), "{old}");
    assert_eq!(snapshots(&target), 0, "the conversion's snapshots are left");
    assert!(
        marker_in(&target, "pool").is_some() && marker_in(&target, "other").is_none(),
        "plain text is on the device"
    );
    let made = audit(&target).into_iter().filter(|(operation, _)| operation == "create_disk").count();
    assert_eq!(made, 1);

    // A configuration file that nobody has changed shows hosts no old copy.
    let target = Target::start_in(target.stop(), &two_pools("none", ""));
    assert_eq!(json_of(&target, &["disk", "show", "d"])["state"], "offline");
    assert!(target.refused(&["disk", "convert", "d", "f", "--encryption", "kms"]).contains("switched to disk e"));
    target.done(&["disk", "convert-cancel", "d"]);
    assert_eq!(json_of(&target, &["disk", "show", "d"])["state"], "open");
    target.stop();
}

#[test]
fn a_host_goes_on_with_the_plain_disk_and_does_not_notice() {
    let target = Target::start_in(folder(), &two_pools("kms", ""));
    let address = address(&target);
    let load = Load::start(address, fill(address));
    let said = target.done(&["disk", "convert", "d", "e", "--encryption", "none", "--pool", "q", "--switch"]);
    assert!(said.contains("done, switched"), "{said}");
    load.go_on_for(100);
    expect(address, &load.stop());
    assert!(
        marker_in(&target, "pool").is_none() && marker_in(&target, "other").is_some(),
        "it is not as it was asked for"
    );
    target.done(&["disk", "delete", "d"]);
    target.stop();
}

#[test]
fn without_a_switch_a_disk_in_use_stays_ahead_until_it_is_detached() {
    let target = Target::start_in(folder(), &two_pools("none", ""));
    let address = address(&target);
    let mut written = fill(address);
    let said = target.done(&["disk", "convert", "d", "e", "--encryption", "kms", "--pool", "q"]);
    assert!(said.contains("behind") && said.contains("written since"), "{said}");
    for args in [&["disk", "attach", "e", "--host", "web1"][..], &["disk", "convert", "e", "f", "--encryption", "none"]]
    {
        assert!(target.refused(args).contains("is not finished"), "{args:?}");
    }
    Queue::connect(address).write(5, &content(5, 77));
    written.insert(5, 77);
    target.done(&["disk", "detach", "d", "--host", "web1"]);
    leave_a_round(&target);
    let said = target.done(&["disk", "convert", "d", "e", "--encryption", "kms", "--verify"]);
    assert!(said.contains("done, verified"), "{said}");
    assert_eq!(snapshots(&target), 0);
    assert!(target.refused(&["disk", "convert", "d", "e", "--encryption", "kms"]).contains("not empty"));
    target.done(&["disk", "delete", "d"]);
    target.done(&["disk", "attach", "e", "--host", "web1"]);
    assert_eq!(json_of(&target, &["disk", "show", "e"])["nsid"], 1);
    expect(address, &written);
    target.stop();
}

#[test]
fn a_killed_target_goes_on_where_it_was() {
    let slow = "[[device.layers]]\nkind = 'delay'\nwrite_us = 150000\n";
    let target = Target::start_in(folder(), &two_pools("none", slow));
    let address_of = address;
    let address = address(&target);
    let written: Written = (0..BLOCKS * 3).map(|block| (block, block + 1)).collect();
    let mut queue = Queue::connect(address);
    for start in (0..BLOCKS * 3).step_by(MANY as usize) {
        let data: Vec<u8> = (start..start + MANY).flat_map(|block| content(block, block + 1)).collect();
        queue.write(start, &data);
    }
    drop(queue);
    target.done(&["disk", "convert", "d", "e", "--encryption", "kms", "--pool", "q", "--detach"]);
    // Half of it: the first window is flushed, and that is written down by then.
    until("half is copied", || status(&target)["bytes_done"].as_u64().expect("a number") > 20 << 20);
    let target = Target::start_in(target.kill(), &two_pools("none", ""));
    let all = 24 << 20;
    target.done(&["disk", "detach", "d", "--host", "web1"]);
    target.done(&["disk", "convert", "d", "e", "--encryption", "kms", "--pool", "q", "--detach"]);
    let mut most = 0;
    until("it has ended", || {
        let now = status(&target);
        if now["round"] == 1 {
            most = most.max(now["bytes_total"].as_u64().expect("a number"));
        }
        now["ended"] == true
    });
    assert_eq!(status(&target)["phase"], "done", "{}", status(&target));
    assert!(most < all, "all {most} bytes were copied again");
    target.done(&["disk", "attach", "e", "--host", "web1"]);
    let nsid = json_of(&target, &["disk", "show", "e"])["nsid"].as_u64().expect("a number");
    let mut queue = Queue::connect(address_of(&target));
    for (block, version) in written.iter().step_by(5) {
        let mut command = blocks(op::READ, *block, 1);
        command.nsid = (nsid as u32).into();
        assert!(queue.io.fetch(command, BLOCK).data == content(*block, *version), "block {block}");
    }
    assert_eq!(snapshots(&target), 0);
    target.stop();
}

#[test]
fn a_copy_that_differs_is_found_and_given_up() {
    let target = Target::start_in(folder(), &two_pools("kms", ""));
    fill(address(&target));
    target.done(&["disk", "convert", "d", "e", "--encryption", "none", "--pool", "q", "--verify"]);
    let at = marker_in(&target, "other").expect("a plain copy") as u64;
    let file = std::fs::File::options().write(true).open(target.dir.path().join("other")).expect("opened");
    file.write_all_at(b"P", at).expect("written");
    file.sync_all().expect("synced");
    let (out, _, code) = target.run(&["disk", "convert", "d", "e", "--encryption", "none", "--verify"]);
    assert!(code == 1 && out.contains("differs from volume d@convert-"), "{code}: {out}");
    leave_a_round(&target);
    target.done(&["disk", "convert-cancel", "e"]);
    assert_eq!(snapshots(&target), 0);
    assert!(target.refused(&["disk", "show", "e"]).contains("no disk e"));
    target.stop();
}

#[test]
fn a_disk_with_reservations_is_not_switched() {
    let target = Target::start_in(folder(), &two_pools("none", ""));
    let mut queue = Queue::connect(address(&target));
    let mut register = nvme_client::command(op::RESERVATION_REGISTER, 1);
    // Register, whatever key there was (IEKEY).
    register.cdw10 = (1 << 3).into();
    let keys = [0u64.to_le_bytes(), 1u64.to_le_bytes()].concat();
    assert!(queue.io.run(register, &keys).status.is_success());
    let args = ["disk", "convert", "d", "e", "--encryption", "kms", "--switch"];
    let refused = target.refused(&args);
    assert!(refused.contains("registered with a reservation"), "{refused}");
    // Unregister.
    register.cdw10 = (1 << 3 | 1).into();
    assert!(queue.io.run(register, &keys).status.is_success());
    assert!(target.done(&args).contains("switched"));
    target.stop();
}

#[test]
fn what_cannot_be_switched_is_refused_before_anything_is_made() {
    let nbd = "[[disk]]\nname = 'n'\npool = 'p'\nsize = '1M'\nencryption = 'none'\n[nbd]\nlisten = ['unix:n']\n\
               [[nbd.exports]]\nname = 'n'\ndisk = 'n'\n";
    let target = Target::start_in(folder(), &(two_pools("none", "") + nbd));
    let convert =
        |from: &str, to: &str| target.refused(&["disk", "convert", from, to, "--encryption", "kms", "--switch"]);
    assert!(convert("n", "e").contains("NBD export"));
    assert!(convert("d", "d").contains("itself"));
    assert!(convert("d", "n").contains("NBD export"));
    assert!(convert("x", "e").contains("no disk x"));
    assert!(target.refused(&["disk", "show", "e"]).contains("no disk e"));
    target.stop();
}
