//! The pool of the product, as the driver sees it.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use strongroom::device::{ByteRange, SharedDevice};
use strongroom::memory::Buffer;
use strongroom::reactor::Reactor;
use strongroom::volume::check::check;
use strongroom::volume::{
    FormatOptions, Home, NewVolume, OpenOptions, PoolError, Shrink, Volume, VolumeQueue, Written,
};

use super::model::Listed;
use super::subject::{Outcome, Pool, Queue, Trouble, Writing};

/// A journal so small that checkpoints come often.
const JOURNAL_BYTES: u64 = 64 << 10;

/// The pool.
pub struct RealPool {
    reactor: Reactor,
    home: Option<Rc<Home>>,
}

/// A volume.
pub struct RealQueue {
    queue: Rc<VolumeQueue>,
}

impl From<PoolError> for Trouble {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::NoSpace { .. } => Self::NoSpace,
            error => Self::Other(error.to_string()),
        }
    }
}

impl RealPool {
    fn home(&self) -> &Rc<Home> {
        self.home.as_ref().expect("the pool is open")
    }

    fn key_of(&self, name: &str) -> Option<Vec<u8>> {
        Some(self.home().pool().volume(name).ok()?.sealed_key()?.to_vec())
    }

    fn volume(&self, name: &str) -> Outcome<Arc<Volume>> {
        Ok(self.home().pool().volume(name)?)
    }
}

impl Drop for RealPool {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.abandon();
        }
    }
}

impl Pool for RealPool {
    type Queue = RealQueue;
    // The few pages of an empty catalog may lie in clusters of their own, and a cluster of key slots stays one.
    const SLACK: u64 = 5 * 65536;

    fn smallest_device() -> u64 {
        // Two superblocks, the journal, and the least that a pool has beside them.
        (2 + 16) * 65536 + JOURNAL_BYTES
    }

    async fn format(reactor: &Reactor, device: &Arc<SharedDevice>) -> Outcome<()> {
        let handle = device.handle(reactor).map_err(|error| Trouble::Other(error.to_string()))?;
        let options = FormatOptions { journal_bytes: Some(JOURNAL_BYTES) };
        Ok(Home::format("sim", reactor, &handle, &options).await?)
    }

    async fn open(reactor: &Reactor, device: Arc<SharedDevice>) -> Outcome<Rc<Self>> {
        // Nothing that happens by the clock: a run follows from its seed alone.
        let options = OpenOptions { tidies_itself: false, ..OpenOptions::default() };
        let home = Home::open("sim", reactor, device, &options).await?;
        Ok(Rc::new(Self { reactor: reactor.clone(), home: Some(home) }))
    }

    async fn close(self: Rc<Self>) -> Outcome<()> {
        Ok(self.home().clone().close().await?)
    }

    async fn check(reactor: &Reactor, device: &Arc<SharedDevice>) -> Outcome<()> {
        let report = check("sim", reactor, device.clone(), &OpenOptions::default(), |_, _| {}).await?;
        if report.is_sound() { Ok(()) } else { Err(Trouble::Other(report.problems.join("; "))) }
    }

    fn list(&self) -> Vec<Listed> {
        let volumes = self.home().pool().volumes();
        volumes
            .into_iter()
            .map(|volume| Listed { key: self.key_of(&volume.name), name: volume.name, size: volume.size_bytes })
            .collect()
    }

    fn used(&self) -> u64 {
        self.home().pool().info().used_bytes
    }

    fn queue(&self, name: &str) -> Outcome<Rc<RealQueue>> {
        Ok(Rc::new(RealQueue { queue: self.volume(name)?.queue(&self.reactor)? }))
    }

    async fn create(&self, name: &str, size: u64, key: Option<Vec<u8>>) -> Outcome<()> {
        let new = NewVolume { name: name.to_owned(), size, attributes: name.as_bytes().to_vec(), key };
        self.home().create_volume(new).await?;
        Ok(())
    }

    async fn delete(&self, name: &str) -> Outcome<bool> {
        Ok(self.home().delete(name).await?.destroyed_key)
    }

    async fn replace_key(&self, volume: &str, key: Vec<u8>) -> Outcome<()> {
        Ok(self.home().replace_key(volume, key).await?)
    }

    async fn snapshot(&self, volume: &str, name: &str) -> Outcome<()> {
        self.home().snapshot(volume, name).await?;
        Ok(())
    }

    async fn clone_snapshot(&self, snapshot: &str, name: &str) -> Outcome<()> {
        self.home().clone_snapshot(snapshot, name).await?;
        Ok(())
    }

    async fn rollback(&self, volume: &str, snapshot: &str) -> Outcome<()> {
        Ok(self.home().rollback(volume, snapshot).await?)
    }

    async fn reinitialise(&self, volume: &str, source: Option<&str>) -> Outcome<()> {
        Ok(self.home().reinitialise(volume, source).await?)
    }

    async fn resize(&self, volume: &str, size: u64) -> Outcome<()> {
        self.home().resize(volume, size, Shrink::Allowed).await?;
        Ok(())
    }

    async fn commit(&self) -> Outcome<()> {
        Ok(self.home().commit().await?)
    }

    async fn checkpoint(&self) -> Outcome<()> {
        Ok(self.home().checkpoint().await?)
    }

    async fn settle(&self) {
        self.home().settle().await;
    }
}

impl Queue for RealQueue {
    async fn read(&self, at: u64, buffer: &mut Buffer, len: usize) -> Outcome<()> {
        let mut done = 0;
        while done < len {
            let range = ByteRange::new(at + done as u64, (len - done) as u64).expect("within the volume");
            let run = self.queue.read_run(range, buffer, done).await?;
            if run.len == 0 || run.len > range.len() {
                return Err(Trouble::Other(format!("a read of {range} did {} bytes", run.len)));
            }
            done += run.len as usize;
        }
        Ok(())
    }

    async fn write(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Outcome<Writing> {
        Ok(match self.queue.write(at, buffer, window).await? {
            Written::Done => Writing::Done,
            Written::PartlyAbsent => Writing::PartlyAbsent,
        })
    }

    async fn discard(&self, range: ByteRange) -> Outcome<()> {
        Ok(self.queue.discard(range).await?)
    }

    async fn flush(&self) -> Outcome<()> {
        Ok(self.queue.flush().await?)
    }
}
