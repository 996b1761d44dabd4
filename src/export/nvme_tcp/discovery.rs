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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::super::controller::Admin;
    use super::super::subsystem::Limits;
    use super::super::testing::{ACCOUNT, REACHED_AT, World, done, host};
    use super::super::wire::opcode::admin;
    use super::*;

    fn records(log: &[u8]) -> u64 {
        u64::from_le_bytes(log[8..16].try_into().expect("eight bytes"))
    }

    fn generation(log: &[u8]) -> u64 {
        u64::from_le_bytes(log[..8].try_into().expect("eight bytes"))
    }

    #[test]
    fn a_host_finds_what_lets_it_in() {
        let world = World::new();
        world.subsystems.add_subsystem("other").expect("added");
        let log = world.discovering("a").log(0x70, 0, 4096).expect("read");
        assert_eq!(records(&log), 2);
        assert_eq!(log[16..18], [0, 0], "RECFMT");
        let (own, entry) = (&log[1024..2048], &log[2048..3072]);
        assert_eq!(own[..12], [3, 1, 3, 0b110, 1, 0, 0xFF, 0xFF, 128, 0, 0b11, 0]);
        assert_eq!(own[256..256 + 37], *b"nqn.2014-08.org.nvmexpress.discovery\0");
        assert_eq!(entry[..12], [3, 1, 2, 0b110, 1, 0, 0xFF, 0xFF, 128, 0, 0, 0]);
        assert_eq!(entry[32..64], *b"4420                            ");
        assert_eq!(entry[256..256 + 30], *b"nqn.2026-11.io.strongroom:acc\0");
        assert_eq!(entry[512..512 + 10], *b"127.0.0.1 ");
        assert_eq!(entry[512 + 255], b' ');
        assert_eq!(entry[768..], [0; 256]);
    }

    #[test]
    fn a_stranger_finds_nothing() {
        let log = World::new().discovering("stranger").log(0x70, 0, 4096).expect("read");
        assert_eq!((records(&log), &log[1024..]), (0, &[0; 3072][..]));
    }

    #[test]
    fn an_address_that_stands_for_all_is_replaced_by_the_one_that_was_used() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let used: IpAddr = "192.0.2.7".parse().expect("an address");
        assert_eq!(reachable(at("198.51.100.1:4420"), used), Some(at("198.51.100.1:4420")));
        assert_eq!(reachable(at("0.0.0.0:4420"), used), Some(at("192.0.2.7:4420")));
        assert_eq!(reachable(at("[::]:4420"), used), Some(at("192.0.2.7:4420")));
        assert_eq!(reachable(at("[::]:1"), "::ffff:192.0.2.7".parse().expect("an address")), Some(at("192.0.2.7:1")));
        assert_eq!(reachable(at("0.0.0.0:4420"), "2001:db8::1".parse().expect("an address")), None);
        assert_eq!(reachable(at("[::]:2"), "2001:db8::1".parse().expect("an address")), Some(at("[2001:db8::1]:2")));
    }

    #[test]
    fn every_port_is_listed_for_every_subsystem() {
        let listing = Listing {
            generation: 9,
            addresses: vec![
                "0.0.0.0:4420".parse().expect("an address"),
                "[2001:db8::1]:8009".parse().expect("an address"),
            ],
            subsystems: ["x", "y"].map(|account| Nqn::of_account(account).expect("fits")).to_vec(),
            queue_entries: Limits::default().queue_entries,
        };
        let log = listing.page(REACHED_AT.parse().expect("an address"));
        assert_eq!((generation(&log), records(&log), log.len()), (9, 6, 7 * 1024));
        let entries: Vec<(u8, u8, u8)> = log[1024..].chunks(1024).map(|it| (it[2], it[1], it[4])).collect();
        assert_eq!(entries, [(3, 1, 1), (3, 2, 2), (2, 1, 1), (2, 2, 2), (2, 1, 1), (2, 2, 2)]);
    }

    #[test]
    fn a_change_is_told_to_the_hosts_that_it_concerns() {
        let world = World::new();
        let asking = world.discovering("c");
        done(asking.set_feature(0x0B, 0, 1 << 31));
        let request = || match asking.ask(admin::ASYNC_EVENT_REQUEST, 0, [0; 5]) {
            Admin::Event(request) => request,
            _ => panic!("not taken"),
        };
        let happened = || pin!(request()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(Ok(0x0070_F002));
        let before = generation(&asking.log(0x70, 0, 1024).expect("read"));
        world.subsystems.add_host(ACCOUNT, host("d")).expect("let in");
        assert!(!happened(), "another host's business");
        world.subsystems.add_host(ACCOUNT, host("c")).expect("let in");
        assert!(happened() && !happened());
        let log = asking.log(0x70, 0, 1024).expect("read");
        assert!(generation(&log) > before && records(&log) == 2);
        world.subsystems.remove_host(ACCOUNT, "c").expect("removed");
        assert!(happened());
        assert_eq!(records(&asking.log(0x70, 0, 1024).expect("read")), 0);
        world.subsystems.add_host(ACCOUNT, host("c")).expect("let in");
        asking.log(0x70, 0, 1024).expect("read");
        world.subsystems.advertise(vec![]);
        assert!(happened());
        asking.log(0x70, 0, 1024).expect("read");
        world.subsystems.remove_subsystem(ACCOUNT).expect("removed");
        assert!(happened());
    }
}
