//! A target for tests: as much of NVMe/TCP as the load generator uses, in plain blocking code, and the ways in which a target can be bad.
//!
//! It stores nothing: reads are answered with zeros. Beside the tests it shows what the load generator needs of a target.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::export::nvme_tcp::wire::command::{Command, Completion, sgl};
use crate::export::nvme_tcp::wire::fabrics::{ConnectData, Property};
use crate::export::nvme_tcp::wire::pdu::{
    CapsuleResp, CommonHeader, Data, FatalError, IcReq, IcResp, R2t, TermReq, digest, flags, kind,
};
use crate::export::nvme_tcp::wire::property::{cap, csts};
use crate::export::nvme_tcp::wire::status::Status;
use crate::export::nvme_tcp::wire::{identify, opcode};

/// Sectors of its namespace.
pub(super) const SECTORS: u64 = 1024;
/// Bytes of one of them.
pub(super) const SECTOR: usize = 4096;
/// What it takes in one H2CData PDU.
const MOST_H2C_DATA: usize = 4096;

/// What it does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manners {
    /// Bytes of data that it takes in a capsule.
    pub(super) in_capsule: u32,
    /// Answers reads by a response capsule behind the data, instead of with the data.
    pub(super) separate_response: bool,
    /// R2Ts for one write.
    pub(super) r2ts: usize,
    /// I/O queues of a controller.
    pub(super) queues: u32,
    /// The status of Connect and of each I/O command.
    pub(super) connect_status: Option<Status>,
    pub(super) io_status: Option<Status>,
    /// What it does at the so manieth I/O command.
    pub(super) end: Option<(u32, End)>,
    /// Where data from the host has to begin, in dwords less one.
    pub(super) alignment: u8,
}

/// How it goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Close,
    Garbage,
    Terminate,
    /// Answers a command twice.
    Twice,
    /// Answers a read with half of its data.
    Short,
}

/// Starts it; it lives until the test's process ends.
pub(super) fn start(manners: Manners) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // The end of a connection is the client's business.
                let _ = Peer { stream, manners, digests: 0, queue: 0, enabled: false, served: 0 }.serve();
            });
        }
    });
    address
}

struct Peer {
    stream: TcpStream,
    manners: Manners,
    digests: u8,
    queue: u16,
    enabled: bool,
    served: u32,
}

impl Peer {
    fn serve(&mut self) -> std::io::Result<()> {
        let request: IcReq = self.take()?;
        self.digests = request.digests;
        let common = CommonHeader { kind: kind::IC_RESP, flags: 0, header_len: 128, data_offset: 0, len: 128.into() };
        let response = IcResp {
            common,
            digests: self.digests,
            controller_data_alignment: self.manners.alignment,
            most_h2c_data: (MOST_H2C_DATA as u32).into(),
            ..IcResp::new_zeroed()
        };
        self.stream.write_all(response.as_bytes())?;
        loop {
            let (command, data) = self.capsule()?;
            match command.opcode {
                opcode::FABRICS => self.fabrics(&command, &data)?,
                _ if self.queue == 0 => self.admin(&command)?,
                opcode::io::READ => self.read(&command)?,
                _ => self.write(&command, data.len())?,
            }
        }
    }

    fn take<T: FromBytes + IntoBytes>(&mut self) -> std::io::Result<T> {
        let mut value = T::new_zeroed();
        self.stream.read_exact(value.as_mut_bytes())?;
        Ok(value)
    }

    /// A capsule or a data PDU behind its common header: what follows up to its data, and the data. Digests are checked.
    fn pdu<T: FromBytes + IntoBytes + zerocopy::Immutable>(&mut self, wanted: u8) -> std::io::Result<(T, Vec<u8>)> {
        let value: T = self.take()?;
        let common = CommonHeader::read_from_prefix(value.as_bytes()).expect("long enough").0;
        assert_eq!((common.kind, usize::from(common.header_len)), (wanted, size_of::<T>()));
        let mut at = size_of::<T>();
        if self.digests & digest::HEADER != 0 {
            assert_eq!(u32::from_le_bytes(self.take()?), crc32c::crc32c(value.as_bytes()));
            at += 4;
        }
        let after = if common.flags & flags::DATA_DIGEST != 0 { 4 } else { 0 };
        let (offset, len) = (usize::from(common.data_offset), common.len.get() as usize);
        if offset == 0 {
            assert_eq!(len, at);
            return Ok((value, Vec::new()));
        }
        assert!(offset.is_multiple_of((usize::from(self.manners.alignment) + 1) * 4));
        let mut rest = vec![0; len - at];
        self.stream.read_exact(&mut rest)?;
        let data = rest[offset - at..rest.len() - after].to_vec();
        if after > 0 {
            assert_eq!(rest[rest.len() - 4..], crc32c::crc32c(&data).to_le_bytes());
        }
        Ok((value, data))
    }

