//! The NBD export serves clients that we did not write: libnbd's tools, QEMU's and fio.

mod common;

use common::{Target, attempt, device, encrypted, have, plain, run};
use strongroom::crypto::xts::SectorSize;

const MEMORY: &str = "kind = 'memory'\nsize = '64 MiB'\nhugepages = 'never'";
const FILE: &str = "kind = 'file'\npath = '$DIR/disk'\ncreate = true\nsize = '64 MiB'";

/// An encrypted disk in memory on two reactors.
fn memory_target(sector: SectorSize) -> Target {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = encrypted("d0", &device(&dir, MEMORY), sector);
    Target::start(dir, 2, &[disk], "")
}

/// A plain disk on a sparse file.
fn file_target() -> Target {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = plain("d0", &device(&dir, FILE), SectorSize::B4096);
    Target::start(dir, 2, &[disk], "")
}

fn facts(uri: &str) -> serde_json::Value {
    let info: serde_json::Value = serde_json::from_str(&run("nbdinfo", &["--json", uri])).expect("JSON");
    info["exports"][0].clone()
}

/// A file of noise in the target's directory.
fn noise(target: &Target, bytes: usize) -> String {
    let path = target.dir.path().join("noise");
    let mut data = vec![0; bytes];
    getrandom::fill(&mut data).expect("noise");
    std::fs::write(&path, data).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn nbdinfo_finds_every_feature_over_unix_and_tcp() {
    if !have(&["nbdinfo"]) {
        return;
    }
    for (sector, minimum) in [(SectorSize::B512, 512), (SectorSize::B4096, 4096)] {
        let target = memory_target(sector);
        for uri in [target.unix_uri("d0"), target.tcp_uri("d0"), target.unix_uri("")] {
            let export = facts(&uri);
            assert_eq!(export["export-size"], 64 << 20);
            assert_eq!(export["block_size_minimum"], minimum);
            assert_eq!(export["block_size_preferred"], 4096);
            assert_eq!(export["block_size_maximum"], 32 << 20);
            for flag in [
                "can_multi_conn",
                "can_flush",
                "can_fua",
                "can_trim",
                "can_zero",
                "can_fast_zero",
                "can_cache",
                "can_df",
            ] {
                assert_eq!(export[flag], true, "{flag}");
            }
            assert_eq!(export["is_rotational"], false);
            assert_eq!(export["is_read_only"], false);
            assert_eq!(export["contexts"][0], "base:allocation");
        }
        target.expect_idle();
        target.stop();
    }
}

#[test]
fn what_nbdcopy_copies_in_it_copies_out() {
    if !have(&["nbdcopy"]) {
        return;
    }
    for (target, flags) in [
        (memory_target(SectorSize::B4096), ["--connections=4", "--request-size=262144"]),
        (memory_target(SectorSize::B512), ["--connections=2", "--request-size=33554432"]),
        (file_target(), ["--connections=1", "--request-size=1048576"]),
    ] {
        let noise = noise(&target, 64 << 20);
        let out = target.dir.path().join("out");
        let uri = target.tcp_uri("d0");
        run("nbdcopy", &[flags[0], flags[1], "--flush", &noise, &uri]);
        run("nbdcopy", &[flags[0], flags[1], &target.unix_uri("d0"), out.to_str().expect("UTF-8")]);
        assert!(std::fs::read(&noise).expect("read") == std::fs::read(&out).expect("read"), "the copies differ");
        target.expect_idle();
        target.stop();
    }
}

#[test]
fn qemu_io_reads_the_patterns_that_it_wrote() {
    if !have(&["qemu-io"]) {
        return;
    }
    for target in [memory_target(SectorSize::B512), file_target()] {
        let uri = target.unix_uri("d0");
        let io = |commands: &[&str]| {
            let mut args = vec!["-f", "raw", "-t", "none", uri.as_str()];
            commands.iter().for_each(|command| args.extend(["-c", command]));
            run("qemu-io", &args)
        };
        io(&["write -P 0x5a 0 8M", "write -P 0xa5 -f 1M 64k", "aio_write -P 0x11 2M 4k", "aio_flush", "flush"]);
        let seen = io(&[
            "read -P 0x5a 0 1M",
            "read -P 0xa5 1M 64k",
            "read -P 0x11 2M 4k",
            "write -z 3M 1M",
            "write -z -u 4M 1M",
            "read -P 0 3M 2M",
            "discard 5M 1M",
            "write -P 0x22 5M 1M",
            "read -P 0x22 5M 1M",
            "read -P 0x5a 6M 2M",
        ]);
        assert!(!seen.contains("verification failed"), "{seen}");
        target.expect_idle();
        target.stop();
    }
}

#[test]
fn qemu_img_converts_into_an_export_and_sees_its_holes() {
    if !have(&["qemu-img"]) {
        return;
    }
    let target = file_target();
    let uri = target.unix_uri("d0");
    let image = target.dir.path().join("image");
    let mut data = vec![0u8; 64 << 20];
    data[8 << 20..9 << 20].fill(7);
    std::fs::write(&image, &data).expect("written");
    let image = image.to_str().expect("UTF-8");
    run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", image, &uri]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", image, &uri]);
    let map: serde_json::Value =
        serde_json::from_str(&run("qemu-img", &["map", "-f", "raw", "--output=json", &uri])).expect("JSON");
    let data: Vec<_> = map.as_array().expect("a list").iter().filter(|extent| extent["data"] == true).collect();
    assert_eq!(data.len(), 1, "{map}");
    assert_eq!((&data[0]["start"], &data[0]["length"]), (&(8 << 20).into(), &(1 << 20).into()));
    target.stop();
}

