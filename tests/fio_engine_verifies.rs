//! Debian's fio checks what the engine in its process has stored, and every example job runs as it stands.
//!
//! The engine is built by `scripts/fio-engine`, which fetches fio's headers: without a Debian mirror in reach (or once they are there) the tests say
//! why they are skipped. `scripts/test` fetches them first.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

const MIB: u64 = 1 << 20;

/// The engine, built once for all tests, or nothing if it cannot be.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/fio-engine");
        let headers = Command::new(&script).arg("--headers").output().expect("bash");
        if !headers.status.success() {
            eprintln!("SKIPPED, as fio's headers cannot be had: {}", String::from_utf8_lossy(&headers.stderr));
            return None;
        }
        let built = Command::new(&script).arg("--dev").output().expect("bash");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let usage = String::from_utf8(built.stdout).expect("text");
        let path = usage.split("external:").nth(1).and_then(|rest| rest.split(' ').next()).expect("a path");
        Some(path.into())
    });
    library.as_deref()
}

/// A folder with a configuration of disks on files of 32 MiB, encrypted with both sizes of sectors, a plain one, and volumes of a pool.
struct Lab {
    dir: tempfile::TempDir,
    library: &'static Path,
}

impl Lab {
    fn new() -> Option<Self> {
        let library = library()?;
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut text = "[reactor]\nmemory_mib = 8\nhugepages = 'never'\n".to_owned();
        for (name, sector, encryption) in
            [("c512", 512, "{ key_file = 'key' }"), ("c4096", 4096, "{ key_file = 'key' }"), ("plain", 512, "'none'")]
        {
            text += &format!(
                "[[device]]\nname = '{name}'\nkind = 'file'\npath = '{name}.img'\nsize = '32 MiB'\ncreate = true\n\
                 [[disk]]\nname = '{name}'\ndevice = '{name}'\nsector_size = {sector}\nencryption = {encryption}\n"
            );
        }
        text += "[[device]]\nname = 'pool'\nkind = 'file'\npath = 'pool.img'\nsize = '128 MiB'\ncreate = true\n\
                 [[pool]]\nname = 'pool'\ndevice = 'pool'\ncreate = true\n";
        for name in ["thin0", "thin1"] {
            text += &format!(
                "[[disk]]\nname = '{name}'\npool = 'pool'\nsize = '32 MiB'\nencryption = {{ key_file = 'key' }}\n"
            );
        }
        std::fs::write(dir.path().join("disks.toml"), text).expect("written");
        write_key(&dir.path().join("key"));
        Some(Self { dir, library })
    }

    fn fio(&self, args: &[&str]) -> Output {
        let mut command = Command::new("fio");
        command.current_dir(self.dir.path()).arg(format!("--ioengine=external:{}", self.library.display()));
        command.args(["--strongroom_conf=disks.toml", "--output-format=json"]).args(args);
        command.output().expect("fio is installed")
    }

    /// Runs fio as it has to go well; what it says of its jobs.
    fn run(&self, args: &[&str]) -> Value {
        jobs(&self.fio(&[&["--thread=1"], args].concat()))
    }

    /// What fio says where it has to refuse.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.fio(args);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!output.status.success(), "{text}");
        text
    }

    fn stored(&self, disk: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(format!("{disk}.img"))).expect("an image")
    }
}

fn write_key(path: &Path) {
    std::fs::write(path, (0..64).collect::<Vec<u8>>()).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
}

/// The jobs in fio's answer, none of which may have failed.
fn jobs(output: &Output) -> Value {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}\n{errors}");
    let json = text.find('{').map(|at| &text[at..]).expect("JSON");
    let mut answer: Value = serde_json::from_str(json).expect("JSON");
    for job in answer["jobs"].as_array().expect("jobs") {
        assert_eq!(job["error"], 0, "{job}");
    }
    answer["jobs"].take()
}

#[test]
fn what_several_jobs_write_is_read_back_and_stored_as_cipher_text() {
    let Some(lab) = Lab::new() else { return };
    for (disk, blocks) in [("c512", "512-64k"), ("c4096", "4k-64k")] {
        let jobs = lab.run(&[
            &format!("--filename={disk}"),
            &format!("--bsrange={blocks}"),
            "--name=verify",
            "--numjobs=4",
            "--size=8m",
            "--offset_increment=8m",
            "--rw=randwrite",
            "--iodepth=16",
            "--verify=crc32c",
            "--do_verify=1",
            "--verify_fatal=1",
            "--end_fsync=1",
        ]);
        for job in jobs.as_array().expect("jobs") {
            assert_eq!(job["write"]["io_bytes"], 8 * MIB);
            assert_eq!(job["read"]["io_bytes"], 8 * MIB);
        }
    }
}

