//! A connection while it is set up: one command at a time, waiting for its answer (TCP sections 3.4 and 3.6.2; Base section 6.3).
//!
//! The admin queue is a link for its whole life. An I/O queue begins as one, and is taken apart for the load once it is connected.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::export::nvme_tcp::wire::command::{Command, Completion, Sgl, sgl};
use crate::export::nvme_tcp::wire::fabrics::{Connect, ConnectData, connect};
use crate::export::nvme_tcp::wire::opcode;
use crate::export::nvme_tcp::wire::pdu::{CommonHeader, IcReq, IcResp, TermReq, kind};
use crate::export::nvme_tcp::wire::status::Status;

use super::address::{Address, Host};
use super::error::NvmeTcpError;
use super::frame::{COMMON, DIGEST, Digests, Frame, Terms};

/// How long a target may take to accept, and to answer a command that is no I/O.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The R2Ts of one write that the load generator takes at once.
const MOST_R2T: u32 = 16;
/// The least that a controller has to take in one H2CData PDU (TCP section 3.6.2.3).
const LEAST_H2C_DATA: u32 = 4096;
/// Bits 7:6 of a command's flags: the data is named by an SGL (Base section 3.3.3.1).
pub(super) const WITH_SGL: u8 = 0b01 << 6;
/// Bits of Connect's answer that ask for authentication (Base section 6.3, AUTHREQ).
const AUTHENTICATION: u32 = 0b11 << 17 | 0b11 << 16;

/// A connection that carries one command at a time.
pub(super) struct Link {
    stream: TcpStream,
    terms: Terms,
    next_cid: u16,
}

/// Which queue to make.
pub(super) struct QueueRequest {
    pub(super) number: u16,
    /// Entries; a queue that is full has one less in use.
    pub(super) entries: u32,
    /// [`connect::NEW_CONTROLLER`], or the controller that the admin queue got.
    pub(super) controller: u16,
    pub(super) keep_alive: Duration,
}

impl Link {
    /// Connects and agrees on the terms.
    pub(super) fn open(endpoint: &str, queue: u16, digests: Digests) -> Result<Self, NvmeTcpError> {
        let stream = dial(endpoint)?;
        let socket = |e| NvmeTcpError::socket(queue, "cannot set up the socket", e);
        stream.set_nodelay(true).map_err(socket)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(socket)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(socket)?;
        let terms = Terms { queue, digests, alignment: 4, most_h2c_data: 0 };
        let mut link = Self { stream, terms, next_cid: 0 };
        link.agree()?;
        Ok(link)
    }

    fn agree(&mut self) -> Result<(), NvmeTcpError> {
        let len = size_of::<IcReq>();
        let common = CommonHeader {
            kind: kind::IC_REQ,
            flags: 0,
            header_len: len as u8,
            data_offset: 0,
            len: (len as u32).into(),
        };
        let request = IcReq {
            common,
            digests: self.terms.digests.to_wire(),
            most_r2t: (MOST_R2T - 1).into(),
            ..IcReq::new_zeroed()
        };
        self.write(request.as_bytes(), "while the connection was initialized")?;
        let head: [u8; COMMON] = self.read("while the connection was initialized")?;
        let common = CommonHeader::read_from_bytes(&head).expect("as long");
        if common.kind == kind::C2H_TERM_REQ {
            return Err(self.terminated(&head));
        }
        if (common.kind, common.header_len, common.len.get()) != (kind::IC_RESP, len as u8, len as u32) {
            return Err(self
                .terms
                .breach(format!("an answer to ICReq that begins with {head:02x?}: is this NVMe/TCP?")));
        }
        let mut bytes = [0; size_of::<IcResp>()];
        bytes[..COMMON].copy_from_slice(&head);
        self.read_into(&mut bytes[COMMON..], "while the connection was initialized")?;
        let response = IcResp::read_from_bytes(&bytes).expect("as long");
        if response.version.get() != 0 || response.most_h2c_data.get() < LEAST_H2C_DATA {
            let (version, most) = (response.version, response.most_h2c_data);
            return Err(self.terms.breach(format!("ICResp with version {version} and MAXH2CDATA {most}")));
        }
        if response.digests != self.terms.digests.to_wire() {
            return Err(NvmeTcpError::Config("the target does not do the digests that were asked for".to_owned()));
        }
        self.terms.alignment = (usize::from(response.controller_data_alignment & 0x1F) + 1) * 4;
        self.terms.most_h2c_data = response.most_h2c_data.get() as usize;
        Ok(())
    }

    /// Makes the connection a queue; gives the controller's identifier.
    pub(super) fn connect(&mut self, to: &Address, host: &Host, queue: &QueueRequest) -> Result<u16, NvmeTcpError> {
        let data = ConnectData {
            host_id: host.id,
            controller_id: queue.controller.into(),
            subsystem_nqn: to.subsystem.to_wire(),
            host_nqn: host.nqn.to_wire(),
            ..ConnectData::new_zeroed()
        };
        let command = Connect {
            opcode: opcode::FABRICS,
            fabrics_type: opcode::fabrics::CONNECT,
            queue_id: queue.number.into(),
            queue_size: ((queue.entries - 1) as u16).into(),
            attributes: connect::NO_SQ_FLOW_CONTROL,
            keep_alive_ms: (queue.keep_alive.as_millis() as u32).into(),
            ..Connect::new_zeroed()
        };
        let command = Command::read_from_bytes(command.as_bytes()).expect("as long");
        let (completion, _) = self.command("Connect", command, data.as_bytes())?;
        let result = completion.result.get() as u32;
        if result & AUTHENTICATION != 0 {
            return Err(NvmeTcpError::Config(
                "the target wants the host to authenticate, which this load generator does not do".to_owned(),
            ));
        }
        Ok(result as u16)
    }