#[test]
fn fio_verifies_what_it_wrote_over_several_connections() {
    if !have(&["fio"]) {
        return;
    }
    for (target, jobs) in [(memory_target(SectorSize::B4096), "2"), (file_target(), "2")] {
        let uri = format!("--uri={}", target.unix_uri("d0"));
        let jobs = format!("--numjobs={jobs}");
        run(
            "fio",
            &[
                "--name=verify",
                "--ioengine=nbd",
                &uri,
                "--rw=randrw",
                "--bsrange=4k-128k",
                "--iodepth=32",
                "--size=16m",
                "--offset_increment=16m",
                &jobs,
                "--verify=crc32c",
                "--fsync=64",
                "--group_reporting",
            ],
        );
        target.expect_idle();
        target.stop();
    }
}

#[test]
fn several_exports_keep_apart_and_a_read_only_one_refuses_writes() {
    if !have(&["qemu-io", "nbdinfo"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (device(&dir, MEMORY), device(&dir, MEMORY));
    let disks = [encrypted("a", &a, SectorSize::B4096), plain("b", &b, SectorSize::B512)];
    let exports = "
        [[exports]]
        name = 'first'
        disk = 'a'
        description = 'what it is for'
        [[exports]]
        name = 'second'
        disk = 'b'
        [[exports]]
        name = 'look'
        disk = 'a'
        read_only = true";
    let target = Target::start(dir, 1, &disks, exports);
    let write = |export: &str, command: &str| {
        attempt("qemu-io", &["-f", "raw", "-t", "none", &target.unix_uri(export), "-c", command])
    };
    assert!(write("first", "write -P 1 0 64k").status.success());
    assert!(write("second", "write -P 2 0 64k").status.success());
    for (export, pattern) in [("first", 1), ("second", 2), ("look", 1)] {
        let command = format!("read -P {pattern} 0 64k");
        let seen = run("qemu-io", &["-r", "-f", "raw", &target.unix_uri(export), "-c", &command]);
        assert!(!seen.contains("verification failed"), "{export}: {seen}");
    }
    assert!(!write("look", "write -P 3 0 64k").status.success(), "the read-only export was opened for writing");
    assert_eq!(facts(&target.unix_uri("look"))["is_read_only"], true);
    let list: serde_json::Value =
        serde_json::from_str(&run("nbdinfo", &["--list", "--json", &target.unix_uri("")])).expect("JSON");
    let names: Vec<_> = list["exports"].as_array().expect("a list").iter().map(|e| e["export-name"].clone()).collect();
    assert_eq!(names, ["first", "second", "look"]);
    assert_eq!(list["exports"][0]["description"], "what it is for");
    // With several exports none is the default one.
    assert!(!attempt("nbdinfo", &[&target.unix_uri("")]).status.success());
    assert!(!attempt("nbdinfo", &[&target.unix_uri("third")]).status.success());
    target.stop();
}

#[test]
fn an_encrypted_export_leaves_no_plain_text_below() {
    if !have(&["qemu-io"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let disk = encrypted("d0", &device(&dir, FILE), SectorSize::B4096);
    let target = Target::start(dir, 1, &[disk], "");
    run("qemu-io", &["-f", "raw", "-t", "none", &target.unix_uri("d0"), "-c", "write -P 0x77 0 1M", "-c", "flush"]);
    let dir = target.stop();
    let below = std::fs::read(dir.path().join("disk")).expect("read");
    assert!(below[..1 << 20].iter().any(|&byte| byte != 0), "nothing was written");
    assert!(!below.windows(32).any(|window| window == [0x77; 32]), "plain text reached the device");
}
