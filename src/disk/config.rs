//! A disk in the configuration.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::crypto::xts::{SectorSize, XtsKeyBytes};
use crate::device::Size;
use crate::memory::Secret;

use super::DiskError;
use super::key_file::read_key_file;
use super::qos::Limits;

/// A disk in the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// The name that exports refer to.
    pub name: String,
    /// The device that the disk takes whole, unless it lies in a pool.
    #[serde(default)]
    pub device: Option<String>,
    /// The pool that its volume lies in. The volume has the disk's name.
    #[serde(default)]
    pub pool: Option<String>,
    /// Bytes of the volume that is made if there is none. One that is there keeps its own size.
    #[serde(default)]
    pub size: Option<Size>,
    /// The snapshot, `volume@snapshot`, that the volume is made from if there is none.
    #[serde(default)]
    pub from_snapshot: Option<String>,
    /// Bytes in a sector: 512 or 4096. If it is left out: what a volume that is there was made with, or else 4096.
    #[serde(default, deserialize_with = "sector")]
    pub sector_size: Option<SectorSize>,
    /// `"kms"`, a table with a key, or `"none"`. It has to be there, so that nobody gets a plain disk by leaving something out; but a disk that is made
    /// from a snapshot has the key of the snapshot's disk, if that one is configured too.
    #[serde(default)]
    pub encryption: Option<Encryption>,
    /// The master key of its account that wraps its key when it is made, if a KMS keeps it; the account's service key, if it is left out.
    #[serde(default)]
    pub master_key: Option<String>,
    /// Whose disk it is. Only a disk with an account can be attached to hosts.
    #[serde(default)]
    pub account: Option<String>,
    /// Several hosts may have it at once.
    #[serde(default)]
    pub shared: bool,
    /// The hosts that see it as a namespace.
    #[serde(default)]
    pub attached_to: Vec<String>,
    /// The namespace identifier in the account's subsystem; the lowest free one, if it is left out.
    #[serde(default)]
    pub nsid: Option<u32>,
    /// The identity that hosts know the disk by, for ever; derived from its names, if it is left out.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// How fast it may be; as fast as it can, if it is left out.
    #[serde(default)]
    pub limits: Option<Limits>,
    /// It belongs to the cloud's API, and is changed there only.
    #[serde(skip)]
    pub of_cloud: bool,
}

impl DiskConfig {
    /// A disk that is not encrypted, and nothing else that can be left out.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            device: None,
            pool: None,
            size: None,
            from_snapshot: None,
            sector_size: None,
            encryption: Some(Encryption::None),
            master_key: None,
            account: None,
            shared: false,
            attached_to: Vec::new(),
            nsid: None,
            uuid: None,
            limits: None,
            of_cloud: false,
        }
    }

    /// Bytes in a sector, or what a disk has that does not say.
    pub fn sector(&self) -> SectorSize {
        self.sector_size.unwrap_or(SectorSize::B4096)
    }

    /// How it is encrypted, which has to be known by now.
    pub(super) fn needed_encryption(&self) -> Result<&Encryption, DiskError> {
        self.encryption.as_ref().ok_or_else(|| DiskError::Config {
            disk: self.name.clone(),
            what: "encryption is missing; say \"kms\", give it a key file, or say \"none\"".to_owned(),
        })
    }

    /// The key that the configuration leads to; none for a plain disk. What a KMS keeps is asked for by control threads, not here.
    pub fn read_key(&self) -> Result<Option<Secret<XtsKeyBytes>>, DiskError> {
        match self.needed_encryption()? {
            Encryption::None => Ok(None),
            Encryption::Xts(xts) => {
                let key = read_key_file(&xts.key_file);
                key.map(Some).map_err(|source| DiskError::Key { disk: self.name.clone(), source })
            }
            Encryption::Kms => Err(DiskError::Config {
                disk: self.name.clone(),
                what: "its key is in a KMS, and lies in no file".to_owned(),
            }),
        }
    }

    /// The disk's UUID in a region: the one it was given, or one that is always the same for the names of region, account and disk.
    pub fn uuid_in(&self, region: &str) -> Uuid {
        if let Some(uuid) = self.uuid {
            return uuid;
        }
        derived_uuid(region, self.account.as_deref().unwrap_or(""), &self.name)
    }
}

