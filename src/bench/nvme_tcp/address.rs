//! Which subsystem is loaded, and by which host: `nvme-tcp://HOST:PORT/SUBSYSTEM_NQN`, and names of hosts.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

/// What addresses begin with.
pub const SCHEME: &str = "nvme-tcp://";
/// The port that NVMe/TCP has at IANA (TCP section 3.1).
const PORT: u16 = 4420;
/// Bytes of the longest NVMe Qualified Name (Base section 4.5).
const LONGEST_NQN: usize = 223;
/// What a host's name begins with if it is made from a UUID (Base section 4.5).
const UUID_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// A subsystem somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host and port, as the resolver takes them.
    pub endpoint: String,
    /// The subsystem.
    pub subsystem: Nqn,
}

/// An NVMe Qualified Name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Nqn(String);

/// A text that is no address or name.
#[derive(Debug, Error)]
#[error("{text:?} {why}")]
pub struct NotAnAddress {
    text: String,
    why: &'static str,
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let wrong = |why| NotAnAddress { text: text.to_owned(), why };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| wrong("does not begin with nvme-tcp://"))?;
        let (host, nqn) = rest.split_once('/').ok_or_else(|| wrong("lacks /SUBSYSTEM_NQN behind the host and port"))?;
        let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
        if host.is_empty() || host.starts_with(':') {
            return Err(wrong("lacks a host"));
        }
        let endpoint = match port {
            Some(port) if port.parse::<u16>().is_ok() => host.to_owned(),
            Some(_) => return Err(wrong("has a port that is no number below 65536")),
            None => format!("{host}:{PORT}"),
        };
        Ok(Self { endpoint, subsystem: nqn.parse()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.endpoint, self.subsystem.0)
    }
}

impl FromStr for Nqn {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let wrong = |why| NotAnAddress { text: text.to_owned(), why };
        match text {
            _ if !text.starts_with("nqn.") => Err(wrong("is no NVMe Qualified Name: it does not begin with nqn.")),
            _ if text.len() > LONGEST_NQN => Err(wrong("is no NVMe Qualified Name: it has more than 223 bytes")),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Nqn {
    /// The name, padded with zeros as Connect carries it.
    pub(super) fn to_wire(&self) -> [u8; 256] {
        let mut field = [0; 256];
        field[..self.0.len()].copy_from_slice(self.0.as_bytes());
        field
    }
}

/// The host that the load generator says it is.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) nqn: Nqn,
    pub(super) id: [u8; 16],
}

impl Host {
    /// A host by its name, or one that nobody knows. Its identifier is the name's UUID, or random if the name has none.
    pub(super) fn new(nqn: Option<Nqn>) -> Result<Self, getrandom::Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        // RFC 9562 section 5.4: version 4, made from random bits.
        id[6] = id[6] & 0x0F | 0x40;
        id[8] = id[8] & 0x3F | 0x80;
        let nqn = nqn.unwrap_or_else(|| Nqn(format!("{UUID_NQN}{}", uuid(&id))));
        let named = nqn.0.strip_prefix(UUID_NQN).and_then(uuid_bytes);
        Ok(Self { id: named.unwrap_or(id), nqn })
    }
}

fn uuid(id: &[u8; 16]) -> String {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let hex: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut id = [0; 16];
    if hex.len() != 32 {
        return None;
    }
    for (byte, digits) in id.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_host_port_and_subsystem() {
        for (text, endpoint) in [
            ("nvme-tcp://10.0.0.1:1/nqn.2026-11.x:y", "10.0.0.1:1"),
            ("nvme-tcp://host/nqn.2026-11.x:y", "host:4420"),
            ("nvme-tcp://[::1]:1/nqn.2026-11.x:y", "[::1]:1"),
            ("nvme-tcp://[::1]/nqn.2026-11.x:y", "[::1]:4420"),
        ] {
            let address: Address = text.parse().expect("an address");
            assert_eq!((address.endpoint.as_str(), address.subsystem.0.as_str()), (endpoint, "nqn.2026-11.x:y"));
        }
    }

    #[test]
    fn a_wrong_address_says_what_is_wrong() {
        let long = format!("nvme-tcp://h:1/nqn.{}", "x".repeat(220));
        for (text, wanted) in [
            ("tcp://h:1/nqn.x", "begin with nvme-tcp://"),
            ("nvme-tcp://h:1", "lacks /SUBSYSTEM_NQN"),
            ("nvme-tcp://:1/nqn.x", "lacks a host"),
            ("nvme-tcp://h:65536/nqn.x", "port"),
            ("nvme-tcp://h:1/x", "begin with nqn."),
            (&long, "more than 223 bytes"),
        ] {
            let error = text.parse::<Address>().expect_err("refused").to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_host_has_the_identifier_of_its_name() {
        let named = "nqn.2014-08.org.nvmexpress:uuid:00112233-4455-6677-8899-aabbccddeeff";
        let host = Host::new(Some(named.parse().expect("a name"))).expect("a host");
        assert_eq!(host.id[..3], [0x00, 0x11, 0x22]);
        let unknown = Host::new(None).expect("a host");
        assert_eq!(uuid_bytes(unknown.nqn.0.strip_prefix(UUID_NQN).expect("from a UUID")), Some(unknown.id));
        assert_ne!(unknown.nqn, Host::new(None).expect("a host").nqn);
    }
}
