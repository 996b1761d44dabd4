//! Files and block devices on the ring: reads and writes of buffers, sync and allocation.
//!
//! A completion carries the bytes done or the kernel's error number; resuming what was short is the caller's work (`device/`).
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use io_uring::opcode;
use io_uring::types::FsyncFlags;

use crate::memory::Buffer;

use super::Reactor;
use super::ring::{Keep, RingFile, on_file, registered_index};

/// A file that one reactor reads and writes.
pub struct File {
    reactor: Reactor,
    file: RingFile,
}

/// Which way bytes move.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

impl File {
    /// Registers an open descriptor with the reactor's ring.
    pub fn new(reactor: &Reactor, fd: OwnedFd) -> Self {
        Self { reactor: reactor.clone(), file: RingFile::new(reactor.ring(), fd) }
    }

    /// Reads at `offset` bytes into `window` of the buffer; returns the bytes done.
    pub async fn read_at(&self, offset: u64, buffer: &mut Buffer, window: Range<usize>) -> io::Result<usize> {
        self.transfer(Way::Read, offset, buffer, window).await
    }

    /// Writes `window` of the buffer at `offset` bytes; returns the bytes done.
    pub async fn write_at(&self, offset: u64, buffer: &mut Buffer, window: Range<usize>) -> io::Result<usize> {
        self.transfer(Way::Write, offset, buffer, window).await
    }

    async fn transfer(&self, way: Way, offset: u64, buffer: &mut Buffer, window: Range<usize>) -> io::Result<usize> {
        let segment = buffer.segment(window);
        let (at, len) = (segment.as_ptr(), segment.len() as u32);
        let entry = if self.reactor.ring().has_fixed_buffers() {
            let index = registered_index(self.reactor.buffers().arena(), at);
            match way {
                Way::Read => {
                    on_file!(self.file, |fd| opcode::ReadFixed::new(fd, at, len, index).offset(offset).build())
                }
                Way::Write => {
                    on_file!(self.file, |fd| opcode::WriteFixed::new(fd, at, len, index).offset(offset).build())
                }
            }
        } else {
            match way {
                Way::Read => on_file!(self.file, |fd| opcode::Read::new(fd, at, len).offset(offset).build()),
                Way::Write => on_file!(self.file, |fd| opcode::Write::new(fd, at, len).offset(offset).build()),
            }
        };
        let keep = Keep::Buffer(std::mem::take(buffer));
        // SAFETY: the entry names memory of the buffer, which the ring keeps until the completion.
        let (result, keep) = unsafe { self.reactor.ring().storage_operation(entry, keep, len) }.await;
        if let Keep::Buffer(back) = keep {
            *buffer = back;
        }
        result
    }

    /// Makes everything that was written before durable: data, and what is needed to find it (`fdatasync(2)`).
    pub async fn sync_data(&self) -> io::Result<()> {
        let entry = on_file!(self.file, |fd| opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build());
        // SAFETY: the entry names no memory.
        let (result, _) = unsafe { self.reactor.ring().storage_operation(entry, Keep::Nothing, 0) }.await;
        result.map(drop)
    }

    /// `fallocate(2)` with `mode` on a range of bytes.
    pub async fn fallocate(&self, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        let entry = on_file!(self.file, |fd| opcode::Fallocate::new(fd, len).offset(offset).mode(mode).build());
        // SAFETY: the entry names no memory.
        let (result, _) = unsafe { self.reactor.ring().storage_operation(entry, Keep::Nothing, 0) }.await;
        result.map(drop)
    }

    /// The descriptor, for calls that the ring does not have.
    pub fn fd(&self) -> &OwnedFd {
        self.file.fd()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.file.release(self.reactor.ring());
    }
}
