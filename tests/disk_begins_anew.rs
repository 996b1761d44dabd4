//! A disk that is reinitialised has what it began with: nothing, or the snapshot that it was made from. Its snapshots, its key and its size stay, and
//! the audit log tells of it.

mod keeper;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
mod operator;

use keeper::{audit, byte_at, client, folder, json_of, site, write};
use operator::Target;

const MIB: u64 = 1 << 20;

fn disk(name: &str, content: &str) -> String {
    format!("[[disk]]\nname = '{name}'\npool = 'p'\n{content}\nencryption = 'kms'\naccount = 'acme'\n")
}

fn exports(names: &[&str]) -> String {
    let exports = names.iter().map(|name| format!("[[nbd.exports]]\nname = '{name}'\ndisk = '{name}'\n"));
    "[nbd]\nlisten = ['unix:n']\n".to_owned() + &exports.collect::<String>()
}

#[test]
fn a_disk_begins_anew_with_what_it_was_made_of() {
    let d = disk("d", "size = '16M'");
    let target = Target::start_in(folder(), &site(&(d.clone() + &exports(&["d"]))));
    write(&mut client(&target, "d"), MIB, 1);
    target.done(&["snapshot", "create", "d", "s"]);
    let c = disk("c", "from_snapshot = 'd@s'");
    let target = Target::start_in(target.stop(), &site(&(d + &c + &exports(&["d", "c"]))));
    let read = |name: &str, at: u64| byte_at(&mut client(&target, name), at);
    {
        let mut user = client(&target, "c");
        write(&mut user, MIB, 2);
        write(&mut user, 3 * MIB, 3);
        assert!(target.refused(&["disk", "reinit", "c"]).contains("disconnect first"));
    }
    target.done(&["disk", "resize", "c", "32M"]);
    keeper::until("its client is gone", || target.run(&["disk", "reinit", "c"]).2 == 0);
    assert_eq!((read("c", MIB), read("c", 3 * MIB)), (1, 0));
    assert_eq!(json_of(&target, &["disk", "show", "c"])["size_bytes"], 32 << 20);

    keeper::until("its client is gone", || target.run(&["disk", "reinitialise", "d"]).2 == 0);
    assert_eq!(read("d", MIB), 0);
    assert_eq!(json_of(&target, &["disk", "show", "d"])["allocated_bytes"], 0);
    // What it had is where it was kept.
    keeper::until("its client is gone", || target.run(&["snapshot", "rollback", "d", "s"]).2 == 0);
    assert_eq!(read("d", MIB), 1);

    target.done(&["snapshot", "delete", "d@s"]);
    let refused = target.refused(&["disk", "reinit", "c"]);
    assert!(refused.contains("snapshot that is deleted"), "{refused}");
    let count =
        audit(&target).iter().filter(|(operation, outcome)| operation == "reinitialise" && outcome == "done").count();
    assert_eq!(count, 2);
    target.stop();
}
