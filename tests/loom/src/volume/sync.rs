//! What stands in place of `src/volume/sync.rs`: loom's atomics, and sizes that keep a model small.

pub use crate::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};
pub use loom::hint::spin_loop;
pub use loom::sync::Mutex;

/// A chunk has two words, so that a search goes from word to word, and from chunk to chunk.
pub const CHUNK_WORDS: usize = 2;
/// Chunks in a segment.
pub const SEGMENT_CHUNKS: usize = 2;
/// Segments.
pub const SEGMENTS: usize = 2;
/// Each counter is an object that loom follows.
pub const GROUP_CLUSTERS: usize = 32;

/// Something that is made once. Loom knows nothing of the standard library's, which orders whoever finds it made after whoever made it; so does
/// this, in loom's terms.
pub struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_made: AtomicBool,
    making: Mutex<()>,
}

impl<T> OnceLock<T> {
    /// Nothing yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), is_made: AtomicBool::new(false), making: Mutex::new(()) }
    }

    /// What was made.
    pub fn get(&self) -> Option<&T> {
        if self.is_made.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    /// What was made, or is made now.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(made) = self.get() {
            return made;
        }
        let _alone = self.making.lock().expect("no panic under this lock");
        let made = self.value.get_or_init(make);
        self.is_made.store(true, Ordering::Release);
        made
    }
}
