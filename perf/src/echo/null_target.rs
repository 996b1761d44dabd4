//! A target without data, for loading the load generator: it answers each I/O command at once with bytes that never change.
//!
//! It serves one host that it trusts, in memory of the harness: it is no target for anything else. Reads are answered with data and SUCCESS,
//! writes take their data in the capsule. Facts: NVMe/TCP Transport 1.0 section 3.6.2, NVM Express Base 2.0 sections 3.1.3, 5.17 and 6.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom::export::nvme_tcp::wire::command::{Command, Completion};
use strongroom::export::nvme_tcp::wire::fabrics::Property;
use strongroom::export::nvme_tcp::wire::pdu::{
    CapsuleCmd, CapsuleResp, CommonHeader, Data, IcReq, IcResp, flags, kind,
};
use strongroom::export::nvme_tcp::wire::property::{cap, csts};
use strongroom::export::nvme_tcp::wire::status::Status;
use strongroom::export::nvme_tcp::wire::{identify, opcode};
use strongroom::reactor::pin_current_thread;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::failure::{Context, Result};

use super::{ANSWER, CAPSULE};

/// Bytes of the largest transfer, in a capsule too.
const LARGEST: usize = 128 << 10;
/// Sectors of 4096 bytes: 512 MiB.
const SECTORS: u64 = 128 << 10;
/// Commands that are answered by one send.
const BATCH: usize = 128;
/// CAP: queues of 256 entries, ready within half a second (Base section 3.1.3.1).
const CAPABILITIES: u64 = 255 | 1 << cap::TO_SHIFT;

/// The target while it serves.
pub struct NullTarget {
    /// Where.
    pub address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl NullTarget {
    /// Serves on a core until it is dropped; connections end with their client.
    pub fn start(core: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(|| "cannot listen on loopback".into())?;
        let address = listener.local_addr().context(|| "cannot ask for the port".into())?;
        let ended = Arc::new(AtomicBool::new(false));
        let stop = ended.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // A client that goes away ends its connection only.
                std::thread::spawn(move || Peer::new(socket).and_then(|peer| peer.serve(core)));
            }
        });
        Ok(Self { address, ended })
    }
}

impl Drop for NullTarget {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener. If it is gone already, there is nobody to wake.
        let _ = TcpStream::connect(self.address);
    }
}

/// A connection that is being set up, or an admin queue.
struct Peer {
    socket: TcpStream,
    enabled: bool,
}

impl Peer {
    fn new(mut socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let mut request = [0; size_of::<IcReq>()];
        socket.read_exact(&mut request)?;
        let response = IcResp {
            common: common(kind::IC_RESP, 0, 128, 0, 128),
            most_h2c_data: (LARGEST as u32).into(),
            ..IcResp::new_zeroed()
        };
        socket.write_all(response.as_bytes())?;
        Ok(Self { socket, enabled: false })
    }

    /// Answers commands until the connection is an I/O queue, and loads that from the core.
    fn serve(mut self, core: usize) -> io::Result<()> {
        loop {
            let mut bytes = [0; CAPSULE];
            self.socket.read_exact(&mut bytes)?;
            let capsule = CapsuleCmd::read_from_bytes(&bytes).expect("as long");
            let mut data = vec![0; capsule.common.len.get() as usize - CAPSULE];
            self.socket.read_exact(&mut data)?;
            let fabrics = Property::read_from_bytes(capsule.command.as_bytes()).expect("as long");
            let result = match (fabrics.opcode, fabrics.fabrics_type, fabrics.offset.get()) {
                (opcode::FABRICS, opcode::fabrics::CONNECT, _) => 1,
                (opcode::FABRICS, opcode::fabrics::PROPERTY_SET, _) => {
                    self.enabled = true;
                    0
                }
                (opcode::FABRICS, _, cap::OFFSET) => CAPABILITIES,
                (opcode::FABRICS, _, csts::OFFSET) => self.enabled.into(),
                (opcode::admin::IDENTIFY, ..) => {
                    self.identify(&capsule.command)?;
                    0
                }
                _ => 0,
            };
            self.socket.write_all(response(capsule.command.cid.get(), result).as_bytes())?;
            // Connect's queue identifier, which is not 0 for an I/O queue (Base section 6.3).
            if fabrics.fabrics_type == opcode::fabrics::CONNECT && capsule.command.as_bytes()[42..44] != [0, 0] {
                pin_current_thread(core)?;
                return Queue::new(self.socket)?.serve();
            }
        }
    }

