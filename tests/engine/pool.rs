//! A pool for tests: on any device, at home on a reactor of its own.

use std::sync::Arc;
use std::time::Duration;

use strongroom::crypto::xts::SectorSize;
use strongroom::device::SharedDevice;
use strongroom::disk::{DiskConfig, Encryption};
use strongroom::reactor::ReactorThread;
use strongroom::volume::{FormatOptions, NewVolume, OpenOptions, Pool, Volume, once_free};

use super::small_reactor;

const PATIENCE: Duration = Duration::from_secs(10);

/// A disk in the configuration. What it stands on is given when it is opened.
pub fn disk_config(name: &str, sector_size: SectorSize, encryption: Encryption) -> DiskConfig {
    DiskConfig {
        device: Some("d0".to_owned()),
        sector_size: Some(sector_size),
        encryption: Some(encryption),
        ..DiskConfig::plain(name)
    }
}

/// An open pool. Dropped, it is closed; no disk is open on it then.
pub struct TestPool {
    home: Option<ReactorThread>,
    pool: Option<Arc<Pool>>,
}

impl TestPool {
    /// Makes a pool on the device.
    pub fn new(device: &Arc<SharedDevice>) -> Self {
        let home = small_reactor();
        Pool::format("p0", device.clone(), home.remote(), FormatOptions::default()).expect("a pool");
        let pool = Pool::open("p0", device.clone(), home.remote(), OpenOptions::default()).expect("opened");
        Self { home: Some(home), pool: Some(pool) }
    }

    pub fn pool(&self) -> &Arc<Pool> {
        self.pool.as_ref().expect("open")
    }

    /// Makes a volume that says nothing about itself.
    pub fn volume(&self, name: &str, size: u64) -> Arc<Volume> {
        self.volume_with(name, size, Vec::new())
    }

    /// Makes a volume with attributes.
    pub fn volume_with(&self, name: &str, size: u64, attributes: Vec<u8>) -> Arc<Volume> {
        self.pool().create_volume(NewVolume { name: name.to_owned(), size, attributes, key: None }).expect("a volume")
    }
}

impl Drop for TestPool {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            // A server that has stopped lets go of its queues a moment later.
            let closed = once_free(PATIENCE, || pool.close());
            if !std::thread::panicking() {
                closed.expect("the pool closes");
            }
        }
        if let Some(home) = self.home.take() {
            home.remote().stop();
            home.join();
        }
    }
}
