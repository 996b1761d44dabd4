//! Pools that earlier versions of the format wrote are opened by this one: each has an image here, which is never changed.
//!
//! `tests/vectors/pool/version-N.img.gz` was written by the ignored test below in the version that introduced format N. It holds a pool that was not
//! closed: metadata from a checkpoint, a journal with every kind of record, two volumes, a snapshot and a clone. `version-1-keys.img.gz` is one with keys, which
//! version 1 has as a feature.

mod engine;
mod pool;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use engine::{bytes_of, device_config, on_reactor};
use pool::{new_pool, new_volume, open_pool, options, queue, read, write};
use strongroom::device::{ByteRange, DeviceKind, SharedDevice};
use strongroom::reactor::Reactor;
use strongroom::volume::check::check;
use strongroom::volume::{Difference, NewVolume, Shrink};

const MIB: u64 = 1 << 20;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pool")
}

fn device(path: &Path) -> Arc<SharedDevice> {
    let mut config = device_config(DeviceKind::File, Some(path.to_owned()), 8);
    config.create = !path.exists();
    Arc::new(SharedDevice::open(&config).expect("a file device"))
}

/// What the images hold.
async fn expect_contents(reactor: &Reactor, home: &strongroom::volume::Home) {
    let names: Vec<_> = home.pool().volumes().into_iter().map(|volume| (volume.name, volume.size_bytes)).collect();
    let expected = [("data", 48 * MIB), ("data@before", 40 * MIB), ("copy", 40 * MIB), ("empty", 4 * MIB)];
    assert_eq!(names, expected.map(|(name, size)| (name.to_owned(), size)));
    assert_eq!(home.pool().volume("data").expect("there").attributes(), b"attributes");
    let (data, copy) = (queue(home, reactor, "data"), queue(home, reactor, "copy"));
    let mut frozen = bytes_of(1, 200 << 10);
    assert!(read(reactor, &copy, 33 * MIB, 200 << 10).await.expect("read") == frozen);
    assert!(read(reactor, &copy, 0, 8192).await.expect("read") == bytes_of(3, 8192));
    frozen[4096..8192].copy_from_slice(&bytes_of(2, 4096));
    frozen[64 << 10..128 << 10].fill(0);
    assert!(read(reactor, &data, 33 * MIB, 200 << 10).await.expect("read") == frozen);
    assert!(read(reactor, &data, 47 * MIB, 4096).await.expect("read") == bytes_of(4, 4096));
    let found = home.diff(Some("data@before"), "data").await.expect("a difference");
    let difference =
        |start: u64, len: u64, is_zero| Difference { range: ByteRange::new(start, len).expect("fits"), is_zero };
    let first = 33 * MIB;
    let expected =
        [difference(first, 65536, false), difference(first + 65536, 65536, true), difference(47 * MIB, 4096, false)];
    assert_eq!(found, expected);
}

#[test]
fn images_of_all_versions_open_with_what_was_in_them() {
    for version in 1..=strongroom::volume::format::VERSION {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pool.img");
        let image = std::fs::File::open(vectors().join(format!("version-{version}.img.gz"))).expect("the image");
        let unpacked = std::fs::File::create(&path).expect("a file");
        let done = Command::new("gzip").arg("-dc").stdin(image).stdout(unpacked).status().expect("gzip runs");
        assert!(done.success());
        let device = device(&path);
        on_reactor(async move |reactor: Reactor| {
            let report = check("p", &reactor, device.clone(), &options_here(), |_, _| {}).await.expect("checked");
            assert!(report.is_sound() && !report.is_clean && report.replayed > 0, "{report:?}");
            let home =
                strongroom::volume::Home::open("p", &reactor, device.clone(), &options_here()).await.expect("opened");
            expect_contents(&reactor, &home).await;
            home.close().await.expect("closed");
            let home = open_pool(&reactor, &device).await;
            expect_contents(&reactor, &home).await;
            home.close().await.expect("closed");
        });
    }
}

/// Unpacks an image.
fn unpack(name: &str, path: &Path) {
    let image = std::fs::File::open(vectors().join(name)).expect("the image");
    let unpacked = std::fs::File::create(path).expect("a file");
    let done = Command::new("gzip").arg("-dc").stdin(image).stdout(unpacked).status().expect("gzip runs");
    assert!(done.success());
}

fn keys_in(home: &strongroom::volume::Home) -> Vec<(String, Option<Vec<u8>>)> {
    let volumes = home.pool().volumes().into_iter();
    let key = |name: &str| home.pool().volume(name).expect("there").sealed_key().map(|key| key.to_vec());
    volumes.map(|volume| (volume.name.clone(), key(&volume.name))).collect()
}

/// What the image with keys holds.
fn keys_expected() -> Vec<(String, Option<Vec<u8>>)> {
    let (first, second) = (Some(bytes_of(6, 100)), Some(bytes_of(7, 448)));
    let names = ["plain", "data", "data@before", "copy", "second"];
    names.map(str::to_owned).into_iter().zip([None, first.clone(), first.clone(), first, second]).collect()
}

