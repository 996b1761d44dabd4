//! Disks over NVMe/TCP.
#![allow(dead_code, reason = "the transport comes next")]

mod auth;
pub mod wire;
