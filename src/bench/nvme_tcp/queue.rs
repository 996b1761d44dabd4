//! An I/O queue under load: its commands in flight, and what each still expects (TCP section 3.3.2; NVM sections 3.2.4 and 3.2.6).
//!
//! Holds always: the command identifier is the slot's number. A completion is taken only for a command in flight, and the completion of a
//! read only with all of its data, in order. What comes for another command, or beyond the block, ends the run: a target that does that
//! cannot be measured.

use std::net::TcpStream;
use std::rc::Rc;

use crate::export::nvme_tcp::wire::command::{Command, Sgl, sgl};
use crate::export::nvme_tcp::wire::opcode;
use crate::export::nvme_tcp::wire::status::Status;
use crate::reactor::Ticks;

use super::error::NvmeTcpError;
use super::frame::{Frame, Terms};
use super::incoming::Incoming;
use super::link::{Link, WITH_SGL};
use super::outgoing::Outgoing;

/// What all commands of a run have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) namespace: u32,
    pub(super) block_bytes: u32,
    pub(super) sectors: u32,
    /// Whether the data of a write goes in its capsule.
    pub(super) in_capsule: bool,
}

/// A command in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) started: Ticks,
    pub(super) lba: u64,
    pub(super) is_read: bool,
    in_flight: bool,
    /// Bytes of data that came, or that were asked for.
    moved: u32,
}

/// A command that is complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) slot: u16,
    pub(super) status: Status,
}

/// An I/O queue.
pub(super) struct Queue {
    stream: TcpStream,
    incoming: Incoming,
    outgoing: Outgoing,
    commands: Commands,
    template: Command,
    shape: Shape,
}

/// The slots, apart from the streams, so that both can be lent at once.
struct Commands {
    terms: Terms,
    block_bytes: u32,
    slots: Vec<Slot>,
    in_flight: usize,
}

impl Queue {
    /// A queue of `depth` slots on a link that is connected as one.
    pub(super) fn new(link: Link, depth: usize, shape: Shape, payload: Rc<[u8]>) -> Result<Self, NvmeTcpError> {
        let (stream, terms) = link.into_parts();
        stream
            .set_nonblocking(true)
            .map_err(|e| NvmeTcpError::socket(terms.queue, "cannot make the socket non-blocking", e))?;
        let template = Command {
            flags: WITH_SGL,
            nsid: shape.namespace.into(),
            data: Sgl { len: shape.block_bytes.into(), identifier: sgl::TRANSPORT, ..Sgl::default() },
            // Number of Logical Blocks, less one (NVM section 3.2.4).
            cdw12: (shape.sectors - 1).into(),
            ..Command::default()
        };
        Ok(Self {
            stream,
            incoming: Incoming::new(terms),
            outgoing: Outgoing::new(terms, payload),
            commands: Commands {
                terms,
                block_bytes: shape.block_bytes,
                slots: vec![Slot { started: Ticks(0), lba: 0, is_read: false, in_flight: false, moved: 0 }; depth],
                in_flight: 0,
            },
            template,
            shape,
        })
    }

    pub(super) fn number(&self) -> u16 {
        self.commands.terms.queue
    }

    pub(super) fn depth(&self) -> usize {
        self.commands.slots.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.commands.in_flight
    }

    pub(super) fn slot(&self, slot: u16) -> Slot {
        self.commands.slots[usize::from(slot)]
    }

    /// Puts a command into a free slot; [`Queue::send`] sends it.
    #[inline]
    pub(super) fn issue(&mut self, slot: u16, lba: u64, is_read: bool, now: Ticks) {
        self.commands.slots[usize::from(slot)] = Slot { started: now, lba, is_read, in_flight: true, moved: 0 };
        self.commands.in_flight += 1;
        let mut command = self.template;
        command.cid = slot.into();
        command.cdw10 = (lba as u32).into();
        command.cdw11 = ((lba >> 32) as u32).into();
        let in_capsule = !is_read && self.shape.in_capsule;
        command.opcode = if is_read { opcode::io::READ } else { opcode::io::WRITE };
        if in_capsule {
            command.data.identifier = sgl::IN_CAPSULE;
        }
        self.outgoing.push_command(&command, if in_capsule { self.shape.block_bytes as usize } else { 0 });
    }

