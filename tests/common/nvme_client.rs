//! A small NVMe/TCP host that sends exactly what a test wants, right or wrong. It shares the wire's structs with the target and nothing else.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use strongroom::export::nvme_tcp::wire::command::{Command, Completion, Sgl, sgl};
use strongroom::export::nvme_tcp::wire::fabrics::{Connect, ConnectData, Property};
use strongroom::export::nvme_tcp::wire::opcode::{self, fabrics};
use strongroom::export::nvme_tcp::wire::pdu::{self, CommonHeader, IcReq, IcResp, flags, kind};
use strongroom::export::nvme_tcp::wire::status::Status;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// A test that hears nothing for so long fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bits 7:6 of a command's flags: data is named by an SGL.
pub const SGL: u8 = 0x40;
/// What Linux writes to CC: enabled, entries of 64 and 16 bytes.
pub const ENABLE: u32 = 0x0046_0001;
/// The property Controller Configuration.
pub const CC: u32 = 0x14;
/// Asks for a new controller.
pub const NEW_CONTROLLER: u16 = 0xFFFF;

/// A fatal error status of a termination request.
pub const FIELD: u16 = 1;
pub const SEQUENCE: u16 = 2;
pub const HEADER_DIGEST: u16 = 3;
pub const OUT_OF_RANGE: u16 = 4;
pub const LIMIT: u16 = 5;
pub const PARAMETER: u16 = 6;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    pub header: bool,
    pub data: bool,
}

impl Digests {
    pub const NONE: Self = Self { header: false, data: false };
    pub const BOTH: Self = Self { header: true, data: true };

    /// A PDU as it should be: the header (after the common one), data, and the digests.
    pub fn pdu(self, kind: u8, more_flags: u8, header: &(impl IntoBytes + Immutable), data: &[u8]) -> Vec<u8> {
        let header_len = size_of::<CommonHeader>() + header.as_bytes().len();
        let data_offset = header_len + if self.header { 4 } else { 0 };
        let with_data_digest = self.data && !data.is_empty();
        let len = data_offset + data.len() + if with_data_digest { 4 } else { 0 };
        let common = CommonHeader {
            kind,
            flags: more_flags
                | if self.header { flags::HEADER_DIGEST } else { 0 }
                | if with_data_digest { flags::DATA_DIGEST } else { 0 },
            header_len: header_len as u8,
            data_offset: if data.is_empty() { 0 } else { data_offset as u8 },
            len: (len as u32).into(),
        };
        let mut bytes = [common.as_bytes(), header.as_bytes()].concat();
        if self.header {
            bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        }
        bytes.extend(data);
        if with_data_digest {
            bytes.extend(crc32c::crc32c(data).to_le_bytes());
        }
        bytes
    }

    /// A command capsule.
    pub fn capsule(self, command: &Command, data: &[u8]) -> Vec<u8> {
        self.pdu(kind::CAPSULE_CMD, 0, command, data)
    }

    /// A data PDU.
    pub fn data_pdu(self, cid: u16, tag: u16, offset: usize, data: &[u8], last: bool) -> Vec<u8> {
        let whole = pdu::Data {
            common: CommonHeader::new_zeroed(),
            cid: cid.into(),
            tag: tag.into(),
            offset: (offset as u32).into(),
            len: (data.len() as u32).into(),
            reserved: [0; 4],
        };
        let mut header = [0u8; 16];
        header.copy_from_slice(&whole.as_bytes()[size_of::<CommonHeader>()..]);
        self.pdu(kind::H2C_DATA, if last { flags::LAST } else { 0 }, &header, data)
    }

    /// Makes the header digest fit again after a change of the header.
    pub fn reseal(self, bytes: &mut [u8]) {
        if self.header {
            let len = usize::from(bytes[2]);
            let digest = crc32c::crc32c(&bytes[..len]).to_le_bytes();
            bytes[len..len + 4].copy_from_slice(&digest);
        }
    }
}

