//! One queue: its ring, and the slots that take turns in it.
//!
//! A slot has a piece of shared memory for as long as the queue lives: 64 bytes with the request's header and status, which one cache line takes to the
//! device and back, its descriptors if they lie beside the ring, and the data.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::reactor::Ticks;

use super::error::VhostUserError;
use super::front_end::{BlockConfig, FrontEnd, feature};
use super::memory::SharedMemory;
use super::ring::{Descriptor, LARGEST, Parts, Piece, Ring, flag};
use super::{RingKind, SECTOR, VhostUserConfig};

/// Header (section 5.2.6: type, reserved, sector) and status share this much.
const CONTROL: usize = 64;
const HEADER_BYTES: u32 = 16;
const STATUS_AT: usize = 16;
/// No status of a device.
const NO_STATUS: u8 = 0xFF;
/// The most pieces of data in a request.
const MOST_PIECES: usize = 30;
/// Types of requests.
const IN: u32 = 0;
const OUT: u32 = 1;

/// What every request looks like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) block_bytes: u32,
    /// The most bytes of a piece.
    piece_bytes: u32,
    pub(super) is_indirect: bool,
}

impl Shape {
    pub(super) fn new(
        config: &VhostUserConfig,
        front_end: &FrontEnd,
        device: &BlockConfig,
    ) -> Result<Self, VhostUserError> {
        let told = |bit, value: u32, otherwise| if front_end.has(bit) && value > 0 { value } else { otherwise };
        let sector = u64::from(told(feature::BLK_SIZE, device.blk_size.get(), SECTOR as u32));
        let bytes = config.block_size;
        if bytes == 0 || !bytes.is_multiple_of(sector) {
            return Err(VhostUserError::Config(format!(
                "--bs {bytes} is not a multiple of the disk's {sector}-byte blocks"
            )));
        }
        let piece_bytes = told(feature::SIZE_MAX, device.size_max.get(), u32::MAX);
        let pieces = told(feature::SEG_MAX, device.seg_max.get(), 1).min(MOST_PIECES as u32);
        let most = u64::from(piece_bytes) * u64::from(pieces);
        if bytes > most.min(u32::MAX.into()) {
            return Err(VhostUserError::Config(format!("--bs {bytes} is more than the {most} bytes of one request")));
        }
        Ok(Self { block_bytes: bytes as u32, piece_bytes, is_indirect: front_end.has(feature::INDIRECT_DESC) })
    }

    /// Units in which places are counted.
    pub(super) fn sectors(&self) -> u64 {
        u64::from(self.block_bytes) / SECTOR
    }

    /// Header, pieces of data, status.
    fn pieces(&self) -> usize {
        self.block_bytes.div_ceil(self.piece_bytes) as usize + 2
    }

    /// Places in the ring that a request takes.
    fn entries(&self) -> usize {
        if self.is_indirect { 1 } else { self.pieces() }
    }
}

/// Where a queue's ring and slots are in the shared memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) ring: Parts,
    control: usize,
    tables: usize,
    data: usize,
}

impl Place {
    /// The places of all queues, and how much memory they take.
    pub(super) fn of_all(config: &VhostUserConfig, shape: &Shape) -> Result<(Vec<Self>, usize), VhostUserError> {
        let depth = config.iodepth as usize;
        let entries = (depth * shape.entries()).next_power_of_two().max(2);
        if entries > LARGEST {
            return Err(VhostUserError::Config(format!(
                "--iodepth {depth} needs a ring of more than {LARGEST} entries"
            )));
        }
        let mut places = Vec::new();
        let mut end = 0;
        for _ in 0..config.queues {
            let (ring, control) = Parts::at(config.ring, entries as u16, end);
            let tables = control + depth * CONTROL;
            let data = (tables + depth * 2 * table_bytes(shape)).next_multiple_of(4096);
            places.push(Self { ring, control, tables, data });
            end = data + depth * data_bytes(shape);
        }
        Ok((places, end))
    }
}

fn table_bytes(shape: &Shape) -> usize {
    if shape.is_indirect { (shape.pieces() * size_of::<Descriptor>()).next_multiple_of(CONTROL) } else { 0 }
}

