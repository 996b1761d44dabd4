//! Memory that the data path works in.

mod segment;

pub use segment::Segment;
