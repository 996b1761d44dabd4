//! NVMe Qualified Names (Base section 4.5) and what is derived from an account's name.

use std::fmt;
use std::str::FromStr;

use super::error::InventoryError;

/// The longest name in bytes, without the zero behind it (Base section 4.5).
pub const LONGEST_NQN: usize = 223;
/// The name under which every host finds the discovery subsystem (Base section 3.1.2.3).
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
/// What comes before the account in a subsystem's name.
const PREFIX: &str = "nqn.2026-11.io.strongroom:";
/// The longest account name.
const LONGEST_ACCOUNT: usize = 64;

/// An NVMe Qualified Name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nqn(String);

impl Nqn {
    /// The subsystem of an account. Accounts become part of names that hosts, logs and shells see, so only plain characters may be in them.
    pub fn of_account(account: &str) -> Result<Self, InventoryError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let begins = account.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !begins || account.len() > LONGEST_ACCOUNT || !account.chars().all(plain) {
            return Err(InventoryError::Account(account.to_owned()));
        }
        Ok(Self(format!("{PREFIX}{account}")))
    }

    /// The discovery subsystem.
    pub fn discovery() -> Self {
        Self(DISCOVERY_NQN.to_owned())
    }

    /// Reads a field of 256 bytes: the name, a zero, and nothing that matters behind it.
    pub fn from_field(field: &[u8; 256]) -> Option<Self> {
        let len = field.iter().position(|&byte| byte == 0)?;
        std::str::from_utf8(&field[..len]).ok()?.parse().ok()
    }

    /// The field of 256 bytes, padded with zeros.
    pub fn to_field(&self) -> [u8; 256] {
        let mut field = [0; 256];
        field[..self.0.len()].copy_from_slice(self.0.as_bytes());
        field
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Nqn {
    type Err = InventoryError;

    /// Only what every NQN has: the beginning and the length. Hosts name themselves in many ways.
    fn from_str(text: &str) -> Result<Self, InventoryError> {
        let fits = text.starts_with("nqn.") && text.len() <= LONGEST_NQN && !text.contains(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(InventoryError::Nqn(text.to_owned())) }
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The serial number of an account's subsystem in a region: the same in every process that ever serves it, so that a host knows the subsystem
/// again after a restart (Base section 5.17.2.1, SN).
pub fn serial(region: &str, account: &str) -> [u8; 20] {
    let text = format!("SR{:018X}", fnv1a(region.bytes().chain([0]).chain(account.bytes())));
    text.into_bytes().try_into().expect("2 letters and 18 digits")
}

/// FNV-1a with 64 bits (draft-eastlake-fnv): not a secret, only spread.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_names_its_subsystem() {
        assert_eq!(Nqn::of_account("acc-1").expect("fits").as_str(), "nqn.2026-11.io.strongroom:acc-1");
        for wrong in ["", "-a", "a b", "a:b", "ä", "a/b", &"a".repeat(65)] {
            assert!(Nqn::of_account(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_field_holds_a_name_and_a_zero() {
        let name: Nqn = format!("nqn.{}", "x".repeat(LONGEST_NQN - 4)).parse().expect("fits");
        assert_eq!(Nqn::from_field(&name.to_field()), Some(name));
        assert_eq!(Nqn::from_field(&[b'n'; 256]), None, "no zero");
        assert_eq!(Nqn::from_field(&[0; 256]), None, "empty");
        let mut field = [0; 256];
        field[..6].copy_from_slice(b"nqn.\xFF\xFE");
        assert_eq!(Nqn::from_field(&field), None, "not UTF-8");
        assert!(format!("nqn.{}", "x".repeat(LONGEST_NQN - 3)).parse::<Nqn>().is_err(), "one byte too long");
        assert!("nqn.a\nb".parse::<Nqn>().is_err() && "iqn.a".parse::<Nqn>().is_err());
    }

    #[test]
    fn a_serial_is_stable_and_tells_accounts_apart() {
        assert_eq!(&serial("eu-1", "a"), &serial("eu-1", "a"));
        assert_ne!(serial("eu-1", "a"), serial("eu-1", "b"));
        assert_ne!(serial("eu-1", "a"), serial("eu-2", "a"));
        assert_ne!(serial("eu", "1a"), serial("eu1", "a"));
        assert!(serial("r", "a").iter().all(u8::is_ascii_alphanumeric));
    }
}
