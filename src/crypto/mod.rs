//! Ciphers of the data path and their dispatch; nothing else.

pub mod scrub;
mod stack;
pub mod xts;
