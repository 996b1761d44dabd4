//! AES-256-GCM (NIST SP 800-38D) with random nonces, through AWS-LC: the one place where a key of ours encrypts another one.
//!
//! A random 96-bit nonce is safe for 2^32 uses of a key (SP 800-38D section 8.3); a CMK version wraps one key per new disk, and whoever uses a
//! key more often than that has to make a new version. The feature `fips` takes the same code from AWS-LC's validated module.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use thiserror::Error;

use crate::crypto::scrub::scrub;

use super::KEY_BYTES;

/// Bytes of the tag.
pub const TAG_BYTES: usize = 16;

/// Why something is not sealed or opened.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AeadError {
    /// The library refuses a key or a length.
    #[error("AES-256-GCM cannot be used")]
    Refused,
    /// It is not what was sealed with this key and this context.
    #[error("it does not open with this key and context")]
    NotAuthentic,
    /// The kernel gives no random numbers.
    #[error("no random numbers")]
    Random,
}

/// A nonce, the cipher text, and the tag, one after the other.
pub type Sealed = Vec<u8>;

/// Encrypts `plain`, and authenticates it together with `context`.
pub fn seal(key: &[u8; KEY_BYTES], context: &[u8], plain: &[u8]) -> Result<Sealed, AeadError> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|_| AeadError::Random)?;
    let sealed = seal_with(key, nonce, context, plain);
    scrub();
    sealed
}

fn seal_with(key: &[u8; KEY_BYTES], nonce: [u8; NONCE_LEN], context: &[u8], plain: &[u8]) -> Result<Sealed, AeadError> {
    let key = expand(key)?;
    let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + TAG_BYTES);
    sealed.extend(nonce);
    sealed.extend(plain);
    let text = &mut sealed[NONCE_LEN..];
    let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), text);
    match tag {
        Ok(tag) => sealed.extend(tag.as_ref()),
        Err(_) => return Err(AeadError::Refused),
    }
    Ok(sealed)
}

/// Decrypts what [`seal`] made straight into `plain`, which has to be as long as what was sealed.
pub fn open(key: &[u8; KEY_BYTES], context: &[u8], sealed: &[u8], plain: &mut [u8]) -> Result<(), AeadError> {
    let opened = open_into(key, context, sealed, plain);
    scrub();
    opened
}

fn open_into(key: &[u8; KEY_BYTES], context: &[u8], sealed: &[u8], plain: &mut [u8]) -> Result<(), AeadError> {
    if sealed.len() != NONCE_LEN + plain.len() + TAG_BYTES {
        return Err(AeadError::NotAuthentic);
    }
    let (nonce, rest) = sealed.split_at(NONCE_LEN);
    let (text, tag) = rest.split_at(plain.len());
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| AeadError::Refused)?;
    let opened = expand(key)?.open_separate_gather(nonce, Aad::from(context), text, tag, plain);
    opened.map_err(|_| AeadError::NotAuthentic)
}

/// The library keeps the expanded key on its heap, and overwrites it when it is dropped.
fn expand(key: &[u8; KEY_BYTES]) -> Result<LessSafeKey, AeadError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| AeadError::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_its_key_and_context_only() {
        let (key, plain) = ([1; 32], [2; 32]);
        let sealed = seal(&key, b"disk 1", &plain).expect("sealed");
        let mut opened = [0; 32];
        open(&key, b"disk 1", &sealed, &mut opened).expect("opened");
        assert_eq!(opened, plain);
        assert_ne!(seal(&key, b"disk 1", &plain).expect("sealed"), sealed, "the nonce is another one");
        let refused = |key, context, sealed: &[u8]| open(key, context, sealed, &mut [0; 32]);
        assert_eq!(refused(&key, b"disk 2", &sealed), Err(AeadError::NotAuthentic));
        assert_eq!(refused(&[3; 32], b"disk 1", &sealed), Err(AeadError::NotAuthentic));
        assert_eq!(refused(&key, b"disk 1", &sealed[1..]), Err(AeadError::NotAuthentic));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(refused(&key, b"disk 1", &changed), Err(AeadError::NotAuthentic), "byte {at}");
        }
    }

    #[test]
    fn it_is_the_cipher_of_the_standard() {
        // The GCM submission's test case 14 (also NIST CAVP): AES-256, a key and a nonce of zeros, one block of zeros.
        let sealed = seal_with(&[0; 32], [0; 12], b"", &[0; 16]).expect("sealed");
        let hex: String = sealed[12..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    }
}