    /// Sends what is waiting, as far as the socket takes it.
    #[inline]
    pub(super) fn send(&mut self) -> Result<(), NvmeTcpError> {
        self.outgoing.send(&mut self.stream).map_err(|e| self.reason(e))
    }

    /// Why a send failed: what the target said before it closed tells more than the error.
    #[cold]
    fn reason(&mut self, error: std::io::Error) -> NvmeTcpError {
        let mut done = Vec::new();
        loop {
            match self.receive(&mut done) {
                Ok(0) => return NvmeTcpError::socket(self.number(), "under load", error),
                Ok(_) => {}
                Err(said) => return said,
            }
        }
    }

    /// Receives once; adds the commands that are complete to `done`. Gives the bytes received.
    #[inline]
    pub(super) fn receive(&mut self, done: &mut Vec<Done>) -> Result<usize, NvmeTcpError> {
        let (commands, outgoing) = (&mut self.commands, &mut self.outgoing);
        self.incoming.receive(&mut self.stream, |frame| commands.take(frame, outgoing, done))
    }
}

impl Commands {
    #[inline]
    fn take(&mut self, frame: Frame, outgoing: &mut Outgoing, done: &mut Vec<Done>) -> Result<(), NvmeTcpError> {
        match frame {
            Frame::Data { cid, offset, len, last, success } => {
                let slot = self.moving(cid, true, offset, len)?;
                let whole = slot.moved == self.block_bytes;
                if last && !whole {
                    return Err(self.terms.breach(format!("the last data of command {cid} leaves out a part")));
                }
                if success {
                    self.complete(cid, Status::SUCCESS, done)?;
                }
            }
            Frame::Ready { cid, tag, offset, len } => {
                self.moving(cid, false, offset, len)?;
                outgoing.push_data(cid, tag, offset, len);
            }
            Frame::Response(completion) => {
                self.complete(completion.cid.get(), Status::from_wire(completion.status.get()), done)?;
            }
            Frame::Terminate(request) => return Err(NvmeTcpError::terminated(self.terms.queue, &request)),
        }
        Ok(())
    }

    /// Counts data that came or is asked for, which has to go on where the last ended.
    #[inline]
    fn moving(&mut self, cid: u16, is_read: bool, offset: u32, len: u32) -> Result<&Slot, NvmeTcpError> {
        let (terms, block_bytes) = (self.terms, self.block_bytes);
        let slot = match self.slots.get_mut(usize::from(cid)) {
            Some(slot) if slot.in_flight && slot.is_read == is_read => slot,
            _ => return Err(terms.breach(format!("data or R2T for command {cid}, which expects none"))),
        };
        match offset.checked_add(len) {
            Some(end) if offset == slot.moved && end <= block_bytes && len > 0 => slot.moved = end,
            _ => {
                let moved = slot.moved;
                return Err(terms
                    .breach(format!("{len} bytes at {offset} for command {cid}, which has {moved} of {block_bytes}")));
            }
        }
        Ok(slot)
    }

    #[inline]
    fn complete(&mut self, cid: u16, status: Status, done: &mut Vec<Done>) -> Result<(), NvmeTcpError> {
        let terms = self.terms;
        let slot = match self.slots.get_mut(usize::from(cid)) {
            Some(slot) if slot.in_flight => slot,
            _ => return Err(terms.breach(format!("an answer to command {cid}, which is not in flight"))),
        };
        if slot.is_read && status.is_success() && slot.moved != self.block_bytes {
            return Err(terms.breach(format!("command {cid} is answered without all of its data")));
        }
        slot.in_flight = false;
        self.in_flight -= 1;
        done.push(Done { slot: cid, status });
        Ok(())
    }
}