fn data_bytes(shape: &Shape) -> usize {
    (shape.block_bytes as usize).next_multiple_of(4096)
}

/// A request that is complete.
pub(super) struct Done {
    pub(super) slot: u16,
    pub(super) is_read: bool,
    pub(super) sector: u64,
    pub(super) started: Ticks,
    /// What is wrong with it.
    pub(super) wrong: Option<Wrong>,
}

/// What can be wrong with a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The status is not OK.
    Status(u8),
    /// The device says that it wrote so many bytes.
    Length(u32),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(1) => f.write_str("the device answers with an I/O error"),
            Self::Status(2) => f.write_str("the device does not support it"),
            Self::Status(NO_STATUS) => f.write_str("the device gave no status"),
            Self::Status(other) => write!(f, "the device answers with the unknown status {other}"),
            Self::Length(len) => write!(f, "the device says that it wrote {len} bytes"),
        }
    }
}

struct Slot {
    kind: *const AtomicU32,
    place: *const AtomicU64,
    status: *const AtomicU8,
    /// What goes into the ring for a write and for a read.
    chains: [Vec<Piece>; 2],
    /// Which of them is there, in a ring where chains keep their places.
    kept: Option<bool>,
    in_flight: bool,
    is_read: bool,
    sector: u64,
    started: Ticks,
}

/// A queue.
pub(super) struct Queue {
    index: usize,
    /// It keeps the memory that the slots point into.
    ring: Ring,
    kick: EventFd,
    block_bytes: u32,
    /// Of each descriptor in the ring.
    flags: u16,
    /// Places in the ring that a request takes.
    entries: u16,
    slots: Vec<Slot>,
    in_flight: usize,
    kicks: u64,
}

