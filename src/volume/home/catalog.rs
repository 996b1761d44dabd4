//! The catalog: which volumes have their records in which page, and where these pages are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::device::IoError;

use super::super::entry::Volume;
use super::super::format::PagePointer;
use super::super::format::catalog::{self, RECORDS_PER_PAGE};
use super::super::format::node::{self, POINTERS_PER_PAGE};
use super::super::space::PageAllocator;
use super::super::units::VolumeId;
use super::sink::PageSink;

/// A page and whether it has to be written.
#[derive(Clone, Copy, Default)]
struct Page {
    stored: Option<PagePointer>,
    is_changed: bool,
}

/// Where pages go, and those that they replace.
struct Place<'a, 's> {
    sink: &'a mut PageSink<'s>,
    free: &'a RefCell<PageAllocator>,
    checkpoint: u64,
}

impl Page {
    fn is_due(&self) -> bool {
        self.is_changed || self.stored.is_none()
    }

    /// Where it is, once it was stored.
    fn pointer(&self) -> PagePointer {
        self.stored.expect("pages are stored from the bottom up")
    }

    async fn store(&mut self, place: &mut Place<'_, '_>, fill: impl FnOnce(&mut [u8])) -> Result<(), IoError> {
        place.sink.room().await?;
        let stored = place.sink.add(fill)?;
        if let Some(old) = self.stored.replace(stored) {
            place.free.borrow_mut().put_back(old.page, place.checkpoint);
        }
        self.is_changed = false;
        Ok(())
    }
}

/// The places of all records.
#[derive(Default)]
pub(super) struct Catalog {
    places: HashMap<VolumeId, usize>,
    /// The volumes of each record page.
    pages: Vec<[Option<VolumeId>; RECORDS_PER_PAGE]>,
    records: Vec<Page>,
    index: Vec<Page>,
    root: Page,
}

impl Catalog {
    /// Pages of which it is made.
    pub(super) fn nodes(&self) -> u32 {
        (self.records.len() + self.index.len() + 1) as u32
    }

    /// Pages that one more record would need beside these.
    pub(super) fn nodes_for_one_more(&self) -> u32 {
        if self.pages.iter().any(|page| page.contains(&None)) {
            return 0;
        }
        1 + u32::from(self.records.len().is_multiple_of(POINTERS_PER_PAGE))
    }

    /// Gives a volume a place.
    pub(super) fn add(&mut self, id: VolumeId) {
        let free = self.pages.iter().position(|page| page.contains(&None)).unwrap_or_else(|| {
            self.pages.push(Default::default());
            self.records.push(Page::default());
            if self.records.len() > self.index.len() * POINTERS_PER_PAGE {
                self.index.push(Page::default());
            }
            self.pages.len() - 1
        });
        let place = self.pages[free].iter_mut().find(|place| place.is_none()).expect("a place is free");
        *place = Some(id);
        self.places.insert(id, free);
        self.touch(id);
    }

    /// Takes a volume's place back.
    pub(super) fn remove(&mut self, id: VolumeId) {
        self.touch(id);
        if let Some(page) = self.places.remove(&id) {
            self.pages[page].iter_mut().filter(|place| **place == Some(id)).for_each(|place| *place = None);
        }
    }

    /// The record of a volume has changed.
    pub(super) fn touch(&mut self, id: VolumeId) {
        if let Some(page) = self.places.get(&id) {
            self.records[*page].is_changed = true;
        }
    }

    /// Everything has to be written again: the last checkpoint failed half-way.
    pub(super) fn touch_all(&mut self) {
        self.records.iter_mut().for_each(|page| page.is_changed = true);
    }

    /// A record page as it was read, with the volumes in it.
    pub(super) fn adopt_records(&mut self, stored: Option<PagePointer>, ids: [Option<VolumeId>; RECORDS_PER_PAGE]) {
        for id in ids.iter().flatten() {
            self.places.insert(*id, self.pages.len());
        }
        self.pages.push(ids);
        self.records.push(Page { stored, is_changed: stored.is_none() });
    }

    /// The pages above, as they were read.
    pub(super) fn adopt_index(&mut self, index: Vec<PagePointer>, root: PagePointer) {
        self.index = index.into_iter().map(|stored| Page { stored: Some(stored), is_changed: false }).collect();
        while self.index.len() * POINTERS_PER_PAGE < self.records.len() {
            self.index.push(Page::default());
        }
        self.root = Page { stored: (!root.is_none()).then_some(root), is_changed: false };
    }

    /// Writes what has changed, from the records up; gives the root page.
    pub(super) async fn store(
        &mut self,
        sink: &mut PageSink<'_>,
        free: &RefCell<PageAllocator>,
        checkpoint: u64,
        volume: impl Fn(VolumeId) -> Option<Arc<Volume>>,
    ) -> Result<PagePointer, IoError> {
        let mut place = Place { sink, free, checkpoint };
        for number in 0..self.records.len() {
            if !self.records[number].is_due() {
                continue;
            }
            let volumes = self.pages[number].iter().flatten().filter_map(|id| volume(*id));
            let records: Vec<_> = volumes.map(|volume| volume.record()).collect();
            self.records[number].store(&mut place, |bytes| catalog::encode(bytes, &records)).await?;
            self.index[number / POINTERS_PER_PAGE].is_changed = true;
        }
        for number in 0..self.index.len() {
            if !self.index[number].is_due() {
                continue;
            }
            let records = self.records.iter().skip(number * POINTERS_PER_PAGE).take(POINTERS_PER_PAGE);
            let pointers = records.map(Page::pointer).collect::<Vec<_>>();
            self.index[number].store(&mut place, |bytes| node::encode(bytes, pointers)).await?;
            self.root.is_changed = true;
        }
        if self.root.is_due() {
            let pointers = self.index.iter().map(Page::pointer).collect::<Vec<_>>();
            self.root.store(&mut place, |bytes| node::encode(bytes, pointers)).await?;
        }
        Ok(self.root.pointer())
    }
}
