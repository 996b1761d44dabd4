//! The load over NBD: one connection over a Unix socket, and a thread that spins on it and keeps requests in flight.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::{Context, Result};
use crate::nbd_client::{Connection, READ, REPLY_BYTES, REPLY_MAGIC, REQUEST_BYTES, WRITE, request};

use super::{BLOCK, Load};

/// Bytes of one receive.
const RECEIVE: usize = 256 << 10;
/// Requests between two looks at the clock.
const UNLOOKED: u32 = 64;

/// Which blocks are asked for.
pub enum Places {
    /// Each once, in order.
    All,
    /// Any, for so long.
    Random(Duration),
}

/// Keeps requests in flight on the disk of an export; `blocks` are on it. Gives the share of looks at the socket that found nothing, in percent.
pub fn load(socket: &Path, export: &str, load: Load, blocks: u64, places: Places) -> Result<f64> {
    let mut connection = Connection::open(socket, export)?;
    let stream = connection.stream().try_clone().on_file("use", socket)?;
    Client::new(stream, load).run(blocks, &places).on_file("load", socket)
}

struct Client {
    stream: UnixStream,
    load: Load,
    payload: Vec<u8>,
    /// Requests that are not sent yet, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    incoming: Vec<u8>,
    filled: usize,
    cookie: u64,
    in_flight: usize,
    looks: u64,
    empty_looks: u64,
}

impl Client {
    fn new(stream: UnixStream, load: Load) -> Self {
        Self {
            stream,
            load,
            payload: (0..BLOCK).map(|i| (i * 7) as u8).collect(),
            outgoing: Vec::new(),
            sent: 0,
            incoming: vec![0; RECEIVE],
            filled: 0,
            cookie: 0,
            in_flight: 0,
            looks: 0,
            empty_looks: 0,
        }
    }

    fn run(mut self, blocks: u64, places: &Places) -> io::Result<f64> {
        self.stream.set_nonblocking(true)?;
        let begun = Instant::now();
        let (mut state, mut next, mut unlooked, mut over) = (0x9e37_79b9_7f4a_7c15_u64, 0, 0, false);
        while !over || self.in_flight > 0 {
            while !over && self.in_flight < self.load.depth {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let block = match places {
                    Places::All => next,
                    Places::Random(_) => state % blocks,
                };
                self.ask(block);
                next += 1;
                unlooked += 1;
                over = match places {
                    Places::All => next == blocks,
                    Places::Random(time) => unlooked % UNLOOKED == 0 && begun.elapsed() >= *time,
                };
            }
            self.send()?;
            self.receive()?;
        }
        self.stream.set_nonblocking(false)?;
        Ok(100.0 * self.empty_looks as f64 / self.looks.max(1) as f64)
    }

    fn ask(&mut self, block: u64) {
        self.cookie += 1;
        self.in_flight += 1;
        let command = if self.load.is_write { WRITE } else { READ };
        let message: [u8; REQUEST_BYTES] = request(command, self.cookie, block * BLOCK as u64, BLOCK as u32);
        self.outgoing.extend(message);
        if self.load.is_write {
            self.outgoing.extend(&self.payload);
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        self.looks += 1;
        match self.stream.read(&mut self.incoming[self.filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => self.filled += bytes,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.empty_looks += 1;
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        let answer = REPLY_BYTES + if self.load.is_write { 0 } else { BLOCK };
        let whole = self.filled / answer * answer;
        for reply in self.incoming[..whole].chunks_exact(answer) {
            if reply[..4] != REPLY_MAGIC.to_be_bytes() || reply[4..8] != [0; 4] {
                return Err(io::Error::other("the server has refused a request"));
            }
            self.in_flight -= 1;
        }
        self.incoming.copy_within(whole..self.filled, 0);
        self.filled -= whole;
        Ok(())
    }
}
