//! A pool keeps one sealed key for a volume, its snapshots and their clones, and destroys it with the last of them. A damaged copy of a key is no matter; without both
//! copies the volumes concerned are offline, and nothing else is. (What power cuts do to keys is shown in `pool_survives_power_cuts.rs`.)

mod engine;
mod pool;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use engine::{device_config, memory_device, on_reactor};
use pool::{new_pool, new_volume, open_pool, options};
use strongroom::device::{Device, DeviceHandle, DeviceKind, SharedDevice, read_whole, write_whole};
use strongroom::reactor::Reactor;
use strongroom::volume::check::{Report, check, repair};
use strongroom::volume::format::{KeyCopy, KeySlot, Superblock};
use strongroom::volume::{Deleted, Home, LONGEST_KEY, NewVolume, PoolError};

const PAGE: usize = 4096;
const GONE: Result<Deleted, ()> = Ok(Deleted { destroyed_key: true });
const KEPT: Result<Deleted, ()> = Ok(Deleted { destroyed_key: false });

fn key(number: u8) -> Vec<u8> {
    (0..60).map(|at| at ^ number | 0x80).collect()
}

async fn create(home: &Home, name: &str, key: Vec<u8>) -> Result<(), PoolError> {
    let new = NewVolume { name: name.to_owned(), size: 1 << 20, attributes: Vec::new(), key: Some(key) };
    home.create_volume(new).await.map(drop)
}

async fn delete(home: &Home, name: &str) -> Result<Deleted, ()> {
    home.delete(name).await.map_err(|error| panic!("{error}"))
}

fn key_of(home: &Home, name: &str) -> Option<Vec<u8>> {
    home.pool().volume(name).expect("it is there").sealed_key().map(|key| key.to_vec())
}

fn holders(home: &Home, name: &str) -> (bool, usize) {
    let info = home.pool().volume(name).expect("it is there").info();
    (info.has_key, info.holders_of_key)
}

async fn reopen(home: Rc<Home>, reactor: &Reactor, device: &Arc<SharedDevice>) -> Rc<Home> {
    home.close().await.expect("closed");
    open_pool(reactor, device).await
}

async fn look(reactor: &Reactor, device: &Arc<SharedDevice>) -> Report {
    check("p", reactor, device.clone(), &options(), |_, _| {}).await.expect("checked")
}

/// Whether the bytes are anywhere on the device.
async fn is_on(reactor: &Reactor, device: &DeviceHandle, wanted: &[u8]) -> bool {
    let size = device.info().size;
    let mut all = Vec::with_capacity(size as usize);
    let mut buffer = reactor.buffers().take(1 << 20).await;
    for at in (0..size).step_by(1 << 20) {
        read_whole(device, at, &mut buffer, 0..1 << 20).await.expect("read");
        all.extend_from_slice(&buffer[..1 << 20]);
    }
    all.windows(wanted.len()).any(|bytes| bytes == wanted)
}

/// Where on the device a copy is.
async fn place_of(reactor: &Reactor, device: &DeviceHandle, slot: u32, copy: KeyCopy) -> u64 {
    let mut buffer = reactor.buffers().take(2 * PAGE).await;
    for (at, page) in [(0, Superblock::A), (PAGE, Superblock::B)] {
        read_whole(device, page.byte(), &mut buffer, at..at + PAGE).await.expect("read");
    }
    let superblock = Superblock::newest(&buffer[..PAGE], &buffer[PAGE..2 * PAGE]).expect("a superblock");
    let slot = KeySlot::numbered(slot).expect("a slot");
    superblock.key_clusters[slot.cluster_index()].byte() + copy.bytes(slot).start as u64
}

/// Flips a bit of a key.
async fn damage(reactor: &Reactor, device: &DeviceHandle, slot: u32, copy: KeyCopy) {
    let at = place_of(reactor, device, slot, copy).await;
    let mut buffer = reactor.buffers().take(PAGE).await;
    let page = at / PAGE as u64 * PAGE as u64;
    read_whole(device, page, &mut buffer, 0..PAGE).await.expect("read");
    buffer[(at - page) as usize + 70] ^= 1;
    write_whole(device, page, &mut buffer, 0..PAGE).await.expect("written");
}

