//! A root key as operators keep it: 32 random bytes, or 64 hexadecimal digits.

use crate::crypto::scrub::scrub;
use crate::kms::KEY_BYTES;
use crate::memory::Secret;
use crate::secrets::{SecretRef, SecretText};

use super::derive::Key;
use super::error::StoreError;

/// Reads it into locked memory.
pub(super) fn read(reference: &SecretRef) -> Result<Key, StoreError> {
    let text = reference.read()?;
    let key = Secret::filled(|key: &mut [u8; KEY_BYTES]| parse(&text, key));
    scrub();
    key
}

/// The last of 32 random bytes may look like a line end, so the length decides what it is.
fn parse(text: &SecretText, key: &mut [u8; KEY_BYTES]) -> Result<(), StoreError> {
    for raw in [text.with_line_end(), text.as_bytes()] {
        // 32 digits are half a key.
        if raw.len() == KEY_BYTES && !raw.iter().all(u8::is_ascii_hexdigit) {
            key.copy_from_slice(raw);
            return Ok(());
        }
    }
    let digits = text.as_bytes();
    if digits.len() != 2 * KEY_BYTES {
        return Err(StoreError::NotARootKey);
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(())
}

fn digit(text: u8) -> Result<u8, StoreError> {
    let value = (text as char).to_digit(16).ok_or(StoreError::NotARootKey)?;
    Ok(value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::embedded::testing::secret_file;

    #[test]
    fn raw_bytes_and_digits_are_read() {
        let mut raw: Vec<u8> = (0..32).map(|n| n * 7).collect();
        let hex: String = raw.iter().map(|byte| format!("{byte:02X}")).collect();
        let dir = tempfile::tempdir().expect("a directory");
        let read = |content: &[u8]| read(&secret_file(dir.path(), "root.key", content)).map(|key| key.to_vec());
        for content in [raw.clone(), [&raw[..], b"\n"].concat(), hex.clone().into_bytes(), format!("{hex}\r\n").into()]
        {
            assert_eq!(read(&content).expect("read"), raw);
        }
        for end in *b"\r\n" {
            raw[31] = end;
            assert_eq!(read(&raw).expect("read"), raw);
        }
        for wrong in [&raw[..31], &[7; 33], &hex.as_bytes()[..62], &hex.as_bytes()[..32], &[b'x'; 64]] {
            assert!(matches!(read(wrong), Err(StoreError::NotARootKey)));
        }
    }
}
