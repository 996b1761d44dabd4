//! Identifiers as the cloud makes them: a prefix that says what it is, and 20 lower-case letters and digits that nobody can guess.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters after the prefix: those of a disk are its serial number, which NVMe gives 20 characters (Base 2.0, Identify Controller, SN).
const LEN: usize = 20;

/// What an identifier names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    /// A disk.
    Disk,
    /// A snapshot.
    Snapshot,
    /// An instance.
    Instance,
    /// An image.
    Image,
    /// A policy of automatic snapshots.
    Policy,
}

impl Noun {
    /// How its identifiers begin.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Disk => "d-",
            Self::Snapshot => "s-",
            Self::Instance => "i-",
            Self::Image => "m-",
            Self::Policy => "sp-",
        }
    }

    /// How many bytes its identifiers have.
    pub const fn id_bytes(self) -> usize {
        self.prefix().len() + LEN
    }

    /// A new identifier.
    pub fn new_id(self) -> String {
        let mut random = [0u8; LEN];
        getrandom::fill(&mut random).expect("the kernel gives random bytes on every machine that we run on");
        let text = random.map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
        self.prefix().chars().chain(text).collect()
    }

    /// Whether a text can be such an identifier.
    pub fn fits(self, text: &str) -> bool {
        let fits = |rest: &str| rest.len() == LEN && rest.bytes().all(|byte| ALPHABET.contains(&byte));
        text.strip_prefix(self.prefix()).is_some_and(fits)
    }
}

/// A disk's serial number.
pub fn serial_number(disk: &str) -> &str {
    disk.strip_prefix(Noun::Disk.prefix()).unwrap_or(disk)
}

/// The identity of the chain of a disk's snapshots.
pub fn snapshot_link(disk: &str) -> String {
    format!("sl-{}", serial_number(disk))
}

/// A request's identity: an upper-case UUID.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string().to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_says_what_it_names() {
        let disk = Noun::Disk.new_id();
        assert!(Noun::Disk.fits(&disk) && !Noun::Instance.fits(&disk), "{disk}");
        assert_ne!(disk, Noun::Disk.new_id());
        assert_eq!((disk.len(), Noun::Policy.new_id().len()), (Noun::Disk.id_bytes(), Noun::Policy.id_bytes()));
        assert_eq!(serial_number(&disk).len(), 20);
        assert!(!Noun::Disk.fits("d-UPPER"));
    }
}
