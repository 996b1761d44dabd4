//! What control threads ask of a pool: each call runs on the pool's home reactor, and waits for it. Never to be called on a reactor.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::device::SharedDevice;
use crate::reactor::Remote;

use super::check::{self, Report};
use super::entry::{Volume, VolumeInfo};
use super::error::PoolError;
use super::home::{Deleted, Difference, FormatOptions, Home, NewVolume, Shrink, Usage};
use super::pool::{OpenOptions, Pool};

/// How often it is looked whether the last queue on a volume has gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Does what needs a volume that nobody has open, as soon as that is so: reactors let go of a closed disk a moment later.
pub fn once_free<T>(limit: Duration, mut act: impl FnMut() -> Result<T, PoolError>) -> Result<T, PoolError> {
    let deadline = Instant::now() + limit;
    loop {
        match act() {
            Err(PoolError::InUse { .. }) if Instant::now() < deadline => std::thread::sleep(LOOK_INTERVAL),
            other => return other,
        }
    }
}

impl Pool {
    /// Whether the device has no pool, nor anything else at its beginning.
    pub fn is_blank(name: &str, device: Arc<SharedDevice>, reactor: &Remote) -> Result<bool, PoolError> {
        let name = name.to_owned();
        reactor.run(async move |reactor| {
            let handle = device.handle(&reactor);
            let handle = handle.map_err(|source| PoolError::Device { pool: name.clone(), source })?;
            let blank = Home::is_blank(&reactor, &handle).await;
            blank.map_err(|source| PoolError::Io { pool: name, what: "read the device", source })
        })
    }

    /// Makes an empty pool of the device. What was on it is lost.
    pub fn format(
        name: &str,
        device: Arc<SharedDevice>,
        reactor: &Remote,
        options: FormatOptions,
    ) -> Result<(), PoolError> {
        let name = name.to_owned();
        reactor.run(async move |reactor| {
            let handle = device.handle(&reactor);
            let handle = handle.map_err(|source| PoolError::Device { pool: name.clone(), source })?;
            Home::format(&name, &reactor, &handle, &options).await
        })
    }

    /// Opens a pool. `home` keeps it from now on.
    pub fn open(
        name: &str,
        device: Arc<SharedDevice>,
        home: &Remote,
        options: OpenOptions,
    ) -> Result<Arc<Self>, PoolError> {
        let name = name.to_owned();
        home.run(async move |reactor| {
            let home = Home::open(&name, &reactor, device, &options).await?;
            Ok(home.pool().clone())
        })
    }

    /// Looks over a pool that nobody has open; brings back what is broken, if asked to. `progress` is told how many of all volumes were looked at.
    pub fn check(
        name: &str,
        device: Arc<SharedDevice>,
        reactor: &Remote,
        options: OpenOptions,
        repair: bool,
        progress: impl FnMut(usize, usize) + Send + 'static,
    ) -> Result<Report, PoolError> {
        let name = name.to_owned();
        reactor.run(async move |reactor| match repair {
            false => check::check(&name, &reactor, device, &options, progress).await,
            true => check::repair(&name, &reactor, device, &options, progress).await,
        })
    }

    /// Makes an empty volume.
    pub fn create_volume(&self, new: NewVolume) -> Result<Arc<Volume>, PoolError> {
        self.at_home(async move |home: Rc<Home>| home.create_volume(new).await)
    }

    /// Freezes the volume's content of this moment.
    pub fn snapshot(&self, volume: &str, name: &str) -> Result<VolumeInfo, PoolError> {
        let (volume, name) = (volume.to_owned(), name.to_owned());
        self.at_home(async move |home: Rc<Home>| home.snapshot(&volume, &name).await)
    }

    /// Makes a volume with the content of a snapshot.
    pub fn clone_snapshot(&self, snapshot: &str, name: &str) -> Result<Arc<Volume>, PoolError> {
        let (snapshot, name) = (snapshot.to_owned(), name.to_owned());
        self.at_home(async move |home: Rc<Home>| home.clone_snapshot(&snapshot, &name).await)
    }

