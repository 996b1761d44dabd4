//! Strongroom: a userspace storage target that serves encrypted disks.
//!
//! The modules are layers; each imports only from those below it. From the top: [`crypto`] … (see `README.md`).

pub mod crypto;
pub mod memory;
