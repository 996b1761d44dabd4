//! Data that was asked for with R2T and comes in H2CData PDUs (TCP sections 3.3.2.3, 3.6.2.8 and 3.6.2.10).
//!
//! Each R2T has a transfer of its own, named by its tag; the host sends its data in order, in any number of PDUs. The reader passes on each
//! piece as it arrives: a write's data is encrypted from the receive buffer at once.

use std::cell::RefCell;
use std::rc::Rc;

use zerocopy::{FromBytes, IntoBytes};

use crate::disk::Incoming;
use crate::memory::Buffer;

use super::attached::Attached;
use super::connection::{Connection, Slot};
use super::digest::{Crc, DIGEST_BYTES};
use super::end::{EndReason, Violation};
use super::frame::{Layout, check_header_digest};
use super::receiver::{Body, Receiver};
use super::wire::pdu::{self, CommonHeader, flags};
use super::{LARGEST_H2C_DATA, wire::pdu::FatalError};

/// Where the data goes.
pub(super) enum Target {
    /// To the disk, as long as the host may write there.
    Disk(Incoming, Rc<Attached>),
    Memory(Buffer),
}

/// The data of one R2T.
pub(super) struct Transfer {
    cid: u16,
    /// Where in the command's data it begins.
    start: usize,
    len: usize,
    received: usize,
    target: Target,
    intact: bool,
    slot: Rc<Slot>,
}

impl Transfer {
    pub(super) fn new(cid: u16, start: usize, len: usize, target: Target, slot: &Rc<Slot>) -> Self {
        Self { cid, start, len, received: 0, target, intact: true, slot: slot.clone() }
    }

    fn is_complete(&self) -> bool {
        self.received == self.len
    }

    fn take(&mut self, piece: &Body) {
        match &mut self.target {
            Target::Disk(_, attached) if attached.is_withdrawn() => {}
            Target::Disk(incoming, _) => {
                let taken = incoming.add(&[piece.segment()]);
                debug_assert!(taken.is_ok(), "the reader passes on no more than was asked for");
            }
            Target::Memory(buffer) => {
                buffer[self.received..self.received + piece.len()].copy_from_slice(piece.bytes());
            }
        }
        self.received += piece.len();
    }
}

/// Why a transfer brought nothing.
pub(super) enum Lost {
    /// A data digest did not fit.
    Damaged,
    /// The connection ends.
    Ended,
}

/// The transfers of a connection, by their tags.
#[derive(Default)]
pub(super) struct Transfers {
    table: RefCell<Vec<Option<Transfer>>>,
    unused: RefCell<Vec<u16>>,
    abandoned: std::cell::Cell<bool>,
}

impl Transfers {
    /// Gives a transfer a tag.
    fn open(&self, transfer: Transfer) -> u16 {
        let mut table = self.table.borrow_mut();
        if let Some(tag) = self.unused.borrow_mut().pop() {
            table[usize::from(tag)] = Some(transfer);
            return tag;
        }
        table.push(Some(transfer));
        self.unused.borrow_mut().reserve(table.len());
        (table.len() - 1) as u16
    }

    fn close(&self, tag: u16) -> Option<Transfer> {
        self.unused.borrow_mut().push(tag);
        self.table.borrow_mut()[usize::from(tag)].take()
    }

    /// No more data will come.
    pub(super) fn abandon(&self) {
        self.abandoned.set(true);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    fn is_over(&self, tag: u16) -> bool {
        let table = self.table.borrow();
        self.abandoned.get() || table[usize::from(tag)].as_ref().is_none_or(Transfer::is_complete)
    }
}

impl Connection {
    /// Asks for data; it is waited for with [`Connection::data_of`].
    pub(super) fn ask_for(&self, transfer: Transfer) -> u16 {
        let (cid, start, len) = (transfer.cid, transfer.start, transfer.len);
        let tag = self.transfers.open(transfer);
        self.link.owe();
        self.request_data(cid, tag, start, len);
        tag
    }

