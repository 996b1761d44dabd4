//! What a disk leaves in the record of its volume, so that nobody serves the volume's bytes as something else.
//!
//! The record of a volume keeps up to 512 bytes for the layers above. The first 32 are [`Figure`]: sector size, cipher, tweak unit, where the key
//! comes from, and a check value of it. What follows is kept as it is. Snapshots and clones carry the same bytes, since they carry the same
//! cipher text. The wrapped key of a disk whose key a KMS keeps does not stand here, but in the pool's own place for keys.
//!
//! The check value is the first 16 bytes of SHA-256 over a label and the key. It tells keys apart and gives nothing away: whoever could
//! find a random key by its hash could also find it by the cipher text beside it.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::crypto::scrub::scrub;
use crate::crypto::xts::{SectorSize, XtsKeyBytes};

use super::config::{DiskConfig, Encryption, TweakUnit};

const MAGIC: [u8; 4] = *b"SRda";
/// Of disks whose key lies in a file, and of plain ones.
const KEY_IN_FILE: u16 = 1;
/// Of disks whose key a KMS keeps: older programs refuse them.
const KEY_IN_KMS: u16 = 2;
const KEY_CHECK_LABEL: &[u8] = b"strongroom disk key check 1\0";
const KEY_CHECK_BYTES: usize = 16;
/// What a volume's record has room for.
const MOST_BYTES: usize = 512;

const NOT_ENCRYPTED: u8 = 0;
const AES_256_XTS: u8 = 1;
const COUNTS_SECTORS: u8 = 0;
const COUNTS_512_BYTES: u8 = 1;

/// The beginning of the attributes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Figure {
    magic: [u8; 4],
    version: U16,
    /// log2 of the bytes of a sector.
    sector_shift: u8,
    cipher: u8,
    tweak_unit: u8,
    reserved: [u8; 7],
    key_check: [u8; KEY_CHECK_BYTES],
}

const _: () = assert!(size_of::<Figure>() == 32);

/// Why a volume is not served as the disk of the configuration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AttributesError {
    /// No disk was ever made on it.
    #[error("it was not made for a disk: its record says nothing of sectors and encryption")]
    Missing,
    /// A newer program has made it.
    #[error("its attributes have version {0}, and this program knows versions up to {KEY_IN_KMS}; use a newer one")]
    Version(u16),
    /// They make no sense.
    #[error("its attributes are damaged: {0}")]
    Damaged(&'static str),
    /// The sectors have another size.
    #[error("it has sectors of {has} bytes, not {asked}; set sector_size = {has}")]
    SectorSize {
        /// What it was made with.
        has: usize,
        /// What the configuration says.
        asked: usize,
    },
    /// What is stored is cipher text.
    #[error("it is encrypted with aes-256-xts, and the configuration says encryption = \"none\"; say encryption = {0}")]
    Encrypted(&'static str),
    /// Its key comes from somewhere else.
    #[error("its key is not there where the configuration says; say encryption = {0}")]
    KeyElsewhere(&'static str),
    /// What is stored is plain text.
    #[error(
        "it is not encrypted, and the configuration names a key; set encryption = \"none\", or make a new disk and copy it"
    )]
    NotEncrypted,
    /// The tweak counts something else.
    #[error("its tweak counts other units; set tweak_unit = \"{0}\"")]
    TweakUnit(&'static str),
    /// It was written with another key.
    #[error("{} holds another key than the one that it was written with", key_file.display())]
    WrongKey {
        /// Where the key came from.
        key_file: PathBuf,
    },
    /// It was written with another key than the one that the KMS gave.
    #[error("the key that the KMS gave is not the one that it was written with")]
    WrongKmsKey,
}

/// How the sectors on a volume are to be understood.
#[derive(Clone, PartialEq, Eq)]
pub struct DiskAttributes {
    sector: SectorSize,
    sealed: Option<Sealed>,
    /// What follows the figure.
    more: Vec<u8>,
}

/// How a disk is encrypted.
#[derive(Clone, PartialEq, Eq)]
struct Sealed {
    source: KeySource,
    tweak_unit: TweakUnit,
    key_check: [u8; KEY_CHECK_BYTES],
}

/// Where a disk's key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeySource {
    File,
    Kms,
}

impl KeySource {
    /// What the configuration has to say.
    fn remedy(self) -> &'static str {
        match self {
            Self::File => "{ key_file = … }",
            Self::Kms => "\"kms\"",
        }
    }
}

