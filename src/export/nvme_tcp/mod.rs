//! Disks over NVMe/TCP.
#![allow(dead_code, unused_imports, reason = "the transport comes next")]

mod auth;
pub mod controller;
mod discovery;
pub mod subsystem;
pub mod wire;
