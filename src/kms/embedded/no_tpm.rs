//! Stands in for TPMs in a build without the feature `tpm`: says that the build lacks it.

use super::derive::Key;
use super::error::StoreError;
use super::sealed_by_tpm::SealedByTpm;

pub(super) fn seal(_tcti: &str, _pcrs: &[u8]) -> Result<(SealedByTpm, Key), StoreError> {
    Err(StoreError::WithoutTpm)
}

pub(super) fn unseal(_tcti: &str, _sealed: &SealedByTpm) -> Result<Result<Key, String>, StoreError> {
    Err(StoreError::WithoutTpm)
}