/// The UUID of a disk that was given none: of version 8 (RFC 9562 section 5.8), from the first 16 bytes of the SHA-256 of the three names, each
/// followed by its length as 64 bits, little endian.
pub fn derived_uuid(region: &str, account: &str, disk: &str) -> Uuid {
    let mut hash = Sha256::new();
    for name in [region, account, disk] {
        hash.update(name.as_bytes());
        hash.update((name.len() as u64).to_le_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn sector<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SectorSize>, D::Error> {
    let bytes = Option::<u32>::deserialize(deserializer)?;
    bytes.map(SectorSize::try_from).transpose().map_err(D::Error::custom)
}

/// How a disk is encrypted.
#[derive(Clone, Debug)]
pub enum Encryption {
    /// Not at all: `encryption = "none"`.
    None,
    /// AES-256-XTS with a key of its own, which a KMS keeps: `encryption = "kms"`.
    Kms,
    /// AES-256-XTS with the key in a file: `encryption = { key_file = "…" }`.
    Xts(XtsConfig),
}

/// AES-256-XTS with a key from a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XtsConfig {
    /// A file with 64 bytes, raw or as 128 hex digits, that only its owner may read.
    pub key_file: PathBuf,
    /// What the tweak counts. If it is left out: what a volume that is there was made with, or else sectors.
    #[serde(default)]
    pub tweak_unit: Option<TweakUnit>,
}

/// What the tweak of the cipher counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum TweakUnit {
    /// Sectors (IEEE 1619): dm-crypt's `aes-xts-plain64`, with 4096-byte sectors under its option `iv_large_sectors`.
    #[default]
    #[serde(rename = "sector")]
    Sector,
    /// Units of 512 bytes, also under larger sectors: dm-crypt's and LUKS2's form without `iv_large_sectors`.
    #[serde(rename = "512")]
    Bytes512,
}

impl TweakUnit {
    /// What the tweak counts up by from one sector to the next.
    pub fn step(self, sector: SectorSize) -> u64 {
        match self {
            Self::Sector => 1,
            Self::Bytes512 => sector.bytes() as u64 / 512,
        }
    }
}

impl<'de> Deserialize<'de> for Encryption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EncryptionVisitor)
    }
}

struct EncryptionVisitor;

impl<'de> Visitor<'de> for EncryptionVisitor {
    type Value = Encryption;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"kms\", \"none\" or a table with key_file")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Encryption, E> {
        match text {
            "none" => Ok(Encryption::None),
            "kms" => Ok(Encryption::Kms),
            other => Err(E::custom(format!(
                "encryption = {other:?} is unknown; write \"kms\", \"none\" or {{ key_file = \"…\" }}"
            ))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Encryption, A::Error> {
        XtsConfig::deserialize(MapAccessDeserializer::new(map)).map(Encryption::Xts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DiskConfig, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn encryption_is_none_or_a_key() {
        assert!(matches!(
            parse("name='a'\ndevice='d'\nencryption='none'").expect("fits").encryption,
            Some(Encryption::None)
        ));
        let kms = parse("name='a'\npool='p'\nencryption='kms'").expect("fits").encryption;
        assert!(matches!(kms, Some(Encryption::Kms)));
        let disk = parse("name='a'\ndevice='d'\nsector_size=512\n[encryption]\nkey_file='k'\ntweak_unit='512'");
        let disk = disk.expect("fits");
        assert_eq!(disk.sector_size, Some(SectorSize::B512));
        assert!(matches!(disk.encryption, Some(Encryption::Xts(x)) if x.tweak_unit == Some(TweakUnit::Bytes512)));
        for wrong in
            ["encryption='luks'", "encryption=7", "[encryption]\nkey='k'", "[encryption]\nkey_file='k'\nkeyfile='k'"]
        {
            assert!(parse(&format!("name='a'\ndevice='d'\n{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_512_byte_form_counts_eight_for_a_4096_byte_sector() {
        assert_eq!(TweakUnit::Bytes512.step(SectorSize::B4096), 8);
        assert_eq!(TweakUnit::Bytes512.step(SectorSize::B512), 1);
        assert_eq!(TweakUnit::Sector.step(SectorSize::B4096), 1);
    }

    #[test]
    fn a_uuid_is_given_or_derived_and_then_always_the_same() {
        let disk = |text: &str| parse(&format!("device='d'\nencryption='none'\n{text}")).expect("fits");
        let derived = disk("name='a'\naccount='acc'").uuid_in("local");
        // printf 'local\5\0\0\0\0\0\0\0acc\3\0\0\0\0\0\0\0a\1\0\0\0\0\0\0\0' | sha256sum, with version and variant put in
        assert_eq!(derived.to_string(), "896851c0-f943-8930-b1b1-896049099212");
        assert_eq!((derived.get_version_num(), derived.get_variant()), (8, uuid::Variant::RFC4122));
        for other in [
            disk("name='b'\naccount='acc'").uuid_in("local"),
            disk("name='a'\naccount='other'").uuid_in("local"),
            disk("name='a'\naccount='acc'").uuid_in("elsewhere"),
            disk("name='cca'\naccount='a'").uuid_in("local"),
        ] {
            assert_ne!(derived, other);
        }
        let given = "11111111-2222-4333-8444-555555555555";
        assert_eq!(disk(&format!("name='a'\nuuid='{given}'")).uuid_in("local").to_string(), given);
    }
}
