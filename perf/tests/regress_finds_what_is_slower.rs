//! `strongroom-perf regress` from its options to its exit status: with programs that make their figures up, and once with the real ones, of which
//! only is asked that everything works.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const ROW: &str = "memory, AES-256-XTS, 4096-byte sectors, randread 4k QD32";

/// What a program of these makes up: a rate with some noise that is the same in each test.
fn programs(rate: u32) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        r#"#!/bin/sh
read -r turn 2>/dev/null <"$0.turn" || turn=0
echo $((turn + 1)) >"$0.turn"
iops=$(({rate} + turn * 7919 % 31 * {rate} / 3000))
side='{{"ios":0,"iops":0.0,"mib_per_s":0.0,"latency_us":{{"mean":0,"p50":0,"p90":0,"p99":0,"p99_9":0,"p99_99":0,"max":0}}}}'
us=$((100 + turn * 104729 % 13))
cat <<END
{{"runtime_s":0.1,"cpu_s":0.1,"errors":0,"kernel":"made-up","write":$side,"read":{{"ios":9,"iops":$iops,"mib_per_s":9.5,
"latency_us":{{"mean":$us,"p50":$us,"p90":$us,"p99":$us,"p99_9":$us,"p99_99":$us,"max":$us}}}}}}
END
"#
    );
    install(dir.path(), &script);
    dir
}

fn broken() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path(), "#!/bin/sh\necho 'no such row' >&2\nexit 2\n");
    dir
}

fn install(dir: &Path, script: &str) {
    for name in ["strongroom", "strongroom-perf"] {
        let path = dir.join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn compare(base: &Path, head: &Path, out: &Path, options: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom-perf"));
    command.args(["regress", "--no-instructions", "--base-name", "aaaa before", "--head-name", "bbbb after <b>"]);
    command.arg("--base").arg(base).arg("--head").arg(head).arg("--out").arg(out).args(options);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, said)
}

fn made_up(base: &TempDir, head: &TempDir, out: &Path) -> (Output, String) {
    compare(base.path(), head.path(), out, &["--only", ROW, "--units", "10", "--most-units", "10"])
}

#[test]
fn a_slower_program_is_a_regression_that_is_named() {
    let out = tempfile::tempdir().unwrap();
    let (output, said) = made_up(&programs(1_000_000), &programs(940_000), out.path());
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("REGRESSION (2 figures: 1 slower"), "{said}");
    assert!(said.contains(&format!("\n  {ROW}: IOPS -")), "{said}");
    let files: Vec<_> = fs::read_dir(out.path()).unwrap().map(|file| file.unwrap().path()).collect();
    let with = |end: &str| files.iter().find(|path| path.to_string_lossy().ends_with(end)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(with(".json")).unwrap()).unwrap();
    assert_eq!(json["rows"][0]["figures"][0]["finding"], "slower", "{json}");
    let page = fs::read_to_string(with(".html")).unwrap();
    assert!(page.contains("over commits") && page.contains("bbbb") && !page.contains("<b>"), "{page}");
    let history = fs::read_to_string(out.path().join("history/regress.jsonl")).unwrap();
    assert_eq!(history.lines().count(), 1);
    assert!(history.contains("\"commit\":\"bbbb\""), "{history}");
}

#[test]
fn the_same_program_is_no_regression() {
    let out = tempfile::tempdir().unwrap();
    let (output, said) = made_up(&programs(1_000_000), &programs(1_000_000), out.path());
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("NO REGRESSION FOUND (2 figures: 0 slower, 0 faster, 2 same, 0 unsure)"), "{said}");
}

#[test]
fn a_row_that_one_side_cannot_do_is_new_or_broken() {
    let out = tempfile::tempdir().unwrap();
    let (output, said) = made_up(&broken(), &programs(1_000_000), out.path());
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("NEW: BASE cannot do it: ") && said.contains("no such row"), "{said}");
    let (output, said) = made_up(&programs(1_000_000), &broken(), out.path());
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("BROKEN: HEAD cannot do it: "), "{said}");
}

#[test]
fn the_real_programs_can_do_a_row_of_each_kind() {
    let programs = Path::new(env!("CARGO_BIN_EXE_strongroom-perf")).parent().unwrap();
    assert!(programs.join("strongroom").is_file(), "build it first: cargo build -p strongroom");
    let out = tempfile::tempdir().unwrap();
    for row in [
        "null, plain",
        "pool on memory, AES-256-XTS, randwrite",
        "NBD, memory, AES-256-XTS, randwrite",
        "randread 4k QD1",
    ] {
        let (output, said) = compare(programs, programs, out.path(), &["--quick", "--only", row]);
        assert_eq!(output.status.code(), Some(0), "{row}: {said}");
        assert!(said.contains("0 slower, 0 faster") && !said.contains("not measured"), "{row}: {said}");
    }
}
