//! The decoder of PDUs and of what they carry, without a connection.

use std::sync::Arc;
use std::time::Instant;

use zerocopy::{FromBytes, IntoBytes};

use crate::disk::reservation::{Acquire, Register, Release};

use super::super::auth::{Authenticator, HostPolicy};
use super::super::connection::Arrived;
use super::super::controller::{EndCause, EndQueue};
use super::super::digest::Digests;
use super::super::frame::Layout;
use super::super::receiver::Body;
use super::super::room::held_by;
use super::super::subsystem::{Limits, Wanted};
use super::super::wire::command::Command;
use super::super::wire::dataset::DsmRange;
use super::super::wire::fabrics::{Connect, ConnectData};
use super::super::wire::opcode::{FABRICS, fabrics, io};
use super::super::wire::pdu::{self, CapsuleCmd, CommonHeader, kind};
use super::super::{LARGEST_H2C_DATA, LARGEST_TRANSFER};

/// The most data in a capsule.
const IN_CAPSULE: usize = 8192;

/// Reads a PDU that a host may send: a byte with the digests that were agreed, and the PDU.
pub fn pdu(bytes: &[u8]) {
    let Some((&digests, bytes)) = bytes.split_first() else { return };
    let digests = Digests::from_wire(digests);
    let Ok((common, _)) = CommonHeader::read_from_prefix(bytes) else { return };
    let (header_len, most) = match common.kind {
        kind::CAPSULE_CMD => (size_of::<CapsuleCmd>(), IN_CAPSULE),
        kind::H2C_DATA => (size_of::<pdu::Data>(), LARGEST_H2C_DATA),
        _ => return,
    };
    let Ok(layout) = Layout::of(&common, header_len, digests, most) else { return };
    assert!(layout.data.start >= header_len + digests.after_header(), "data within the header");
    assert!(layout.data.len() <= most, "more data than was allowed");
    assert!(layout.data.end <= layout.len, "data beyond the PDU");
    let Some(whole) = bytes.get(..layout.len) else { return };
    if common.kind == kind::CAPSULE_CMD {
        let (command, _) = Command::read_from_prefix(&whole[size_of::<CommonHeader>()..]).expect("checked");
        read_command(&command, &whole[layout.data]);
    }
}

fn read_command(command: &Command, data: &[u8]) {
    let held = held_by(&Arrived { command: *command, data: Body::Empty, intact: true });
    assert!(held <= 2 * LARGEST_TRANSFER, "{held} bytes for one command");
    let (dword10, fabrics_type) = (command.cdw10.get(), command.nsid.get() as u8);
    match command.opcode {
        FABRICS if fabrics_type == fabrics::CONNECT => read_connect(command, data),
        FABRICS if fabrics_type == fabrics::AUTHENTICATION_SEND => read_message(data),
        io::DATASET_MANAGEMENT => drop(<[DsmRange]>::ref_from_bytes(data).map(<[DsmRange]>::len)),
        io::RESERVATION_REGISTER => drop(Register::decode(dword10, data)),
        io::RESERVATION_ACQUIRE => drop(Acquire::decode(dword10, data)),
        io::RESERVATION_RELEASE => drop(Release::decode(dword10, data)),
        _ => {}
    }
}

struct Nobody;

impl EndQueue for Nobody {
    fn end(&self, _why: EndCause) {}

    fn peer(&self) -> &str {
        "nobody"
    }
}

fn read_connect(command: &Command, data: &[u8]) {
    let Ok(data) = ConnectData::ref_from_bytes(data) else { return };
    let connect = Connect::ref_from_bytes(command.as_bytes()).expect("both have 64 bytes");
    let at = "127.0.0.1:4420".parse().expect("an address");
    if let Ok(wanted) = Wanted::read(connect, data, &Limits::default(), (at, Arc::new(Nobody), Instant::now())) {
        assert!(
            (2..=Limits::default().queue_entries).contains(&wanted.entries),
            "a queue of {} entries",
            wanted.entries
        );
    }
}

/// The first message of a host that has to authenticate.
fn read_message(data: &[u8]) {
    let policy = Arc::new(HostPolicy::example("nqn.2014-08.org.example:c"));
    let mut authenticator = Authenticator::new(policy, "nqn.2026-11.io.strongroom:fuzz".into());
    drop(authenticator.send(data));
    assert!(!authenticator.is_authenticated(), "authenticated by one message");
    drop(authenticator.receive(4096));
}
