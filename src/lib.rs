//! Strongroom: a userspace storage target that serves encrypted disks.
//!
//! The modules are layers; each imports only from those below it.

pub mod crypto;
pub mod device;
pub mod disk;
pub mod export;
pub mod memory;
pub mod reactor;