/// What the target sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Completion { cid: u16, status: Status, result: u64, sq_head: u16 },
    Data { cid: u16, offset: usize, bytes: Vec<u8>, last: bool, success: bool },
    R2t { cid: u16, tag: u16, offset: usize, len: usize },
    Terminated { status: u16, information: u32 },
    Closed,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub status: Status,
    pub result: u64,
    pub data: Vec<u8>,
}

/// A Connect that fits, to be spoilt.
#[derive(Clone, Debug)]
pub struct Wish {
    pub subsystem: String,
    pub host: String,
    pub host_id: [u8; 16],
    pub controller: u16,
    pub queue: u16,
    /// Entries less one.
    pub size: u16,
    pub keep_alive_ms: u32,
    pub attributes: u8,
    pub format: u16,
}

impl Wish {
    pub fn command(&self) -> Command {
        let mut command = Connect::new_zeroed();
        command.opcode = opcode::FABRICS;
        command.flags = SGL;
        command.fabrics_type = fabrics::CONNECT;
        command.record_format = self.format.into();
        command.queue_id = self.queue.into();
        command.queue_size = self.size.into();
        command.keep_alive_ms = self.keep_alive_ms.into();
        command.attributes = self.attributes;
        Command::read_from_bytes(command.as_bytes()).expect("64 bytes")
    }

    pub fn data(&self) -> Vec<u8> {
        let mut data = ConnectData::new_zeroed();
        data.host_id = self.host_id;
        data.controller_id = self.controller.into();
        data.subsystem_nqn[..self.subsystem.len()].copy_from_slice(self.subsystem.as_bytes());
        data.host_nqn[..self.host.len()].copy_from_slice(self.host.as_bytes());
        data.as_bytes().to_vec()
    }
}

/// A connection at any stage.
pub struct Host {
    pub stream: TcpStream,
    pub digests: Digests,
    next_cid: u16,
}

