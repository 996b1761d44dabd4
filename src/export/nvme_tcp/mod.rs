//! Disks over NVMe/TCP.

pub mod controller;
mod discovery;
pub mod subsystem;
#[cfg(test)]
mod testing;
pub mod wire;
