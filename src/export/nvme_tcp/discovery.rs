//! The Discovery log (Base section 5.16.1.23): where a host finds the subsystems that let it in.

use std::net::{IpAddr, SocketAddr};

use zerocopy::{FromZeros, IntoBytes};

use super::subsystem::Nqn;
use super::wire::fabrics::connect;
use super::wire::log_page::{DiscoveryEntry, DiscoveryHeader, discovery};

/// What a host may find.
pub(super) struct Listing {
    /// Grows with each change.
    pub(super) generation: u64,
    /// Where the server listens.
    pub(super) addresses: Vec<SocketAddr>,
    /// The subsystems that let the host in.
    pub(super) subsystems: Vec<Nqn>,
    /// Entries of an Admin queue.
    pub(super) queue_entries: u16,
}

impl Listing {
    /// The log page. `reached_at` is the address at which the host has reached this discovery subsystem. A host that nobody knows learns nothing.
    pub(super) fn page(&self, reached_at: SocketAddr) -> Vec<u8> {
        let ports: Vec<(u16, SocketAddr)> = (1..)
            .zip(&self.addresses)
            .filter_map(|(port_id, &address)| Some((port_id, reachable(address, reached_at.ip())?)))
            .collect();
        let mut entries = Vec::new();
        for &(port_id, address) in ports.iter().filter(|_| !self.subsystems.is_empty()) {
            entries.push(self.entry(&Nqn::discovery(), discovery::SELF, port_id, address));
        }
        for nqn in &self.subsystems {
            entries.extend(ports.iter().map(|&(port_id, address)| self.entry(nqn, discovery::NVM, port_id, address)));
        }
        let header = DiscoveryHeader {
            generation: self.generation.into(),
            records: (entries.len() as u64).into(),
            ..DiscoveryHeader::new_zeroed()
        };
        [header.as_bytes(), entries.as_bytes()].concat()
    }

    fn entry(&self, nqn: &Nqn, kind: u8, port_id: u16, address: SocketAddr) -> DiscoveryEntry {
        let is_self = kind == discovery::SELF;
        DiscoveryEntry {
            transport: discovery::TCP,
            family: if address.is_ipv4() { discovery::IPV4 } else { discovery::IPV6 },
            kind,
            requirements: discovery::NOT_SECURE | discovery::NO_SQ_FLOW_CONTROL,
            port_id: port_id.into(),
            controller_id: connect::NEW_CONTROLLER.into(),
            admin_entries: self.queue_entries.into(),
            flags: if is_self { discovery::PERSISTENT | discovery::SAME_EVERYWHERE } else { 0 }.into(),
            service: spaces_after(&address.port().to_string()),
            nqn: nqn.to_field(),
            address: spaces_after(&address.ip().to_string()),
            ..DiscoveryEntry::new_zeroed()
        }
    }
}

/// An address that a host can connect to: one that stands for all of a machine's addresses is replaced by the one that the host used,
/// if that is of the same family.
fn reachable(address: SocketAddr, reached_at: IpAddr) -> Option<SocketAddr> {
    if !address.ip().is_unspecified() {
        return Some(address);
    }
    // A listener on [::] is also reached over IPv4.
    let reached_at = reached_at.to_canonical();
    let fits = address.is_ipv6() || reached_at.is_ipv4();
    fits.then_some(SocketAddr::new(reached_at, address.port()))
}

/// ASCII, padded with spaces (Base section 1.4.2).
fn spaces_after<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}