impl Host {
    /// A connection on which nothing was said.
    pub fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_write_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Self { stream, digests: Digests::NONE, next_cid: 0 }
    }

    /// An initialized connection.
    pub fn initialized(address: SocketAddr, digests: Digests, most_r2t: u32) -> Self {
        let mut host = Self::silent(address);
        host.send(&ic_req(digests, most_r2t));
        let mut answer = [0; size_of::<IcResp>()];
        host.stream.read_exact(&mut answer).expect("an ICResp");
        let answer = IcResp::read_from_bytes(&answer).expect("as many bytes");
        assert_eq!((answer.common.kind, answer.common.len.get()), (kind::IC_RESP, 128));
        assert_eq!(answer.digests, u8::from(digests.header) | u8::from(digests.data) << 1);
        host.digests = digests;
        host
    }

    /// Connects; gives the completion.
    pub fn connect(&mut self, wish: &Wish) -> Done {
        self.run(wish.command(), &wish.data())
    }

    /// Connects to an Admin queue and enables the controller; gives its identifier.
    pub fn become_admin(&mut self, wish: &Wish) -> u16 {
        let done = self.connect(wish);
        assert_eq!(done.status, Status::SUCCESS, "connect");
        assert_eq!(self.set_property(CC, ENABLE).status, Status::SUCCESS, "enable");
        done.result as u16
    }

    pub fn set_property(&mut self, offset: u32, value: u32) -> Done {
        self.run(property_set(offset, value), &[])
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The host has nothing more to say.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("half closed");
    }

    /// The same on a connection that the target may have closed.
    pub fn half_close_if_open(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub fn next_cid(&mut self) -> u16 {
        self.next_cid = self.next_cid.wrapping_add(1);
        self.next_cid
    }

    /// A command capsule of this connection.
    pub fn capsule(&self, command: &Command, data: &[u8]) -> Vec<u8> {
        self.digests.capsule(command, data)
    }

    /// A data PDU of this connection.
    pub fn data_pdu(&self, cid: u16, tag: u16, offset: usize, data: &[u8], last: bool) -> Vec<u8> {
        self.digests.data_pdu(cid, tag, offset, data, last)
    }

    /// Sends a command whose data is in the capsule; names the data there.
    pub fn send_with_data(&mut self, mut command: Command, data: &[u8]) -> u16 {
        command.data = in_capsule(data.len());
        self.send_as_is(command, data)
    }

    /// Sends a command with an identifier of its own and everything else as it is.
    pub fn send_as_is(&mut self, mut command: Command, data: &[u8]) -> u16 {
        let cid = self.next_cid();
        command.cid = cid.into();
        let bytes = self.capsule(&command, data);
        self.send(&bytes);
        cid
    }

    /// Runs a command with data in the capsule, if there is any, and waits for its end. Nothing else may be under way.
    pub fn run(&mut self, command: Command, data: &[u8]) -> Done {
        let cid = if data.is_empty() { self.send_as_is(command, &[]) } else { self.send_with_data(command, data) };
        self.finish(cid, &[])
    }

    /// Runs a command whose data is asked for.
    pub fn run_asked(&mut self, mut command: Command, data: &[u8]) -> Done {
        command.data = transport(data.len());
        let cid = self.send_as_is(command, &[]);
        self.finish(cid, data)
    }

    /// Runs a command that brings at most `room` bytes.
    pub fn fetch(&mut self, mut command: Command, room: usize) -> Done {
        command.data = transport(room);
        let cid = self.send_as_is(command, &[]);
        self.finish(cid, &[])
    }

    /// Waits for the end of a command; gives what is asked for.
    pub fn finish(&mut self, wanted: u16, to_send: &[u8]) -> Done {
        let mut data = Vec::new();
        loop {
            match self.listen() {
                Said::Completion { cid, status, result, .. } => {
                    assert_eq!(cid, wanted);
                    return Done { status, result, data };
                }
                Said::Data { cid, offset, bytes, success, .. } => {
                    assert_eq!((cid, offset), (wanted, data.len()));
                    data.extend(bytes);
                    if success {
                        return Done { status: Status::SUCCESS, result: 0, data };
                    }
                }
                Said::R2t { cid, tag, offset, len } => {
                    assert_eq!(cid, wanted);
                    let bytes = self.data_pdu(cid, tag, offset, &to_send[offset..offset + len], true);
                    self.send(&bytes);
                }
                other => panic!("{other:?} instead of the end of command {wanted}"),
            }
        }
    }

    /// What the target says next.
    pub fn listen(&mut self) -> Said {
        self.try_listen().unwrap_or(Said::Closed)
    }

    /// The same; an error if the connection is closed or reset.
    pub fn try_listen(&mut self) -> io::Result<Said> {
        let mut head = [0; size_of::<CommonHeader>()];
        self.read_exact(&mut head)?;
        let common = CommonHeader::read_from_bytes(&head).expect("as many bytes");
        let mut rest = vec![0; common.len.get() as usize - head.len()];
        self.read_exact(&mut rest)?;
        let whole = [&head[..], &rest].concat();
        let header_len = usize::from(common.header_len);
        if common.kind != kind::C2H_TERM_REQ {
            assert_eq!(common.flags & flags::HEADER_DIGEST != 0, self.digests.header);
            if self.digests.header {
                let digest = crc32c::crc32c(&whole[..header_len]).to_le_bytes();
                assert_eq!(whole[header_len..header_len + 4], digest, "the target's header digest");
            }
        }
        Ok(match common.kind {
            kind::CAPSULE_RESP => {
                let completion = Completion::read_from_bytes(&whole[8..24]).expect("as many bytes");
                Said::Completion {
                    cid: completion.cid.get(),
                    status: Status::from_wire(completion.status.get()).plain(),
                    result: completion.result.get(),
                    sq_head: completion.sq_head.get(),
                }
            }
            kind::C2H_DATA => self.read_data(&whole),
            kind::R2T => {
                let r2t = pdu::R2t::read_from_bytes(&whole[..24]).expect("as many bytes");
                let (offset, len) = (r2t.offset.get() as usize, r2t.len.get() as usize);
                Said::R2t { cid: r2t.cid.get(), tag: r2t.tag.get(), offset, len }
            }
            kind::C2H_TERM_REQ => {
                let request = pdu::TermReq::read_from_bytes(&whole[..24]).expect("as many bytes");
                Said::Terminated { status: request.status.get(), information: request.information.get() }
            }
            other => panic!("a PDU of type {other:#04x} from the target"),
        })
    }

    fn read_data(&self, whole: &[u8]) -> Said {
        let header = pdu::Data::read_from_bytes(&whole[..24]).expect("as many bytes");
        let start = usize::from(header.common.data_offset);
        let bytes = whole[start..start + header.len.get() as usize].to_vec();
        assert!(!bytes.is_empty(), "a data PDU without data");
        if self.digests.data {
            let digest = crc32c::crc32c(&bytes).to_le_bytes();
            assert_eq!(whole[start + bytes.len()..], digest, "the target's data digest");
        }
        Said::Data {
            cid: header.cid.get(),
            offset: header.offset.get() as usize,
            bytes,
            last: header.common.flags & flags::LAST != 0,
            success: header.common.flags & flags::SUCCESS != 0,
        }
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let outcome = self.stream.read_exact(buffer);
        if let Err(e) = &outcome {
            let silence = matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            assert!(!silence, "the target is silent");
        }
        outcome
    }

    /// Whether the target closes the connection; what it says before is dropped.
    pub fn is_closed(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
        }
    }
}

