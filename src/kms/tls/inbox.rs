//! Where the data of a connection arrives: memory of ours, wiped as it is read.
//!
//! Cipher suites live for ever and know of no connection, so a connection's buffer is lent to the thread while that drives it, and
//! [`deliver`] puts data there. It never grows: a vector that does leaves its old bytes behind.

use std::cell::RefCell;

use rustls::Error;
use zeroize::{Zeroize, Zeroizing};

/// `rustls` never holds more that is still encrypted than its longest handshake message.
const ROOM_BYTES: usize = 1 << 16;

thread_local! {
    static LENT: RefCell<Option<Zeroizing<Vec<u8>>>> = const { RefCell::new(None) };
}

/// What has arrived and was not read yet.
pub(super) struct Inbox {
    bytes: Zeroizing<Vec<u8>>,
    /// How much of it was read, and is zeros.
    read: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: Zeroizing::new(Vec::with_capacity(ROOM_BYTES)), read: 0 }
    }

    /// Drives a connection. What arrives meanwhile comes here.
    pub(super) fn collect<T>(&mut self, drive: impl FnOnce() -> T) -> T {
        let lent = Lent::of(self);
        let outcome = drive();
        drop(lent);
        outcome
    }

    pub(super) fn is_empty(&self) -> bool {
        self.read == self.bytes.len()
    }

    /// Hands over what there is, as far as there is room for it.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let len = into.len().min(self.bytes.len() - self.read);
        let taken = &mut self.bytes[self.read..][..len];
        into[..len].copy_from_slice(taken);
        taken.zeroize();
        self.read += len;
        if self.is_empty() {
            self.bytes.clear();
            self.read = 0;
        }
        len
    }
}

/// A buffer that its thread has; it comes back in any case.
struct Lent<'a>(&'a mut Inbox);

impl<'a> Lent<'a> {
    fn of(inbox: &'a mut Inbox) -> Self {
        LENT.replace(Some(std::mem::take(&mut inbox.bytes)));
        Self(inbox)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.bytes = LENT.take().unwrap_or_default();
    }
}

/// Puts data into the inbox of the connection that this thread drives.
pub(super) fn deliver(data: &[u8]) -> Result<(), Error> {
    LENT.with_borrow_mut(|lent| match lent {
        Some(bytes) if bytes.capacity() - bytes.len() >= data.len() => {
            bytes.extend_from_slice(data);
            Ok(())
        }
        Some(_) => Err(Error::General("the peer sends more than it may".to_owned())),
        None => Err(Error::General("the peer sends what nobody asked for".to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_gone() {
        let mut inbox = Inbox::new();
        inbox.collect(|| deliver(b"secret")).expect("delivered");
        let mut read = [0; 4];
        assert_eq!((inbox.take(&mut read), &read), (4, b"secr"));
        assert_eq!(inbox.bytes[..], *b"\0\0\0\0et");
        assert_eq!((inbox.take(&mut read), &read[..2]), (2, &b"et"[..]));
        assert!(inbox.is_empty() && inbox.take(&mut read) == 0);
    }

    #[test]
    fn it_does_not_grow_and_takes_nothing_unasked() {
        assert!(deliver(b"data").is_err(), "nobody drives a connection");
        let mut inbox = Inbox::new();
        let at = inbox.bytes.as_ptr();
        inbox.collect(|| deliver(&[1; ROOM_BYTES])).expect("it fits");
        assert!(inbox.collect(|| deliver(&[1])).is_err());
        assert_eq!((inbox.bytes.as_ptr(), inbox.bytes.len()), (at, ROOM_BYTES));
    }
}
