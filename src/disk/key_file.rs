//! Key files: 64 bytes of XTS key material, raw or as 128 hex digits.
//!
//! The file has to belong to its reader and be closed to everybody else, as ssh(1) demands of its keys. Its content goes straight
//! into locked memory; the buffer that hex passes through is locked and wiped too.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::crypto::xts::{KeyError, XtsKeyBytes};
use crate::memory::{Secret, SecretError};
use crate::secrets::{NotPrivate, check_private};

const KEY_BYTES: usize = 64;
const HEX_DIGITS: usize = 2 * KEY_BYTES;
/// Hex digits and a line end; one byte more shows that a file is too long.
const MOST_BYTES: usize = HEX_DIGITS + 3;

/// Why a key cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("key file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// It is not for this process alone.
    #[error("key file {0}")]
    NotPrivate(#[from] NotPrivate),
    /// It holds something else.
    #[error(
        "key file {path}: {KEY_BYTES} bytes, or {HEX_DIGITS} hex digits, are needed; `openssl rand -out {path} {KEY_BYTES}` makes one"
    )]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// The cipher refuses it.
    #[error("{0}")]
    Refused(KeyError),
    /// There is no locked memory for it.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// The kernel gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// What was read: raw or hex, and how much of it.
struct Raw {
    bytes: [u8; MOST_BYTES],
    len: usize,
}

impl Default for Raw {
    fn default() -> Self {
        Self { bytes: [0; MOST_BYTES], len: 0 }
    }
}

/// Reads a key into locked memory.
pub fn read_key_file(path: &Path) -> Result<Secret<XtsKeyBytes>, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    check_private(path, &file)?;
    let raw = Secret::<Raw>::filled(|raw| {
        while raw.len < MOST_BYTES {
            match file.read(&mut raw.bytes[raw.len..]) {
                Ok(0) => break,
                Ok(read) => raw.len += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(())
    })?;
    Secret::filled(|key: &mut XtsKeyBytes| {
        decode(&raw.bytes[..raw.len], &mut key.0).ok_or_else(|| KeyFileError::Content { path: path.to_owned() })
    })
}

/// A fresh key that exists nowhere else.
pub(super) fn random_key() -> Result<Secret<XtsKeyBytes>, KeyFileError> {
    Secret::filled(|key: &mut XtsKeyBytes| getrandom::fill(&mut key.0).map_err(KeyFileError::Random))
}

fn decode(raw: &[u8], key: &mut [u8; KEY_BYTES]) -> Option<()> {
    if raw.len() == KEY_BYTES {
        key.copy_from_slice(raw);
        return Some(());
    }
    let digits = raw.strip_suffix(b"\n").unwrap_or(raw);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    if digits.len() != HEX_DIGITS {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
    }
    Some(())
}

fn hex_value(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key_file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode set");
        (dir, path)
    }

    #[test]
    fn raw_and_hex_give_the_same_key() {
        let raw: Vec<u8> = (0..64).collect();
        let hex: String = raw.iter().map(|b| format!("{b:02x}")).collect();
        for content in [raw.clone(), hex.clone().into_bytes(), format!("{}\n", hex.to_uppercase()).into_bytes()] {
            let (_dir, path) = key_file(&content, 0o600);
            assert_eq!(read_key_file(&path).expect("a key").0.as_slice(), raw);
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_cure() {
        let (_dir, path) = key_file(&[1; 64], 0o640);
        let error = read_key_file(&path).expect_err("refused").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn other_content_is_refused_and_not_shown() {
        for content in [&b"secret"[..], &[b'g'; 128], &[b'a'; 127], &[b'a'; 4096]] {
            let (_dir, path) = key_file(content, 0o600);
            let error = read_key_file(&path).expect_err("refused").to_string();
            assert!(error.contains("64 bytes") && !error.contains("secret"), "{error}");
        }
    }
}
