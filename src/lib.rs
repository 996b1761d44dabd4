//! Strongroom: a userspace storage target that serves encrypted disks.
//!
//! The modules are layers; each imports only from those below it:
//!
//! | layer | what it owns |
//! | --- | --- |
//! | [`cli`] | the `strongroom` command |
//! | [`control`] | configuration, the running target and its changes, the operators' JSON-RPC; never on a reactor's core |
//! | [`cloud`] | the cloud's API: accounts, instances, disks, snapshots and images, their rules, and their durable state |
//! | [`kms`] | master keys, wrapping and unwrapping, providers; never on a reactor's core |
//! | [`bench`](mod@bench) | the load generator |
//! | [`export`] | protocols: how clients reach a disk |
//! | [`disk`] | the only place where plain text meets cipher text |
//! | [`volume`] | the pool: thin volumes, snapshots, clones; it never sees a key |
//! | [`device`] | what reads and writes raw blocks |
//! | [`reactor`] | pinned core, poll loop, io_uring, tasks, mailbox, timers |
//! | [`secrets`] | where secrets lie: references in the configuration |
//! | [`time`] | the calendar |
//! | [`memory`] | hugepage arena, buffers, locked memory for keys |
//! | [`crypto`] | cipher kernels and their dispatch |

pub mod bench;
pub mod cli;
pub mod cloud;
pub mod control;
pub mod crypto;
pub mod device;
pub mod disk;
pub mod export;
pub mod kms;
pub mod memory;
pub mod reactor;
pub mod secrets;
pub mod time;
pub mod volume;