    /// Gives the volume the content of one of its snapshots. What was written since is lost.
    pub fn rollback(&self, volume: &str, snapshot: &str) -> Result<(), PoolError> {
        let (volume, snapshot) = (volume.to_owned(), snapshot.to_owned());
        self.at_home(async move |home: Rc<Home>| home.rollback(&volume, &snapshot).await)
    }

    /// Gives the volume back what it began with: the content of a snapshot of the same lineage, or nothing. Its snapshots stay, and its size too,
    /// unless the snapshot is larger.
    pub fn reinitialise(&self, volume: &str, source: Option<&str>) -> Result<(), PoolError> {
        let (volume, source) = (volume.to_owned(), source.map(str::to_owned));
        self.at_home(async move |home: Rc<Home>| home.reinitialise(&volume, source.as_deref()).await)
    }

    /// Gives the volume another size, and returns it.
    pub fn resize(&self, volume: &str, size: u64, shrink: Shrink) -> Result<u64, PoolError> {
        let volume = volume.to_owned();
        self.at_home(async move |home: Rc<Home>| home.resize(&volume, size, shrink).await)
    }

    /// Deletes a volume that nobody uses, or a snapshot. Its space is freed in the background; its key is destroyed, if nobody else has it.
    pub fn delete(&self, name: &str) -> Result<Deleted, PoolError> {
        let name = name.to_owned();
        self.at_home(async move |home: Rc<Home>| home.delete(&name).await)
    }

    /// What differs in `to` from `from`, or from nothing at all.
    pub fn diff(&self, from: Option<&str>, to: &str) -> Result<Vec<Difference>, PoolError> {
        let (from, to) = (from.map(str::to_owned), to.to_owned());
        self.at_home(async move |home: Rc<Home>| home.diff(from.as_deref(), &to).await)
    }

    /// How much space the volume or snapshot has for itself, and how much with others.
    pub fn usage(&self, name: &str) -> Result<Usage, PoolError> {
        let name = name.to_owned();
        self.at_home(async move |home: Rc<Home>| home.usage(&name).await)
    }

    /// Keeps other attributes with a volume.
    pub fn set_attributes(&self, volume: &str, attributes: Vec<u8>) -> Result<(), PoolError> {
        let volume = volume.to_owned();
        self.at_home(async move |home: Rc<Home>| home.set_attributes(&volume, attributes).await)
    }

    /// Gives a volume, its snapshots and what was cloned from them another sealed key. The old one is nowhere on the device when this returns.
    pub fn replace_key(&self, volume: &str, key: Vec<u8>) -> Result<(), PoolError> {
        let volume = volume.to_owned();
        self.at_home(async move |home: Rc<Home>| home.replace_key(&volume, key).await)
    }

    /// Takes all of a device that has become larger; gives the new size.
    pub fn grow(&self) -> Result<u64, PoolError> {
        self.at_home(async move |home: Rc<Home>| home.grow().await)
    }

    /// Makes everything durable that was answered.
    pub fn commit(&self) -> Result<(), PoolError> {
        self.at_home(async move |home: Rc<Home>| home.commit().await)
    }

    /// Makes everything durable and empties the journal.
    pub fn checkpoint(&self) -> Result<(), PoolError> {
        self.at_home(async move |home: Rc<Home>| home.checkpoint().await)
    }

    /// Waits until everything that was let go can be used again.
    pub fn settle(&self) -> Result<(), PoolError> {
        self.at_home(async move |home: Rc<Home>| {
            home.settle().await;
            Ok(())
        })
    }

    /// Closes the pool: the next opening has nothing to replay, and any machine may open it. Refused while a volume is in use.
    pub fn close(&self) -> Result<(), PoolError> {
        self.at_home(async move |home: Rc<Home>| home.close().await)
    }
}
