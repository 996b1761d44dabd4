//! An NBD connection that can be held open without load, for the idle measurement: handshake and reads, nothing more.
//!
//! Facts: the NBD protocol document (doc/proto.md of the nbd project), sections "Fixed newstyle negotiation", "NBD_OPT_EXPORT_NAME" and
//! "Simple reply message". All numbers are big-endian.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::failure::{Context, Failure, Result};

const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
const FLAG_NO_ZEROES: u16 = 1 << 1;
const OPT_EXPORT_NAME: u32 = 1;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const COMMAND_READ: u16 = 0;
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

    /// Reads once.
    pub fn read(&mut self, at: u64, length: u32) -> Result<Vec<u8>> {
        let data = self.read_once(at, length).context(|| format!("cannot read {length} bytes at {at} over NBD"))?;
        data.map_err(|error| Failure::Answer {
            program: "the NBD server".into(),
            why: format!("error {error} to a read"),
        })
    }

    fn read_once(&mut self, at: u64, length: u32) -> io::Result<std::result::Result<Vec<u8>, u32>> {
        self.request(COMMAND_READ, at, length)?;
        let magic = u32::from_be_bytes(self.take()?);
        let error = u32::from_be_bytes(self.take()?);
        let cookie = u64::from_be_bytes(self.take()?);
        if (magic, cookie) != (SIMPLE_REPLY_MAGIC, self.cookie) {
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
        let mut message = REQUEST_MAGIC.to_be_bytes().to_vec();
        message.extend(0_u16.to_be_bytes());
        message.extend(command.to_be_bytes());
        message.extend(self.cookie.to_be_bytes());
        message.extend(at.to_be_bytes());
        message.extend(length.to_be_bytes());
        self.stream.write_all(&message)
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The server may be gone already; then there is nothing to say good-bye to.
        let _ = self.request(COMMAND_DISCONNECT, 0, 0);
    }
}
