//! The one durable store of what the cloud knows: in memory as [`World`], and in a [`Ledger`] that is never behind it.
//!
//! A change is made to the world in one closure, then written in one transaction, and is seen by others only then. If the closure refuses, or the
//! ledger fails, the world is as it was before. Whoever reads never waits for the disk longer than one such write.

mod ledger;
mod table;
mod world;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use thiserror::Error;

pub use ledger::{Change, DatabaseFile, Ledger, Loaded};
pub use table::Table;
pub use world::World;

use super::error::ApiError;

/// Why the store cannot be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file.
    #[error("cloud: the state in {path} cannot be used: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// A row cannot be read or written.
    #[error("cloud: the state is damaged: {table}/{id}: {source}")]
    Row {
        /// The table.
        table: &'static str,
        /// The row.
        id: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A newer program has written it.
    #[error("cloud: the state has a table {0:?}, which this program does not know; use a newer one")]
    Unknown(String),
    /// The world was lost in the middle of a change.
    #[error("cloud: the state was not written: {0}")]
    Lost(String),
}

impl StoreError {
    pub(super) fn file(path: &Path, source: impl Into<redb::Error>) -> Self {
        Self::File { path: path.to_owned(), source: Box::new(source.into()) }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        // Where the state lies is the operator's affair.
        tracing::error!("{error}");
        Self::internal("The request processing has failed due to some unknown error.")
    }
}

/// The store.
pub struct Store(Mutex<Inner>);

struct Inner {
    world: World,
    ledger: Box<dyn Ledger>,
}

impl Store {
    /// Reads everything.
    pub fn open(ledger: Box<dyn Ledger>) -> Result<Self, StoreError> {
        let mut world = World::default();
        for (table, id, row) in ledger.load()? {
            world.load(&table, &id, &row)?;
        }
        Ok(Self(Mutex::new(Inner { world, ledger })))
    }

    /// Looks.
    pub fn read<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.inner().world)
    }

    /// Makes a change, durably: all of it or nothing.
    pub fn change<T, E: From<StoreError>>(&self, change: impl FnOnce(&mut World) -> Result<T, E>) -> Result<T, E> {
        let mut inner = self.inner();
        let Inner { world, ledger } = &mut *inner;
        let written = change(world).and_then(|made| {
            let changes = world.changes()?;
            if !changes.is_empty() {
                ledger.write(&changes)?;
            }
            Ok(made)
        });
        match &written {
            Ok(_) => world.accept(),
            Err(_) => world.revert(),
        }
        written
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic in a change leaves it unwritten; what it did to the world is taken back here.
        self.0.lock().unwrap_or_else(|poisoned| {
            self.0.clear_poison();
            let mut inner = poisoned.into_inner();
            inner.world.revert();
            inner
        })
    }
}
