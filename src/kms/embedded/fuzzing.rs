//! What a fuzzer may throw at the store and at wrapped keys; see `tests/fuzz`. Tests feed the same entries.

use crate::kms::WrappedKey;

use super::body::Body;
use super::error::StoreError;
use super::format;
use super::sealed_by_tpm::SealedByTpm;
use super::witness;

/// The first byte chooses: a file as it is, one whose checksums are made right, the content of a body, a counter file, or a TPM's object.
pub fn store(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 5 {
        0 => file(bytes),
        1 => {
            let mut bytes = bytes.to_vec();
            format::correct_checksums(&mut bytes);
            file(&bytes);
        }
        2 => {
            if let Ok(body) = Body::decode(bytes) {
                assert_eq!(Body::decode(&body.encode()).expect("it was read"), body);
            }
        }
        3 => drop(witness::decode(bytes)),
        _ => {
            if let Some(sealed) = SealedByTpm::decode(bytes) {
                assert_eq!(sealed.encode(), bytes);
            }
        }
    }
}

/// What is read is written as it was.
fn file(bytes: &[u8]) {
    match format::decode(bytes) {
        Ok(sealed) => {
            assert_eq!(format::generation(bytes).expect("it was read"), sealed.header.is);
            let header = format::encode_header(&sealed.header, sealed.body.len());
            assert_eq!(format::encode(header, sealed.body), bytes);
        }
        Err(error) => assert_is_about_the_file(&error),
    }
}

/// Reading looks at bytes only.
fn assert_is_about_the_file(error: &StoreError) {
    let about = matches!(
        error,
        StoreError::NotAStore
            | StoreError::Version(_)
            | StoreError::Truncated { .. }
            | StoreError::Damaged { .. }
            | StoreError::Parameters { .. }
    );
    assert!(about, "{error}");
}

/// A wrapped key that can be read comes back.
pub fn wrapped_key(bytes: &[u8]) {
    if let Ok(key) = WrappedKey::decode(bytes) {
        assert_eq!(key.encode().expect("it fitted"), bytes);
    }
}
