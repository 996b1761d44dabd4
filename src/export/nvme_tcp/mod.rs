//! Disks over NVMe/TCP.

pub mod wire;
