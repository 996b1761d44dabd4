//! A volume remembers how its sectors are to be understood: another key, another sector size, another tweak unit, or encryption where there is none
//! and the other way round, is refused by name when the disk is opened, and the right configuration opens it.

mod engine;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use engine::memory_device;
use engine::pool::{TestPool, disk_config};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::disk::{Disk, DiskAttributes, Encryption, TweakUnit, XtsConfig};
use tempfile::TempDir;

fn key_file(dir: &TempDir, name: &str, fill: u8) -> PathBuf {
    let (path, mut key) = (dir.path().join(name), [fill; 64]);
    key[0] ^= 1;
    std::fs::write(&path, key).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    path
}

#[test]
fn a_volume_opens_with_its_own_configuration_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let xts = |key: &str, fill: u8, tweak_unit| {
        Encryption::Xts(XtsConfig { key_file: key_file(&dir, key, fill), tweak_unit: Some(tweak_unit) })
    };
    let pool = TestPool::new(&memory_device(32));
    let make = |name: &str, encryption| {
        let config = disk_config(name, SectorSize::B4096, encryption);
        let attributes = DiskAttributes::new(&config, config.read_key().expect("a key").as_deref());
        (pool.volume_with(name, 1 << 20, attributes.encode()), config)
    };
    let (encrypted, right) = make("v0", xts("key", 1, TweakUnit::Sector));
    let (plain, plain_right) = make("v1", Encryption::None);

    let refuse = |config, volume, why: &str| {
        let error = Disk::open_volume(&config, volume, Kernel::best(), config.read_key().expect("a key"))
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains(why) && error.contains("pool p0") && error.contains(&config.name), "{error}");
    };
    let with = |encryption| disk_config("v0", SectorSize::B4096, encryption);
    refuse(with(xts("other", 2, TweakUnit::Sector)), encrypted.clone(), "another key");
    refuse(with(xts("key", 1, TweakUnit::Bytes512)), encrypted.clone(), "tweak_unit = \"sector\"");
    refuse(with(Encryption::None), encrypted.clone(), "encrypted");
    let small = disk_config("v0", SectorSize::B512, right.encryption.clone().expect("given"));
    refuse(small, encrypted.clone(), "sector_size = 4096");
    refuse(with(xts("key", 1, TweakUnit::Sector)), plain.clone(), "not encrypted");
    refuse(with(Encryption::None), pool.volume("v2", 1 << 20), "not made for a disk");
    let newer = pool.volume_with("v3", 1 << 20, {
        let mut attributes = encrypted.attributes();
        attributes[4] = 3;
        attributes
    });
    refuse(with(xts("key", 1, TweakUnit::Sector)), newer, "version 3");

    for (volume, config) in [(encrypted, right), (plain, plain_right)] {
        let disk = Disk::open_volume(&config, volume, Kernel::best(), config.read_key().expect("a key"))
            .expect("its own configuration");
        assert_eq!(disk.size(), 1 << 20);
        assert!(disk.describe().contains(&format!("volume {} of pool p0", config.name)), "{}", disk.describe());
    }
}
