//! One bad page of metadata takes the volumes that need it offline, and never the pool. A check says what is wrong, and a repair sets it aside.

mod engine;
mod pool;

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{bytes_of, memory_device, on_reactor};
use pool::{new_pool, new_volume, open_pool, options, queue, read, write};
use strongroom::device::{ByteRange, Device, DeviceHandle, IoError, SharedDevice, read_whole, write_whole};
use strongroom::reactor::Reactor;
use strongroom::volume::check::{check, repair};
use strongroom::volume::format::{PagePointer, Superblock, catalog, node};

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

/// What a page is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    CatalogRoot,
    CatalogIndex,
    Records,
    Root,
    Branch,
    Leaf,
}

async fn page(reactor: &Reactor, device: &DeviceHandle, number: u64) -> Vec<u8> {
    let mut buffer = reactor.buffers().take(PAGE).await;
    read_whole(device, number * PAGE as u64, &mut buffer, 0..PAGE).await.expect("read");
    buffer[..PAGE].to_vec()
}

async fn put_page(reactor: &Reactor, device: &DeviceHandle, number: u64, bytes: &[u8]) {
    let mut buffer = reactor.buffers().take(PAGE).await;
    buffer[..PAGE].copy_from_slice(bytes);
    write_whole(device, number * PAGE as u64, &mut buffer, 0..PAGE).await.expect("written");
}

async fn pointers(reactor: &Reactor, device: &DeviceHandle, at: PagePointer) -> Vec<PagePointer> {
    let bytes = page(reactor, device, at.page.0).await;
    let all: Vec<_> = node::decode(&bytes).expect("a page").map(|pointer| pointer.expect("a pointer")).collect();
    all.into_iter().filter(|pointer| !pointer.is_none()).collect()
}

/// All pages of metadata, with what they are and whose.
async fn pages(reactor: &Reactor, device: &DeviceHandle) -> BTreeMap<u64, (Kind, String)> {
    let a = page(reactor, device, Superblock::A.0).await;
    let b = page(reactor, device, Superblock::B.0).await;
    let superblock = Superblock::newest(&a, &b).expect("a superblock");
    let mut found = BTreeMap::new();
    found.insert(superblock.catalog.page.0, (Kind::CatalogRoot, String::new()));
    for index in pointers(reactor, device, superblock.catalog).await {
        found.insert(index.page.0, (Kind::CatalogIndex, String::new()));
        for records in pointers(reactor, device, index).await {
            found.insert(records.page.0, (Kind::Records, String::new()));
            let bytes = page(reactor, device, records.page.0).await;
            for record in catalog::decode(&bytes).expect("a page").filter_map(|record| record.expect("a record")) {
                for root in record.roots.iter().filter(|root| !root.is_none()) {
                    found.insert(root.page.0, (Kind::Root, record.name.clone()));
                    for branch in pointers(reactor, device, *root).await {
                        found.insert(branch.page.0, (Kind::Branch, record.name.clone()));
                        for leaf in pointers(reactor, device, branch).await {
                            found.insert(leaf.page.0, (Kind::Leaf, record.name.clone()));
                        }
                    }
                }
            }
        }
    }
    found
}

fn data(volume: u64) -> Vec<u8> {
    bytes_of(volume, 3 * MIB)
}

/// A closed pool with two volumes, which have data in two leaves each.
async fn prepare(reactor: &Reactor, device: &Arc<SharedDevice>) {
    let home = new_pool(reactor, device).await;
    for (number, name) in [(1, "a"), (2, "b")] {
        new_volume(&home, name, 100).await;
        let queue = queue(&home, reactor, name);
        write(reactor, &queue, 0, &data(number)).await.expect("written");
        write(reactor, &queue, 64 << 20, &data(number + 10)).await.expect("written");
    }
    home.close().await.expect("closed");
}

async fn is_whole(reactor: &Reactor, home: &strongroom::volume::Home, name: &str, number: u64) -> bool {
    let queue = queue(home, reactor, name);
    read(reactor, &queue, 0, 3 * MIB).await.expect("read") == data(number)
        && read(reactor, &queue, 64 << 20, 3 * MIB).await.expect("read") == data(number + 10)
}