    fn capsule(&mut self) -> std::io::Result<(Command, Vec<u8>)> {
        #[derive(FromBytes, IntoBytes, zerocopy::Immutable)]
        #[repr(C, packed)]
        struct Capsule(CommonHeader, Command);
        let (capsule, data) = self.pdu::<Capsule>(kind::CAPSULE_CMD)?;
        let command = capsule.1;
        let in_capsule = if command.data.identifier == sgl::IN_CAPSULE { command.data.len.get() } else { 0 };
        assert_eq!(data.len(), in_capsule as usize);
        Ok((command, data))
    }

    fn fabrics(&mut self, command: &Command, data: &[u8]) -> std::io::Result<()> {
        let property = Property::read_from_bytes(command.as_bytes()).expect("as long");
        let result = match (property.fabrics_type, property.offset.get()) {
            (opcode::fabrics::CONNECT, _) => {
                assert!(ConnectData::ref_from_bytes(data).expect("Connect data").host_nqn.starts_with(b"nqn."));
                // Connect's queue identifier (Base section 6.3).
                self.queue = u16::from_le_bytes(command.as_bytes()[42..44].try_into().expect("two"));
                if let Some(status) = self.manners.connect_status {
                    return self.respond(command.cid.get(), status, 0);
                }
                1
            }
            (opcode::fabrics::PROPERTY_SET, _) => {
                self.enabled = property.value.get() & 1 == 1;
                0
            }
            (_, cap::OFFSET) => 127 | 1 << cap::TO_SHIFT,
            (_, csts::OFFSET) => u64::from(self.enabled),
            _ => 0,
        };
        self.respond(command.cid.get(), Status::SUCCESS, result)
    }

    fn admin(&mut self, command: &Command) -> std::io::Result<()> {
        let cid = command.cid.get();
        if command.opcode == opcode::admin::SET_FEATURES {
            let queues = u64::from(self.manners.queues.max(1)) - 1;
            return self.respond(cid, Status::SUCCESS, queues << 16 | queues);
        }
        let mut data = vec![0; identify::LEN];
        match command.cdw10.get() as u8 {
            identify::cns::CONTROLLER => {
                let controller = identify::Controller::mut_from_bytes(&mut data).expect("as long");
                controller.ioccsz = (4 + self.manners.in_capsule / 16).into();
                controller.mdts = 5;
            }
            identify::cns::NAMESPACE => {
                let namespace = identify::Namespace::mut_from_bytes(&mut data).expect("as long");
                namespace.nsze = SECTORS.into();
                namespace.lba_formats[0].data = SECTOR.trailing_zeros() as u8;
            }
            _ => data[0] = 1,
        }
        self.data(cid, 0, &data, flags::LAST)?;
        self.respond(cid, Status::SUCCESS, 0)
    }

    fn read(&mut self, command: &Command) -> std::io::Result<()> {
        let (cid, len) = (command.cid.get(), command.data.len.get() as usize);
        if self.count(cid)? {
            return self.data(cid, 0, &vec![0; len / 2], flags::LAST | flags::SUCCESS);
        }
        if let Some(status) = self.manners.io_status {
            return self.respond(cid, status, 0);
        }
        self.data(cid, 0, &vec![0; len / 2], 0)?;
        let flag = if self.manners.separate_response { 0 } else { flags::SUCCESS };
        self.data(cid, len / 2, &vec![0; len - len / 2], flags::LAST | flag)?;
        if self.manners.separate_response { self.respond(cid, Status::SUCCESS, 0) } else { Ok(()) }
    }

    fn write(&mut self, command: &Command, in_capsule: usize) -> std::io::Result<()> {
        let (cid, len) = (command.cid.get(), command.data.len.get() as usize);
        self.count(cid)?;
        if let Some(status) = self.manners.io_status {
            return self.respond(cid, status, 0);
        }
        if in_capsule == 0 {
            let part = len / self.manners.r2ts.max(1);
            let starts: Vec<usize> = (0..len).step_by(part).collect();
            for (tag, start) in starts.iter().enumerate() {
                self.ready(cid, tag as u16, *start, part.min(len - start))?;
            }
            for (tag, start) in starts.iter().enumerate() {
                self.collect(cid, tag as u16, *start, part.min(len - start))?;
            }
        }
        self.respond(cid, Status::SUCCESS, 0)
    }

