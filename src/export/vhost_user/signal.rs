//! How a front end is told of something: an eventfd of its, which is written without ever waiting for it.
//!
//! A write to an eventfd waits once its count is full, and its flags are shared with whoever gave it to us: neither a look before the write nor a flag
//! would keep a front end from stopping a reactor. So the kernel does it: an io_uring that has nothing to do but to complete empty operations
//! signals the eventfd for each, and never waits.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{IoUring, opcode};

use crate::reactor::profile::{Stage, stage};

/// An eventfd of a front end.
pub(super) struct Signal {
    ring: RefCell<IoUring>,
    _eventfd: OwnedFd,
}

impl Signal {
    /// Refuses any other kind of descriptor.
    pub(super) fn new(eventfd: OwnedFd) -> io::Result<Self> {
        let ring = IoUring::new(2)?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        Ok(Self { ring: RefCell::new(ring), _eventfd: eventfd })
    }

    /// Tells the front end.
    pub(super) fn send(&self) {
        let _kernel = stage(Stage::Kernel);
        let mut ring = self.ring.borrow_mut();
        ring.completion().for_each(drop);
        // SAFETY: an empty operation names no memory. There is room: each one has completed when the call that hands it over returns.
        let pushed = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
        if pushed.is_ok() {
            // One that is not taken over now goes with the next.
            let _ = ring.submit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::io::Write;
    use std::os::fd::FromRawFd;

    fn eventfd() -> (OwnedFd, File) {
        // SAFETY: the call touches no memory of ours, and the descriptor that it makes belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        let theirs = File::from(fd.try_clone().expect("another descriptor"));
        (fd, theirs)
    }

    fn count(mut theirs: &File) -> u64 {
        let mut bytes = [0; 8];
        theirs.read_exact(&mut bytes).expect("a count");
        u64::from_ne_bytes(bytes)
    }

    #[test]
    fn a_front_end_is_told_each_time() {
        let (ours, theirs) = eventfd();
        let signal = Signal::new(ours).expect("an eventfd");
        for _ in 0..10 {
            signal.send();
            assert_eq!(count(&theirs), 1);
        }
    }

    #[test]
    fn a_full_count_holds_nobody_up() {
        let (ours, mut theirs) = eventfd();
        theirs.write_all(&(u64::MAX - 1).to_ne_bytes()).expect("written");
        let signal = Signal::new(ours).expect("an eventfd");
        (0..3).for_each(|_| signal.send());
        assert!(count(&theirs) >= u64::MAX - 1);
        signal.send();
        assert_eq!(count(&theirs), 1);
    }

    #[test]
    fn other_descriptors_are_refused() {
        let file = OwnedFd::from(File::open("/dev/zero").expect("it is there"));
        assert!(Signal::new(file).is_err());
    }
}
