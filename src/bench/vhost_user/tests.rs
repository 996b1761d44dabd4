//! The load generator against a device in the same process, well-behaved and not.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::bench::Mix;
use crate::reactor::allowed_cpus;

use super::null_device::{Manners, NullDevice};
use super::{RingKind, VhostUserConfig, VhostUserReport, run};

const DISK_BYTES: u64 = 16 << 20;

fn config(socket: &Path) -> VhostUserConfig {
    VhostUserConfig {
        socket: socket.to_owned(),
        queues: 1,
        ring: RingKind::Split,
        indirect: true,
        mix: Mix::RandRw,
        read_percent: 50,
        block_size: 4096,
        iodepth: 8,
        runtime: Duration::from_millis(50),
        ramp: Duration::ZERO,
        thinktime: Duration::ZERO,
        core: allowed_cpus()[0],
        seed: 1,
    }
}

/// A device and where it is.
fn device(manners: Manners) -> (TempDir, std::path::PathBuf, NullDevice) {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("s");
    let core = *allowed_cpus().last().expect("a core");
    let device = NullDevice::start(&socket, core, DISK_BYTES, manners).expect("a device");
    (dir, socket, device)
}

fn measure(config: &VhostUserConfig) -> VhostUserReport {
    let report = run(config, |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((report.errors, &report.first_error), (0, &None), "{report}");
    assert!(report.read.ios + report.write.ios > 0, "{report}");
    report
}

#[test]
fn every_kind_of_ring_is_driven() {
    let (_dir, socket, _device) = device(Manners::Good);
    for ring in [RingKind::Split, RingKind::Packed] {
        for indirect in [false, true] {
            for (queues, iodepth, block_size) in [(1, 1, 512), (1, 32, 4096), (2, 7, 4096), (1, 2, 3 << 20)] {
                let report =
                    measure(&VhostUserConfig { ring, indirect, queues, iodepth, block_size, ..config(&socket) });
                assert_eq!((report.ring, report.indirect, report.disk_size), (ring, indirect, DISK_BYTES));
                assert!(
                    report.read.latency_us.p50 + report.write.latency_us.p50 > 0.0 && report.kicks == 0,
                    "{report}"
                );
            }
        }
    }
}

#[test]
fn a_load_that_thinks_asks_seldom_and_ends_in_time() {
    let (_dir, socket, _device) = device(Manners::Good);
    let quiet = VhostUserConfig { iodepth: 1, thinktime: Duration::from_millis(10), ..config(&socket) };
    let report = measure(&quiet);
    assert!(report.read.ios + report.write.ios <= 6, "{report}");
    // One request, and then silence until the time is over.
    let silent = VhostUserConfig { thinktime: Duration::from_secs(3600), ..quiet };
    let report = measure(&silent);
    assert_eq!(report.read.ios + report.write.ios, 1, "{report}");
}

#[test]
fn a_failed_request_is_counted_with_its_text() {
    for (manners, wanted) in [
        (Manners::Status(1), "I/O error"),
        (Manners::Status(2), "does not support"),
        (Manners::Status(0xFF), "gave no status"),
        (Manners::MoreLength(7), "says that it wrote"),
    ] {
        let (_dir, socket, _device) = device(manners);
        let report =
            run(&VhostUserConfig { mix: Mix::RandRead, ..config(&socket) }, |_, _| {}).expect("it comes to its end");
        let first = report.first_error.as_deref().expect("an error");
        assert!(report.errors > 0 && first.contains(wanted), "{first}");
    }
}

#[test]
fn a_device_that_completes_what_it_was_not_given_is_told() {
    for ring in [RingKind::Split, RingKind::Packed] {
        let (_dir, socket, _device) = device(Manners::Another);
        let config = VhostUserConfig { ring, iodepth: 1, ..config(&socket) };
        let error = run(&config, |_, _| {}).expect_err("it ends early").to_string();
        assert!(error.contains("not in flight"), "{error}");
    }
}

#[test]
fn what_the_device_does_not_have_is_refused() {
    let (_dir, socket, _device) = device(Manners::Good);
    let good = || config(&socket);
    for (config, wanted) in [
        (VhostUserConfig { queues: 17, ..good() }, "the device has 16 queues, not 17"),
        (VhostUserConfig { block_size: 100, ..good() }, "not a multiple of the disk's 512-byte blocks"),
        (VhostUserConfig { block_size: 64 << 20, ..good() }, "more than the"),
        (VhostUserConfig { queues: 0, ..good() }, "at least one queue"),
        (VhostUserConfig { iodepth: 1 << 20, ..good() }, "needs a ring of more than"),
    ] {
        let error = run(&config, |_, _| {}).expect_err("refused").to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn nobody_there_is_told() {
    let error = run(&config(Path::new("/nowhere/s")), |_, _| {}).expect_err("refused").to_string();
    assert!(error.contains("/nowhere/s: cannot connect"), "{error}");
}