    /// Takes the data of an R2T. Other commands may not come in between: a test that uses this has one command in flight.
    fn collect(&mut self, cid: u16, tag: u16, start: usize, len: usize) -> std::io::Result<()> {
        let mut at = start;
        while at < start + len {
            let (header, data) = self.pdu::<Data>(kind::H2C_DATA)?;
            assert_eq!((header.cid.get(), header.tag.get(), header.offset.get() as usize), (cid, tag, at));
            assert!(data.len() == header.len.get() as usize && (1..=MOST_H2C_DATA).contains(&data.len()));
            at += data.len();
            assert_eq!(header.common.flags & flags::LAST != 0, at == start + len);
        }
        Ok(())
    }

    /// Counts an I/O command, and goes wrong if it is the one. Gives whether its data has to be short.
    fn count(&mut self, cid: u16) -> std::io::Result<bool> {
        self.served += 1;
        let Some((_, end)) = self.manners.end.filter(|(at, _)| *at == self.served) else { return Ok(false) };
        match end {
            End::Close => Err(std::io::ErrorKind::ConnectionAborted.into()),
            End::Garbage => {
                self.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
                self.leave()
            }
            End::Terminate => {
                let request = TermReq {
                    common: self.common(kind::C2H_TERM_REQ, 0, 0),
                    status: (FatalError::InvalidHeaderField as u16).into(),
                    information: 2.into(),
                    reserved: [0; 10],
                };
                self.stream.write_all(request.as_bytes())?;
                self.leave()
            }
            End::Twice => {
                // In one send, so that the client sees both before it gives the identifier to another command.
                let header = self.response(cid, Status::INTERNAL_ERROR, 0);
                self.stream.write_all(&[header.as_bytes(), header.as_bytes()].concat())?;
                self.leave()
            }
            End::Short => Ok(true),
        }
    }

    /// Ends the connection when the client does: closed with commands unread it would be reset, and what was said last might be lost.
    fn leave(&mut self) -> std::io::Result<bool> {
        self.stream.shutdown(Shutdown::Write)?;
        std::io::copy(&mut self.stream, &mut std::io::sink())?;
        Err(std::io::ErrorKind::ConnectionAborted.into())
    }

    fn common(&self, kind: u8, flag: u8, data_len: usize) -> CommonHeader {
        let term = kind == kind::C2H_TERM_REQ;
        let header_digest = self.digests & digest::HEADER != 0 && !term;
        let data_digest = self.digests & digest::DATA != 0 && data_len > 0;
        let header = 24 + if header_digest { 4 } else { 0 };
        let header_flag = if header_digest { flags::HEADER_DIGEST } else { 0 };
        let data_flag = if data_digest { flags::DATA_DIGEST } else { 0 };
        CommonHeader {
            kind,
            flags: flag | header_flag | data_flag,
            header_len: 24,
            data_offset: if data_len > 0 { header as u8 } else { 0 },
            len: ((header + data_len + if data_digest { 4 } else { 0 }) as u32).into(),
        }
    }

    fn send(&mut self, header: &[u8], data: &[u8]) -> std::io::Result<()> {
        let mut bytes = header.to_vec();
        if self.digests & digest::HEADER != 0 {
            bytes.extend(crc32c::crc32c(header).to_le_bytes());
        }
        bytes.extend(data);
        if self.digests & digest::DATA != 0 && !data.is_empty() {
            bytes.extend(crc32c::crc32c(data).to_le_bytes());
        }
        self.stream.write_all(&bytes)
    }

    fn data(&mut self, cid: u16, offset: usize, data: &[u8], flag: u8) -> std::io::Result<()> {
        let header = Data {
            common: self.common(kind::C2H_DATA, flag, data.len()),
            cid: cid.into(),
            tag: 0.into(),
            offset: (offset as u32).into(),
            len: (data.len() as u32).into(),
            reserved: [0; 4],
        };
        self.send(header.as_bytes(), data)
    }

    fn ready(&mut self, cid: u16, tag: u16, offset: usize, len: usize) -> std::io::Result<()> {
        let request = R2t {
            common: self.common(kind::R2T, 0, 0),
            cid: cid.into(),
            tag: tag.into(),
            offset: (offset as u32).into(),
            len: (len as u32).into(),
            reserved: [0; 4],
        };
        self.send(request.as_bytes(), &[])
    }

    fn respond(&mut self, cid: u16, status: Status, result: u64) -> std::io::Result<()> {
        let response = self.response(cid, status, result);
        self.send(response.as_bytes(), &[])
    }

    fn response(&self, cid: u16, status: Status, result: u64) -> CapsuleResp {
        let completion = Completion::new(cid, 0, status, result);
        CapsuleResp { common: self.common(kind::CAPSULE_RESP, 0, 0), completion }
    }
}