impl DiskAttributes {
    /// Those of a disk that is being made with this key.
    pub fn new(config: &DiskConfig, key: Option<&XtsKeyBytes>) -> Self {
        let sealed = key.map(|key| {
            let (source, tweak_unit) = match &config.encryption {
                Some(Encryption::Xts(xts)) => (KeySource::File, xts.tweak_unit.unwrap_or_default()),
                _ => (KeySource::Kms, TweakUnit::default()),
            };
            Sealed { source, tweak_unit, key_check: key_check(key) }
        });
        Self { sector: config.sector(), sealed, more: Vec::new() }
    }

    /// The configuration with what it leaves open taken from here.
    pub(super) fn complete(&self, config: &DiskConfig) -> DiskConfig {
        let mut config = config.clone();
        config.sector_size.get_or_insert(self.sector);
        if let (Some(Encryption::Xts(xts)), Some(sealed)) = (&mut config.encryption, &self.sealed) {
            xts.tweak_unit.get_or_insert(sealed.tweak_unit);
        }
        config
    }

    /// As they stand in the volume's record.
    pub fn encode(&self) -> Vec<u8> {
        let (cipher, tweak_unit, key_check) = match &self.sealed {
            None => (NOT_ENCRYPTED, COUNTS_SECTORS, [0; KEY_CHECK_BYTES]),
            Some(sealed) => (AES_256_XTS, unit_number(sealed.tweak_unit), sealed.key_check),
        };
        let figure = Figure {
            magic: MAGIC,
            version: match &self.sealed {
                Some(Sealed { source: KeySource::Kms, .. }) => KEY_IN_KMS.into(),
                _ => KEY_IN_FILE.into(),
            },
            sector_shift: self.sector.shift() as u8,
            cipher,
            tweak_unit,
            reserved: [0; 7],
            key_check,
        };
        [figure.as_bytes(), &self.more].concat()
    }

    /// Reads what stands in a volume's record.
    pub fn decode(bytes: &[u8]) -> Result<Self, AttributesError> {
        let damaged = AttributesError::Damaged;
        if bytes.is_empty() {
            return Err(AttributesError::Missing);
        }
        let Ok((figure, more)) = Figure::read_from_prefix(bytes) else {
            return Err(damaged("they are too short"));
        };
        if figure.magic != MAGIC {
            return Err(damaged("the magic number is missing"));
        }
        let source = match figure.version.get() {
            KEY_IN_FILE => KeySource::File,
            KEY_IN_KMS => KeySource::Kms,
            newer => return Err(AttributesError::Version(newer)),
        };
        if bytes.len() > MOST_BYTES || figure.reserved != [0; 7] {
            return Err(damaged("there is something where nothing should be"));
        }
        let sector = match figure.sector_shift {
            9 => SectorSize::B512,
            12 => SectorSize::B4096,
            _ => return Err(damaged("there is no such sector size")),
        };
        let sealed = match (figure.cipher, unit_of(figure.tweak_unit)) {
            (NOT_ENCRYPTED, Some(TweakUnit::Sector)) if source == KeySource::File => None,
            (AES_256_XTS, Some(tweak_unit)) => Some(Sealed { source, tweak_unit, key_check: figure.key_check }),
            _ => return Err(damaged("there is no such encryption")),
        };
        Ok(Self { sector, sealed, more: more.to_vec() })
    }

    /// The size of a sector.
    pub fn sector_size(&self) -> SectorSize {
        self.sector
    }

    /// Whether what is stored is cipher text.
    pub fn is_encrypted(&self) -> bool {
        self.sealed.is_some()
    }

    /// What follows the figure: others keep it there.
    pub fn more(&self) -> &[u8] {
        &self.more
    }

    /// The same with something else behind the figure.
    pub fn with_more(self, more: Vec<u8>) -> Self {
        Self { more, ..self }
    }