#[test]
fn snapshots_and_clones_have_the_key_and_the_last_one_takes_it_along() {
    let device = memory_device(16);
    on_reactor(async move |reactor: Reactor| {
        let handle = device.handle(&reactor).expect("a handle");
        let home = new_pool(&reactor, &device).await;
        new_volume(&home, "plain", 1).await;
        create(&home, "a", key(1)).await.expect("made");
        create(&home, "b", key(2)).await.expect("made");
        home.snapshot("a", "s").await.expect("a snapshot");
        home.clone_snapshot("a@s", "c").await.expect("a clone");
        let home = reopen(home, &reactor, &device).await;
        for name in ["a", "a@s", "c"] {
            assert_eq!((key_of(&home, name), holders(&home, name)), (Some(key(1)), (true, 3)), "{name}");
        }
        assert_eq!((key_of(&home, "plain"), holders(&home, "plain")), (None, (false, 0)));
        assert_eq!((home.pool().info().keys, holders(&home, "b")), (2, (true, 1)));

        home.replace_key("c", key(3)).await.expect("replaced");
        assert!(!is_on(&reactor, &handle, &key(1)).await && is_on(&reactor, &handle, &key(3)).await);
        assert_eq!((delete(&home, "a").await, delete(&home, "c").await), (KEPT, KEPT));
        let home = reopen(home, &reactor, &device).await;
        assert_eq!((key_of(&home, "a@s"), holders(&home, "a@s")), (Some(key(3)), (true, 1)));
        let held = home.pool().volume("a@s").expect("it is there");
        assert_eq!((delete(&home, "a@s").await, held.sealed_key()), (GONE, None));
        assert!(!is_on(&reactor, &handle, &key(3)).await && is_on(&reactor, &handle, &key(2)).await);
        assert_eq!(delete(&home, "plain").await, KEPT);

        // The slot serves again.
        create(&home, "d", key(4)).await.expect("made");
        let home = reopen(home, &reactor, &device).await;
        assert_eq!((key_of(&home, "b"), key_of(&home, "d")), (Some(key(2)), Some(key(4))));
        home.close().await.expect("closed");
        assert!(look(&reactor, &device).await.is_sound());
    });
}

#[test]
fn keys_of_all_lengths_are_kept_and_others_refused_without_a_trace() {
    let device = memory_device(32);
    on_reactor(async move |reactor: Reactor| {
        let home = new_pool(&reactor, &device).await;
        new_volume(&home, "plain", 1).await;
        for wrong in [Vec::new(), vec![1; LONGEST_KEY + 1]] {
            let error = create(&home, "v", wrong.clone()).await.expect_err("refused").to_string();
            assert!(error.contains("448") && home.pool().volume("v").is_err(), "{error}");
            assert!(home.replace_key("plain", wrong).await.is_err());
        }
        let error = home.replace_key("plain", key(1)).await.expect_err("refused").to_string();
        assert!(error.contains("without a key"), "{error}");
        assert!(create(&home, "plain", key(9)).await.is_err());
        assert!(!is_on(&reactor, &device.handle(&reactor).expect("a handle"), &key(9)).await);
        // More than a cluster holds.
        let long = |number: usize| vec![number as u8 | 1; 1 + number * 7 % LONGEST_KEY];
        for number in 0..150 {
            create(&home, &format!("v{number}"), long(number)).await.expect("made");
        }
        let home = reopen(home, &reactor, &device).await;
        for number in 0..150 {
            assert_eq!(key_of(&home, &format!("v{number}")), Some(long(number)));
        }
        home.abandon();
        let report = look(&reactor, &device).await;
        assert!(report.is_sound() && report.pool.keys == 150, "{report:?}");
    });
}

#[test]
fn one_damaged_copy_is_written_anew() {
    let device = memory_device(16);
    on_reactor(async move |reactor: Reactor| {
        let handle = device.handle(&reactor).expect("a handle");
        let home = new_pool(&reactor, &device).await;
        create(&home, "a", key(1)).await.expect("made");
        home.close().await.expect("closed");
        for copy in KeyCopy::BOTH {
            damage(&reactor, &handle, 1, copy).await;
            let report = look(&reactor, &device).await;
            assert!(report.problems.iter().any(|line| line.contains("key slot 1")), "{report:?}");
            let report = repair("p", &reactor, device.clone(), &options(), |_, _| {}).await.expect("repaired");
            assert!(!report.is_sound() && report.repaired.is_empty());
            assert!(look(&reactor, &device).await.is_sound());
            let home = open_pool(&reactor, &device).await;
            assert_eq!(key_of(&home, "a"), Some(key(1)));
            home.close().await.expect("closed");
        }
    });
}

