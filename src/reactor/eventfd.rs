//! An eventfd that another process has too, on which a task of the reactor waits: how the other side wakes a reactor that sleeps.
//!
//! The descriptor comes from outside, so it is read only without waiting, and its flags, which the other side shares, stay as they are.
#![allow(unsafe_code)]

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::task::Poll;

use io_uring::opcode;

use super::Reactor;
use super::ring::{Keep, RingFile, on_file};
use super::sync::Event;

/// An eventfd by which somebody asks for the reactor's attention.
pub struct EventFd {
    reactor: Reactor,
    file: RingFile,
    closed: Event,
}

impl EventFd {
    /// Registers an eventfd with the reactor's ring; refuses any other kind of descriptor.
    pub fn new(reactor: &Reactor, fd: OwnedFd) -> io::Result<Self> {
        let kind = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        if kind.as_os_str() != "anon_inode:[eventfd]" {
            let what = format!("{} is no eventfd", kind.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let file = RingFile::new(reactor.ring(), fd);
        Ok(Self { reactor: reactor.clone(), file, closed: Event::default() })
    }

    /// Waits until somebody has written to it, and takes that away. True if so; false once it is closed.
    pub async fn fired(&self) -> bool {
        let entry = on_file!(self.file, |fd| opcode::PollAdd::new(fd, libc::POLLIN as u32).build());
        // SAFETY: a poll names no memory.
        let mut readable = pin!(unsafe { self.reactor.ring().operation(entry, Keep::Nothing) });
        let mut closed = pin!(self.closed.wait());
        let has_fired = std::future::poll_fn(|cx| match (closed.as_mut().poll(cx), readable.as_mut().poll(cx)) {
            (Poll::Ready(()), _) => Poll::Ready(false),
            // An error comes again at the next call, and whoever waits then finds the same: it is as if nobody ever wrote.
            (_, Poll::Ready((outcome, _))) => Poll::Ready(outcome.is_ok()),
            _ => Poll::Pending,
        })
        .await;
        if has_fired {
            self.take();
        }
        has_fired
    }

    /// Ends all waiting.
    pub fn close(&self) {
        self.closed.set();
    }

    fn take(&self) {
        let mut count = [0u8; 8];
        let window = libc::iovec { iov_base: count.as_mut_ptr().cast(), iov_len: count.len() };
        // SAFETY: the window is eight bytes of this function's. RWF_NOWAIT: somebody else may have read it first.
        unsafe { libc::preadv2(self.file.fd().as_raw_fd(), &raw const window, 1, -1, libc::RWF_NOWAIT) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        self.file.release(self.reactor.ring());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::FromRawFd;

    use super::super::testing::{end, small_reactor};
    use super::*;

    fn eventfd(flags: i32) -> OwnedFd {
        // SAFETY: the call touches no memory of ours, and the descriptor that it makes belongs to nobody else.
        unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC | flags)) }
    }

    #[test]
    fn whoever_writes_wakes_who_waits() {
        for flags in [0, libc::EFD_NONBLOCK] {
            let reactor = small_reactor(0);
            let ours = eventfd(flags);
            let mut theirs = File::from(ours.try_clone().expect("another descriptor"));
            let (told, times) = std::sync::mpsc::channel();
            reactor.remote().post(move |reactor| {
                let eventfd = EventFd::new(reactor, ours).expect("an eventfd");
                reactor.spawn(async move {
                    for _ in 0..3 {
                        told.send(eventfd.fired().await).expect("the test waits");
                    }
                    eventfd.close();
                    told.send(eventfd.fired().await).expect("the test waits");
                });
            });
            for _ in 0..3 {
                theirs.write_all(&1u64.to_ne_bytes()).expect("written");
                assert_eq!(times.recv(), Ok(true));
            }
            assert_eq!(times.recv(), Ok(false));
            end([reactor]);
        }
    }

    #[test]
    fn other_descriptors_are_refused() {
        let reactor = small_reactor(0);
        let refused = reactor.remote().call(|reactor| {
            let file = OwnedFd::from(File::open("/dev/zero").expect("it is there"));
            EventFd::new(reactor, file).err().map(|error| error.to_string())
        });
        assert_eq!(refused.as_deref(), Some("/dev/zero is no eventfd"));
        end([reactor]);
    }
}
