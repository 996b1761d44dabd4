//! Instances: who has disks.

pub mod boot_image;
pub mod create;
pub mod delete;
pub mod describe;
pub mod disks;
pub mod host;
pub mod modify;
pub mod power;
#[cfg(test)]
mod tests;