/// An ICReq as it should be.
pub fn ic_req(digests: Digests, most_r2t: u32) -> Vec<u8> {
    let mut request = IcReq::new_zeroed();
    request.common = CommonHeader { kind: kind::IC_REQ, flags: 0, header_len: 128, data_offset: 0, len: 128.into() };
    request.digests = u8::from(digests.header) | u8::from(digests.data) << 1;
    request.most_r2t = (most_r2t - 1).into();
    request.as_bytes().to_vec()
}

/// Property Set.
pub fn property_set(offset: u32, value: u32) -> Command {
    let mut command = Property::new_zeroed();
    command.opcode = opcode::FABRICS;
    command.flags = SGL;
    command.fabrics_type = fabrics::PROPERTY_SET;
    command.offset = offset.into();
    command.value = u64::from(value).into();
    Command::read_from_bytes(command.as_bytes()).expect("64 bytes")
}

/// Property Get; `size` is 0 for four bytes and 1 for eight.
pub fn property_get(offset: u32, size: u8) -> Command {
    let mut command = Property::new_zeroed();
    command.opcode = opcode::FABRICS;
    command.flags = SGL;
    command.fabrics_type = fabrics::PROPERTY_GET;
    command.attributes = size;
    command.offset = offset.into();
    Command::read_from_bytes(command.as_bytes()).expect("64 bytes")
}

/// Data in the capsule.
pub fn in_capsule(len: usize) -> Sgl {
    Sgl { identifier: sgl::IN_CAPSULE, ..transport(len) }
}

/// Data in data PDUs.
pub fn transport(len: usize) -> Sgl {
    Sgl { len: (len as u32).into(), identifier: sgl::TRANSPORT, ..Sgl::default() }
}

/// A command without data.
pub fn command(opcode: u8, nsid: u32) -> Command {
    Command { opcode, flags: SGL, nsid: nsid.into(), data: transport(0), ..Command::default() }
}

/// An I/O command on blocks.
pub fn blocks(opcode: u8, start: u64, count: u32) -> Command {
    let mut command = command(opcode, 1);
    command.cdw10 = (start as u32).into();
    command.cdw11 = ((start >> 32) as u32).into();
    command.cdw12 = (count - 1).into();
    command
}

/// An Admin command with dwords 10 and 11.
pub fn admin(opcode: u8, nsid: u32, dword10: u32, dword11: u32) -> Command {
    let mut command = command(opcode, nsid);
    command.cdw10 = dword10.into();
    command.cdw11 = dword11.into();
    command
}
