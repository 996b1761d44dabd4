//! A target that plays with one host at a time, over a socket pair: no network, and no time but the host's.
//!
//! The host's bytes are cut into PDUs by the lengths that they give, and each is sent when the target has nothing more to say about those before:
//! so data may follow the R2T that asks for it, and the same bytes lead to the same conversation. Disks and reservations keep what a host did to
//! them.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::crypto::xts::{Kernel, SectorSize};
use crate::device::{DeviceConfig, SharedDevice};
use crate::disk::Disk;
use crate::memory::HugePages;
use crate::reactor::{RECEIVE_BYTES, Reactor, ReactorConfig, ReactorThread, allowed_cpus, yield_now};

use super::super::auth::HostPolicy;
use super::super::subsystem::{Host, HostId};
use super::super::wire::command::{Command, sgl};
use super::super::wire::fabrics::{Connect, ConnectData, Property, connect};
use super::super::wire::opcode::{FABRICS, fabrics};
use super::super::wire::pdu::{CapsuleCmd, CommonHeader, IcReq, kind};
use super::super::wire::property::cc;
use super::super::{NvmeTcpConfig, NvmeTcpServer, Placement};

/// The account.
pub const ACCOUNT: &str = "fuzz";
/// A host that need not authenticate.
pub const OPEN_HOST: &str = "nqn.2014-08.org.example:a";
/// One that has to.
pub const PROVING_HOST: &str = "nqn.2014-08.org.example:c";
/// The identifier of [`OPEN_HOST`].
pub const HOST_ID: [u8; 16] = [0x61; 16];
/// A controller of [`OPEN_HOST`] that is always there, so that a host may connect to an I/O queue.
pub const CONTROLLER: u16 = 1;

/// Turns of the reactor without a byte from the target after which it has nothing more to say.
const TURNS_UNTIL_QUIET: u32 = 12;
/// A connection that has not ended by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running target.
pub struct Playground {
    /// Both are there until the end.
    server: Option<NvmeTcpServer>,
    reactor: Option<ReactorThread>,
    _admin: UnixStream,
    /// Bytes that were free at the start.
    free_bytes: Cell<usize>,
}

impl Default for Playground {
    fn default() -> Self {
        Self::new()
    }
}

impl Playground {
    /// Starts the target: two small disks, and a controller for the open host.
    ///
    /// # Panics
    /// If it does not start.
    pub fn new() -> Self {
        let config = ReactorConfig { memory_mib: 16, hugepages: HugePages::Never, ..ReactorConfig::default() };
        let core = *allowed_cpus().last().expect("a core");
        let reactor = ReactorThread::start(core, &config).expect("a reactor");
        let config = NvmeTcpConfig { listen: vec!["127.0.0.1:0".parse().expect("an address")], ..Default::default() };
        let server = NvmeTcpServer::start(&config, "fuzz-1", &[reactor.remote().clone()]).expect("a server");
        server.add_account(ACCOUNT).expect("an account");
        let authentication = Some(Arc::new(HostPolicy::example(PROVING_HOST)));
        let hosts = [("a", OPEN_HOST, Some(HostId(HOST_ID)), None), ("c", PROVING_HOST, None, authentication)];
        for (name, nqn, id, authentication) in hosts {
            let host = Host { name: name.to_owned(), nqn: nqn.parse().expect("an NQN"), id, authentication };
            server.add_host(ACCOUNT, host).expect("a host");
        }
        for (nsid, disk) in [(1, encrypted()), (2, plain())] {
            let (account, uuid) = (ACCOUNT.to_owned(), [nsid as u8; 16]);
            let placement = Placement { disk: disk.clone(), account, nsid: Some(nsid), uuid, shared: true };
            server.add_disk(&placement).expect("a namespace");
            server.attach(disk.name(), "a").expect("attached");
            server.attach(disk.name(), "c").expect("attached");
        }
        let admin = become_admin(&server);
        let free_bytes = Cell::new(reactor.remote().call(|reactor| reactor.buffers().free_bytes()));
        Self { server: Some(server), reactor: Some(reactor), _admin: admin, free_bytes }
    }

    /// Lets a host say these bytes on a connection of its own; gives what the target said.
    ///
    /// # Panics
    /// If the connection does not end, or leaves buffers behind.
    pub fn play(&self, bytes: &[u8]) -> Vec<u8> {
        let (host, target) = UnixStream::pair().expect("a socket pair");
        host.set_nonblocking(true).expect("set");
        self.server().serve(target.into());
        let (done, heard) = sync_channel(1);
        let bytes = bytes.to_vec();
        self.reactor().remote().post(move |reactor| {
            let task_reactor = reactor.clone();
            reactor.spawn(async move {
                let said = converse(&task_reactor, host, &bytes).await;
                done.send(said).expect("the player waits");
            });
        });
        let said = heard.recv().expect("the reactor runs").expect("the conversation ends");
        self.expect_idle();
        said
    }

    fn server(&self) -> &NvmeTcpServer {
        self.server.as_ref().expect("running")
    }

    fn reactor(&self) -> &ReactorThread {
        self.reactor.as_ref().expect("running")
    }

    /// The connection ends soon after its socket, and then every buffer is back; receive buffers, which all connections share, may have become more.
    fn expect_idle(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.server().connections() > 1 {
            assert!(Instant::now() < deadline, "the connection does not end");
            std::thread::yield_now();
        }
        let before = self.free_bytes.get();
        let after = self.reactor().remote().call(|reactor| reactor.buffers().free_bytes());
        assert!(
            after <= before && (before - after).is_multiple_of(RECEIVE_BYTES),
            "buffers are lost: {before} {after}"
        );
        self.free_bytes.set(after);
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        // Ends the connections, so that the reactor can stop.
        self.server = None;
        if let Some(reactor) = self.reactor.take() {
            reactor.remote().stop();
            reactor.join();
        }
    }
}

