//! Snapshots and their chains.

pub mod create;
pub mod delete;
pub mod describe;
pub mod links;
pub mod modify;
#[cfg(test)]
pub mod tests;
#[cfg(test)]
mod view_tests;