    /// Sends a command, with its data in the capsule, and waits for its answer. A status other than success is an error.
    pub(super) fn command(
        &mut self,
        name: &'static str,
        mut command: Command,
        data: &[u8],
    ) -> Result<(Completion, Vec<u8>), NvmeTcpError> {
        self.next_cid = self.next_cid.wrapping_add(1);
        command.cid = self.next_cid.into();
        command.flags |= WITH_SGL;
        if data.is_empty() {
            command.data.identifier = sgl::TRANSPORT;
        } else {
            command.data = Sgl { len: (data.len() as u32).into(), identifier: sgl::IN_CAPSULE, ..Sgl::default() };
        }
        let mut capsule = Vec::new();
        self.terms.push_capsule(&mut capsule, &command, data.len());
        capsule.extend_from_slice(data);
        if self.terms.digests.data && !data.is_empty() {
            capsule.extend_from_slice(&crc32c::crc32c(data).to_le_bytes());
        }
        self.write(&capsule, name)?;
        let (completion, answer) = self.answer(name, command.data.len.get() as usize)?;
        if completion.cid != command.cid {
            return Err(self.terms.breach(format!("an answer to command {}, which is not in flight", completion.cid)));
        }
        match Status::from_wire(completion.status.get()) {
            status if status.is_success() => Ok((completion, answer)),
            status => Err(NvmeTcpError::Refused { queue: self.terms.queue, command: name, status }),
        }
    }

    /// The data, at most `most` bytes of it, and the completion of the command in flight.
    fn answer(&mut self, name: &'static str, most: usize) -> Result<(Completion, Vec<u8>), NvmeTcpError> {
        let mut answer = Vec::new();
        loop {
            let head: [u8; COMMON] = self.read(name)?;
            let common = CommonHeader::read_from_bytes(&head).expect("as long");
            let mut header = vec![0; self.terms.header_bytes(&common)?];
            header[..COMMON].copy_from_slice(&head);
            self.read_into(&mut header[COMMON..], name)?;
            match self.terms.frame(&header)? {
                Frame::Terminate(request) => return Err(NvmeTcpError::terminated(self.terms.queue, &request)),
                Frame::Ready { .. } => return Err(self.terms.breach("R2T for a command whose data it has")),
                Frame::Response(completion) => return Ok((completion, answer)),
                Frame::Data { cid, offset, len, success, .. } => {
                    let (start, len) = (answer.len(), len as usize);
                    if offset as usize != start || start + len > most {
                        return Err(self.terms.breach(format!("{len} bytes at {offset} of {most} asked for")));
                    }
                    answer.resize(start + len, 0);
                    self.read_into(&mut answer[start..], name)?;
                    if self.terms.digests.data {
                        let digest: [u8; DIGEST] = self.read(name)?;
                        if digest != crc32c::crc32c(&answer[start..]).to_le_bytes() {
                            return Err(self.terms.breach("a wrong data digest"));
                        }
                    }
                    if success {
                        return Ok((Completion::new(cid, 0, Status::SUCCESS, 0), answer));
                    }
                }
            }
        }
    }

    /// Whether the connection is open and the target has said nothing on it.
    pub(super) fn is_quiet(&self) -> bool {
        let nothing = |e: std::io::Error| e.kind() == std::io::ErrorKind::WouldBlock;
        self.stream.set_nonblocking(true).is_ok() && self.stream.peek(&mut [0]).is_err_and(nothing)
    }

    /// The connection itself, now that it is a queue.
    pub(super) fn into_parts(self) -> (TcpStream, Terms) {
        (self.stream, self.terms)
    }

    fn terminated(&mut self, head: &[u8; COMMON]) -> NvmeTcpError {
        let mut bytes = [0; size_of::<TermReq>()];
        bytes[..COMMON].copy_from_slice(head);
        match self.read_into(&mut bytes[COMMON..], "while it ended the connection") {
            Ok(()) => NvmeTcpError::terminated(self.terms.queue, &TermReq::read_from_bytes(&bytes).expect("as long")),
            Err(e) => e,
        }
    }

    fn write(&mut self, bytes: &[u8], what: &'static str) -> Result<(), NvmeTcpError> {
        let queue = self.terms.queue;
        self.stream.write_all(bytes).map_err(|e| NvmeTcpError::socket(queue, what, e))
    }

    fn read<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], NvmeTcpError> {
        let mut bytes = [0; N];
        self.read_into(&mut bytes, what)?;
        Ok(bytes)
    }

    fn read_into(&mut self, bytes: &mut [u8], what: &'static str) -> Result<(), NvmeTcpError> {
        let queue = self.terms.queue;
        self.stream.read_exact(bytes).map_err(|e| match e.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                NvmeTcpError::Silent { queue, seconds: PATIENCE.as_secs(), waiting: 1 }
            }
            _ => NvmeTcpError::socket(queue, what, e),
        })
    }
}

fn dial(endpoint: &str) -> Result<TcpStream, NvmeTcpError> {
    let failed = |source| NvmeTcpError::Connect { endpoint: endpoint.to_owned(), source };
    let mut last = std::io::Error::other("the name has no address");
    for address in endpoint.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(failed(last))
}