#[test]
fn the_image_with_keys_opens_with_what_was_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pool.img");
    unpack("version-1-keys.img.gz", &path);
    let device = device(&path);
    on_reactor(async move |reactor: Reactor| {
        let report = check("p", &reactor, device.clone(), &options_here(), |_, _| {}).await.expect("checked");
        assert!(report.is_sound() && report.replayed > 0 && report.pool.keys == 2, "{report:?}");
        let home =
            strongroom::volume::Home::open("p", &reactor, device.clone(), &options_here()).await.expect("opened");
        assert_eq!(keys_in(&home), keys_expected());
        home.close().await.expect("closed");
        let home = open_pool(&reactor, &device).await;
        assert_eq!(keys_in(&home), keys_expected());
        home.close().await.expect("closed");
    });
}

#[test]
#[ignore = "writes the image with keys; it was run once, when keys were new"]
fn write_the_image_with_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pool.img");
    let device = device(&path);
    on_reactor(async move |reactor: Reactor| {
        let home = new_pool(&reactor, &device).await;
        let with_key = |name: &str, key| NewVolume { name: name.into(), size: MIB, attributes: Vec::new(), key };
        new_volume(&home, "plain", 4).await;
        home.create_volume(with_key("data", Some(bytes_of(5, 60)))).await.expect("a volume");
        home.create_volume(with_key("gone", Some(bytes_of(8, 60)))).await.expect("a volume");
        home.snapshot("data", "before").await.expect("a snapshot");
        home.checkpoint().await.expect("stored");
        // From here on it is in the journal only; keys never are.
        home.clone_snapshot("data@before", "copy").await.expect("a clone");
        home.replace_key("copy", bytes_of(6, 100)).await.expect("replaced");
        home.delete("gone").await.expect("deleted");
        home.create_volume(with_key("second", Some(bytes_of(7, 448)))).await.expect("a volume");
        assert_eq!(keys_in(&home), keys_expected());
        home.abandon();
    });
    let packed = std::fs::File::create(vectors().join("version-1-keys.img.gz")).expect("a file");
    let image = std::fs::File::open(&path).expect("the image");
    let done = Command::new("gzip").arg("-9nc").stdin(image).stdout(packed).stderr(Stdio::inherit()).status();
    assert!(done.expect("gzip runs").success());
}

/// The image was written on another machine.
fn options_here() -> strongroom::volume::OpenOptions {
    strongroom::volume::OpenOptions { take_over: true, ..options() }
}

#[test]
#[ignore = "writes the image of this version; to be run once, when the version is new"]
fn write_the_image_of_this_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pool.img");
    let device = device(&path);
    on_reactor(async move |reactor: Reactor| {
        let home = new_pool(&reactor, &device).await;
        new_volume(&home, "data", 40).await;
        let data = queue(&home, &reactor, "data");
        write(&reactor, &data, 33 * MIB, &bytes_of(1, 200 << 10)).await.expect("written");
        write(&reactor, &data, 0, &bytes_of(3, 8192)).await.expect("written");
        home.checkpoint().await.expect("stored");
        // From here on it is in the journal only.
        home.set_attributes("data", b"attributes".to_vec()).await.expect("set");
        home.snapshot("data", "before").await.expect("a snapshot");
        home.clone_snapshot("data@before", "copy").await.expect("a clone");
        write(&reactor, &data, 20 * MIB, &bytes_of(9, 4096)).await.expect("written");
        data.flush().await.expect("flushed");
        home.rollback("data", "before").await.expect("rolled back");
        write(&reactor, &data, 33 * MIB + 4096, &bytes_of(2, 4096)).await.expect("written");
        data.discard(ByteRange::new(33 * MIB + (64 << 10), 64 << 10).expect("fits")).await.expect("discarded");
        new_volume(&home, "gone", 1).await;
        home.delete("gone").await.expect("deleted");
        home.resize("data", 48 * MIB, Shrink::Forbidden).await.expect("resized");
        write(&reactor, &data, 47 * MIB, &bytes_of(4, 4096)).await.expect("written");
        new_volume(&home, "empty", 4).await;
        data.flush().await.expect("flushed");
        expect_contents(&reactor, &home).await;
        drop(data);
        home.abandon();
    });
    std::fs::create_dir_all(vectors()).expect("a folder");
    let name = format!("version-{}.img.gz", strongroom::volume::format::VERSION);
    let packed = std::fs::File::create(vectors().join(name)).expect("a file");
    let image = std::fs::File::open(&path).expect("the image");
    let done = Command::new("gzip").arg("-9nc").stdin(image).stdout(packed).stderr(Stdio::inherit()).status();
    assert!(done.expect("gzip runs").success());
}
