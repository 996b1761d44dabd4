//! What a volume stores of an encrypted disk is what dm-crypt's `aes-xts-plain64` makes of the sectors at their places on the disk, whatever clusters
//! hold them; of a block that was written in part, the rest is encrypted zeros. No plain text gets to the device.

mod engine;

use std::collections::HashSet;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use aes::Aes256;
use aes::cipher::KeyInit;
use engine::pool::{TestPool, disk_config};
use engine::{bytes_of, device_config, on_reactor};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, SharedDevice, Zeroes};
use strongroom::disk::{Disk, DiskAttributes, Encryption, TweakUnit, XtsConfig, Zeroing};
use xts_mode::Xts128;

const CLUSTER: usize = 64 << 10;
const BLOCK: usize = 4096;
const SIZE: usize = 2 << 20;

/// What is written, in an order that is not that of the disk: whole blocks, and with small sectors parts of blocks too.
const WHOLE: [Range<usize>; 3] =
    [1 << 20..(1 << 20) + CLUSTER, 0..BLOCK, (1 << 20) + 3 * BLOCK..(1 << 20) + 2 * CLUSTER];
const PARTS: [Range<usize>; 3] = [71_680..77_824, 1_536_512..1_537_024, 1_572_352..1_573_376];
/// What reads as zeros at the end: it begins and ends within blocks that are there, if sectors are small.
const ZEROED: Range<usize> = 1_075_200..1_087_488;

struct Oracle {
    cipher: Xts128<Aes256>,
    sector: usize,
    step: u128,
}

impl Oracle {
    /// What is stored of the disk's bytes from `at` on.
    fn encrypt(&self, at: usize, text: &[u8]) -> Vec<u8> {
        let mut stored = text.to_vec();
        for (number, unit) in ((at / self.sector) as u128..).zip(stored.chunks_exact_mut(self.sector)) {
            self.cipher.encrypt_sector(unit, (number * self.step).to_le_bytes().into());
        }
        stored
    }
}

fn check(sector_size: SectorSize, tweak_unit: TweakUnit, step: u128) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (key, key_file) = (bytes_of(42, 64), dir.path().join("key"));
    std::fs::write(&key_file, &key).expect("written");
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let path = dir.path().join("blocks");
    let device = SharedDevice::open(&device_config(DeviceKind::File, Some(path.clone()), 32)).expect("a device");
    let sector = sector_size.bytes();
    if device.info().block_size as usize > sector {
        return println!("skipped: the file system here has no blocks of {sector} bytes");
    }
    let pool = TestPool::new(&Arc::new(device));
    let config = disk_config("v0", sector_size, Encryption::Xts(XtsConfig { key_file, tweak_unit: Some(tweak_unit) }));
    let attributes = DiskAttributes::new(&config, config.read_key().expect("a key").as_deref()).encode();
    let volume = pool.volume_with("v0", SIZE as u64, attributes);
    let disk = Disk::open_volume(&config, volume, Kernel::best(), config.read_key().expect("a key")).expect("a disk");

    let parts = if sector == BLOCK { &[][..] } else { &PARTS[..] };
    let writes: Vec<_> = WHOLE.iter().chain(parts).cloned().zip(1..).collect();
    let mut model = vec![0; SIZE];
    for (bytes, seed) in &writes {
        model[bytes.clone()].copy_from_slice(&bytes_of(*seed, bytes.len()));
    }
    let zeroed = ZEROED.start / sector * sector..ZEROED.end / sector * sector;
    model[zeroed.clone()].fill(0);

    write(disk, writes.clone(), zeroed.clone(), model.clone());
    drop(pool);
    let stored = std::fs::read(&path).expect("the file");
    let cipher = |half: &[u8]| Aes256::new_from_slice(half).expect("32 bytes");
    let oracle = Oracle { cipher: Xts128::new(cipher(&key[..32]), cipher(&key[32..])), sector, step };
    let is_freed = |block: usize| zeroed.start <= block && block + BLOCK <= zeroed.end;
    let touched = writes.iter().flat_map(|(bytes, _)| bytes.start / BLOCK..bytes.end.div_ceil(BLOCK));
    for block in touched.map(|number| number * BLOCK).filter(|block| !is_freed(*block)) {
        let wanted = oracle.encrypt(block, &model[block..block + BLOCK]);
        let mut places = (block % CLUSTER..stored.len()).step_by(CLUSTER);
        assert!(
            places.any(|at| stored[at..at + BLOCK] == wanted),
            "the block at {block} is not stored as it should be"
        );
    }
    let texts: HashSet<Vec<u8>> =
        writes.iter().flat_map(|(bytes, seed)| sectors(&bytes_of(*seed, bytes.len()))).collect();
    assert!(sectors(&stored).iter().all(|piece| !texts.contains(piece)), "plain text is on the device");
}

/// What identifies the text of a sector.
fn sectors(text: &[u8]) -> Vec<Vec<u8>> {
    text.chunks(512).map(|sector| sector[..16].to_vec()).collect()
}

/// Writes all of it through the disk and reads it again.
fn write(disk: Arc<Disk>, writes: Vec<(Range<usize>, u64)>, zeroed: Range<usize>, model: Vec<u8>) {
    on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let mut buffer = reactor.buffers().take(256 << 10).await;
        let range = |bytes: &Range<usize>| ByteRange::new(bytes.start as u64, bytes.len() as u64).expect("fits");
        for (bytes, seed) in &writes {
            let len = bytes.len();
            buffer[..len].copy_from_slice(&bytes_of(*seed, len));
            queue.write(range(bytes), &[buffer.segment(0..13), buffer.segment(13..len)]).await.expect("written");
        }
        queue.write_zeroes(range(&zeroed), Zeroes::MayFree, Zeroing::OnlyFast).await.expect("zeroed");
        queue.flush().await.expect("flushed");
        for bytes in (0..SIZE).step_by(256 << 10).map(|at| at..at + (256 << 10)) {
            queue.read(range(&bytes), &mut buffer, 0).await.expect("read");
            assert!(buffer[..] == model[bytes.clone()], "{bytes:?}");
        }
    });
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
