//! What an encrypted disk stores is what dm-crypt's `aes-xts-plain64` stores: another implementation of the cipher decrypts the backing
//! file, in all three layouts of sectors and tweaks.

mod engine;

use aes::Aes256;
use aes::cipher::KeyInit;
use engine::pool::disk_config;
use engine::{bytes_of, device_config, on_reactor};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, SharedDevice, Zeroes};
use strongroom::disk::{Disk, Encryption, TweakUnit, XtsConfig, Zeroing};
use xts_mode::Xts128;

/// Writes through a disk and decrypts its file by sector number times `step`.
fn check(sector_size: SectorSize, tweak_unit: TweakUnit, step: u128) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (key, key_file) = (bytes_of(42, 64), dir.path().join("key"));
    std::fs::write(&key_file, &key).expect("written");
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let path = dir.path().join("blocks");
    let device = SharedDevice::open(&device_config(DeviceKind::File, Some(path.clone()), 4)).expect("a device");
    if device.info().block_size as usize > sector_size.bytes() {
        return println!("skipped: the file system here has no blocks of {} bytes", sector_size.bytes());
    }
    let encryption = Encryption::Xts(XtsConfig { key_file, tweak_unit: Some(tweak_unit) });
    let config = disk_config("vol0", sector_size, encryption);
    let disk = Disk::open(&config, Arc::new(device), Kernel::best()).expect("a disk");
    let at = 1 << 20;
    on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let mut buffer = reactor.buffers().take(65536).await;
        buffer.copy_from_slice(&bytes_of(1, 65536));
        // Pieces that cut sectors and cipher blocks.
        let pieces = [buffer.segment(0..13), buffer.segment(13..5000), buffer.segment(5000..65536)];
        let range = ByteRange::new(at, 65536).expect("fits");
        queue.write(range, &pieces).await.expect("written");
        assert_eq!(&buffer[..], bytes_of(1, 65536), "the source of a write was changed");
        let zeroed = ByteRange::new(at + 8192, 4096).expect("fits");
        queue.write_zeroes(zeroed, Zeroes::MayFree, Zeroing::AnyWay).await.expect("zeroed");
        queue.flush().await.expect("flushed");
        buffer.fill(0);
        queue.read(range, &mut buffer, 0).await.expect("read");
        let mut wanted = bytes_of(1, 65536);
        wanted[8192..12288].fill(0);
        assert_eq!(&buffer[..], wanted);
    });
    let stored = std::fs::read(&path).expect("the file");
    let mut text = stored[at as usize..at as usize + 65536].to_vec();
    let cipher = |half: &[u8]| Aes256::new_from_slice(half).expect("32 bytes");
    let oracle = Xts128::new(cipher(&key[..32]), cipher(&key[32..]));
    let sector = sector_size.bytes();
    for (number, unit) in (at as u128 / sector as u128..).zip(text.chunks_exact_mut(sector)) {
        oracle.decrypt_sector(unit, (number * step).to_le_bytes().into());
    }
    let mut wanted = bytes_of(1, 65536);
    wanted[8192..12288].fill(0);
    assert!(text == wanted, "the file does not hold what the other implementation would store");
}

#[test]
fn sectors_of_512_bytes() {
    check(SectorSize::B512, TweakUnit::Sector, 1);
}

#[test]
fn sectors_of_4096_bytes_counted_as_sectors() {
    check(SectorSize::B4096, TweakUnit::Sector, 1);
}

#[test]
fn sectors_of_4096_bytes_counted_in_512_byte_units() {
    check(SectorSize::B4096, TweakUnit::Bytes512, 8);
}
