//! A disk counts its commands, their bytes, errors and latencies, on all queues, and keeps the count of queues that are gone.

mod engine;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{bytes_of, device_config, memory_device, on_reactor};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, SharedDevice, Zeroes};
use strongroom::disk::{CommandKind, Disk, Tally, Zeroing};

fn range(len: u64) -> ByteRange {
    ByteRange::new(0, len).expect("fits")
}

fn tally(commands: u64, bytes: u64, errors: u64) -> Tally {
    Tally { commands, bytes, errors }
}

#[test]
fn every_kind_is_counted_and_stays_when_its_queue_is_gone() {
    let disk = Disk::with_random_key("x", memory_device(1), SectorSize::B4096, Kernel::best()).expect("a disk");
    let on_disk = disk.clone();
    on_reactor(move |reactor| async move {
        let disk = on_disk;
        let (queue, other) = (disk.queue(&reactor).expect("a queue"), disk.queue(&reactor).expect("a queue"));
        let mut buffer = reactor.buffers().take(8192).await;
        buffer.copy_from_slice(&bytes_of(1, 8192));
        let (first, both) = ([buffer.segment(0..4096)], [buffer.segment(0..8192)]);
        queue.write(range(8192), &both).await.expect("written");
        let mut incoming = queue.begin_write(range(4096)).await.expect("begun");
        incoming.add(&first).expect("taken");
        queue.commit(incoming).await.expect("written");
        other.read(range(8192), &mut buffer, 0).await.expect("read");
        assert!(other.read(range(2 << 20), &mut buffer, 0).await.is_err());
        assert!(queue.write(range(100), &first).await.is_err());
        assert!(queue.begin_write(range(100)).await.is_err());
        queue.flush().await.expect("flushed");
        assert!(queue.compare(range(4096), &first).await.expect("compared"));
        assert!(queue.compare_and_write(range(4096), &first, &first).await.expect("done"));
        queue.verify(range(4096)).await.expect("verified");
        queue.discard(range(4096)).await.expect("discarded");
        // Many writes inside, one command outside.
        queue.write_zeroes(range(1 << 20), Zeroes::MayFree, Zeroing::AnyWay).await.expect("zeroed");
        assert_eq!(queue.stats().tally(CommandKind::Read), Tally::default());
        assert_eq!(other.stats().tally(CommandKind::Write), Tally::default());
        drop(other);
        assert_eq!(disk.stats().tally(CommandKind::Read), tally(2, 8192, 1));
    });
    let stats = disk.stats();
    let counted = CommandKind::ALL.map(|kind| stats.tally(kind));
    let wanted = [
        tally(2, 8192, 1),
        tally(4, 8192 + 4096, 2),
        tally(1, 0, 0),
        tally(1, 4096, 0),
        tally(1, 1 << 20, 0),
        tally(1, 4096, 0),
        tally(1, 4096, 0),
        tally(1, 4096, 0),
    ];
    assert_eq!(counted, wanted);
    let measured = [CommandKind::Read, CommandKind::Write, CommandKind::Flush, CommandKind::Discard];
    let counts = measured.map(|kind| stats.latency(kind).map(|latency| latency.count()));
    assert_eq!(counts, [Some(1), Some(2), Some(1), None]);
    assert!(stats.busy() > Duration::ZERO);
}

#[test]
fn latencies_are_those_of_the_device_and_not_those_of_the_client() {
    let layers = "layers = [{ kind = 'delay', read_us = 2000, write_us = 3000, flush_us = 4000 }]";
    let mut config = device_config(DeviceKind::Memory, None, 1);
    config.layers = toml::from_str::<toml::Table>(layers).expect("TOML")["layers"].clone().try_into().expect("layers");
    let device = Arc::new(SharedDevice::open(&config).expect("a device"));
    let disk = Disk::plain("x", device, SectorSize::B4096).expect("a disk");
    let on_disk = disk.clone();
    let started = Instant::now();
    on_reactor(move |reactor| async move {
        let queue = on_disk.queue(&reactor).expect("a queue");
        let mut buffer = reactor.buffers().take(4096).await;
        queue.read(range(4096), &mut buffer, 0).await.expect("read");
        queue.flush().await.expect("flushed");
        let mut incoming = queue.begin_write(range(4096)).await.expect("begun");
        reactor.sleep(Duration::from_millis(100)).await;
        incoming.add(&[buffer.segment(0..4096)]).expect("taken");
        queue.commit(incoming).await.expect("written");
    });
    let (stats, longest) = (disk.stats(), started.elapsed());
    for (kind, least_ms) in [(CommandKind::Read, 2), (CommandKind::Write, 3), (CommandKind::Flush, 4)] {
        let latency = stats.latency(kind).expect("measured");
        let (mean, median) = (latency.mean().expect("one"), latency.quantile(0.5).expect("one"));
        assert!(mean >= Duration::from_millis(least_ms), "{kind:?}: {mean:?}");
        assert!(median.abs_diff(mean) <= mean / 32, "{kind:?}: {median:?} for {mean:?}");
        assert!(mean + Duration::from_millis(99) <= longest, "{kind:?}: {mean:?} holds the client's time");
    }
}
