//! What a host may do to a namespace at the moment, small enough for the data path to look up before each command.
//!
//! NVM Express Base 2.0, section 8.19, Figures "Command Behavior in the Presence of a Reservation", and NVM Command Set 1.0,
//! section 5.5, Figure 136 (A = allowed, C = Reservation Conflict; WE = Write Exclusive, EA = Exclusive Access, RO = Registrants
//! Only, AR = All Registrants). The holder may do everything, and under AR each registrant is a holder.
//!
//! | commands | WE: not registered | WE: registered | EA: not registered | EA: registered | WE-RO, WE-AR: not registered | WE-RO, WE-AR: registered | EA-RO, EA-AR: not registered | EA-RO, EA-AR: registered |
//! | --- | --- | --- | --- | --- | --- | --- | --- | --- |
//! | **Read**: Read, Compare, Verify; Security Receive | A | A | C | C | A | A | C | A |
//! | **Write**: Write, Write Zeroes, Write Uncorrectable, Dataset Management, Flush; Format NVM, Sanitize, Security Send, Namespace Management and Attachment, Capacity Management | C | C | C | C | C | A | C | A |
//! | **Copy** (its source is also read, which whoever may write always may) | C | C | C | C | C | A | C | A |
//! | Reservation Acquire: Acquire | C | C | C | C | C | C (RO) | C | C (RO) |
//! | Reservation Acquire: Preempt, Preempt and Abort; Reservation Release | C | A | C | A | C | A | C | A |
//! | all others, with Reservation Register and Report | A | A | A | A | A | A | A | A |
//!
//! The rows of the reservation commands are kept by [`super::Reservations`] itself; the others by [`Access::allows`]. Both
//! halves of a fused compare and write are checked, each as the command that it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::reactor::{Census, Member, Reactor};

/// What a host may do: two bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u8);

/// The rows of the table that depend on [`Access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandClass {
    /// Read, Compare, Verify and what else only looks.
    Read,
    /// Write, Write Zeroes, Dataset Management, Flush, Copy and what else changes something.
    Write,
    /// What no reservation hinders.
    Other,
}

impl Access {
    /// Nothing: another host has exclusive access.
    pub const NONE: Self = Self(0);
    /// Reading only.
    pub const READ: Self = Self(Self::MAY_READ);
    /// Everything.
    pub const FULL: Self = Self(Self::MAY_READ | Self::MAY_WRITE);

    const MAY_READ: u8 = 1 << 0;
    const MAY_WRITE: u8 = 1 << 1;

    /// Whether a command of this class goes through; otherwise it ends with Reservation Conflict.
    #[inline]
    pub fn allows(self, class: CommandClass) -> bool {
        match class {
            CommandClass::Read => self.may_read(),
            CommandClass::Write => self.may_write(),
            CommandClass::Other => true,
        }
    }

    /// Whether commands of class [`CommandClass::Read`] go through.
    #[inline]
    pub fn may_read(self) -> bool {
        self.0 & Self::MAY_READ != 0
    }

    /// Whether commands of class [`CommandClass::Write`] go through.
    #[inline]
    pub fn may_write(self) -> bool {
        self.0 & Self::MAY_WRITE != 0
    }

    /// For an `AtomicU8` between the thread that answers reservation commands and the reactors.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// What [`Access::bits`] gave; further bits are dropped.
    #[inline]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::FULL.0)
    }
}

/// What a host may do with a namespace now; written when the reservation changes, read before each command.
pub struct AccessCell {
    bits: AtomicU8,
    /// Commands that were let in by it and are at work, of those who count them here.
    working: Arc<Census>,
}

impl AccessCell {
    /// A cell with what the host may do now.
    pub(crate) fn new(access: Access) -> Self {
        Self { bits: AtomicU8::new(access.bits()), working: Census::new() }
    }

    /// Acquire pairs with the release in `set`: who sees the new access also sees what was done before.
    #[inline]
    pub fn get(&self) -> Access {
        Access::from_bits(self.bits.load(Ordering::Acquire))
    }

    /// From now on the host may do this.
    pub(crate) fn set(&self, access: Access) {
        self.bits.store(access.bits(), Ordering::Release);
    }

    /// Counts commands from now on, on their reactor. A command begins there before it looks here, and is not held up in between.
    pub fn join(&self, reactor: &Reactor) -> Member {
        self.working.join(reactor)
    }

    /// Waits for the commands that were let in before the last [`AccessCell::set`], of those who count them here.
    pub(crate) async fn drain(&self) {
        self.working.drain().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_through_a_byte() {
        for access in [Access::NONE, Access::READ, Access::FULL] {
            assert_eq!(Access::from_bits(access.bits()), access);
        }
        assert_eq!(Access::from_bits(0xFF), Access::FULL);
    }

    #[test]
    fn no_reservation_hinders_the_other_commands() {
        assert!(Access::NONE.allows(CommandClass::Other));
        assert!(!Access::NONE.allows(CommandClass::Read));
        assert!(Access::READ.allows(CommandClass::Read) && !Access::READ.allows(CommandClass::Write));
        assert!(Access::FULL.allows(CommandClass::Write));
    }
}
