//! What the tests of pools share: a pool on a device, and data in and out of its volumes.
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

use std::rc::Rc;
use std::sync::Arc;

use strongroom::device::{ByteRange, IoError, SharedDevice};
use strongroom::reactor::Reactor;
use strongroom::volume::{FormatOptions, Home, NewVolume, OpenOptions, Volume, VolumeQueue, Written};

/// Options for tests: what was let go is freed when it is asked for.
pub fn options() -> OpenOptions {
    OpenOptions { tidies_itself: false, ..OpenOptions::default() }
}

/// Makes a pool of the device and opens it.
pub async fn new_pool(reactor: &Reactor, device: &Arc<SharedDevice>) -> Rc<Home> {
    let handle = device.handle(reactor).expect("a handle");
    Home::format("p", reactor, &handle, &FormatOptions::default()).await.expect("formatted");
    open_pool(reactor, device).await
}

/// Opens the pool on the device.
pub async fn open_pool(reactor: &Reactor, device: &Arc<SharedDevice>) -> Rc<Home> {
    Home::open("p", reactor, device.clone(), &options()).await.expect("opened")
}

/// Makes an empty volume.
pub async fn new_volume(home: &Home, name: &str, mib: u64) -> Arc<Volume> {
    let new = NewVolume { name: name.to_owned(), size: mib << 20, attributes: Vec::new(), key: None };
    home.create_volume(new).await.expect("a volume")
}

/// Opens a volume on the reactor.
pub fn queue(home: &Home, reactor: &Reactor, name: &str) -> Rc<VolumeQueue> {
    home.pool().volume(name).expect("it is there").queue(reactor).expect("it opens")
}

/// Writes whole blocks.
pub async fn write(reactor: &Reactor, queue: &VolumeQueue, at: u64, data: &[u8]) -> Result<(), IoError> {
    for (number, piece) in data.chunks(1 << 20).enumerate() {
        let mut buffer = reactor.buffers().take(piece.len()).await;
        buffer[..piece.len()].copy_from_slice(piece);
        let written = queue.write(at + ((number as u64) << 20), &mut buffer, 0..piece.len()).await?;
        assert_eq!(written, Written::Done);
    }
    Ok(())
}

/// Reads.
pub async fn read(reactor: &Reactor, queue: &VolumeQueue, at: u64, len: usize) -> Result<Vec<u8>, IoError> {
    let mut data = Vec::with_capacity(len);
    let mut buffer = reactor.buffers().take(len.min(1 << 20)).await;
    while data.len() < len {
        let left = (len - data.len()).min(buffer.len()) as u64;
        let range = ByteRange::new(at + data.len() as u64, left).expect("fits");
        let run = queue.read_run(range, &mut buffer, 0).await?;
        assert!(run.len > 0 && run.len <= left);
        data.extend_from_slice(&buffer[..run.len as usize]);
    }
    Ok(data)
}