#[test]
fn without_both_copies_the_volumes_concerned_are_offline_and_no_others() {
    let device = memory_device(16);
    on_reactor(async move |reactor: Reactor| {
        let handle = device.handle(&reactor).expect("a handle");
        let home = new_pool(&reactor, &device).await;
        create(&home, "a", key(1)).await.expect("made");
        home.snapshot("a", "s").await.expect("a snapshot");
        create(&home, "b", key(2)).await.expect("made");
        home.close().await.expect("closed");
        for copy in KeyCopy::BOTH {
            damage(&reactor, &handle, 1, copy).await;
        }
        assert!(!look(&reactor, &device).await.is_sound());
        let report = repair("p", &reactor, device.clone(), &options(), |_, _| {}).await.expect("repaired");
        assert!(report.repaired.is_empty(), "a key cannot be brought back: {:?}", report.repaired);
        let home = open_pool(&reactor, &device).await;
        assert_eq!(home.pool().info().damaged, ["a", "a@s"]);
        let error = home.pool().volume("a").expect("known").queue(&reactor).err().expect("offline").to_string();
        assert!(error.contains("a is offline") && error.contains("key"), "{error}");
        assert_eq!((key_of(&home, "a"), key_of(&home, "b")), (None, Some(key(2))));

        // Who has the key elsewhere can put it back.
        home.replace_key("a@s", key(1)).await.expect("replaced");
        assert_eq!((key_of(&home, "a"), home.pool().info().damaged.len()), (Some(key(1)), 0));
        let home = reopen(home, &reactor, &device).await;
        assert_eq!(key_of(&home, "a"), Some(key(1)));
        home.close().await.expect("closed");

        // And what has lost its key can still be deleted.
        for copy in KeyCopy::BOTH {
            damage(&reactor, &handle, 1, copy).await;
        }
        let home = open_pool(&reactor, &device).await;
        assert_eq!((delete(&home, "a").await, delete(&home, "a@s").await), (KEPT, GONE));
        home.close().await.expect("closed");
        assert!(look(&reactor, &device).await.is_sound() && !is_on(&reactor, &handle, &key(1)[10..40]).await);
    });
}

/// A file whose reads fail in these ranges.
fn failing(path: &Path, ranges: &[(u64, u64)]) -> Arc<SharedDevice> {
    let mut config = device_config(DeviceKind::File, Some(path.to_owned()), 16);
    config.create = !path.exists();
    let rule = |(from, to): &(u64, u64)| format!("{{ effect = 'error', on = 'read', from = {from}, to = {to} }}");
    let rules = ranges.iter().map(rule).collect::<Vec<_>>().join(", ");
    let layers = format!("layers = [{{ kind = 'fault', rules = [{rules}] }}]");
    let layers: toml::Table = toml::from_str(&layers).expect("TOML");
    config.layers = layers["layers"].clone().try_into().expect("layers");
    Arc::new(SharedDevice::open(&config).expect("a file device"))
}

/// Opens the file as such a device for a task on a reactor of its own; afterwards nobody has it open.
fn with<T, F>(
    path: &Path,
    ranges: &[(u64, u64)],
    task: impl FnOnce(Reactor, Arc<SharedDevice>) -> F + Send + 'static,
) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let device = failing(path, ranges);
    on_reactor(|reactor| task(reactor, device))
}

#[test]
fn pages_of_keys_that_cannot_be_read_are_made_anew_from_the_other_copies_or_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pool.img");
    let (a, b) = with(&path, &[], async |reactor, device| {
        let home = new_pool(&reactor, &device).await;
        create(&home, "a", key(1)).await.expect("made");
        create(&home, "b", key(2)).await.expect("made");
        home.close().await.expect("closed");
        let handle = device.handle(&reactor).expect("a handle");
        damage(&reactor, &handle, 2, KeyCopy::A).await;
        let a = place_of(&reactor, &handle, 1, KeyCopy::A).await;
        (a, place_of(&reactor, &handle, 1, KeyCopy::B).await)
    });
    let page = |at: u64| (at, at + PAGE as u64);

    // One of them: nobody notices, and it is written.
    with(&path, &[page(a)], async |reactor, device| {
        let home = open_pool(&reactor, &device).await;
        assert_eq!((key_of(&home, "a"), key_of(&home, "b")), (Some(key(1)), Some(key(2))));
        home.close().await.expect("closed");
    });
    with(&path, &[], async |reactor, device| assert!(look(&reactor, &device).await.is_sound()));

    // Both: what is there may be read another time, so nothing is written over it.
    with(&path, &[page(a), page(b)], async |reactor, device| {
        let home = open_pool(&reactor, &device).await;
        assert_eq!(home.pool().info().damaged, ["a", "b"]);
        assert!(home.replace_key("a", key(3)).await.is_err());
        create(&home, "c", key(4)).await.expect("there are other slots");
        assert_eq!((key_of(&home, "c"), delete(&home, "c").await), (Some(key(4)), GONE));
        home.close().await.expect("closed");
    });
    with(&path, &[], async |reactor, device| {
        let home = open_pool(&reactor, &device).await;
        assert_eq!((key_of(&home, "a"), key_of(&home, "b")), (Some(key(1)), Some(key(2))));
        assert!(home.pool().info().damaged.is_empty());
        home.close().await.expect("closed");
    });

    // With the last of their volumes they are written over.
    with(&path, &[page(a), page(b)], async |reactor, device| {
        let home = open_pool(&reactor, &device).await;
        assert!(home.delete("a").await.is_err(), "the key of b is in the same pages");
        assert_eq!(delete(&home, "b").await, GONE);
        home.close().await.expect("closed");
    });
    with(&path, &[], async |reactor, device| {
        let handle = device.handle(&reactor).expect("a handle");
        for number in [1, 2] {
            assert!(!is_on(&reactor, &handle, &key(number)).await);
        }
        drop(handle);
        assert!(look(&reactor, &device).await.is_sound());
    });
}
