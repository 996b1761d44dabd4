//! Packed rings (section 2.8): one ring of descriptors, which the driver offers and the device uses in the same places.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::super::memory::GuestMemory;
use super::ahead;
use super::area::Area;
use super::inflight::{InflightQueue, KeptPacked};
use super::split::has_passed;
use super::{Chain, Descriptor, Head, Layout, RingError, RingFeatures};

/// In a descriptor's flags (2.8.1).
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;
/// Where the flags stand in a descriptor.
const FLAGS: usize = 14;
/// The number of a buffer.
const ID: usize = 12;
const LEN: usize = 8;
/// Event suppression (2.8.14): a place in the ring, then what is wanted.
const EVENT_FLAGS: usize = 2;
const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const AT_PLACE: u16 = 2;
/// The wrap counter in a place of the ring.
const WRAP: u16 = 1 << 15;

/// A place in the ring and its wrap counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) index: u16,
    pub(super) wrap: bool,
}

impl Position {
    /// As it stands in event suppression and in the front end's messages.
    pub(super) fn of_word(word: u16) -> Self {
        Self { index: word & !WRAP, wrap: word & WRAP != 0 }
    }

    pub(super) fn word(self) -> u16 {
        self.index | if self.wrap { WRAP } else { 0 }
    }

    #[inline]
    pub(super) fn after(self, entries: u16, size: u16) -> Self {
        let index = u32::from(self.index) + u32::from(entries);
        let wraps = index >= u32::from(size);
        Self { index: (index - if wraps { u32::from(size) } else { 0 }) as u16, wrap: self.wrap != wraps }
    }

    /// The flags of a descriptor that is offered here.
    pub(super) fn offered(self) -> u16 {
        if self.wrap { AVAIL } else { USED }
    }

    /// The flags of a descriptor that was used here.
    pub(super) fn used(self) -> u16 {
        if self.wrap { AVAIL | USED } else { 0 }
    }
}

/// Those of the flags that tell whose a descriptor is.
pub(super) const TURN: u16 = AVAIL | USED;

pub(super) struct PackedRing {
    memory: Arc<GuestMemory>,
    layout: Layout,
    features: RingFeatures,
    areas: Areas,
    next: Position,
    used: Position,
    /// Entries of requests at work.
    taken: u16,
    /// Entries used since it was last asked whether to signal.
    untold: u16,
    owes_signal: bool,
    inflight: Option<InflightQueue>,
    /// Requests from before, which come first: where they are kept, and how many entries of the ring they take.
    again: std::vec::IntoIter<(u16, u16)>,
}

struct Areas {
    ring: Area,
    driver: Area,
    device: Area,
}

impl Areas {
    fn new(memory: &Arc<GuestMemory>, layout: &Layout) -> Result<Self, RingError> {
        let area = |part, address, len, align| Area::new(memory, part, address, len, align);
        Ok(Self {
            ring: area("descriptor ring", layout.descriptors, Descriptor::BYTES * usize::from(layout.size), 16)?,
            driver: area("driver's event suppression", layout.driver, 4, 4)?,
            device: area("device's event suppression", layout.device, 4, 4)?,
        })
    }
}

impl PackedRing {
    pub(super) fn new(
        memory: Arc<GuestMemory>,
        layout: Layout,
        features: RingFeatures,
        base: u32,
        mut inflight: Option<InflightQueue>,
    ) -> Result<Self, RingError> {
        let areas = Areas::new(&memory, &layout)?;
        let mut next = Position::of_word(base as u16);
        // A front end that knows one position only means both: when a ring is stopped, nothing is between them.
        let mut used = if base >> 16 == 0 { next } else { Position::of_word((base >> 16) as u16) };
        if next.index >= layout.size || used.index >= layout.size {
            return Err(RingError::Descriptor(next.index.max(used.index)));
        }
        let (mut again, mut taken) = (Vec::new(), 0);
        if let Some(inflight) = &mut inflight {
            let KeptPacked { used: kept, heads, entries } =
                inflight.recover_packed(used, layout.size, |at: Position| {
                    let flags = areas.ring.word16(usize::from(at.index) * Descriptor::BYTES + FLAGS);
                    u16::from_le(flags.load(Ordering::Acquire)) & TURN == at.used()
                })?;
            used = kept;
            next = used.after(entries, layout.size);
            (again, taken) = (heads, entries);
        }
        Ok(Self {
            memory,
            layout,
            features,
            areas,
            next,
            used,
            taken,
            untold: 0,
            owes_signal: true,
            inflight,
            again: again.into_iter(),
        })
    }

