//! The pool as the driver sees it: what is proven is proven of any type with this interface.

use std::future::Future;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use strongroom::device::{ByteRange, IoError, SharedDevice};
use strongroom::memory::Buffer;
use strongroom::reactor::Reactor;

use super::model::Listed;

/// Why a command failed.
#[derive(Debug)]
pub enum Trouble {
    /// The pool is full: nothing was done, except that a write may have been done in part.
    NoSpace,
    /// Anything else: fine while the power is off, and a failure otherwise.
    Other(String),
}

impl From<IoError> for Trouble {
    fn from(error: IoError) -> Self {
        match error {
            IoError::NoSpace => Self::NoSpace,
            error => Self::Other(error.to_string()),
        }
    }
}

pub type Outcome<T> = Result<T, Trouble>;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    Done,
    /// It covers a part of an absent block, so whole blocks are needed.
    PartlyAbsent,
}

/// A pool on one reactor.
pub trait Pool: Sized + 'static {
    type Queue: Queue;

    /// What a pool without volumes may have in use more than a new one has.
    const SLACK: u64;

    /// The size of a device on which nothing is left for data.
    fn smallest_device() -> u64;
    fn format(reactor: &Reactor, device: &Arc<SharedDevice>) -> impl Future<Output = Outcome<()>>;
    fn open(reactor: &Reactor, device: Arc<SharedDevice>) -> impl Future<Output = Outcome<Rc<Self>>>;
    /// Ends in good order.
    fn close(self: Rc<Self>) -> impl Future<Output = Outcome<()>>;
    /// Verifies everything on a device that no pool has open.
    fn check(reactor: &Reactor, device: &Arc<SharedDevice>) -> impl Future<Output = Outcome<()>>;

    fn list(&self) -> Vec<Listed>;
    /// Bytes that are used, once nothing is being freed.
    fn used(&self) -> u64;
    fn queue(&self, name: &str) -> Outcome<Rc<Self::Queue>>;
    /// With a key, if there is one.
    fn create(&self, name: &str, size: u64, key: Option<Vec<u8>>) -> impl Future<Output = Outcome<()>>;
    /// Says whether a key went with it.
    fn delete(&self, name: &str) -> impl Future<Output = Outcome<bool>>;
    /// For all that have the key in common.
    fn replace_key(&self, volume: &str, key: Vec<u8>) -> impl Future<Output = Outcome<()>>;
    fn snapshot(&self, volume: &str, name: &str) -> impl Future<Output = Outcome<()>>;
    fn clone_snapshot(&self, snapshot: &str, name: &str) -> impl Future<Output = Outcome<()>>;
    fn rollback(&self, volume: &str, snapshot: &str) -> impl Future<Output = Outcome<()>>;
    /// With the content of a snapshot, or none.
    fn reinitialise(&self, volume: &str, source: Option<&str>) -> impl Future<Output = Outcome<()>>;
    fn resize(&self, volume: &str, size: u64) -> impl Future<Output = Outcome<()>>;
    fn commit(&self) -> impl Future<Output = Outcome<()>>;
    fn checkpoint(&self) -> impl Future<Output = Outcome<()>>;
    fn settle(&self) -> impl Future<Output = ()>;
}

/// A volume on one reactor.
pub trait Queue: 'static {
    fn read(&self, at: u64, buffer: &mut Buffer, len: usize) -> impl Future<Output = Outcome<()>>;
    fn write(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> impl Future<Output = Outcome<Writing>>;
    fn discard(&self, range: ByteRange) -> impl Future<Output = Outcome<()>>;
    fn flush(&self) -> impl Future<Output = Outcome<()>>;
}
