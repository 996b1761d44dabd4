//! Messages that the crate of the protocol has no part for: the channel on which we tell a front end that a disk has another size.
//!
//! The front end sends that channel as a descriptor (`VHOST_USER_SET_BACKEND_REQ_FD`), which the crate keeps to itself. We look at each message before it
//! takes it: a look at a descriptor gives another one to the same socket.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// `VHOST_USER_SET_BACKEND_REQ_FD`.
const SET_BACKEND_REQ_FD: u32 = 21;
/// `VHOST_USER_BACKEND_CONFIG_CHANGE_MSG`.
const CONFIG_CHANGE: u32 = 2;
/// The version of the protocol, in the flags of each message.
const VERSION: u32 = 1;

/// How each message begins: in the byte order of the machine.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    request: u32,
    flags: u32,
    size: u32,
}

/// What comes next from a front end.
pub(super) enum Next {
    /// It has closed the connection.
    Nothing,
    /// A message that the crate knows.
    Message,
    /// The same, with the channel that leads back.
    Channel(OwnedFd),
}

/// The channel back to a front end.
pub(super) struct Channel(OwnedFd);

/// Waits for the next message, which is still there afterwards.
pub(super) fn look(socket: &impl AsRawFd) -> io::Result<Next> {
    let socket = socket.as_raw_fd();
    let (len, header, _) = peek(socket, &mut [])?;
    if len == 0 {
        return Ok(Next::Nothing);
    }
    if len < size_of::<Header>() || header.request != SET_BACKEND_REQ_FD {
        return Ok(Next::Message);
    }
    let mut space = [0u64; 4];
    let (_, _, descriptor) = peek(socket, &mut space)?;
    Ok(descriptor.map_or(Next::Message, Next::Channel))
}

/// The first bytes that are there, and the descriptor that comes with them, if there is space for one.
fn peek(socket: RawFd, space: &mut [u64]) -> io::Result<(usize, Header, Option<OwnedFd>)> {
    let mut header = Header::new_zeroed();
    let bytes = header.as_mut_bytes();
    let mut window = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid message header.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut window, 1);
    (message.msg_control, message.msg_controllen) = (space.as_mut_ptr().cast(), mem::size_of_val(space) as _);
    let len = loop {
        // SAFETY: the message names the header and the space, which live and are not looked at meanwhile.
        let len = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_PEEK | libc::MSG_CMSG_CLOEXEC) };
        if len >= 0 {
            break len as usize;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    // SAFETY: the kernel has filled the message in.
    let descriptor = unsafe { first_descriptor(&message) };
    Ok((len, header, descriptor))
}

/// # Safety
/// The kernel has filled the message in, and nobody has taken its descriptors.
unsafe fn first_descriptor(message: &libc::msghdr) -> Option<OwnedFd> {
    // SAFETY: the macros walk what the kernel has written.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(message).as_ref()?;
        let is_rights = control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS;
        let payload = (control.cmsg_len as usize).checked_sub(libc::CMSG_LEN(0) as usize)?;
        let count = if is_rights { payload / size_of::<RawFd>() } else { 0 };
        let descriptors = libc::CMSG_DATA(control).cast::<RawFd>();
        // Whatever came is ours, and all but the first are closed.
        let mut all = (0..count).map(|n| OwnedFd::from_raw_fd(descriptors.add(n).read_unaligned())).collect::<Vec<_>>();
        (!all.is_empty()).then(|| all.swap_remove(0))
    }
}

impl Channel {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Says that the configuration space has changed: the front end asks for it. Nobody waits for a front end that does not read.
    pub(super) fn tell_config_changed(&self) -> io::Result<()> {
        let message = Header { request: CONFIG_CHANGE, flags: VERSION, size: 0 };
        let bytes = message.as_bytes();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the pointer and the length name the message.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        match sent {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// Sends a header with a descriptor.
    fn send(socket: &UnixStream, header: &Header, descriptor: RawFd) {
        let bytes = header.as_bytes();
        let mut window = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut space = [0u64; 4];
        // SAFETY: all-zero is a valid message header, and what it is made to name lives until it is sent.
        unsafe {
            let mut message: libc::msghdr = mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&raw mut window, 1);
            message.msg_control = space.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
            let control = libc::CMSG_FIRSTHDR(&raw const message);
            (*control).cmsg_level = libc::SOL_SOCKET;
            (*control).cmsg_type = libc::SCM_RIGHTS;
            (*control).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(control).cast::<RawFd>().write_unaligned(descriptor);
            assert_eq!(libc::sendmsg(socket.as_raw_fd(), &raw const message, 0), bytes.len() as isize);
        }
    }

    #[test]
    fn the_channel_back_is_seen_and_left_where_it_is() {
        let (front, back) = UnixStream::pair().expect("sockets");
        let (mut theirs, channel) = UnixStream::pair().expect("sockets");
        send(&front, &Header { request: SET_BACKEND_REQ_FD, flags: VERSION, size: 0 }, channel.as_raw_fd());
        drop(channel);
        for _ in 0..2 {
            let Ok(Next::Channel(descriptor)) = look(&back) else { panic!("no channel") };
            Channel::new(descriptor).tell_config_changed().expect("sent");
            let mut bytes = [0; 12];
            theirs.read_exact(&mut bytes).expect("a message");
            assert_eq!(bytes, [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn other_messages_are_only_looked_at() {
        let (mut front, mut back) = UnixStream::pair().expect("sockets");
        front.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).expect("sent");
        assert!(matches!(look(&back), Ok(Next::Message)));
        let mut bytes = [0; 12];
        back.read_exact(&mut bytes).expect("still there");
        assert_eq!(bytes[0], 1);
        drop(front);
        assert!(matches!(look(&back), Ok(Next::Nothing)));
    }
}
