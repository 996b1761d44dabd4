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
            assert_eq!(export["block_minimum"], minimum);
            assert_eq!(export["block_preferred"], 4096);
            assert_eq!(export["block_maximum"], 32 << 20);
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
