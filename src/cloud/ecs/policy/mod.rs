//! Policies of automatic snapshots.

pub mod apply;
pub mod rules;
#[cfg(test)]
pub mod tests;
