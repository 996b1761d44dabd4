//! A small NBD client that sends exactly what a test wants, right or wrong. Numbers are those of the protocol document.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const CACHE: u16 = 5;
pub const WRITE_ZEROES: u16 = 6;
pub const BLOCK_STATUS: u16 = 7;

pub const FUA: u16 = 1;
pub const DF: u16 = 4;
pub const REQ_ONE: u16 = 8;
pub const FAST_ZERO: u16 = 16;

pub const EINVAL: u32 = 22;
pub const ENOSPC: u32 = 28;
pub const EOVERFLOW: u32 = 75;

pub const OPT_GO: u32 = 7;
pub const OPT_STRUCTURED_REPLY: u32 = 8;
pub const OPT_SET_META_CONTEXT: u32 = 10;

/// A test that hears nothing for so long fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection at any stage.
pub struct Client {
    pub stream: Stream,
    structured: bool,
    next_cookie: u64,
}

/// A whole reply.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub cookie: u64,
    pub error: u32,
    /// Of a read, in its place within the request.
    pub data: Vec<u8>,
    /// Of a block status: length and flags.
    pub extents: Vec<(u32, u32)>,
    /// Chunks with data.
    pub chunks: usize,
}

/// What has to be known about a request to read its reply.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub cookie: u64,
    pub kind: u16,
    pub offset: u64,
    pub length: u32,
}

impl Client {
    /// A unix connection on which nothing was said.
    pub fn silent(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_write_timeout(Some(PATIENCE)).expect("set");
        Self { stream: Stream::Unix(stream), structured: false, next_cookie: 1 }
    }

    /// A TCP connection on which nothing was said.
    pub fn silent_tcp(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Self { stream: Stream::Tcp(stream), structured: false, next_cookie: 1 }
    }

    /// Takes the greeting and answers it.
    pub fn greet(mut self) -> Self {
        let mut greeting = [0; 18];
        self.stream.read_exact(&mut greeting).expect("a greeting");
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        self.send(&3u32.to_be_bytes());
        self
    }

    /// Chooses an export, with structured replies and block status or without either.
    pub fn go(mut self, export: &str, structured: bool) -> Self {
        let name = [&(export.len() as u32).to_be_bytes(), export.as_bytes()].concat();
        if structured {
            self.option(OPT_STRUCTURED_REPLY, &[]);
            assert_eq!(self.option_replies(), [1]);
            let query = b"base:allocation";
            let queries = [&1u32.to_be_bytes()[..], &(query.len() as u32).to_be_bytes(), query].concat();
            self.option(OPT_SET_META_CONTEXT, &[&name[..], &queries].concat());
            assert_eq!(self.option_replies(), [4, 1]);
        }
        self.option(OPT_GO, &[&name[..], &[0, 0]].concat());
        assert_eq!(self.option_replies().last(), Some(&1), "the export is there");
        self.structured = structured;
        self
    }

    pub fn is_structured(&self) -> bool {
        self.structured
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    pub fn option(&mut self, option: u32, data: &[u8]) {
        let header = [b"IHAVEOPT".as_slice(), &option.to_be_bytes(), &(data.len() as u32).to_be_bytes()].concat();
        self.send(&[&header, data].concat());
    }

    /// The types of all replies to an option.
    pub fn option_replies(&mut self) -> Vec<u32> {
        let mut kinds = Vec::new();
        loop {
            let header: [u8; 20] = self.take();
            assert_eq!(&header[..8], &0x0003_e889_0455_65a9u64.to_be_bytes());
            let kind = be32(&header[12..]);
            self.take_vec(be32(&header[16..]) as usize);
            kinds.push(kind);
            if kind == 1 || kind >> 31 == 1 {
                return kinds;
            }
        }
    }

    /// Sends a request; `payload` may be anything.
    pub fn request(&mut self, kind: u16, flags: u16, offset: u64, length: u32, payload: &[u8]) -> Asked {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        let bytes = [request(kind, flags, cookie, offset, length).as_slice(), payload].concat();
        self.send(&bytes);
        Asked { cookie, kind, offset, length }
    }

    /// Reads replies until the one to `asked` is whole. Nothing else may be under way.
    pub fn reply(&mut self, asked: Asked) -> Reply {
        let mut reply = Reply::default();
        while !self.part(&mut reply, |_| asked) {}
        reply
    }

    /// Reads one message of a reply to one of several requests; true if it completes the reply.
    pub fn part(&mut self, reply: &mut Reply, find: impl Fn(u64) -> Asked) -> bool {
        match u32::from_be_bytes(self.take()) {
            0x6744_6698 => {
                let rest: [u8; 12] = self.take();
                reply.error = be32(&rest);
                reply.cookie = be64(&rest[4..]);
                let asked = find(reply.cookie);
                assert_eq!(asked.cookie, reply.cookie);
                if asked.kind == READ && reply.error == 0 {
                    assert!(!self.structured, "a read was answered without structure");
                    reply.data = self.take_vec(asked.length as usize);
                }
                true
            }
            0x668e_33ef => self.chunk(reply, find),
            other => panic!("a reply began with {other:#010x}"),
        }
    }

    fn chunk(&mut self, reply: &mut Reply, find: impl Fn(u64) -> Asked) -> bool {
        assert!(self.structured, "a structured reply was not asked for");
        let header: [u8; 16] = self.take();
        let (flags, kind) = (be16(&header), be16(&header[2..]));
        reply.cookie = be64(&header[4..]);
        let payload = self.take_vec(be32(&header[12..]) as usize);
        let asked = find(reply.cookie);
        assert_eq!(asked.cookie, reply.cookie);
        match kind {
            0 => {}
            1 => {
                let at = (be64(&payload) - asked.offset) as usize;
                reply.data.resize(asked.length as usize, 0);
                reply.data[at..at + payload.len() - 8].copy_from_slice(&payload[8..]);
                reply.chunks += 1;
            }
            5 => reply.extents = payload[4..].chunks_exact(8).map(|e| (be32(e), be32(&e[4..]))).collect(),
            0x8001 => reply.error = be32(&payload),
            other => panic!("a chunk of type {other}"),
        }
        flags & 1 == 1
    }

    /// A request and its reply.
    pub fn ask(&mut self, kind: u16, flags: u16, offset: u64, length: u32) -> Reply {
        let asked = self.request(kind, flags, offset, length, &[]);
        self.reply(asked)
    }

    /// A write and its error.
    pub fn write(&mut self, flags: u16, offset: u64, data: &[u8]) -> u32 {
        let asked = self.request(WRITE, flags, offset, data.len() as u32, data);
        self.reply(asked).error
    }

    /// Whether the server has closed the connection; what it said before is dropped.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0; 4096];
        loop {
            match self.stream.read(&mut byte) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Says nothing more, but listens.
    pub fn half_close(&mut self) {
        match &self.stream {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
        .expect("shut down");
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).expect("the server answers");
        bytes
    }

    fn take_vec(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).expect("the server answers");
        bytes
    }
}

/// The bytes of a request.
pub fn request(kind: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(bytes[..2].try_into().expect("two bytes"))
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"))
}

fn be64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"))
}
