//! The answers of the Transit engine (openbao.org/api-docs/secret/transit), of which only what is used here is read.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What all answers have around them.
#[derive(Deserialize)]
pub(super) struct Envelope<T> {
    pub(super) request_id: Option<String>,
    pub(super) data: T,
}

/// `transit/encrypt` and `transit/rewrap`.
#[derive(Deserialize)]
pub(super) struct Encrypted {
    pub(super) ciphertext: String,
}

/// `transit/decrypt`: the text stays where it was read.
#[derive(Deserialize)]
pub(super) struct Decrypted<'a> {
    #[serde(borrow)]
    pub(super) plaintext: &'a str,
}

/// `transit/keys`.
#[derive(Deserialize)]
pub(super) struct Names {
    pub(super) keys: Vec<String>,
}

/// `transit/keys/NAME`.
#[derive(Deserialize)]
pub(super) struct KeyInfo {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) derived: bool,
    pub(super) exportable: bool,
    #[serde(default)]
    pub(super) allow_plaintext_backup: bool,
    pub(super) deletion_allowed: bool,
    /// OpenBao only.
    #[serde(default)]
    pub(super) soft_deleted: bool,
    /// The versions that still decrypt, with the times at which they were made. Keys of other types have more than a time there.
    pub(super) keys: BTreeMap<String, serde_json::Value>,
}

/// `sys/health`.
#[derive(Deserialize)]
pub(super) struct Health {
    pub(super) initialized: bool,
    pub(super) sealed: bool,
    pub(super) version: String,
}

impl KeyInfo {
    /// Versions and their times, the oldest first.
    pub(super) fn versions(&self) -> Option<Vec<(u32, Option<u64>)>> {
        let mut versions = Vec::with_capacity(self.keys.len());
        for (number, made) in &self.keys {
            versions.push((number.parse().ok()?, made.as_u64()));
        }
        versions.sort_unstable();
        (!versions.is_empty()).then_some(versions)
    }

    /// What has to be otherwise before it may wrap the keys of disks.
    pub(super) fn flaw(&self) -> Option<&'static str> {
        match self {
            _ if self.kind != "aes256-gcm96" => Some("its type is not aes256-gcm96"),
            _ if !self.derived => Some("it is not derived, so nothing binds what it wraps to a disk"),
            _ if self.exportable || self.allow_plaintext_backup => Some("it may be exported in plain"),
            _ if self.deletion_allowed => Some("it may be deleted; set deletion_allowed=false"),
            _ => None,
        }
    }
}

/// The version in `vault:vN:…`, if it is such a text.
pub(super) fn version_of(ciphertext: &str) -> Option<u32> {
    let (version, rest) = ciphertext.strip_prefix("vault:v")?.split_once(':')?;
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let fits = !rest.is_empty() && rest.chars().all(is_base64) && version.chars().all(|c| c.is_ascii_digit());
    version.parse().ok().filter(|&number| fits && number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cipher_text_tells_its_version() {
        assert_eq!(version_of("vault:v12:AbC+/="), Some(12));
        for wrong in ["vault:v0:AA", "vault:v1:", "vault:v1", "vault:v+1:AA", "vault:v1:A\"A", "v1:AA", ""] {
            assert_eq!(version_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_that_could_get_out_or_binds_nothing_is_told() {
        let key = |more: &str| {
            let text = format!(
                r#"{{"type":"aes256-gcm96","derived":true,"exportable":false,"deletion_allowed":false,"keys":{{"10":1,"9":2}}{more}}}"#
            );
            serde_json::from_str::<KeyInfo>(&text).expect("a key")
        };
        assert_eq!(key("").flaw(), None);
        assert_eq!(key("").versions(), Some(vec![(9, Some(2)), (10, Some(1))]));
        assert!(key(r#","allow_plaintext_backup":true"#).flaw().is_some());
        assert!(KeyInfo { derived: false, ..key("") }.flaw().is_some());
        assert!(KeyInfo { deletion_allowed: true, ..key("") }.flaw().is_some());
    }
}
