//! The owner record: which process has the pool open. It is for people and for machines that share a device; on one machine a lock decides.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::FormatError;
use super::page::first_set;

/// The most bytes of a host's name: what Linux has (`HOST_NAME_MAX`, gethostname(2)).
pub const LONGEST_HOST: usize = 64;

/// An owner as it is stored; all zero when nobody has the pool open.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct StoredOwner {
    machine: [u8; 16],
    boot: [u8; 16],
    pid: le::U32,
    /// Zero.
    reserved: le::U32,
    opened_at: le::U64,
    /// Zeros follow the name.
    host: [u8; LONGEST_HOST],
}
const _: () = assert!(size_of::<StoredOwner>() == 112);

/// Who has the pool open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `/etc/machine-id`.
    pub machine: [u8; 16],
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: [u8; 16],
    /// The process.
    pub pid: u32,
    /// Seconds since 1970.
    pub opened_at: u64,
    /// The host's name. What does not fit is left out, and so are control characters: this is printed.
    pub host: String,
}

impl Owner {
    pub(super) fn store(&self) -> StoredOwner {
        let mut stored = StoredOwner::new_zeroed();
        stored.machine = self.machine;
        stored.boot = self.boot;
        stored.pid = self.pid.into();
        stored.opened_at = self.opened_at.into();
        let mut used = 0;
        for char in self.host.chars().filter(|char| !char.is_control()) {
            let Some(place) = stored.host.get_mut(used..used + char.len_utf8()) else {
                break;
            };
            used += char.encode_utf8(place).len();
        }
        stored
    }

    /// Errors count from the start of the record.
    pub(super) fn load(stored: &StoredOwner, object: &'static str) -> Result<Option<Self>, FormatError> {
        if first_set(stored.as_bytes()).is_none() {
            return Ok(None);
        }
        if stored.pid.get() == 0 {
            return Err(FormatError::wrong(object, 32, "the owner is no process"));
        }
        if stored.reserved.get() != 0 {
            return Err(FormatError::wrong(object, 36, "reserved bytes of the owner are not zero"));
        }
        let len = first_zero(&stored.host);
        if first_set(&stored.host[len..]).is_some() {
            return Err(FormatError::wrong(object, 48 + len, "something follows the owner's host name"));
        }
        let host = str::from_utf8(&stored.host[..len]).ok().filter(|host| !host.contains(char::is_control));
        let Some(host) = host else {
            return Err(FormatError::wrong(object, 48, "the owner's host name is no text"));
        };
        let (pid, opened_at) = (stored.pid.get(), stored.opened_at.get());
        Ok(Some(Self { machine: stored.machine, boot: stored.boot, pid, opened_at, host: host.to_owned() }))
    }
}

fn first_zero(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(host: &str) -> Owner {
        Owner { machine: [1; 16], boot: [2; 16], pid: 77, opened_at: 9, host: host.to_owned() }
    }

    fn host_read(host: &str) -> String {
        Owner::load(&owner(host).store(), "x").unwrap().unwrap().host
    }

    #[test]
    fn owner_comes_back() {
        assert_eq!(Owner::load(&owner("node-1").store(), "x"), Ok(Some(owner("node-1"))));
        assert_eq!(Owner::load(&StoredOwner::new_zeroed(), "x"), Ok(None));
        assert_eq!(host_read(""), "");
        assert_eq!(host_read(&"h".repeat(64)), "h".repeat(64));
    }

    #[test]
    fn host_names_are_cut_between_characters_and_print_well() {
        assert_eq!(host_read(&"ä".repeat(40)), "ä".repeat(32));
        assert_eq!(host_read(&format!("a{}", "ä".repeat(40))), format!("a{}", "ä".repeat(31)));
        assert_eq!(host_read("bad\n\u{1b}[31mhost\0"), "bad[31mhost");
    }

    #[test]
    fn wrong_owners_are_refused() {
        for (at, byte, named) in [(32, 0, 32), (36, 1, 36), (48, 0x1b, 48), (48, 0xff, 48), (100, b'x', 54)] {
            let mut stored = owner("node-1").store();
            stored.as_mut_bytes()[at] = byte;
            let error = Owner::load(&stored, "x").unwrap_err();
            assert!(matches!(error, FormatError::Wrong { at, .. } if at == named), "{error}");
        }
    }
}
