//! The frames that a target and its helper exchange over a socket: a head, and a body of fields.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | [`Head`]: the body's length, the kind of message |
//! | then, for each field | its length (2 bytes, little-endian), its bytes |
//!
//! A frame is built and received in a [`Secret`], since keys and the PIN travel in it: what holds it is locked, left out of dumps, and wiped when it is
//! dropped. No length is trusted: a body that does not fit ends the conversation, and a field ends where its body does.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use thiserror::Error;
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::memory::{PAGE, Secret, SecretError};

/// The beginning of a frame.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    body_len: U16,
    kind: u8,
    reserved: u8,
}

const HEAD_BYTES: usize = size_of::<Head>();
const _: () = assert!(HEAD_BYTES == 4);

/// Fills two pages together with the length beside it: a PIN or a path of a page, and room for the rest.
const MOST_BYTES: usize = 2 * PAGE - size_of::<usize>();

/// Why a message is not one of ours.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a message is garbled: {0}")]
pub(super) struct Garbled(pub(super) &'static str);

/// Why no frame came or went.
#[derive(Debug, Error)]
pub(super) enum WireError {
    #[error(transparent)]
    Garbled(#[from] Garbled),
    /// The other side is gone, or went in the middle of a frame.
    #[error("the other side is gone")]
    Gone,
    #[error("nothing came or went in time")]
    TimedOut,
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// A whole message in its encoding.
pub(super) struct Frame {
    bytes: [u8; MOST_BYTES],
    len: usize,
}

impl Default for Frame {
    fn default() -> Self {
        Self { bytes: [0; MOST_BYTES], len: HEAD_BYTES }
    }
}

impl Frame {
    /// A frame of one kind with these fields.
    pub(super) fn build(kind: u8, fields: &[&[u8]]) -> Result<Secret<Self>, WireError> {
        Secret::filled(|frame: &mut Self| {
            for field in fields {
                let len = u16::try_from(field.len()).map_err(|_| Garbled("a field is too long"))?;
                frame.append(&len.to_le_bytes())?;
                frame.append(field)?;
            }
            let body_len = U16::new((frame.len - HEAD_BYTES) as u16);
            frame.bytes[..HEAD_BYTES].copy_from_slice(Head { body_len, kind, reserved: 0 }.as_bytes());
            Ok(())
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Garbled> {
        let room = self.bytes.get_mut(self.len..self.len + bytes.len()).ok_or(Garbled("it is too long"))?;
        room.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// The kind of message, and its fields.
    pub(super) fn open(&self) -> Result<(u8, Fields<'_>), Garbled> {
        let (head, rest) = Head::ref_from_prefix(&self.bytes[..self.len]).map_err(|_| Garbled("it is cut off"))?;
        if head.reserved != 0 || rest.len() != usize::from(head.body_len.get()) {
            return Err(Garbled("its head is wrong"));
        }
        Ok((head.kind, Fields { rest }))
    }

    /// Sends the frame.
    pub(super) fn send(&self, stream: &UnixStream, until: Option<Instant>) -> Result<(), WireError> {
        let mut rest = &self.bytes[..self.len];
        while !rest.is_empty() {
            stream.set_write_timeout(left(until)?).map_err(WireError::Io)?;
            match (&mut &*stream).write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) => pass(error)?,
            }
        }
        Ok(())
    }

    /// Waits for the next frame.
    pub(super) fn receive(stream: &UnixStream, until: Option<Instant>) -> Result<Secret<Self>, WireError> {
        let mut head = Head::new_zeroed();
        fill(stream, head.as_mut_bytes(), until)?;
        let len = HEAD_BYTES + usize::from(head.body_len.get());
        Secret::filled(|frame: &mut Self| {
            let whole = frame.bytes.get_mut(..len).ok_or(Garbled("it is too long"))?;
            let (start, body) = whole.split_at_mut(HEAD_BYTES);
            start.copy_from_slice(head.as_bytes());
            fill(stream, body, until)?;
            frame.len = len;
            Ok(())
        })
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// What a peer would have sent, for tests.
    #[cfg(test)]
    pub(super) fn raw(bytes: &[u8]) -> Secret<Self> {
        let frame = Secret::filled(|frame: &mut Self| {
            frame.len = 0;
            frame.append(&bytes[..bytes.len().min(MOST_BYTES)])?;
            Ok::<_, WireError>(())
        });
        frame.expect("locked memory")
    }
}

/// Reads exactly so much.
fn fill(stream: &UnixStream, mut room: &mut [u8], until: Option<Instant>) -> Result<(), WireError> {
    while !room.is_empty() {
        stream.set_read_timeout(left(until)?).map_err(WireError::Io)?;
        match (&mut &*stream).read(room) {
            Ok(0) => return Err(WireError::Gone),
            Ok(read) => room = &mut room[read..],
            Err(error) => pass(error)?,
        }
    }
    Ok(())
}

/// What is left of the time, for a socket: for it, nothing at all would mean for ever.
fn left(until: Option<Instant>) -> Result<Option<Duration>, WireError> {
    let Some(until) = until else { return Ok(None) };
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(WireError::TimedOut) } else { Ok(Some(left.max(Duration::from_millis(1)))) }
}

/// Whether to go on after an error.
fn pass(error: io::Error) -> Result<(), WireError> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(WireError::TimedOut),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(WireError::Gone),
        _ => Err(WireError::Io(error)),
    }
}

/// The fields of a body, one after the other.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Garbled> {
        let cut_off = Garbled("a field is cut off");
        let (len, rest) = self.rest.split_first_chunk::<2>().ok_or(cut_off)?;
        let (field, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into()).ok_or(cut_off)?;
        self.rest = rest;
        Ok(field)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Garbled> {
        self.bytes()?.try_into().map_err(|_| Garbled("a field has another length"))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Garbled> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Garbled("a field is no text"))
    }

    pub(super) fn number(&mut self) -> Result<u32, Garbled> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Garbled> {
        if self.rest.is_empty() { Ok(()) } else { Err(Garbled("there is more than there should be")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_arrives_as_it_was_sent() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let sent = Frame::build(7, &[b"one", b"", &[3; 4096]]).expect("built");
        sent.send(&here, None).expect("sent");
        let got = Frame::receive(&there, None).expect("received");
        let (kind, mut fields) = got.open().expect("whole");
        assert_eq!(kind, 7);
        assert_eq!(fields.text(), Ok("one"));
        assert_eq!(fields.bytes(), Ok(&b""[..]));
        assert!(fields.array::<4096>().is_ok_and(|long| long == &[3; 4096]));
        assert_eq!(fields.end(), Ok(()));
    }

    #[test]
    fn what_does_not_fit_and_what_is_cut_off_is_refused() {
        assert!(matches!(Frame::build(1, &[&[0; MOST_BYTES]]), Err(WireError::Garbled(_))));
        let (here, there) = UnixStream::pair().expect("a pair");
        (&here).write_all(&[0xff, 0xff, 1, 0]).expect("sent");
        assert!(matches!(Frame::receive(&there, None), Err(WireError::Garbled(_))));
        (&here).write_all(&[9, 0, 1, 0, 1]).expect("sent");
        drop(here);
        assert!(matches!(Frame::receive(&there, None), Err(WireError::Gone)));
    }

    #[test]
    fn nobody_waits_longer_than_they_want_to() {
        let (_here, there) = UnixStream::pair().expect("a pair");
        let until = Instant::now() + Duration::from_millis(20);
        assert!(matches!(Frame::receive(&there, Some(until)), Err(WireError::TimedOut)));
    }
}
