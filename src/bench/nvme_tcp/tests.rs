//! The load generator against a target in the same process, well-behaved and not.

use std::time::Duration;

use crate::bench::Mix;
use crate::export::nvme_tcp::wire::status::Status;
use crate::reactor::allowed_cpus;

use super::fake::{self, End, Manners};
use super::{NvmeTcpConfig, NvmeTcpReport, hold, run};

const GOOD: Manners = Manners {
    in_capsule: 8192,
    separate_response: false,
    r2ts: 1,
    queues: 2,
    connect_status: None,
    io_status: None,
    end: None,
    alignment: 0,
};

fn config(manners: Manners) -> NvmeTcpConfig {
    NvmeTcpConfig {
        target: format!("nvme-tcp://{}/nqn.2026-11.io.strongroom:fake", fake::start(manners)).parse().expect("fits"),
        host_nqn: None,
        namespace: None,
        connections: 1,
        header_digest: false,
        data_digest: false,
        mix: Mix::RandRw,
        read_percent: 50,
        block_size: fake::SECTOR as u64,
        iodepth: 8,
        runtime: Duration::from_millis(100),
        ramp: Duration::ZERO,
        core: allowed_cpus()[0],
        seed: 1,
    }
}

fn measure(config: &NvmeTcpConfig) -> NvmeTcpReport {
    let report = run(config, |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((report.errors, &report.first_error), (0, &None));
    assert!(report.read.ios + report.write.ios > 0, "{report}");
    report
}

fn failure(manners: Manners) -> String {
    run(&config(manners), |_, _| {}).map(|report| report.to_string()).expect_err("the run ends early").to_string()
}

#[test]
fn reads_and_writes_are_answered() {
    for separate_response in [false, true] {
        let report = measure(&config(Manners { separate_response, ..GOOD }));
        assert!(report.read.ios > 0 && report.write.ios > 0 && report.in_capsule, "{report}");
        assert!(report.read.latency_us.p50 > 0.0 && report.read.iops > 0.0, "{report}");
        assert_eq!((report.namespace, report.sector_size, report.controllers), (1, 4096, 1));
    }
}

#[test]
fn data_that_is_too_long_for_a_capsule_goes_by_r2t() {
    for (r2ts, alignment) in [(1, 0), (4, 0), (2, 31)] {
        let manners = Manners { in_capsule: 4096, r2ts, alignment, ..GOOD };
        let report = measure(&NvmeTcpConfig { mix: Mix::Write, block_size: 32768, iodepth: 1, ..config(manners) });
        assert!(report.write.ios > 0 && !report.in_capsule, "{report}");
    }
}

#[test]
fn digests_are_sent_and_checked() {
    for (header_digest, data_digest) in [(true, false), (false, true), (true, true)] {
        let manners = Manners { alignment: 31, ..GOOD };
        measure(&NvmeTcpConfig { header_digest, data_digest, ..config(manners) });
    }
}

#[test]
fn connections_beyond_what_a_controller_gives_get_another_one() {
    let report = measure(&NvmeTcpConfig { connections: 5, ..config(GOOD) });
    assert_eq!((report.connections, report.controllers), (5, 3));
}

#[test]
fn a_queue_is_never_fuller_than_the_target_says() {
    let report = measure(&NvmeTcpConfig { iodepth: 500, ..config(GOOD) });
    assert_eq!(report.iodepth, 127);
}

#[test]
fn idle_connections_are_held_and_counted() {
    let config = NvmeTcpConfig { connections: 4, ..config(GOOD) };
    let report = hold(&config, |_, _| {}).expect("they are held");
    assert!(report.all_alive() && report.controllers == 2, "{report}");
}

#[test]
fn a_failed_command_is_counted_with_its_text() {
    let manners = Manners { io_status: Some(Status::LBA_OUT_OF_RANGE), ..GOOD };
    let report = run(&config(manners), |_, _| {}).expect("it comes to its end");
    let first = report.first_error.as_deref().expect("an error");
    assert!(report.errors > 0 && first.contains("LBA out of range"), "{first}");
}

#[test]
fn a_refused_connect_says_why() {
    let error = failure(Manners { connect_status: Some(Status::CONNECT_INVALID_HOST), ..GOOD });
    assert!(error.contains("Connect failed: connect: invalid host"), "{error}");
}

#[test]
fn a_target_that_goes_wrong_is_told() {
    for (end, wanted) in [
        (End::Close, "closed the connection"),
        (End::Garbage, "PDU type 0x48"),
        (End::Terminate, "invalid PDU header field, information 0x2"),
        (End::Twice, "not in flight"),
        (End::Short, "leaves out a part"),
    ] {
        let manners = Manners { end: Some((5, end)), ..GOOD };
        let error =
            run(&NvmeTcpConfig { mix: Mix::RandRead, ..config(manners) }, |_, _| {}).expect_err("it ends early");
        let error = error.to_string();
        assert!(error.contains(wanted), "{end:?}: {error}");
    }
}

#[test]
fn what_the_namespace_does_not_have_is_refused() {
    let good = || config(GOOD);
    for (config, wanted) in [
        (NvmeTcpConfig { namespace: Some(7), ..good() }, "namespace 7 is not visible"),
        (NvmeTcpConfig { block_size: 512, ..good() }, "not a multiple of the 4096-byte sectors"),
        (NvmeTcpConfig { block_size: 1 << 20, ..good() }, "more than the 131072 bytes"),
        (NvmeTcpConfig { connections: 0, ..good() }, "at least one connection"),
    ] {
        let error = run(&config, |_, _| {}).expect_err("refused").to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn nobody_there_is_told() {
    let target = "nvme-tcp://127.0.0.1:1/nqn.2026-11.io.strongroom:fake".parse().expect("an address");
    let error = run(&NvmeTcpConfig { target, ..config(GOOD) }, |_, _| {}).expect_err("refused").to_string();
    assert!(error.contains("127.0.0.1:1: cannot connect"), "{error}");
}
