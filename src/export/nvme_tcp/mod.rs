//! Disks over NVMe/TCP.

pub mod controller;
mod discovery;
pub mod subsystem;
pub mod wire;
