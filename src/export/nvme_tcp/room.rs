//! How much of its share of the reactor's buffers a command takes, and who waits for it.
//!
//! What a command holds until its answer is sent is waited for by the reader, before it gives the command to a slot. What waits for data that the
//! host was asked for is waited for by the slot: the reader must not stand still for it, because that data lies behind the commands that the
//! host has sent since. So both end by themselves, or by the watchdog when the host does not send what it owes.

use super::LARGEST_TRANSFER;
use super::connection::{Arrived, Connection};
use super::wire::command::{Command, sgl};
use super::wire::opcode;
use crate::memory::PAGE;

/// Bytes of the share for a command whose data is asked for.
pub(super) struct Owed<'a> {
    connection: &'a Connection,
    bytes: usize,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let before = self.connection.owed.get();
        self.connection.set_owed(before - self.bytes);
        self.connection.may_owe.wake_all();
    }
}

impl Connection {
    /// Waits until the host may be asked for the data of a command, if it has any. The reader cannot wait for that: behind the command lies the
    /// data that others were asked for.
    pub(super) async fn owe(&self, bytes: usize) -> Owed<'_> {
        if bytes > 0 {
            let may = |held| held == 0 || self.shard.share().has_room(held, held + bytes);
            self.may_owe.until(|| (self.transfers.is_abandoned() || may(self.owed.get())).then_some(())).await;
            self.set_owed(self.owed.get() + bytes);
        }
        Owed { connection: self, bytes }
    }

    fn set_owed(&self, bytes: usize) {
        self.shard.share().holds(self.owed.replace(bytes), bytes);
    }
}

/// Bytes of buffers that a command holds at most until its answer is sent, beside what it asks for.
pub(super) fn held_by(arrived: &Arrived) -> usize {
    let command = &arrived.command;
    let brings_data = direction(command) & opcode::CONTROLLER_TO_HOST != 0;
    match command.data.identifier {
        sgl::IN_CAPSULE => pages(arrived.data.len()) * 2,
        _ if brings_data => pages(named(command)) + PAGE,
        // Nothing before it may ask: else commands that wait for data would keep the reader from it.
        _ if owed_by(command) > 0 => 0,
        _ => PAGE,
    }
}

/// Bytes of buffers that wait for a command's data, if it is asked for.
pub(super) fn owed_by(command: &Command) -> usize {
    let takes_data = direction(command) & opcode::HOST_TO_CONTROLLER != 0;
    if takes_data && command.data.identifier == sgl::TRANSPORT { pages(named(command)) } else { 0 }
}

/// Bits 1:0 of the opcode, or of the type of fabrics commands, say which way data goes (Base section 3.3.3.1).
pub(super) fn direction(command: &Command) -> u8 {
    if command.opcode == opcode::FABRICS { command.nsid.get() as u8 } else { command.opcode }
}

/// How much data a command names, as far as it can be.
fn named(command: &Command) -> usize {
    (command.data.len.get() as usize).min(LARGEST_TRANSFER)
}

fn pages(len: usize) -> usize {
    if len == 0 { 0 } else { len.next_power_of_two().max(PAGE) }
}
