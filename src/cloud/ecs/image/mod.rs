//! Images: snapshots from which instances are made.

pub mod blank;
pub mod copy;
pub mod create;
pub mod delete;
pub mod describe;
pub mod export;
#[cfg(test)]
mod leaving_tests;
pub mod owner;
pub mod parts;
pub mod share;
#[cfg(test)]
pub mod tests;
