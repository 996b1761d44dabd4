//! Split rings (section 2.7): a table of descriptors, a ring of those that the driver offers, and one of those that the device has used.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::super::memory::GuestMemory;
use super::ahead;
use super::area::Area;
use super::inflight::InflightQueue;
use super::{Chain, Descriptor, Head, Layout, RingError, RingFeatures};

/// In the driver's ring (2.7.6): flags, index, entries; behind them the index after which the driver wants a signal.
const INDEX: usize = 2;
const ENTRIES: usize = 4;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT`, `VIRTQ_USED_F_NO_NOTIFY`.
const SUPPRESSED: u16 = 1;
/// The most entries that are noticed at once: what requests need until they are done stays in the nearest cache.
const NOTICED: usize = 32;
/// Bytes of an entry of the device's ring: the descriptor and what was written (2.7.8).
const USED_BYTES: usize = 8;

pub(super) struct SplitRing {
    memory: Arc<GuestMemory>,
    layout: Layout,
    features: RingFeatures,
    areas: Areas,
    /// The next entry of the driver's ring that is taken.
    next: u16,
    /// Behind the last entry that was noticed.
    noticed: u16,
    /// The entries that were noticed when the ring was last looked at, which end at `noticed`: the driver writes behind them on the same line
    /// of memory, so that each look at it waits for the driver's core.
    heads: [u16; NOTICED],
    first: u16,
    /// The device's index.
    used: u16,
    /// The device's index when it was last asked whether to signal.
    told: u16,
    /// The first signal is sent in any case: whoever served the ring before may have owed one.
    owes_signal: bool,
    inflight: Option<InflightQueue>,
    /// Requests from before, which come first.
    again: std::vec::IntoIter<u16>,
}

struct Areas {
    descriptors: Area,
    driver: Area,
    device: Area,
}

impl Areas {
    fn new(memory: &Arc<GuestMemory>, layout: &Layout) -> Result<Self, RingError> {
        let size = usize::from(layout.size);
        let area = |part, address, len, align| Area::new(memory, part, address, len, align);
        Ok(Self {
            descriptors: area("descriptor table", layout.descriptors, Descriptor::BYTES * size, 16)?,
            driver: area("available ring", layout.driver, ENTRIES + 2 * size + 2, 2)?,
            device: area("used ring", layout.device, ENTRIES + USED_BYTES * size + 2, 4)?,
        })
    }
}

impl SplitRing {
    pub(super) fn new(
        memory: Arc<GuestMemory>,
        layout: Layout,
        features: RingFeatures,
        base: u32,
        mut inflight: Option<InflightQueue>,
    ) -> Result<Self, RingError> {
        let areas = Areas::new(&memory, &layout)?;
        let used = u16::from_le(areas.device.word16(INDEX).load(Ordering::Acquire));
        let (mut next, mut again) = (base as u16, Vec::new());
        if let Some(inflight) = &mut inflight {
            again = inflight.recover_split(used, layout.size)?;
            // What is used and what is at work is what was taken: the front end may not know how far that went.
            next = used.wrapping_add(again.len() as u16);
        }
        Ok(Self {
            memory,
            layout,
            features,
            areas,
            next,
            noticed: next,
            heads: [0; NOTICED],
            first: next,
            used,
            told: used,
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

    fn size(&self) -> u16 {
        self.layout.size
    }

    #[inline]
    fn index_of_driver(&self) -> u16 {
        // Acquire: the entries and the descriptors behind them were written before the index.
        u16::from_le(self.areas.driver.word16(INDEX).load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn has_next(&self) -> bool {
        self.has_noticed() || self.index_of_driver() != self.next
    }

    #[inline]
    pub(super) fn has_noticed(&self) -> bool {
        self.noticed != self.next || self.again.len() > 0
    }

    #[inline]
    pub(super) fn look(&mut self) -> Result<bool, RingError> {
        if self.has_noticed() {
            return Ok(true);
        }
        let offered = self.index_of_driver();
        if offered == self.next {
            return Ok(false);
        }
        if self.memory.is_broken() {
            return Err(RingError::MemoryGone);
        }
        // Requests are new or at work, and both together no more than there are entries. An index that goes back is one that jumps far ahead.
        let (new, at_work) = (offered.wrapping_sub(self.next), self.next.wrapping_sub(self.used));
        if u32::from(new) + u32::from(at_work) > u32::from(self.size()) {
            return Err(RingError::Index(new));
        }
        let new = new.min(NOTICED as u16);
        self.first = self.next;
        for number in 0..new {
            let place = ENTRIES + 2 * usize::from(self.next.wrapping_add(number) % self.size());
            self.heads[usize::from(number)] = u16::from_le(self.areas.driver.word16(place).load(Ordering::Relaxed));
        }
        self.noticed = self.next.wrapping_add(new);
        Ok(true)
    }

    #[inline]
    pub(super) fn next(&mut self, chain: &mut Chain) -> Result<bool, RingError> {
        if self.memory.is_broken() {
            return Err(RingError::MemoryGone);
        }
        if self.again.len() > 0 {
            let head = self.again.next().expect("there is one");
            return self.fill(chain, head).map(|()| true);
        }
        if !self.look()? {
            return Ok(false);
        }
        let head = self.heads[usize::from(self.next.wrapping_sub(self.first))];
        if head >= self.size() {
            return Err(RingError::Descriptor(head));
        }
        self.next = self.next.wrapping_add(1);
        self.look_ahead();
        if let Some(inflight) = &mut self.inflight {
            inflight.begin_split(head);
        }
        self.fill(chain, head)?;
        Ok(true)
    }

    /// Has memory of the next requests fetched that were noticed.
    #[inline]
    fn look_ahead(&self) {
        let (taken, noticed) = (self.next.wrapping_sub(self.first), self.noticed.wrapping_sub(self.first));
        let heads = &self.heads[usize::from(taken)..usize::from(noticed)];
        let head = |behind: usize| heads.get(behind).filter(|&&head| head < self.size()).map(|&head| usize::from(head));
        let descriptor = |head| {
            let (address, rest) = self.areas.descriptors.descriptor(head);
            Descriptor::split(address, rest)
        };
        if let Some(head) = head(2) {
            self.areas.descriptors.prefetch(head);
        }
        if let Some(head) = head(1) {
            ahead::fetch_named(&self.memory, descriptor(head));
        }
        if let Some(head) = head(0) {
            ahead::fetch_request(&self.memory, descriptor(head));
        }
    }

    /// Follows a chain of descriptors.
    #[inline]
    fn fill(&self, chain: &mut Chain, head: u16) -> Result<(), RingError> {
        chain.begin();
        chain.set_head(Head { id: head, entries: 1, kept: head });
        let mut number = head;
        for _ in 0..self.size() {
            let (address, rest) = self.areas.descriptors.descriptor(usize::from(number));
            let descriptor = Descriptor::split(address, rest);
            if descriptor.has(Descriptor::INDIRECT) {
                if !self.features.indirect || descriptor.has(Descriptor::NEXT) {
                    return Err(RingError::Indirect);
                }
                return chain.add_linked_table(&self.memory, descriptor);
            }
            chain.add(&self.memory, descriptor)?;
            if !descriptor.has(Descriptor::NEXT) {
                return Ok(());
            }
            number = descriptor.next;
            if number >= self.size() {
                return Err(RingError::Descriptor(number));
            }
        }
        Err(RingError::Endless)
    }

    #[inline]
    pub(super) fn complete(&mut self, head: Head, written: u32) {
        if let Some(inflight) = &mut self.inflight {
            inflight.put_split(head.id);
        }
        let place = ENTRIES + USED_BYTES * usize::from(self.used % self.size());
        self.areas.device.word32(place).store(u32::from(head.id).to_le(), Ordering::Relaxed);
        self.areas.device.word32(place + 4).store(written.to_le(), Ordering::Relaxed);
        self.used = self.used.wrapping_add(1);
        // Release: the entry, and what the request wrote, come before the index.
        self.areas.device.word16(INDEX).store(self.used.to_le(), Ordering::Release);
        if let Some(inflight) = &mut self.inflight {
            inflight.end_split(head.id, self.used);
        }
    }

    #[inline]
    pub(super) fn wants_signal(&mut self) -> bool {
        let (before, now) = (std::mem::replace(&mut self.told, self.used), self.used);
        if before == now {
            return std::mem::replace(&mut self.owes_signal, false);
        }
        // Full: the index is written before the driver's wish is read; the driver writes its wish before it reads the index.
        fence(Ordering::SeqCst);
        let wants = match self.features.event_index {
            true => {
                let place = ENTRIES + 2 * usize::from(self.size());
                let event = u16::from_le(self.areas.driver.word16(place).load(Ordering::Relaxed));
                has_passed(event, before, now)
            }
            false => u16::from_le(self.areas.driver.word16(0).load(Ordering::Relaxed)) & SUPPRESSED == 0,
        };
        std::mem::replace(&mut self.owes_signal, false) || wants
    }

    pub(super) fn want_kicks(&mut self) -> bool {
        if self.features.event_index {
            let place = ENTRIES + USED_BYTES * usize::from(self.size());
            self.areas.device.word16(place).store(self.next.to_le(), Ordering::Relaxed);
        } else {
            self.areas.device.word16(0).store(0, Ordering::Relaxed);
        }
        // Full: the wish is written before the driver's index is read, and the other way round there.
        fence(Ordering::SeqCst);
        self.has_next()
    }

    /// With an event index nothing is to be done: the one of the last wish is passed, and comes again after 65536 requests.
    pub(super) fn refuse_kicks(&mut self) {
        if !self.features.event_index {
            self.areas.device.word16(0).store(SUPPRESSED.to_le(), Ordering::Relaxed);
        }
    }

    pub(super) fn base(&self) -> u32 {
        u32::from(self.next)
    }
}

/// Whether an index went past `event` on its way from `before` to `now` (2.7.10, `vring_need_event`).
#[inline]
pub(super) fn has_passed(event: u16, before: u16, now: u16) -> bool {
    now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
}
