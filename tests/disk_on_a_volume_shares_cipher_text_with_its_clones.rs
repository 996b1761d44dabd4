//! A disk made from a snapshot reads what the snapshot has with the same key and nothing encrypted anew; a rollback gives a disk that is open its
//! old content back. Attributes go along: the clone of an encrypted disk is refused with another key.

mod engine;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use engine::pool::{TestPool, disk_config};
use engine::{bytes_of, device_config, memory_device, on_reactor};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, SharedDevice};
use strongroom::disk::{Disk, DiskAttributes, DiskConfig, Encryption, TweakUnit, XtsConfig};
use tempfile::TempDir;

const CHUNK: usize = 256 << 10;
const CHUNKS: u64 = 32;
const SECTOR: usize = 512;

fn encryption(dir: &TempDir, name: &str, seed: u64) -> Encryption {
    let key_file = dir.path().join(name);
    std::fs::write(&key_file, bytes_of(seed, 64)).expect("written");
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    Encryption::Xts(XtsConfig { key_file, tweak_unit: Some(TweakUnit::Sector) })
}

/// Writes chunks that follow from a seed.
fn write(disk: &Arc<Disk>, chunks: std::ops::Range<u64>, seed: u64) {
    let disk = disk.clone();
    on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let mut buffer = reactor.buffers().take(CHUNK).await;
        for chunk in chunks {
            buffer.copy_from_slice(&bytes_of(seed + chunk, CHUNK));
            let range = ByteRange::new(chunk * CHUNK as u64, CHUNK as u64).expect("fits");
            queue.write(range, &[buffer.segment(0..CHUNK)]).await.expect("written");
        }
    });
}

/// Writes the second sector of a chunk, whose blocks are shared.
fn write_sector(disk: &Arc<Disk>, chunk: u64, seed: u64) {
    let disk = disk.clone();
    on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let mut buffer = reactor.buffers().take(SECTOR).await;
        buffer[..SECTOR].copy_from_slice(&bytes_of(seed, SECTOR));
        let range = ByteRange::new(chunk * CHUNK as u64 + SECTOR as u64, SECTOR as u64).expect("fits");
        queue.write(range, &[buffer.segment(0..SECTOR)]).await.expect("written");
    });
}

/// Each chunk holds what follows from its seed; `sector`: but for the second sector of this chunk.
fn expect(disk: &Arc<Disk>, seeds: impl Fn(u64) -> u64 + Send + 'static, sector: Option<(u64, u64)>) {
    let disk = disk.clone();
    on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let mut buffer = reactor.buffers().take(CHUNK).await;
        for chunk in 0..CHUNKS {
            let mut wanted = bytes_of(seeds(chunk) + chunk, CHUNK);
            if let Some((_, seed)) = sector.filter(|(at, _)| *at == chunk) {
                wanted[SECTOR..2 * SECTOR].copy_from_slice(&bytes_of(seed, SECTOR));
            }
            let range = ByteRange::new(chunk * CHUNK as u64, CHUNK as u64).expect("fits");
            queue.read(range, &mut buffer, 0).await.expect("read");
            assert!(buffer[..] == wanted, "chunk {chunk} of {}", queue.disk().name());
        }
    });
}

fn check(device: Arc<SharedDevice>) {
    let sector_size = if device.info().block_size > 512 { SectorSize::B4096 } else { SectorSize::B512 };
    let dir = tempfile::tempdir().expect("a directory");
    let test = TestPool::new(&device);
    let config = disk_config("v0", sector_size, encryption(&dir, "key", 7));
    let attributes = DiskAttributes::new(&config, config.read_key().expect("a key").as_deref()).encode();
    let size = CHUNKS * CHUNK as u64;
    let disk = Disk::open_volume(
        &config,
        test.volume_with("v0", size, attributes),
        Kernel::best(),
        config.read_key().expect("a key"),
    )
    .expect("a disk");
    write(&disk, 0..CHUNKS, 1000);
    test.pool().snapshot("v0", "s1").expect("a snapshot");
    let before = test.pool().info().used_bytes;
    let volume = test.pool().clone_snapshot("v0@s1", "c1").expect("a clone");
    let other = disk_config("c1", sector_size, encryption(&dir, "other", 8));
    let error = Disk::open_volume(&other, volume.clone(), Kernel::best(), other.read_key().expect("a key"))
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("another key"), "{error}");
    let same = DiskConfig { name: "c1".to_owned(), ..config.clone() };
    let clone =
        Disk::open_volume(&same, volume, Kernel::best(), same.read_key().expect("a key")).expect("the same key");
    expect(&clone, |_| 1000, None);
    let more = test.pool().info().used_bytes - before;
    assert!(more < size / 8, "a clone of {size} bytes has taken {more}");

    write(&disk, 4..12, 2000);
    write(&clone, 8..16, 3000);
    let part = (sector_size == SectorSize::B512).then_some((20, 77));
    if let Some((chunk, seed)) = part {
        write_sector(&clone, chunk, seed);
    }
    expect(&disk, |chunk| if (4..12).contains(&chunk) { 2000 } else { 1000 }, None);
    expect(&clone, |chunk| if (8..16).contains(&chunk) { 3000 } else { 1000 }, part);
    test.pool().rollback("v0", "s1").expect("rolled back");
    expect(&disk, |_| 1000, None);
    expect(&clone, |chunk| if (8..16).contains(&chunk) { 3000 } else { 1000 }, part);
}

#[test]
fn in_memory() {
    check(memory_device(64));
}

#[test]
fn on_a_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = device_config(DeviceKind::File, Some(dir.path().join("blocks")), 64);
    check(Arc::new(SharedDevice::open(&config).expect("a device")));
}
