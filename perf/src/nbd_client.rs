//! An NBD connection that can be held open without load, for the idle measurement: handshake and reads, nothing more. Who makes more of it, as the
//! regression suite and the profile do, takes the stream.
//!
//! Facts: the NBD protocol document (doc/proto.md of the nbd project), sections "Fixed newstyle negotiation", "NBD_OPT_EXPORT_NAME" and
//! "Simple reply message". All numbers are big-endian.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::{Context, Failure, Result};

const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
const FLAG_NO_ZEROES: u16 = 1 << 1;
const OPT_EXPORT_NAME: u32 = 1;
/// Begins a request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Bytes of a request without its data.
pub const REQUEST_BYTES: usize = 28;
/// The first bytes of a reply.
pub const REPLY_MAGIC: u32 = 0x6744_6698;
/// Bytes of a reply without its data.
pub const REPLY_BYTES: usize = 16;
/// The command that reads.
pub const READ: u16 = 0;
/// The command that writes.
pub const WRITE: u16 = 1;
const COMMAND_DISCONNECT: u16 = 2;
/// No answer of a server on this machine takes longer.
const LIMIT: Duration = Duration::from_secs(10);

/// A connection in transmission. Dropping it disconnects.
pub struct Connection {
    stream: UnixStream,
    cookie: u64,
}

impl Connection {
    /// Connects to an export.
    pub fn open(socket: &Path, export: &str) -> Result<Self> {
        let stream = UnixStream::connect(socket).on_file("connect to", socket)?;
        stream.set_read_timeout(Some(LIMIT)).on_file("set a limit on", socket)?;
        let mut connection = Self { stream, cookie: 0 };
        connection.negotiate(export).on_file("negotiate on", socket)?;
        Ok(connection)
    }

    fn negotiate(&mut self, export: &str) -> io::Result<()> {
        let (magic, option_magic) = (u64::from_be_bytes(self.take()?), u64::from_be_bytes(self.take()?));
        if (magic, option_magic) != (NBD_MAGIC, OPTION_MAGIC) {
            return Err(io::Error::other("the server does not speak newstyle NBD"));
        }
        let flags = u16::from_be_bytes(self.take()?) & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
        let mut message = u32::from(flags).to_be_bytes().to_vec();
        message.extend(OPTION_MAGIC.to_be_bytes());
        message.extend(OPT_EXPORT_NAME.to_be_bytes());
        message.extend((export.len() as u32).to_be_bytes());
        message.extend(export.as_bytes());
        self.stream.write_all(&message)?;
        // The answer: size and transmission flags, and padding unless both sides do without.
        let _: [u8; 10] = self.take()?;
        if flags & FLAG_NO_ZEROES == 0 {
            let _: [u8; 124] = self.take()?;
        }
        Ok(())
    }

    /// Reads once, and spins until the answer has come.
    pub fn read_spinning(&mut self, at: u64, length: u32) -> Result<()> {
        let what = || format!("cannot read {length} bytes at {at} over NBD");
        self.ask_spinning(at, length).context(what)
    }

    fn ask_spinning(&mut self, at: u64, length: u32) -> io::Result<()> {
        self.request(READ, at, length)?;
        let (deadline, mut answer, mut filled) = (Instant::now() + LIMIT, vec![0; REPLY_BYTES + length as usize], 0);
        self.stream.set_nonblocking(true)?;
        while filled < answer.len() {
            match self.stream.read(&mut answer[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => filled += bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {}
                Err(e) => return Err(e),
            }
        }
        self.stream.set_nonblocking(false)?;
        match answer[..4] == REPLY_MAGIC.to_be_bytes() && answer[4..8] == [0; 4] {
            true => Ok(()),
            false => Err(io::Error::other("the server has refused to read")),
        }
    }

    /// The stream, for a load that speaks for itself. No reply may be outstanding when the connection is used otherwise again.
    pub fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    /// Reads once.
    pub fn read(&mut self, at: u64, length: u32) -> Result<Vec<u8>> {
        let data = self.read_once(at, length).context(|| format!("cannot read {length} bytes at {at} over NBD"))?;
        data.map_err(|error| Failure::Answer {
            program: "the NBD server".into(),
            why: format!("error {error} to a read"),
        })
    }

    fn read_once(&mut self, at: u64, length: u32) -> io::Result<std::result::Result<Vec<u8>, u32>> {
        self.request(READ, at, length)?;
        let magic = u32::from_be_bytes(self.take()?);
        let error = u32::from_be_bytes(self.take()?);
        let cookie = u64::from_be_bytes(self.take()?);
        if (magic, cookie) != (REPLY_MAGIC, self.cookie) {
            return Err(io::Error::other("the reply is not the one to this request"));
        }
        if error != 0 {
            return Ok(Err(error));
        }
        let mut data = vec![0; length as usize];
        self.stream.read_exact(&mut data)?;
        Ok(Ok(data))
    }

    fn request(&mut self, command: u16, at: u64, length: u32) -> io::Result<()> {
        self.cookie += 1;
        self.stream.write_all(&request(command, self.cookie, at, length))
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// A request without flags.
pub fn request(command: u16, cookie: u64, at: u64, length: u32) -> [u8; REQUEST_BYTES] {
    let mut message = [0; REQUEST_BYTES];
    message[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    message[6..8].copy_from_slice(&command.to_be_bytes());
    message[8..16].copy_from_slice(&cookie.to_be_bytes());
    message[16..24].copy_from_slice(&at.to_be_bytes());
    message[24..].copy_from_slice(&length.to_be_bytes());
    message
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The server may be gone already; then there is nothing to say good-bye to.
        let _ = self.request(COMMAND_DISCONNECT, 0, 0);
    }
}
