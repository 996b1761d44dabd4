//! `strongroom bench` measures what it says, checks what it reads, and fails when a command fails.

mod vhost;

use std::io::{Read, Write};
use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let quick = ["bench", "--runtime", "0.3", "--ramp", "0.1", "--size", "16M"];
    Command::new(env!("CARGO_BIN_EXE_strongroom")).args(quick).args(arguments).output().expect("it runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[test]
fn every_mix_runs_on_every_device_and_is_verified() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("blocks");
    std::fs::File::create(&path).and_then(|file| file.set_len(16 << 20)).expect("a file");
    let file = format!("file:{}", path.display());
    for device in ["memory", &file] {
        for (mix, reads, writes) in
            [("randread", true, false), ("write", false, true), ("randrw", true, true), ("rw", true, true)]
        {
            for encryption in ["none", "aes-256-xts"] {
                let output = bench(&[
                    "--device",
                    device,
                    "--rw",
                    mix,
                    "--encryption",
                    encryption,
                    "--verify",
                    "--bs",
                    "8k",
                    "--json",
                ]);
                let result = json(&output);
                assert!(output.status.success(), "{result}");
                let ios = |way: &str| result[way]["ios"].as_u64().expect("a count");
                assert_eq!((ios("read") > 0, ios("write") > 0), (reads, writes), "{result}");
                assert_eq!(result["errors"], 0, "{result}");
                let way = if reads { "read" } else { "write" };
                let latency = &result[way]["latency_us"];
                assert!(
                    latency["p50"].as_f64() <= latency["p99"].as_f64() && latency["p50"].as_f64() > Some(0.0),
                    "{result}"
                );
            }
        }
    }
}

#[test]
fn the_table_names_what_was_run() {
    let output = bench(&["--device", "null", "--rw", "randread"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("randread bs=4096 iodepth=32") && text.contains("0 errors"), "{text}");
}

#[test]
fn failing_commands_make_it_fail_and_say_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("c.toml");
    let text = "[[device]]\nname='d'\nkind='memory'\nsize='16M'\n\
        layers=[{ kind='fault', rules=[{ effect='error', every=100 }] }]\n\
        [[disk]]\nname='v'\ndevice='d'\nencryption='none'\n";
    std::fs::write(&config, text).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["bench", "--runtime", "0.2", "--config", config.to_str().expect("text"), "--disk", "v", "--json"])
        .output()
        .expect("it runs");
    let result = json(&output);
    assert!(!output.status.success() && result["errors"].as_u64() > Some(0), "{result}");
    assert_eq!(result["first_error"], "the device failed");
}

#[test]
fn a_wrong_command_line_is_told_what_to_write() {
    for (arguments, wanted) in [
        (&["--bs", "100"][..], "not a multiple"),
        (&["--rw", "sideways"], "choose read, write"),
        (&["--device", "tape"], "write null, memory or file:PATH"),
        (&["--kernel", "rot13"], "rot13"),
        (&["--cores", "4000"], "core 4000 is not allowed"),
        (&["--iodepth", "100000"], "are needed for one command of every slot"),
    ] {
        let output = bench(arguments);
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success() && error.contains(wanted), "{arguments:?}: {error}");
    }
}

/// Answers the first connection with some bytes, and closes it.
fn stranger(answer: &'static [u8]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        // The client's ICReq: closed with it unread, the connection would be reset and the answer lost.
        stream.read_exact(&mut [0; 128]).expect("a request");
        stream.write_all(answer).expect("it is still there");
    });
    format!("nvme-tcp://{address}/nqn.2026-11.io.strongroom:nobody")
}

fn refused(arguments: &[&str], code: i32, wanted: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_strongroom")).arg("bench").args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && said.contains(wanted), "{arguments:?}: {output:?}");
}

#[test]
fn what_is_no_nvme_tcp_target_is_told() {
    refused(&[&stranger(b"")], 1, "the target closed the connection");
    refused(&[&stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n")], 1, "is this NVMe/TCP?");
}

#[test]
fn options_that_do_not_go_with_a_target_are_refused() {
    refused(&["nvme-tcp://127.0.0.1/x"], 2, "does not begin with nqn.");
    refused(&["nvme-tcp://127.0.0.1/nqn.x", "--verify"], 2, "cannot be used with");
    refused(&["nvme-tcp://127.0.0.1/nqn.x", "--device", "null"], 2, "cannot be used with");
    refused(&["--idle"], 2, "TARGET");
    refused(&["vhost-user:"], 2, "write vhost-user:/PATH.sock");
    refused(&["vhost-user:/s", "--verify"], 2, "cannot be used with");
    refused(&["vhost-user:/s", "--ring", "round"], 2, "choose split or packed");
    refused(&["vhost-user:/s", "--connections", "2"], 1, "--connections is for targets over NVMe/TCP");
    refused(&["nvme-tcp://127.0.0.1/nqn.x", "--queues", "2"], 1, "--queues is for vhost-user back ends");
    refused(&["vhost-user:/s", "--thinktime=-1"], 1, "--thinktime -1 is not a time in seconds");
    refused(&["vhost-user:/nowhere/s"], 1, "/nowhere/s: cannot connect");
}

#[test]
fn a_vhost_user_disk_is_loaded_over_every_kind_of_ring() {
    let target = vhost::Target::start(1, &[vhost::Disk::named("d")], "");
    let socket = format!("vhost-user:{}", target.socket("d").display());
    for (more, ring) in [
        (&["--queues", "2"][..], "split"),
        (&["--direct"], "split"),
        (&["--ring", "packed"], "packed"),
        (&["--ring", "packed", "--direct", "--bs", "64k"], "packed"),
        (&["--iodepth", "1", "--thinktime", "0.01"], "split"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(["bench", &socket, "--rw", "randrw", "--runtime", "0.3", "--ramp", "0.1", "--json"])
            .args(more)
            .output()
            .expect("it runs");
        let result = json(&output);
        assert!(output.status.success() && result["errors"] == 0, "{result}");
        let ios = |way: &str| result[way]["ios"].as_u64().expect("a count");
        assert!(ios("read") + ios("write") > 0, "{result}");
        assert_eq!((&result["ring"], &result["disk_size"]), (&ring.into(), &(16 << 20).into()));
    }
    target.stop();
}