    pub(super) fn set_memory(&mut self, memory: Arc<GuestMemory>) -> Result<(), RingError> {
        self.areas = Areas::new(&memory, &self.layout)?;
        self.memory = memory;
        Ok(())
    }

    #[inline]
    fn is_offered(&self, at: Position) -> bool {
        let flags = self.areas.ring.word16(usize::from(at.index) * Descriptor::BYTES + FLAGS);
        // Acquire: the descriptor, and those behind it in its chain, were written before its flags.
        u16::from_le(flags.load(Ordering::Acquire)) & TURN == at.offered()
    }

    #[inline]
    pub(super) fn has_next(&self) -> bool {
        self.again.len() > 0 || (self.taken < self.layout.size && self.is_offered(self.next))
    }

    /// Each request says by itself that it is offered: there is nothing to be noticed before.
    #[inline]
    pub(super) fn has_noticed(&self) -> bool {
        self.has_next()
    }

    #[inline]
    pub(super) fn look(&mut self) -> Result<bool, RingError> {
        Ok(self.has_next())
    }

    #[inline]
    pub(super) fn next(&mut self, chain: &mut Chain) -> Result<bool, RingError> {
        if self.memory.is_broken() {
            return Err(RingError::MemoryGone);
        }
        if self.again.len() > 0 {
            let (kept, entries) = self.again.next().expect("there is one");
            return self.fill_again(chain, kept, entries).map(|()| true);
        }
        if self.taken == self.layout.size || !self.is_offered(self.next) {
            return Ok(false);
        }
        self.fill(chain)?;
        self.look_ahead();
        Ok(true)
    }

    /// Has memory of the next requests fetched that the driver has offered, if each takes one entry: the ring itself is read in order, which the CPU
    /// fetches without being asked.
    #[inline]
    fn look_ahead(&self) {
        let offered = |behind| {
            let at = self.next.after(behind, self.layout.size);
            let (address, rest) = self.areas.ring.descriptor(usize::from(at.index));
            let descriptor = Descriptor::packed(address, rest);
            (self.is_offered(at) && descriptor.has(Descriptor::INDIRECT)).then_some(descriptor)
        };
        if let Some(descriptor) = offered(1) {
            ahead::fetch_named(&self.memory, descriptor);
        }
        if let Some(descriptor) = offered(0) {
            ahead::fetch_request(&self.memory, descriptor);
        }
    }

    fn fill(&mut self, chain: &mut Chain) -> Result<(), RingError> {
        chain.begin();
        let room = self.layout.size - self.taken;
        let (mut at, mut entries) = (self.next, 0);
        let id = loop {
            let (address, rest) = self.areas.ring.descriptor(usize::from(at.index));
            let descriptor = Descriptor::packed(address, rest);
            if let Some(inflight) = &mut self.inflight {
                inflight.add_packed(descriptor, entries == 0);
            }
            add(chain, &self.memory, &self.features, descriptor, entries == 0)?;
            entries += 1;
            at = at.after(1, self.layout.size);
            if !descriptor.has(Descriptor::NEXT) {
                // 2.8.13: the number stands in the last descriptor of a chain.
                break descriptor.next;
            }
            if entries == room {
                return Err(RingError::Endless);
            }
        };
        if id >= self.layout.size {
            return Err(RingError::Descriptor(id));
        }
        let kept = self.inflight.as_mut().map_or(0, |inflight| inflight.begin_packed(entries));
        self.next = at;
        self.taken += entries;
        chain.set_head(Head { id, entries, kept });
        Ok(())
    }

