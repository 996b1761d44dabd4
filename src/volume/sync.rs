//! What the models under `tests/loom` replace: the atomics, and sizes that a model keeps small so that it can try every order.
//!
//! Files that the models compile take both from here and from nowhere else.

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};
pub use std::sync::{Mutex, OnceLock};

/// Words of the bitmap that are made together: 4 KiB, for 2 GiB of device.
pub const CHUNK_WORDS: usize = 512;

/// Chunks that a segment has room for: 1 TiB of device.
pub const SEGMENT_CHUNKS: usize = 512;

/// Segments of the largest device, which has 2^32 clusters.
pub const SEGMENTS: usize = 256;

/// Clusters whose further references are counted in memory that is made when the first of them is shared: 8 KiB, for 128 MiB of device.
pub const GROUP_CLUSTERS: usize = 2048;