    /// Waits for the data of a transfer.
    pub(super) async fn data_of(&self, tag: u16, slot: &Slot) -> Result<Target, Lost> {
        slot.arrived.until(|| self.transfers.is_over(tag).then_some(())).await;
        match self.transfers.close(tag) {
            Some(transfer) if !transfer.is_complete() => Err(Lost::Ended),
            Some(transfer) if transfer.intact => Ok(transfer.target),
            Some(_) => Err(Lost::Damaged),
            None => Err(Lost::Ended),
        }
    }

    /// Reads an H2CData PDU.
    pub(super) async fn read_data(&self, common: CommonHeader, receiver: &mut Receiver) -> Result<(), EndReason> {
        let layout = Layout::of(&common, size_of::<pdu::Data>(), self.digests, usize::MAX)?;
        let rest: [u8; size_of::<pdu::Data>() - size_of::<CommonHeader>()] = receiver.more().await?;
        let mut bytes = [0; size_of::<pdu::Data>()];
        bytes[..size_of::<CommonHeader>()].copy_from_slice(common.as_bytes());
        bytes[size_of::<CommonHeader>()..].copy_from_slice(&rest);
        let data = pdu::Data::read_from_bytes(&bytes).expect("as many bytes as the header has");
        let mut passed = bytes.len();
        if self.digests.header {
            let digest: [u8; DIGEST_BYTES] = receiver.more().await?;
            check_header_digest(Crc::of(&bytes), &digest)?;
            passed += DIGEST_BYTES;
        }
        self.check_data(&data, layout.data.len())?;
        receiver.skip(layout.data.start - passed).await?;

        let tag = usize::from(data.tag.get());
        let (mut left, mut crc) = (layout.data.len(), Crc::default());
        while left > 0 {
            let piece = receiver.some(left).await?;
            left -= piece.len();
            self.link.pay();
            if self.digests.data {
                crc = crc.and(piece.bytes());
            }
            if let Some(transfer) = &mut self.transfers.table.borrow_mut()[tag] {
                transfer.take(&piece);
            }
        }
        if common.flags & flags::LAST != 0 {
            self.link.settle();
        }
        if self.digests.data {
            let digest: [u8; DIGEST_BYTES] = receiver.more().await?;
            if let Some(transfer) = &mut self.transfers.table.borrow_mut()[tag] {
                transfer.intact &= digest == crc.to_wire();
            }
        }
        if let Some(transfer) = &self.transfers.table.borrow()[tag]
            && transfer.is_complete()
        {
            transfer.slot.arrived.wake_all();
        }
        Ok(())
    }

    /// Whether the data was asked for, comes in order, and is as long as it says.
    fn check_data(&self, data: &pdu::Data, len: usize) -> Result<(), Violation> {
        let table = self.transfers.table.borrow();
        let open = table.get(usize::from(data.tag.get())).and_then(Option::as_ref);
        let Some(transfer) = open.filter(|transfer| !transfer.is_complete()) else {
            return Err(Violation::field(10, "data with a transfer tag that is not open"));
        };
        if transfer.cid != data.cid.get() {
            return Err(Violation::field(8, "data with the tag of another command"));
        }
        if data.len.get() as usize != len || len == 0 {
            return Err(Violation::field(16, "the data length does not fit the PDU"));
        }
        if len > LARGEST_H2C_DATA {
            let status = FatalError::LimitExceeded;
            return Err(Violation { status, information: 0, what: "more data in one PDU than MAXH2CDATA" });
        }
        if data.offset.get() as usize != transfer.start + transfer.received {
            return Err(Violation::out_of_range("data out of order"));
        }
        if transfer.received + len > transfer.len {
            return Err(Violation::out_of_range("more data than was asked for"));
        }
        let ends = transfer.received + len == transfer.len;
        if ends != (data.common.flags & flags::LAST != 0) {
            return Err(Violation::field(1, "the LAST flag is not where the data ends"));
        }
        Ok(())
    }
}
