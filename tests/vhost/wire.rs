//! Messages of the protocol, right and wrong, byte by byte (QEMU, `docs/interop/vhost-user.rst`).

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

pub const GET_FEATURES: u32 = 1;
pub const SET_FEATURES: u32 = 2;
pub const SET_OWNER: u32 = 3;
pub const SET_MEM_TABLE: u32 = 5;
pub const SET_VRING_NUM: u32 = 8;
pub const SET_VRING_ADDR: u32 = 9;
pub const SET_VRING_BASE: u32 = 10;
pub const GET_VRING_BASE: u32 = 11;
pub const SET_VRING_KICK: u32 = 12;
pub const SET_VRING_CALL: u32 = 13;
pub const SET_VRING_ERR: u32 = 14;
pub const GET_PROTOCOL_FEATURES: u32 = 15;
pub const SET_PROTOCOL_FEATURES: u32 = 16;
pub const SET_VRING_ENABLE: u32 = 18;
pub const GET_CONFIG: u32 = 24;
pub const SET_CONFIG: u32 = 25;
pub const GET_INFLIGHT_FD: u32 = 31;
pub const SET_INFLIGHT_FD: u32 = 32;
pub const ADD_MEM_REG: u32 = 37;
pub const REM_MEM_REG: u32 = 38;
/// The last message that there is.
pub const LAST: u32 = 44;

pub const VERSION: u32 = 1;
pub const REPLY: u32 = 1 << 2;
pub const NEED_REPLY: u32 = 1 << 3;

/// `REPLY_ACK`, `MQ`, `CONFIG`, `INFLIGHT_SHMFD`, `RESET_DEVICE` and `CONFIGURE_MEM_SLOTS`.
pub const PROTOCOL_FEATURES: u64 = 1 << 3 | 1 << 0 | 1 << 9 | 1 << 12 | 1 << 13 | 1 << 15;
/// `VHOST_USER_F_PROTOCOL_FEATURES` and `VIRTIO_F_VERSION_1`.
pub const FEATURES: u64 = 1 << 30 | 1 << 32;

/// A connection.
pub struct Wire(pub UnixStream);

impl Wire {
    /// A connection on which the features are agreed, so that messages are acknowledged.
    pub fn agreed(stream: UnixStream) -> Self {
        let mut wire = Self(stream);
        wire.ask(GET_FEATURES, &[]).expect("features");
        wire.ask(GET_PROTOCOL_FEATURES, &[]).expect("protocol features");
        wire.send(SET_PROTOCOL_FEATURES, VERSION, &PROTOCOL_FEATURES.to_le_bytes(), &[]);
        assert!(wire.does(SET_OWNER, &[], &[]) && wire.does(SET_FEATURES, &FEATURES.to_le_bytes(), &[]));
        wire
    }

    /// Sends a message. The other side may have gone already.
    pub fn send(&mut self, request: u32, flags: u32, body: &[u8], fds: &[RawFd]) {
        let mut bytes =
            [request, flags, body.len() as u32].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        bytes.extend(body);
        self.send_bytes(&bytes, fds);
    }

    pub fn send_bytes(&mut self, bytes: &[u8], fds: &[RawFd]) {
        if fds.is_empty() {
            let _ = self.0.write_all(bytes);
        } else {
            let _ = self.0.send_with_fds(&[bytes], fds);
        }
    }

    /// Asks for something and gives the answer's body, unless the session has ended.
    pub fn ask(&mut self, request: u32, body: &[u8]) -> Option<Vec<u8>> {
        self.send(request, VERSION, body, &[]);
        self.answer(request)
    }

    /// The body of an answer; nothing if the session has ended.
    pub fn answer(&mut self, request: u32) -> Option<Vec<u8>> {
        let mut header = [0; 12];
        self.0.read_exact(&mut header).ok()?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        assert_eq!((word(0), word(4) & REPLY), (request, REPLY), "an answer to something else");
        let mut body = vec![0; word(8) as usize];
        self.0.read_exact(&mut body).ok()?;
        Some(body)
    }

    /// Sends a message that is to be acknowledged; whether it was done. It was not if the session has ended.
    pub fn does(&mut self, request: u32, body: &[u8], fds: &[RawFd]) -> bool {
        self.send(request, VERSION | NEED_REPLY, body, fds);
        self.answer(request).is_some_and(|body| body == [0; 8])
    }

    /// Whether the session ends; what was still to be said is passed over.
    pub fn has_ended(&mut self) -> bool {
        let ended = std::io::copy(&mut self.0, &mut std::io::sink());
        ended.map_or_else(|e| e.kind() == std::io::ErrorKind::ConnectionReset, |_| true)
    }

    /// Whether nothing comes for a while.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        !super::guest::readable(self.0.as_raw_fd(), time)
    }
}

/// Numbers one behind the other.
pub fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A queue's index and a number.
pub fn state(index: u32, number: u32) -> Vec<u8> {
    [index.to_le_bytes(), number.to_le_bytes()].concat()
}

/// A region: where the device sees it, its length, where the front end has it, and where it begins in its file.
pub fn region(guest: u64, len: u64, front_end: u64, offset: u64) -> Vec<u8> {
    words(&[guest, len, front_end, offset])
}

/// The body of `SET_MEM_TABLE`.
pub fn table(count: u32, regions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = state(count, 0);
    regions.iter().for_each(|region| body.extend(region));
    body
}

/// The body of `SET_VRING_ADDR`.
pub fn place(index: u32, descriptors: u64, used: u64, available: u64) -> Vec<u8> {
    let mut body = state(index, 0);
    body.extend(words(&[descriptors, used, available, 0]));
    body
}