    fn identify(&mut self, command: &Command) -> io::Result<()> {
        let mut data = [0; identify::LEN];
        match command.cdw10.get() as u8 {
            identify::cns::CONTROLLER => {
                let controller = identify::Controller::mut_from_bytes(&mut data).expect("as long");
                controller.mdts = 5;
                controller.ioccsz = ((64 + LARGEST as u32) / 16).into();
            }
            identify::cns::NAMESPACE => {
                let namespace = identify::Namespace::mut_from_bytes(&mut data).expect("as long");
                namespace.nsze = SECTORS.into();
                namespace.lba_formats[0].data = 12;
            }
            // The list of active namespaces: one.
            _ => data[0] = 1,
        }
        self.socket.write_all(data_header(command.cid.get(), identify::LEN, flags::LAST).as_bytes())?;
        self.socket.write_all(&data)
    }
}

/// A header, and how much data follows.
#[derive(Clone, Copy)]
struct Answer {
    header: [u8; ANSWER],
    data: usize,
}

/// An I/O queue.
struct Queue {
    socket: TcpStream,
    buffer: Box<[u8]>,
    filled: usize,
    /// Bytes of a capsule's data that are still to come, and what is answered then.
    skip: usize,
    next: Option<Answer>,
    answers: Vec<Answer>,
    data: Box<[u8]>,
}

impl Queue {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (buffer, data) = (vec![0; 256 << 10].into(), vec![0x5A; LARGEST].into());
        Ok(Self { socket, buffer, filled: 0, skip: 0, next: None, answers: Vec::new(), data })
    }

    fn serve(mut self) -> io::Result<()> {
        loop {
            match self.socket.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(()),
                Ok(bytes) => self.filled += bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Err(e) => return Err(e),
            }
            self.parse();
            self.answer()?;
        }
    }

    /// Notes an answer for each capsule whose data is there.
    fn parse(&mut self) {
        let mut at = 0;
        loop {
            let taken = self.skip.min(self.filled - at);
            (at, self.skip) = (at + taken, self.skip - taken);
            if self.skip > 0 {
                break;
            }
            self.answers.extend(self.next.take());
            let Ok((capsule, _)) = CapsuleCmd::ref_from_prefix(&self.buffer[at..self.filled]) else { break };
            let (cid, len) = (capsule.command.cid.get(), capsule.command.data.len.get() as usize);
            self.next = Some(if capsule.command.opcode == opcode::io::READ {
                let header = data_header(cid, len, flags::LAST | flags::SUCCESS);
                Answer { header: header.as_bytes().try_into().expect("as long"), data: len.min(LARGEST) }
            } else {
                Answer { header: response(cid, 0).as_bytes().try_into().expect("as long"), data: 0 }
            });
            self.skip = capsule.common.len.get() as usize - CAPSULE;
            at += CAPSULE;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
    }

    fn answer(&mut self) -> io::Result<()> {
        for answers in self.answers.chunks(BATCH) {
            let mut slices = [IoSlice::new(&[]); 2 * BATCH];
            for (pair, answer) in slices.chunks_exact_mut(2).zip(answers) {
                pair[0] = IoSlice::new(&answer.header);
                pair[1] = IoSlice::new(&self.data[..answer.data]);
            }
            let mut left = &mut slices[..2 * answers.len()];
            while !left.is_empty() {
                match self.socket.write_vectored(left) {
                    Ok(bytes) => IoSlice::advance_slices(&mut left, bytes),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e),
                }
            }
        }
        self.answers.clear();
        Ok(())
    }
}

fn common(kind: u8, flags: u8, header: usize, data_offset: usize, len: usize) -> CommonHeader {
    let (header_len, data_offset) = (header as u8, data_offset as u8);
    CommonHeader { kind, flags, header_len, data_offset, len: (len as u32).into() }
}

fn data_header(cid: u16, len: usize, flags: u8) -> Data {
    Data {
        common: common(kind::C2H_DATA, flags, ANSWER, ANSWER, ANSWER + len),
        cid: cid.into(),
        len: (len as u32).into(),
        ..Data::new_zeroed()
    }
}

fn response(cid: u16, result: u64) -> CapsuleResp {
    let completion = Completion::new(cid, 0, Status::SUCCESS, result);
    CapsuleResp { common: common(kind::CAPSULE_RESP, 0, ANSWER, 0, ANSWER), completion }
}
