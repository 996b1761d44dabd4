//! From a disk key to the two AES keys of XTS.
//!
//! Each half comes out of HKDF-Expand with SHA-256 (RFC 5869 section 2.3, NIST SP 800-56C rev. 2 section 5.1) under a label of its own, so
//! that neither tells anything of the other; equal halves, which XTS must not have (FIPS 140-3 IG C.I), are refused where the key is expanded. The
//! disk key is uniformly random, so it is used as the pseudorandom key without extraction (RFC 5869 section 3.3).

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};

use crate::crypto::scrub::scrub;
use crate::crypto::xts::XtsKeyBytes;
use crate::memory::Secret;

use super::{DiskKey, KEY_BYTES, KmsError};

const DATA_LABEL: &[u8] = b"strongroom disk key 1: xts data";
const TWEAK_LABEL: &[u8] = b"strongroom disk key 1: xts tweak";

struct Half;

impl KeyType for Half {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// The key pair of a disk, in locked memory.
pub fn derive_xts_key(key: &Secret<DiskKey>) -> Result<Secret<XtsKeyBytes>, KmsError> {
    let derived = Secret::filled(|pair: &mut XtsKeyBytes| {
        expand(key, pair);
        Ok(())
    });
    scrub();
    derived
}

/// Kept out of line, so that what it leaves on the stack lies where `scrub` reaches.
#[inline(never)]
fn expand(key: &DiskKey, pair: &mut XtsKeyBytes) {
    let prk = Prk::new_less_safe(HKDF_SHA256, &key.0);
    let (data, tweak) = pair.0.split_at_mut(KEY_BYTES);
    for (label, half) in [(DATA_LABEL, data), (TWEAK_LABEL, tweak)] {
        let okm = [label];
        let filled = prk.expand(&okm, Half).and_then(|okm| okm.fill(half));
        filled.expect("32 bytes are no more than HKDF gives");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_hkdf_as_others_compute_it() {
        // python3: hmac.new(bytes(range(32)), label + b"\x01", hashlib.sha256) for each of the labels
        let key = Secret::filled(|key: &mut DiskKey| {
            key.0 = std::array::from_fn(|n| n as u8);
            Ok::<_, KmsError>(())
        });
        let pair = derive_xts_key(&key.expect("memory")).expect("derived");
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&pair.0[..32]), "0d28cbbc9d82c2e1339214b060559ab81979192baa37066e5eb4857821c7b1d3");
        assert_eq!(hex(&pair.0[32..]), "25646a4108530a98ca2cfc6cd22fcac9bf31275fc7a905e546a41e7a6db246c1");
    }
}
