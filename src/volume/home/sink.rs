//! Pages of metadata on their way to the device: each gets a free page when it is added, and is written with its neighbours.

use std::cell::RefCell;

use crate::device::{DeviceHandle, IoError, write_whole};
use crate::memory::Buffer;

use super::super::format::PagePointer;
use super::super::space::{PageAllocator, Space};
use super::super::units::{PAGE, PageNumber};

/// Where a checkpoint puts its pages.
pub(super) struct PageSink<'a> {
    device: &'a DeviceHandle,
    pages: &'a RefCell<PageAllocator>,
    space: &'a Space,
    buffer: Buffer,
    /// The pages in the buffer, in runs of neighbours.
    runs: Vec<(PageNumber, usize)>,
    count: usize,
}

impl<'a> PageSink<'a> {
    /// Pages are gathered in the buffer.
    pub(super) fn new(
        device: &'a DeviceHandle,
        pages: &'a RefCell<PageAllocator>,
        space: &'a Space,
        buffer: Buffer,
    ) -> Self {
        Self { device, pages, space, buffer, runs: Vec::new(), count: 0 }
    }

    /// Gives the buffer back.
    pub(super) fn into_buffer(self) -> Buffer {
        self.buffer
    }

    /// Makes sure that a page can be added.
    pub(super) async fn room(&mut self) -> Result<(), IoError> {
        if (self.count + 1) * PAGE > self.buffer.len() { self.write_out().await } else { Ok(()) }
    }

    /// Adds a page, which `fill` makes, and says where it will be. There has to be room.
    pub(super) fn add(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<PagePointer, IoError> {
        // A page is kept for each node, so this fails only if our own accounts are wrong.
        let page = self.pages.borrow_mut().take(self.space).ok_or(IoError::NoSpace)?;
        let bytes = &mut self.buffer[self.count * PAGE..][..PAGE];
        fill(bytes);
        let pointer = PagePointer::to(page, bytes);
        self.count += 1;
        match self.runs.last_mut() {
            Some((first, len)) if first.0 + *len as u64 == page.0 => *len += 1,
            _ => self.runs.push((page, 1)),
        }
        Ok(pointer)
    }

    /// Writes what was added.
    pub(super) async fn write_out(&mut self) -> Result<(), IoError> {
        let mut at = 0;
        for (first, len) in std::mem::take(&mut self.runs) {
            write_whole(self.device, first.byte(), &mut self.buffer, at..at + len * PAGE).await?;
            at += len * PAGE;
        }
        self.count = 0;
        Ok(())
    }
}
