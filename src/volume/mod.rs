//! Pools: volumes, snapshots and clones on one device, which survive a power cut.
//!
//! What is stored here is bytes: cipher text, if a disk above is encrypted. No key ever comes here but sealed ones, which are bytes as well.
//!
//! | module | owns |
//! | --- | --- |
//! | [`mod@format`] | how a pool lies on its device; `FORMAT.md` beside it is the reference |
//! | [`map`] | where the clusters of a volume are: read without locks, copied when frozen |
//! | [`space`] | which clusters are free, and how often the others are referred to |
//! | `queue` | the data path: one [`VolumeQueue`] for each reactor and volume |
//! | `seat` | a pool on one reactor: device, reserve, what is in flight and what was let go |
//! | `home` | what keeps the pool, on one reactor: commits, checkpoints, opening, snapshots |
//! | `lineage` | the sealed key that a volume has in common with its snapshots and their clones |
//! | [`check`](mod@check) | looking a pool over, and setting aside what is broken |
//!
//! A word of a map changes in memory first; a flush makes it durable. Who reads, and who overwrites what is there, touches no metadata.

mod blocking;
mod busy;
pub mod check;
mod entry;
mod error;
pub mod format;
mod home;
mod lineage;
pub mod map;
mod pause;
mod pool;
mod queue;
mod rounds;
mod seat;
pub mod space;
pub mod sync;
pub mod units;

pub use blocking::once_free;
pub use entry::{SNAPSHOT_SIGN, Volume, VolumeInfo, VolumeKind};
pub use error::PoolError;
pub use format::{LONGEST_KEY, LONGEST_NAME, is_name};
pub use home::{Deleted, Difference, FormatOptions, Home, NewVolume, Shrink, Usage};
pub use pool::{OpenOptions, Pool, PoolInfo};
pub use queue::{Run, VolumeQueue, Written};
pub use seat::retire;
pub use units::VolumeId;
