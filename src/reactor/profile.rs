//! Where a reactor's time goes: cycles of the clock in each stage of a command. With the cargo feature `profile`; without it nothing of this is
//! in the program.
//!
//! Code says what it is at: [`stage`] until the end of a scope, [`during`] while a future is polled. A reactor is at exactly one stage at any time,
//! the innermost one that was said, so the cycles of all stages are the cycles that have passed, and each is counted once. What nobody
//! claims is [`Stage::Turn`]. Turns without work count as [`Stage::Idle`].
//!
//! A look at the clock takes time too, a part of which the inner stage gets and the rest the outer one. `ProbeCost` says how much, and each
//! stage counts how often it was entered and left for another, so that a reader can take it off.
//!
//! Each reactor counts for itself; anybody may read meanwhile.

/// What a reactor is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The poll loop and the executor: mailbox, timers, the choice of the next task.
    Turn,
    /// Turns that found nothing to do, and the rests between them.
    Idle,
    /// Asleep in the kernel.
    Sleep,
    /// `io_uring_enter`: what the kernel does for sockets and files.
    Kernel,
    /// The ring's own book-keeping: entries, completions, wakers.
    Ring,
    /// Cutting what was received into commands, and giving them to slots.
    Receive,
    /// A slot's work on its command: checks, limits, rights.
    Command,
    /// The disk's work on a command, but for the cipher and the device: gate, line, counters.
    Disk,
    /// Encryption and decryption, which is also the only copy.
    Cipher,
    /// The device's own work, where it is not memory.
    Device,
    /// Taking buffers and giving them back.
    Buffers,
    /// Putting answers together.
    Reply,
    /// Gathering answers into one send.
    Send,
}

impl Stage {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
    /// All of them, in their order.
    pub const ALL: [Stage; 13] = [
        Self::Turn,
        Self::Idle,
        Self::Sleep,
        Self::Kernel,
        Self::Ring,
        Self::Receive,
        Self::Command,
        Self::Disk,
        Self::Cipher,
        Self::Device,
        Self::Buffers,
        Self::Reply,
        Self::Send,
    ];
}

#[cfg(not(feature = "profile"))]
mod here {
    use std::future::Future;

    use super::Stage;

    /// Nothing is counted.
    pub(crate) struct Probe;

    #[inline(always)]
    pub(crate) fn stage(_: Stage) -> Probe {
        Probe
    }

    #[inline(always)]
    pub(crate) fn during<F: Future>(_: Stage, future: F) -> F {
        future
    }

    #[inline(always)]
    pub(in crate::reactor) fn begin(_core: usize) {}

    #[inline(always)]
    pub(in crate::reactor) fn turn_begins() {}

    #[inline(always)]
    pub(in crate::reactor) fn turn_ends(_had_work: bool) {}
}

#[cfg(feature = "profile")]
mod here;

#[cfg(feature = "profile")]
pub use here::{Counts, ProbeCost, Profile, read, switch};
pub(super) use here::{begin, turn_begins, turn_ends};
pub(crate) use here::{during, stage};
