//! A disk on a file or on a volume grows while it is in use; whatever cannot grow says why, and nothing shrinks.

mod engine;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;

use engine::pool::TestPool;
use engine::{bytes_of, device_config, memory_device, small_reactor};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, IoError, SharedDevice};
use strongroom::disk::{Disk, DiskQueue};
use strongroom::reactor::{Reactor, ReactorThread};
use strongroom::volume::Shrink;

const MIB: u64 = 1 << 20;

fn open(path: &Path, layers: &str) -> Arc<Disk> {
    let mut config = device_config(DeviceKind::File, Some(path.to_owned()), 1);
    if !layers.is_empty() {
        config.layers =
            toml::from_str::<toml::Table>(layers).expect("TOML")["layers"].clone().try_into().expect("layers");
    }
    let device = Arc::new(SharedDevice::open(&config).expect("a device"));
    Disk::with_random_key("vol0", device, SectorSize::B4096, Kernel::best()).expect("a disk")
}

/// Runs a task with a queue on a reactor and waits for its answer.
fn with_queue<F: Future<Output = Result<(), IoError>> + 'static>(
    thread: &ReactorThread,
    disk: &Arc<Disk>,
    task: impl FnOnce(Reactor, Rc<DiskQueue>) -> F + Send + 'static,
) -> Result<(), IoError> {
    thread_local! {
        static QUEUE: std::cell::OnceCell<Rc<DiskQueue>> = const { std::cell::OnceCell::new() };
    }
    let (disk, (answer, result)) = (disk.clone(), mpsc::sync_channel(1));
    thread.remote().post(move |reactor| {
        // One queue for the whole test: it was opened before the disk grew.
        let queue = QUEUE.with(|queue| queue.get_or_init(|| disk.queue(reactor).expect("a queue")).clone());
        let task = task(reactor.clone(), queue);
        reactor.spawn(async move { answer.send(task.await).expect("the test waits") });
    });
    result.recv().expect("the task ended without a panic")
}

fn write(thread: &ReactorThread, disk: &Arc<Disk>, at: u64) -> Result<(), IoError> {
    with_queue(thread, disk, move |reactor, queue| async move {
        let mut buffer = reactor.buffers().take(8192).await;
        buffer.copy_from_slice(&bytes_of(at, 8192));
        queue.write(ByteRange::new(at, 8192).expect("fits"), &[buffer.segment(0..8192)]).await
    })
}

fn expect(thread: &ReactorThread, disk: &Arc<Disk>, at: u64) {
    let read = with_queue(thread, disk, move |reactor, queue| async move {
        let mut buffer = reactor.buffers().take(8192).await;
        queue.read(ByteRange::new(at, 8192).expect("fits"), &mut buffer, 0).await?;
        assert!(buffer[..] == bytes_of(at, 8192)[..], "bytes at {at}");
        Ok(())
    });
    assert_eq!(read, Ok(()));
}

fn grows(layers: &str) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("blocks");
    let disk = open(&path, layers);
    let threads = [small_reactor(), small_reactor()];
    let old_end = MIB - 4096;
    assert_eq!(write(&threads[0], &disk, 0), Ok(()));
    assert_eq!(write(&threads[1], &disk, old_end), Err(IoError::OutOfRange));
    assert_eq!(disk.grow(3 * MIB).expect("grown"), 3 * MIB);
    assert_eq!(disk.size(), 3 * MIB);
    for (thread, at) in threads.iter().zip([old_end, 3 * MIB - 8192]) {
        assert_eq!(write(thread, &disk, at), Ok(()));
        assert_eq!(write(thread, &disk, 3 * MIB), Err(IoError::OutOfRange));
    }
    for at in [0, old_end, 3 * MIB - 8192] {
        threads.iter().for_each(|thread| expect(thread, &disk, at));
    }
    assert_eq!(std::fs::metadata(&path).expect("there").len(), 3 * MIB);
    threads.iter().for_each(|thread| thread.remote().stop());
    threads.into_iter().for_each(ReactorThread::join);
}

#[test]
fn every_open_queue_sees_the_new_end() {
    grows("");
}

#[test]
fn through_layers_too() {
    grows(
        "layers = [{ kind = 'delay', write_us = 10 }, { kind = 'fault', rules = [{ effect = 'short', every = 2 }] }]",
    );
}

#[test]
fn a_volume_grows_and_shrinks_under_its_disk() {
    let pool = TestPool::new(&memory_device(32));
    let disk = Disk::with_random_key("vol0", pool.volume("v0", MIB), SectorSize::B4096, Kernel::best());
    let disk = disk.expect("a disk");
    let thread = small_reactor();
    assert_eq!(write(&thread, &disk, MIB - 4096), Err(IoError::OutOfRange));
    assert_eq!(disk.grow(3 * MIB).expect("grown"), 3 * MIB);
    assert_eq!(disk.refresh_size().expect("known"), 3 * MIB);
    for at in [MIB - 4096, 3 * MIB - 8192] {
        assert_eq!(write(&thread, &disk, at), Ok(()));
        expect(&thread, &disk, at);
    }
    let error = disk.grow(2 * MIB).expect_err("refused").to_string();
    assert!(error.contains("vol0") && error.contains("v0"), "{error}");
    // Only who says so makes a volume smaller; the disk takes it as it is.
    pool.pool().resize("v0", 2 * MIB, Shrink::Allowed).expect("shrunk");
    assert_eq!(disk.size(), 2 * MIB);
    assert_eq!(write(&thread, &disk, 3 * MIB - 8192), Err(IoError::OutOfRange));
    expect(&thread, &disk, MIB - 4096);
    thread.remote().stop();
    thread.join();
}

#[test]
fn a_file_that_was_made_larger_elsewhere_is_looked_at_again() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("blocks");
    let disk = open(&path, "");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opened");
    file.set_len(2 * MIB + 100).expect("larger");
    assert_eq!(disk.size(), MIB);
    assert_eq!(disk.refresh_size().expect("looked"), 2 * MIB);
    file.set_len(MIB).expect("smaller");
    let error = disk.refresh_size().expect_err("refused").to_string();
    assert!(error.contains("vol0") && error.contains("smaller"), "{error}");
    assert_eq!(disk.size(), 2 * MIB);
    // Growing gives the lost end back.
    assert_eq!(disk.grow(2 * MIB).expect("grown"), 2 * MIB);
    assert_eq!(file.metadata().expect("there").len(), 2 * MIB);
}

#[test]
fn what_cannot_grow_says_why() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let disk = open(&dir.path().join("blocks"), "");
    let refuse = |disk: &Disk, to, why: &str| {
        let (before, error) = (disk.size(), disk.grow(to).expect_err("refused").to_string());
        assert!(error.contains(why), "{error}");
        assert_eq!(disk.size(), before);
    };
    refuse(&disk, MIB - 4096, "smaller");
    refuse(&disk, MIB + 512, "multiple of 4096");
    assert_eq!(disk.grow(MIB).expect("nothing to do"), MIB);
    let memory = Disk::plain("m", memory_device(2), SectorSize::B512).expect("a disk");
    refuse(&memory, 4 * MIB, "memory device is fixed");
    assert_eq!(memory.refresh_size().expect("the same"), 2 * MIB);
    let null = Arc::new(SharedDevice::open(&device_config(DeviceKind::Null, None, 1)).expect("a device"));
    refuse(&Disk::plain("n", null, SectorSize::B512).expect("a disk"), 4 * MIB, "null device is fixed");
}