    /// Refuses a key, or that there is none, with which the bytes would be something else.
    pub(super) fn check_key(&self, sector: SectorSize, key: Option<&XtsKeyBytes>) -> Result<(), AttributesError> {
        if self.sector != sector {
            return Err(AttributesError::SectorSize { has: self.sector.bytes(), asked: sector.bytes() });
        }
        match (&self.sealed, key) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(AttributesError::NotEncrypted),
            (Some(sealed), None) => Err(AttributesError::Encrypted(sealed.source.remedy())),
            (Some(sealed), Some(key)) if sealed.is_of(key) => Ok(()),
            (Some(_), Some(_)) => Err(AttributesError::WrongKmsKey),
        }
    }

    /// Refuses a configuration that would make something else of what is stored; `key` is the one that it names.
    pub fn check(&self, config: &DiskConfig, key: Option<&XtsKeyBytes>) -> Result<(), AttributesError> {
        let (has, asked) = (self.sector.bytes(), config.sector().bytes());
        if has != asked {
            return Err(AttributesError::SectorSize { has, asked });
        }
        match (&self.sealed, config.encryption.as_ref().unwrap_or(&Encryption::None), key) {
            (None, Encryption::None, _) => Ok(()),
            (None, _, _) => Err(AttributesError::NotEncrypted),
            (Some(sealed), Encryption::None, _) | (Some(sealed), _, None) => {
                Err(AttributesError::Encrypted(sealed.source.remedy()))
            }
            (Some(sealed), Encryption::Kms, Some(key)) => match sealed.source {
                KeySource::Kms if sealed.is_of(key) => Ok(()),
                KeySource::Kms => Err(AttributesError::WrongKmsKey),
                KeySource::File => Err(AttributesError::KeyElsewhere(sealed.source.remedy())),
            },
            (Some(sealed), Encryption::Xts(xts), Some(key)) => {
                if sealed.source != KeySource::File {
                    return Err(AttributesError::KeyElsewhere(sealed.source.remedy()));
                }
                // With sectors of 512 bytes both units count the same.
                let step = |unit: TweakUnit| unit.step(self.sector);
                if step(sealed.tweak_unit) != step(xts.tweak_unit.unwrap_or_default()) {
                    return Err(AttributesError::TweakUnit(unit_name(sealed.tweak_unit)));
                }
                if !sealed.is_of(key) {
                    return Err(AttributesError::WrongKey { key_file: xts.key_file.clone() });
                }
                Ok(())
            }
        }
    }
}

impl Sealed {
    fn is_of(&self, key: &XtsKeyBytes) -> bool {
        self.key_check.ct_eq(&key_check(key)).into()
    }
}

fn key_check(key: &XtsKeyBytes) -> [u8; KEY_CHECK_BYTES] {
    let hash = Sha256::new().chain_update(KEY_CHECK_LABEL).chain_update(&key.0[..]).finalize();
    let mut check = [0; KEY_CHECK_BYTES];
    check.copy_from_slice(&hash[..KEY_CHECK_BYTES]);
    // The hash goes over the key in words of its own.
    scrub();
    check
}

fn unit_number(unit: TweakUnit) -> u8 {
    match unit {
        TweakUnit::Sector => COUNTS_SECTORS,
        TweakUnit::Bytes512 => COUNTS_512_BYTES,
    }
}

fn unit_of(number: u8) -> Option<TweakUnit> {
    match number {
        COUNTS_SECTORS => Some(TweakUnit::Sector),
        COUNTS_512_BYTES => Some(TweakUnit::Bytes512),
        _ => None,
    }
}