impl Queue {
    pub(super) fn new(
        index: usize,
        memory: Arc<SharedMemory>,
        place: &Place,
        kick: EventFd,
        shape: Shape,
        depth: usize,
        payload: &[u8],
    ) -> Self {
        let slots = (0..depth).map(|slot| Slot::new(&memory, place, &shape, slot, payload)).collect();
        Self {
            index,
            ring: Ring::new(memory, &place.ring),
            kick,
            block_bytes: shape.block_bytes,
            flags: if shape.is_indirect { flag::INDIRECT } else { 0 },
            entries: shape.entries() as u16,
            slots,
            in_flight: 0,
            kicks: 0,
        }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn depth(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn kicks(&self) -> u64 {
        self.kicks
    }

    /// Puts a request of a slot into the ring.
    #[inline]
    pub(super) fn issue(&mut self, slot: u16, sector: u64, is_read: bool, now: Ticks) {
        let id = slot * self.entries;
        let slot = &mut self.slots[usize::from(slot)];
        debug_assert!(!slot.in_flight);
        (slot.in_flight, slot.is_read, slot.sector, slot.started) = (true, is_read, sector, now);
        slot.write_header(sector, is_read);
        let chain = &slot.chains[usize::from(is_read)];
        if slot.kept != Some(is_read) {
            slot.kept = Some(is_read);
            self.ring.keep(id, chain, self.flags);
        }
        self.ring.give(id, chain, self.flags);
        self.in_flight += 1;
    }

    /// Lets the device see what was issued, and kicks it if it wants that.
    #[inline]
    pub(super) fn publish(&mut self) -> Result<(), VhostUserError> {
        if !self.ring.publish() {
            return Ok(());
        }
        self.kicks += 1;
        let kicked = self.kick.write(1);
        kicked.map_err(|source| VhostUserError::Socket { what: format!("a kick of queue {}", self.index), source })
    }

    /// Takes up to `most` completions.
    #[inline]
    pub(super) fn receive(&mut self, done: &mut Vec<Done>, most: usize) -> Result<(), VhostUserError> {
        while done.len() < most {
            let Some(used) = self.ring.take(self.entries) else { return Ok(()) };
            let entries = u32::from(self.entries);
            let slot = if entries == 1 { used.id } else { used.id / entries };
            let it = match self.slots.get_mut(slot as usize) {
                Some(it) if it.in_flight && slot * entries == used.id => it,
                _ => return Err(self.broken(used.id)),
            };
            it.in_flight = false;
            self.in_flight -= 1;
            let wrong = it.judge(used.len, self.block_bytes);
            let (is_read, sector, started) = (it.is_read, it.sector, it.started);
            done.push(Done { slot: slot as u16, is_read, sector, started, wrong });
        }
        Ok(())
    }

    #[cold]
    fn broken(&self, id: u32) -> VhostUserError {
        VhostUserError::Ring { queue: self.index, what: format!("it completes {id}, which is not in flight") }
    }
}

impl Slot {
    fn new(memory: &SharedMemory, place: &Place, shape: &Shape, slot: usize, payload: &[u8]) -> Self {
        let control = place.control + slot * CONTROL;
        let data = place.data + slot * data_bytes(shape);
        memory.write(data, payload);
        let chain = |is_read: bool| {
            let pieces = pieces(memory, shape, control, data, is_read);
            if !shape.is_indirect {
                return pieces;
            }
            let table = place.tables + (2 * slot + usize::from(is_read)) * table_bytes(shape);
            write_table(memory, place.ring.kind, table, &pieces);
            let len = (pieces.len() * size_of::<Descriptor>()) as u32;
            vec![Piece { guest: memory.guest(table), len, is_written: false }]
        };
        Self {
            kind: memory.place(control),
            place: memory.place(control + 8),
            status: memory.place(control + STATUS_AT),
            chains: [chain(false), chain(true)],
            kept: None,
            in_flight: false,
            is_read: false,
            sector: 0,
            started: Ticks(0),
        }
    }

    #[inline]
    fn write_header(&self, sector: u64, is_read: bool) {
        // SAFETY: they lie in the memory, aligned, and are only accessed as atomics. The ring makes them visible before the request.
        let (kind, place, status) = unsafe { (&*self.kind, &*self.place, &*self.status) };
        kind.store(if is_read { IN } else { OUT }, Ordering::Relaxed);
        place.store(sector, Ordering::Relaxed);
        status.store(NO_STATUS, Ordering::Relaxed);
    }

    /// What is wrong with a completion. Of a write only the status is counted, but some devices count its data too.
    #[inline]
    fn judge(&self, written: u32, block_bytes: u32) -> Option<Wrong> {
        // SAFETY: as for `write_header`. The completion was taken with acquire ordering, so the status is there.
        let status = unsafe { &*self.status }.load(Ordering::Relaxed);
        if status != 0 {
            return Some(Wrong::Status(status));
        }
        let right = if self.is_read { written == block_bytes + 1 } else { written <= block_bytes + 1 };
        (!right).then_some(Wrong::Length(written))
    }
}

/// Header, data and status of a request.
fn pieces(memory: &SharedMemory, shape: &Shape, control: usize, data: usize, is_read: bool) -> Vec<Piece> {
    let piece = |offset, len, is_written| Piece { guest: memory.guest(offset), len, is_written };
    let mut pieces = vec![piece(control, HEADER_BYTES, false)];
    for at in (0..shape.block_bytes).step_by(shape.piece_bytes as usize) {
        pieces.push(piece(data + at as usize, shape.piece_bytes.min(shape.block_bytes - at), is_read));
    }
    pieces.push(piece(control + STATUS_AT, 1, true));
    pieces
}

/// Writes a table of descriptors beside a ring.
fn write_table(memory: &SharedMemory, kind: RingKind, table: usize, pieces: &[Piece]) {
    for (n, piece) in pieces.iter().enumerate() {
        let written = if piece.is_written { flag::WRITE } else { 0 };
        let (third, fourth) = match kind {
            RingKind::Split if n + 1 < pieces.len() => (written | flag::NEXT, n as u16 + 1),
            RingKind::Split => (written, 0),
            // The order in the table is the chain (section 2.8.7).
            RingKind::Packed => (0, written),
        };
        let place: *mut Descriptor = memory.place(table + n * size_of::<Descriptor>());
        // SAFETY: it lies in the memory, aligned; the device has not been told of it.
        unsafe { place.write_volatile(Descriptor { guest: piece.guest, len: piece.len, third, fourth }) };
    }
}
