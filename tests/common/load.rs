//! A host that writes to the namespace 1 of the account `acme` and knows what every block has to be, for tests that change what is behind the namespace
//! meanwhile.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use serde_json::json;
use strongroom::export::nvme_tcp::wire::opcode::io as op;
use uuid::Uuid;

use crate::keeper::until;
use crate::nvme_client::{Digests, Host, NEW_CONTROLLER, Wish, blocks, command};
use crate::operator::Target;

const SUBSYSTEM: &str = "nqn.2026-11.io.strongroom:acme";
/// What every block begins with.
pub const MARKER: &[u8; 16] = b"plain to be seen";
pub const BLOCK: usize = 4096;
/// Blocks of one large write.
pub const MANY: u64 = 16;
/// Blocks that are written.
pub const BLOCKS: u64 = 2048;

/// Where the target is, and who connects.
#[derive(Clone, Copy)]
pub struct At {
    pub address: SocketAddr,
    /// The UUID in the host's NQN, and its identifier.
    pub host: Uuid,
}

/// Where a target listens.
pub fn nvme_address(target: &Target) -> SocketAddr {
    let exports = target.client().result("export.list", json!({}));
    exports["nvme_tcp"]["listen"][0].as_str().expect("an address").parse().expect("an address")
}

/// An I/O queue of the host, with the Admin queue that keeps it.
pub struct Queue {
    _admin: Host,
    pub io: Host,
}

impl Queue {
    pub fn connect(at: At) -> Self {
        let wish = Wish {
            subsystem: SUBSYSTEM.to_owned(),
            host: format!("nqn.2014-08.org.nvmexpress:uuid:{}", at.host),
            host_id: at.host.into_bytes(),
            controller: NEW_CONTROLLER,
            queue: 0,
            size: 31,
            keep_alive_ms: 0,
            attributes: 0,
            format: 0,
        };
        let mut admin = Host::initialized(at.address, Digests::NONE, 1);
        let controller = admin.become_admin(&wish);
        let mut io = Host::initialized(at.address, Digests::NONE, 1);
        assert!(io.connect(&Wish { controller, queue: 1, ..wish }).status.is_success());
        Self { _admin: admin, io }
    }

    pub fn write(&mut self, block: u64, data: &[u8]) {
        let command = blocks(op::WRITE, block, (data.len() / BLOCK) as u32);
        // Small writes come in their capsules; the target asks for the data of others.
        let done = if data.len() == BLOCK { self.io.run(command, data) } else { self.io.run_asked(command, data) };
        assert!(done.status.is_success(), "write of block {block}: {}", done.status);
    }

    pub fn read(&mut self, block: u64) -> Vec<u8> {
        let done = self.io.fetch(blocks(op::READ, block, 1), BLOCK);
        assert!(done.status.is_success(), "read of block {block}: {}", done.status);
        done.data
    }

    /// What was answered is durable.
    pub fn flush(&mut self) {
        let done = self.io.run(command(op::FLUSH, 1), &[]);
        assert!(done.status.is_success(), "flush: {}", done.status);
    }

    pub fn discard(&mut self, block: u64) {
        let mut command = blocks(op::WRITE_ZEROES, block, 1);
        command.cdw12 = (1u32 << 25).into();
        let done = self.io.run(command, &[]);
        assert!(done.status.is_success(), "write zeroes of block {block}: {}", done.status);
    }
}

pub fn content(block: u64, version: u64) -> Vec<u8> {
    if version == 0 {
        return vec![0; BLOCK];
    }
    let mut bytes = vec![(block ^ version) as u8; BLOCK];
    bytes[..16].copy_from_slice(MARKER);
    bytes[16..24].copy_from_slice(&block.to_le_bytes());
    bytes[24..32].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// The version of each block that was answered.
pub type Written = BTreeMap<u64, u64>;

/// Writes until it is told to stop; each write is answered before the next.
pub struct Load {
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    thread: JoinHandle<Written>,
}

impl Load {
    pub fn start(at: At, mut written: Written) -> Self {
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), writes.clone());
        let thread = std::thread::spawn(move || {
            let mut queue = Queue::connect(at);
            let mut version = 1_000_000;
            while !stopped.load(Ordering::Relaxed) {
                version += 1;
                let block = version * 7919 % (BLOCKS - MANY);
                match version % 8 {
                    0 => {
                        queue.discard(block);
                        written.insert(block, 0);
                    }
                    1 => {
                        let data: Vec<u8> = (block..block + MANY).flat_map(|block| content(block, version)).collect();
                        queue.write(block, &data);
                        written.extend((block..block + MANY).map(|block| (block, version)));
                    }
                    2 => {
                        let version = written.get(&block).copied().unwrap_or(0);
                        assert!(queue.read(block) == content(block, version), "block {block} while it is converted");
                    }
                    _ => {
                        queue.write(block, &content(block, version));
                        written.insert(block, version);
                    }
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            written
        });
        Self { stop, writes, thread }
    }

    pub fn go_on_for(&self, more: u64) {
        let before = self.writes.load(Ordering::Relaxed);
        until("the host has written more", || {
            self.thread.is_finished() || self.writes.load(Ordering::Relaxed) >= before + more
        });
    }

    pub fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no command failed")
    }
}

/// Writes every third block and returns what is there.
pub fn fill(at: At) -> Written {
    let mut queue = Queue::connect(at);
    let written: Written = (0..BLOCKS).step_by(3).map(|block| (block, block + 1)).collect();
    written.iter().for_each(|(block, version)| queue.write(*block, &content(*block, *version)));
    written
}

pub fn expect(at: At, written: &Written) {
    let mut queue = Queue::connect(at);
    for block in 0..BLOCKS {
        let version = written.get(&block).copied().unwrap_or(0);
        assert!(queue.read(block) == content(block, version), "block {block} is not what was answered last");
    }
}