    /// Fills a chain with what was kept of a request: its descriptors may have been overwritten in the ring.
    fn fill_again(&self, chain: &mut Chain, kept: u16, taken: u16) -> Result<(), RingError> {
        chain.begin();
        let inflight = self.inflight.as_ref().expect("it has kept the request");
        let (id, entries) = inflight.packed_request(kept, |number, descriptor| {
            add(chain, &self.memory, &self.features, descriptor, number == 0)
        })?;
        // It was counted when the ring was made; the front end may have changed it since.
        if entries != taken || id >= self.layout.size {
            return Err(RingError::Kept("a request has changed"));
        }
        chain.set_head(Head { id, entries, kept });
        Ok(())
    }

    #[inline]
    pub(super) fn complete(&mut self, head: Head, written: u32) {
        let after = self.used.after(head.entries, self.layout.size);
        if let Some(inflight) = &mut self.inflight {
            inflight.put_packed(head.kept, after);
        }
        let at = usize::from(self.used.index) * Descriptor::BYTES;
        self.areas.ring.word16(at + ID).store(head.id.to_le(), Ordering::Relaxed);
        self.areas.ring.word32(at + LEN).store(written.to_le(), Ordering::Relaxed);
        let wrote = if written > 0 { Descriptor::WRITE } else { 0 };
        // Release: number and length, and what the request wrote, come before the flags.
        self.areas.ring.word16(at + FLAGS).store((self.used.used() | wrote).to_le(), Ordering::Release);
        self.used = after;
        self.taken -= head.entries;
        self.untold = self.untold.saturating_add(head.entries);
        if let Some(inflight) = &mut self.inflight {
            inflight.end_packed(head.kept);
        }
    }

    #[inline]
    pub(super) fn wants_signal(&mut self) -> bool {
        let untold = std::mem::take(&mut self.untold);
        if untold == 0 {
            return std::mem::replace(&mut self.owes_signal, false);
        }
        // Full: the used flags are written before the driver's wish is read, and the other way round there.
        fence(Ordering::SeqCst);
        let wish = u16::from_le(self.areas.driver.word16(EVENT_FLAGS).load(Ordering::Acquire));
        let wants = match wish & 3 {
            ENABLE => true,
            DISABLE => false,
            _ => {
                let event = Position::of_word(u16::from_le(self.areas.driver.word16(0).load(Ordering::Relaxed)));
                // Places of the round before count below zero.
                let lap = if event.wrap == self.used.wrap { 0 } else { self.layout.size };
                let now = self.used.index;
                has_passed(event.index.wrapping_sub(lap), now.wrapping_sub(untold), now)
            }
        };
        std::mem::replace(&mut self.owes_signal, false) || wants
    }

    pub(super) fn want_kicks(&mut self) -> bool {
        let wish = match self.features.event_index {
            true => {
                self.areas.device.word16(0).store(self.next.word().to_le(), Ordering::Relaxed);
                AT_PLACE
            }
            false => ENABLE,
        };
        // Release: the place comes before the wish for it.
        self.areas.device.word16(EVENT_FLAGS).store(wish.to_le(), Ordering::Release);
        // Full: the wish is written before the driver's flags are read, and the other way round there.
        fence(Ordering::SeqCst);
        self.has_next()
    }

    pub(super) fn refuse_kicks(&mut self) {
        self.areas.device.word16(EVENT_FLAGS).store(DISABLE.to_le(), Ordering::Relaxed);
    }

    pub(super) fn base(&self) -> u32 {
        u32::from(self.next.word()) | u32::from(self.used.word()) << 16
    }
}

/// Adds a descriptor of the ring to a chain.
#[inline]
fn add(
    chain: &mut Chain,
    memory: &GuestMemory,
    features: &RingFeatures,
    descriptor: Descriptor,
    is_first: bool,
) -> Result<(), RingError> {
    if !descriptor.has(Descriptor::INDIRECT) {
        return chain.add(memory, descriptor);
    }
    if !features.indirect || !is_first || descriptor.has(Descriptor::NEXT) {
        return Err(RingError::Indirect);
    }
    chain.add_plain_table(memory, descriptor)
}