/// As the configuration writes it.
fn unit_name(unit: TweakUnit) -> &'static str {
    match unit {
        TweakUnit::Sector => "sector",
        TweakUnit::Bytes512 => "512",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::XtsConfig;
    use std::os::unix::fs::PermissionsExt;

    fn config(sector: u32, encryption: Encryption) -> DiskConfig {
        let text = format!("name = 'v'\ndevice = 'd'\nsector_size = {sector}\nencryption = 'none'");
        DiskConfig { encryption: Some(encryption), ..toml::from_str(&text).expect("a disk") }
    }

    fn xts(key_file: &str, tweak_unit: TweakUnit) -> Encryption {
        Encryption::Xts(XtsConfig { key_file: key_file.into(), tweak_unit: Some(tweak_unit) })
    }

    fn sealed(key: &XtsKeyBytes) -> DiskAttributes {
        let sealed = Sealed { source: KeySource::File, tweak_unit: TweakUnit::Sector, key_check: key_check(key) };
        DiskAttributes { sector: SectorSize::B4096, sealed: Some(sealed), more: vec![1, 2, 3] }
    }

    #[test]
    fn they_come_back_with_whatever_follows() {
        let attributes = sealed(&XtsKeyBytes([7; 64]));
        let bytes = attributes.encode();
        assert_eq!(bytes.len(), 35);
        assert!(DiskAttributes::decode(&bytes).expect("read") == attributes);
        let plain = DiskAttributes::new(&config(512, Encryption::None), None);
        assert!(DiskAttributes::decode(&plain.encode()).expect("read") == plain);
    }

    #[test]
    fn the_key_check_is_always_the_same() {
        // printf 'strongroom disk key check 1\0' plus bytes 0 to 63 | sha256sum
        let key = XtsKeyBytes(std::array::from_fn(|n| n as u8));
        let text: String = key_check(&key).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "83f077ad633b3bc43ab103229065ff65");
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let good = sealed(&XtsKeyBytes([7; 64])).encode();
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            DiskAttributes::decode(&bytes).err().expect("refused")
        };
        assert_eq!(DiskAttributes::decode(&[]).err(), Some(AttributesError::Missing));
        assert_eq!(changed(4, 3), AttributesError::Version(3));
        for (at, to) in [(0, b'X'), (6, 10), (7, 2), (8, 2), (9, 1)] {
            let error = changed(at, to);
            assert!(matches!(error, AttributesError::Damaged(_)), "byte {at}: {error}");
        }
        assert!(matches!(DiskAttributes::decode(&good[..31]), Err(AttributesError::Damaged(_))));
        assert!(matches!(DiskAttributes::decode(&[good, vec![0; 480]].concat()), Err(AttributesError::Damaged(_))));
    }

    #[test]
    fn what_would_serve_something_else_is_refused_by_name() {
        let (key, other) = (XtsKeyBytes([7; 64]), XtsKeyBytes([8; 64]));
        let attributes = sealed(&key);
        let check = |config: &DiskConfig, key| attributes.check(config, key).map_err(|e| e.to_string());
        let right = config(4096, xts("/k", TweakUnit::Sector));
        assert_eq!(check(&right, Some(&key)), Ok(()));
        let refused = |config: &DiskConfig, key, why: &str| {
            let error = check(config, key).expect_err("refused");
            assert!(error.contains(why), "{error}");
        };
        refused(&right, Some(&other), "/k holds another key");
        refused(&config(512, xts("/k", TweakUnit::Sector)), Some(&key), "sector_size = 4096");
        refused(&config(4096, xts("/k", TweakUnit::Bytes512)), Some(&key), "tweak_unit = \"sector\"");
        refused(&config(4096, Encryption::None), None, "encryption = \"none\"");
        let plain = DiskAttributes { sealed: None, ..attributes.clone() };
        assert_eq!(plain.check(&right, Some(&key)), Err(AttributesError::NotEncrypted));
    }

    #[test]
    fn a_key_in_a_kms_is_not_a_key_in_a_file() {
        let (key, other) = (XtsKeyBytes([7; 64]), XtsKeyBytes([8; 64]));
        let (kms, file) = (config(4096, Encryption::Kms), config(4096, xts("/k", TweakUnit::Sector)));
        let attributes = DiskAttributes::decode(&DiskAttributes::new(&kms, Some(&key)).encode()).expect("read");
        assert_eq!(attributes.check(&kms, Some(&key)), Ok(()));
        assert_eq!(attributes.check(&kms, Some(&other)), Err(AttributesError::WrongKmsKey));
        assert!(matches!(attributes.check(&file, Some(&key)), Err(AttributesError::KeyElsewhere(_))));
        assert!(matches!(sealed(&key).check(&kms, Some(&key)), Err(AttributesError::KeyElsewhere(_))));
    }

    #[test]
    fn what_the_configuration_leaves_open_is_as_the_volume_was_made() {
        let key = XtsKeyBytes([7; 64]);
        let sealed = Sealed { source: KeySource::File, tweak_unit: TweakUnit::Bytes512, key_check: key_check(&key) };
        let attributes = DiskAttributes { sector: SectorSize::B4096, sealed: Some(sealed), more: Vec::new() };
        let open = Encryption::Xts(XtsConfig { key_file: "/k".into(), tweak_unit: None });
        let config = DiskConfig { sector_size: None, ..config(512, open) };
        assert!(attributes.check(&config, Some(&key)).is_err(), "sectors by default");
        let complete = attributes.complete(&config);
        assert_eq!((complete.sector(), attributes.check(&complete, Some(&key))), (SectorSize::B4096, Ok(())));
    }

    #[test]
    fn a_new_disk_remembers_its_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        std::fs::write(&path, [7; 64]).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        let encryption = Encryption::Xts(XtsConfig { key_file: path, tweak_unit: Some(TweakUnit::Bytes512) });
        let config = config(4096, encryption);
        let key = config.read_key().expect("the key is read");
        let attributes = DiskAttributes::new(&config, key.as_deref());
        assert_eq!(attributes.check(&config, Some(&XtsKeyBytes([7; 64]))), Ok(()));
    }
}
