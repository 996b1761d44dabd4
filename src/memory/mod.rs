//! Memory that the data path works in.
//!
//! [`Arena`] is the hugepage memory of one reactor, [`BufferPool`] cuts it into [`Buffer`]s, a [`Segment`] names memory
//! that somebody else owns, [`Cut`] cuts a list of them, [`memfd`] makes memory that another process can share, and [`Secret`] keeps keys where they are
//! neither dumped nor swapped. `prefetch` has hints to the CPU.

mod arena;
mod buffer;
mod cut;
mod memfd;
mod pool;
mod prefetch;
mod secret;
mod segment;
mod swap;

pub use arena::{Arena, ArenaError, HugePages, Pages};
pub use buffer::Buffer;
pub use cut::Cut;
pub use memfd::memfd;
pub use pool::{BufferPool, LARGEST_BUFFER, PAGE};
pub use prefetch::{LINE, prefetch_ahead, prefetch_line, prefetch_line_ahead};
pub use secret::{Secret, SecretError, SecretMemory};
pub use segment::Segment;
pub use swap::swap_areas;