#[test]
fn a_known_text_is_nowhere_in_what_is_stored() {
    let Some(lab) = Lab::new() else { return };
    let holds_text = |disk: &str| lab.stored(disk).windows(8).any(|window| window == b"OPENTEXT");
    for disk in ["plain", "c512", "c4096"] {
        let filename = format!("--filename={disk}");
        lab.run(&[
            &filename,
            "--name=text",
            "--rw=write",
            "--bs=1536k",
            "--iodepth=4",
            "--size=24m",
            "--buffer_pattern=\"OPENTEXT\"",
        ]);
    }
    assert!(holds_text("plain"));
    assert!(!holds_text("c512") && !holds_text("c4096"));
}

#[test]
fn trims_and_syncs_among_verified_writes_do_no_harm() {
    let Some(lab) = Lab::new() else { return };
    for disk in ["plain", "c4096", "thin0"] {
        let filename = format!("--filename={disk}");
        let mixed = ["--bs=4k", "--size=16m", "--iodepth=8", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1"];
        let jobs = lab.run(
            &[&["--name=mixed", &filename, "--rw=randwrite", "--fsync=32", "--fdatasync=16"], &mixed[..]].concat(),
        );
        assert!(jobs[0]["sync"]["total_ios"].as_u64() > Some(0), "{}", jobs[0]["sync"]);
        let jobs = lab.run(&["--name=trim", &filename, "--rw=randtrim", "--bs=64k", "--size=16m", "--iodepth=8"]);
        assert_eq!(jobs[0]["trim"]["io_bytes"], 16 * MIB);
        lab.run(&[&["--name=again", &filename, "--rw=randwrite"], &mixed[..]].concat());
    }
}

#[test]
fn several_disks_of_a_pool_serve_one_job_and_are_closed_well() {
    let Some(lab) = Lab::new() else { return };
    for _ in 0..2 {
        let jobs = lab.run(&[
            "--filename=thin0:thin1",
            "--name=both",
            "--numjobs=2",
            "--size=32m",
            "--rw=randrw",
            "--bs=8k",
            "--iodepth=16",
            "--rate=64m",
            "--verify=crc32c",
            "--offset_increment=16m",
        ]);
        assert!(jobs[1]["write"]["io_bytes"].as_u64() > Some(0));
    }
}

#[test]
fn what_cannot_work_is_refused_with_its_reason() {
    let Some(lab) = Lab::new() else { return };
    let job = ["--name=j", "--rw=read", "--bs=4k"];
    for (args, reason) in [
        (&["--filename=plain"][..], "add thread=1"),
        (&["--thread=1", "--filename=nobody"], "there is no disk nobody; the disks are: c512"),
        (&["--thread=1", "--filename=c4096", "--bs=512"], "4096-byte sectors of disk c4096"),
        (&["--thread=1", "--filename=plain", "--strongroom_conf=elsewhere.toml"], "elsewhere.toml"),
        (&["--thread=1", "--filename=plain", "--strongroom_conf="], "strongroom_conf"),
    ] {
        let said = lab.refused(&[&job, args].concat());
        assert!(said.contains(reason), "{args:?}: {said}");
    }
}

#[test]
fn the_option_is_explained() {
    let Some(library) = library() else { return };
    let output = Command::new("fio").arg(format!("--enghelp={}", library.display())).output().expect("fio");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("strongroom_conf") && text.contains("Configuration file of Strongroom"), "{text}");
}

#[test]
fn every_example_job_runs() {
    let Some(library) = library() else { return };
    let (dir, examples) =
        (tempfile::tempdir().expect("a folder"), Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"));
    let here = dir.path().join("examples");
    std::fs::create_dir(&here).expect("a folder");
    std::fs::copy(examples.join("benchmark.toml"), here.join("benchmark.toml")).expect("copied");
    write_key(&here.join("benchmark.key"));
    let release = dir.path().join("target/fio-engine/release");
    std::fs::create_dir_all(&release).expect("a folder");
    std::os::unix::fs::symlink(library, release.join("libstrongroom_fio.so")).expect("linked");
    let mut found = 0;
    for entry in std::fs::read_dir(examples).expect("a folder").flatten() {
        if entry.path().extension().is_none_or(|extension| extension != "fio") {
            continue;
        }
        // The one change: a second is enough.
        let text = std::fs::read_to_string(entry.path()).expect("text");
        std::fs::write(here.join("job.fio"), text.replace("runtime=10\n", "runtime=1\n")).expect("written");
        let output =
            Command::new("fio").current_dir(&here).args(["--output-format=json", "job.fio"]).output().expect("fio");
        let jobs = jobs(&output);
        assert!(jobs[0]["write"]["total_ios"].as_u64() > Some(0), "{jobs}");
        assert!(jobs[1]["read"]["total_ios"].as_u64() > Some(0), "{jobs}");
        found += 1;
    }
    assert_eq!(found, 3);
}