#[test]
fn any_bad_page_of_metadata_concerns_its_volume_only() {
    let device = memory_device(64);
    on_reactor(async move |reactor: Reactor| {
        prepare(&reactor, &device).await;
        let handle = device.handle(&reactor).expect("a handle");
        let good = image(&reactor, &handle).await;
        let pages = pages(&reactor, &handle).await;
        assert_eq!(pages.values().filter(|(kind, _)| *kind == Kind::Leaf).count(), 4);
        for (number, (kind, owner)) in pages {
            restore(&reactor, &handle, &good).await;
            let mut bytes = page(&reactor, &handle, number).await;
            bytes[100] ^= 0x40;
            put_page(&reactor, &handle, number, &bytes).await;

            let report = check("p", &reactor, device.clone(), &options(), |_, _| {}).await.expect("checked");
            assert!(!report.is_sound(), "{kind:?} {number} of {owner}");
            let home = open_pool(&reactor, &device).await;
            if owner.is_empty() {
                // The catalog: its volumes are gone, the pool is not.
                assert!(home.pool().volumes().is_empty(), "{kind:?}");
                new_volume(&home, "new", 10).await;
                home.close().await.expect("closed");
                continue;
            }
            let (other, seed) = if owner == "a" { ("b", 2) } else { ("a", 1) };
            assert!(is_whole(&reactor, &home, other, seed).await, "{kind:?}");
            let error = home.pool().volume(&owner).expect("known").queue(&reactor).err().expect("offline").to_string();
            assert!(error.contains(&format!("{owner} is offline")) && error.contains("checksum"), "{error}");
            write(&reactor, &queue(&home, &reactor, other), 40 << 20, &data(77)).await.expect("the other has space");
            home.close().await.expect("closed");

            // It stays so, until somebody repairs it.
            let report = repair("p", &reactor, device.clone(), &options(), |_, _| {}).await.expect("repaired");
            assert_eq!(report.repaired, std::slice::from_ref(&owner));
            let home = open_pool(&reactor, &device).await;
            assert!(is_whole(&reactor, &home, other, seed).await, "{kind:?}");
            let repaired = queue(&home, &reactor, &owner);
            let lost = read(&reactor, &repaired, 0, MIB).await.is_err();
            let also = read(&reactor, &repaired, 64 << 20, MIB).await.is_err();
            assert!(lost || also, "{kind:?}");
            assert_eq!(lost && also, kind != Kind::Leaf, "{kind:?}");
            let at = if lost { 0 } else { 64 << 20 };
            assert_eq!(write(&reactor, &repaired, at, &data(5)[..4096]).await, Err(IoError::Media));
            repaired.discard(ByteRange::new(at, 65536).expect("fits")).await.expect("discarded");
            write(&reactor, &repaired, at, &data(5)[..4096]).await.expect("written");
            assert_eq!(read(&reactor, &repaired, at, 4096).await.expect("read"), &data(5)[..4096]);
            drop(repaired);
            home.close().await.expect("closed");
            let report = check("p", &reactor, device.clone(), &options(), |_, _| {}).await.expect("checked");
            assert!(report.is_sound(), "{:?}", report.problems);
        }
    });
}

#[test]
fn one_bad_superblock_is_no_matter_and_two_are_named() {
    let device = memory_device(64);
    on_reactor(async move |reactor: Reactor| {
        prepare(&reactor, &device).await;
        let handle = device.handle(&reactor).expect("a handle");
        let (a, b) = (page(&reactor, &handle, Superblock::A.0).await, page(&reactor, &handle, Superblock::B.0).await);
        let newest = Superblock::newest(&a, &b).expect("a superblock").page();
        let older = if newest == Superblock::A { Superblock::B } else { Superblock::A };
        put_page(&reactor, &handle, older.0, &[0xee; PAGE]).await;
        let home = open_pool(&reactor, &device).await;
        assert!(is_whole(&reactor, &home, "a", 1).await);
        home.close().await.expect("closed");
        for number in [Superblock::A.0, Superblock::B.0] {
            put_page(&reactor, &handle, number, &[0xee; PAGE]).await;
        }
        let opened = strongroom::volume::Home::open("p", &reactor, device.clone(), &options()).await;
        let error = opened.err().expect("refused").to_string();
        assert!(error.contains("pool p") && error.contains("superblock"), "{error}");
    });
}

async fn image(reactor: &Reactor, device: &DeviceHandle) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = reactor.buffers().take(MIB).await;
    for at in (0..device.info().size).step_by(MIB) {
        read_whole(device, at, &mut buffer, 0..MIB).await.expect("read");
        all.extend_from_slice(&buffer[..MIB]);
    }
    all
}

async fn restore(reactor: &Reactor, device: &DeviceHandle, image: &[u8]) {
    let mut buffer = reactor.buffers().take(MIB).await;
    for (number, piece) in image.chunks(MIB).enumerate() {
        buffer[..piece.len()].copy_from_slice(piece);
        write_whole(device, (number * MIB) as u64, &mut buffer, 0..piece.len()).await.expect("written");
    }
}