/// Sends PDU after PDU, and closes when the target has said everything.
async fn converse(reactor: &Reactor, mut host: UnixStream, mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    while !bytes.is_empty() {
        let (pdu, rest) = bytes.split_at(pdu_len(bytes));
        bytes = rest;
        if !send(&mut host, pdu, &mut said).await? {
            break;
        }
        listen(&mut host, &mut said, TURNS_UNTIL_QUIET).await?;
    }
    // Whoever waits for an event, or for data, goes when the host does.
    let _ = host.shutdown(Shutdown::Write);
    let until = reactor.clock().now();
    while listen(&mut host, &mut said, TURNS_UNTIL_QUIET).await? {
        if reactor.clock().now().since(until) > reactor.clock().ticks(PATIENCE) {
            return Err(io::Error::other("the target does not close the connection"));
        }
    }
    Ok(said)
}

/// Where the first PDU ends, if it gives a length that can be.
fn pdu_len(bytes: &[u8]) -> usize {
    let len = CommonHeader::read_from_prefix(bytes).map_or(0, |(common, _)| common.len.get() as usize);
    if (size_of::<CommonHeader>()..=bytes.len()).contains(&len) { len } else { bytes.len() }
}

/// Sends all of it; false if the target has closed the connection.
async fn send(host: &mut UnixStream, mut bytes: &[u8], said: &mut Vec<u8>) -> io::Result<bool> {
    while !bytes.is_empty() {
        match host.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                // A target that takes nothing more has something to say, or closes the connection.
                if !listen(host, said, 1).await? {
                    return Ok(false);
                }
            }
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Takes what the target says until it has been quiet for so many turns; false if it has closed the connection.
async fn listen(host: &mut UnixStream, said: &mut Vec<u8>, turns: u32) -> io::Result<bool> {
    let mut quiet = 0;
    let mut piece = [0; 4096];
    while quiet < turns {
        match host.read(&mut piece) {
            Ok(0) => return Ok(false),
            Ok(len) => {
                said.extend_from_slice(&piece[..len]);
                quiet = 0;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                quiet += 1;
                yield_now().await;
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

fn device(name: &str) -> Arc<SharedDevice> {
    let text = format!("name = '{name}'\nkind = 'memory'\nsize = '1 MiB'\nhugepages = 'never'");
    let config: DeviceConfig = toml::from_str(&text).expect("a device");
    Arc::new(SharedDevice::open(&config).expect("opened"))
}

fn encrypted() -> Arc<Disk> {
    Disk::with_random_key("encrypted", device("m0"), SectorSize::B512, Kernel::best()).expect("a disk")
}

fn plain() -> Arc<Disk> {
    Disk::plain("plain", device("m1"), SectorSize::B4096).expect("a disk")
}

/// Connects the open host to an Admin queue and enables the controller.
fn become_admin(server: &NvmeTcpServer) -> UnixStream {
    let (mut host, target) = UnixStream::pair().expect("a socket pair");
    host.set_read_timeout(Some(PATIENCE)).expect("set");
    server.serve(target.into());
    let mut request = IcReq::new_zeroed();
    request.common.header_len = 128;
    request.common.len = 128.into();
    host.write_all(request.as_bytes()).expect("sent");
    host.read_exact(&mut [0; 128]).expect("an ICResp");
    let mut data = ConnectData::new_zeroed();
    data.host_id = HOST_ID;
    data.controller_id = connect::NEW_CONTROLLER.into();
    let subsystem = server.subsystems().subsystem(ACCOUNT).expect("added").nqn().to_string();
    data.subsystem_nqn[..subsystem.len()].copy_from_slice(subsystem.as_bytes());
    data.host_nqn[..OPEN_HOST.len()].copy_from_slice(OPEN_HOST.as_bytes());
    let mut connect = Connect::new_zeroed();
    (connect.opcode, connect.flags, connect.fabrics_type) = (FABRICS, 0x40, fabrics::CONNECT);
    (connect.data.identifier, connect.data.len) = (sgl::IN_CAPSULE, (size_of::<ConnectData>() as u32).into());
    connect.queue_size = 31.into();
    let controller = ask(&mut host, connect.as_bytes(), data.as_bytes());
    assert_eq!(controller, u64::from(CONTROLLER), "the first controller");
    let mut enable = Property::new_zeroed();
    (enable.opcode, enable.flags, enable.fabrics_type) = (FABRICS, 0x40, fabrics::PROPERTY_SET);
    // Entries of 64 and 16 bytes.
    (enable.offset, enable.value) = (cc::OFFSET.into(), 0x0046_0001.into());
    ask(&mut host, enable.as_bytes(), &[]);
    host
}

/// A command that succeeds; gives what it returns.
fn ask(host: &mut UnixStream, command: &[u8], data: &[u8]) -> u64 {
    let header_len = size_of::<CapsuleCmd>();
    let common = CommonHeader {
        kind: kind::CAPSULE_CMD,
        flags: 0,
        header_len: header_len as u8,
        data_offset: if data.is_empty() { 0 } else { header_len as u8 },
        len: ((header_len + data.len()) as u32).into(),
    };
    let command = Command::read_from_bytes(command).expect("64 bytes");
    host.write_all(&[common.as_bytes(), command.as_bytes(), data].concat()).expect("sent");
    let mut answer = [0; 24];
    host.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[22..], [0, 0], "the status");
    u64::from_le_bytes(answer[8..16].try_into().expect("eight bytes"))
}
