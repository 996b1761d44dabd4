//! As much of an NVMe/TCP host as it takes to be one: it connects an Admin queue and waits (NVMe/TCP Transport 1.0 sections 3.6 and 3.3,
//! NVM Express Base 2.0 section 6.3).

use std::io::{Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

const ICREQ: u8 = 0;
const COMMAND_CAPSULE: u8 = 4;
const RESPONSE_CAPSULE: u8 = 5;

/// A host that has sent Connect.
pub struct Host {
    stream: TcpStream,
    /// The status field of the answer: code type and code; 0 is success.
    pub status: u16,
}

impl Host {
    pub fn connect(address: &str, subsystem: &str, host: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut initialize = [0; 128];
        initialize[..8].copy_from_slice(&[ICREQ, 0, 128, 0, 128, 0, 0, 0]);
        stream.write_all(&initialize).expect("sent");
        stream.read_exact(&mut initialize).expect("an ICResp");
        stream.write_all(&connect_capsule(subsystem, host)).expect("sent");
        let mut answer = [0; 24];
        stream.read_exact(&mut answer).expect("a response");
        assert_eq!(answer[0], RESPONSE_CAPSULE, "{answer:?}");
        let status = u16::from_le_bytes([answer[22], answer[23]]) >> 1 & 0x7FF;
        Self { stream, status }
    }

    /// Waits until the target ends the connection.
    pub fn expect_end(mut self) {
        let mut rest = Vec::new();
        if let Err(e) = self.stream.read_to_end(&mut rest) {
            assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}");
        }
    }
}

fn connect_capsule(subsystem: &str, host: &str) -> Vec<u8> {
    let mut pdu = vec![0; 72 + 1024];
    pdu[..4].copy_from_slice(&[COMMAND_CAPSULE, 0, 72, 72]);
    pdu[4..8].copy_from_slice(&(72u32 + 1024).to_le_bytes());
    let command = &mut pdu[8..72];
    // A fabrics command (7Fh) whose data is described by an SGL; type 1 is Connect.
    command[..5].copy_from_slice(&[0x7F, 0x40, 1, 0, 1]);
    command[32..36].copy_from_slice(&1024u32.to_le_bytes());
    // The data lies in the capsule: Data Block descriptor, address is an offset.
    command[39] = 1;
    // SQSIZE, counted from 0.
    command[44..46].copy_from_slice(&31u16.to_le_bytes());
    // KATO in milliseconds.
    command[48..52].copy_from_slice(&60_000u32.to_le_bytes());
    let data = &mut pdu[72..];
    data[..16].copy_from_slice(&host_id(host));
    data[16..18].copy_from_slice(&[0xFF, 0xFF]);
    data[256..256 + subsystem.len()].copy_from_slice(subsystem.as_bytes());
    data[512..512 + host.len()].copy_from_slice(host.as_bytes());
    pdu
}

/// Each host has its own.
fn host_id(host: &str) -> [u8; 16] {
    let mut id = [7; 16];
    id.iter_mut().zip(host.bytes().rev()).for_each(|(to, from)| *to = from);
    id
}
