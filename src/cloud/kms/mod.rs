//! The operations of the product KMS, version 2016-01-20: master keys of an account, and what they seal.
//!
//! The keys are in the KMS behind the target; the store has only what users say of them. Keys are symmetric, 256 bits, made by the KMS: nothing is
//! imported, and no key signs.
//!
//! What the documentation leaves open, and how it is here:
//!
//! - The **service key** of disks is there once the first encrypted disk was made. It is listed and described, and its aliases and versions are. All else
//!   is `Forbidden.NoPermission`: changes of its state, its versions and its aliases, and its use on data of the user.
//! - **Deletion protection** lets ScheduleKeyDeletion fail with `Rejected.StateModifiedFailed`; it is not changed while a key waits for its destruction.
//! - A new version **less than 7 days** after the last one, and one beyond the fiftieth, is `Rejected.LimitExceeded`.
//! - A damaged **blob** and a wrong **context** have the same answer, `InvalidParameter`: nobody learns which of the two it was.
//! - **DryRun** is refused, since we would do it in earnest.
//! - **ClientToken** is not a parameter of this product. Where only rows change it is heeded as everywhere; where the KMS acts, a request that is sent
//!   again is a new one.

mod account;
mod aliases;
mod ask;
mod crypt;
mod errors;
mod keys;
mod rotation;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use rotation::rotate_due;

use serde_json::Value;

use super::error::ApiError;
use super::service::{Call, Cloud, Operation};

/// An operation for those who have opened the KMS.
macro_rules! opened {
    ($operation:path) => {
        |cloud: &Cloud, call: &Call<'_>| -> Result<Value, ApiError> {
            ask::check(cloud, call).and_then(|()| $operation(cloud, call)).map_err(ApiError::from)
        }
    };
}

/// An operation for everybody.
macro_rules! open {
    ($operation:path) => {
        |cloud: &Cloud, call: &Call<'_>| -> Result<Value, ApiError> { $operation(cloud, call).map_err(ApiError::from) }
    };
}

/// All operations, by their names.
pub static OPERATIONS: &[(&str, Operation)] = &[
    ("CancelKeyDeletion", opened!(state::cancel_key_deletion)),
    ("CreateAlias", opened!(aliases::create_alias)),
    ("CreateKey", opened!(keys::create_key)),
    ("CreateKeyVersion", opened!(rotation::create_key_version)),
    ("Decrypt", opened!(crypt::decrypt)),
    ("DeleteAlias", opened!(aliases::delete_alias)),
    ("DescribeAccountKmsStatus", open!(account::describe_account_kms_status)),
    ("DescribeKey", opened!(keys::describe_key)),
    ("DescribeKeyVersion", opened!(rotation::describe_key_version)),
    ("DescribeRegions", open!(account::describe_regions)),
    ("DisableKey", opened!(state::disable_key)),
    ("EnableKey", opened!(state::enable_key)),
    ("Encrypt", opened!(crypt::encrypt)),
    ("GenerateDataKey", opened!(crypt::generate_data_key)),
    ("GenerateDataKeyWithoutPlaintext", opened!(crypt::generate_data_key_without_plaintext)),
    ("ListAliases", opened!(aliases::list_aliases)),
    ("ListAliasesByKeyId", opened!(aliases::list_aliases_by_key_id)),
    ("ListKeyVersions", opened!(rotation::list_key_versions)),
    ("ListKeys", opened!(keys::list_keys)),
    ("OpenKmsService", open!(account::open_kms_service)),
    ("ReEncrypt", opened!(crypt::re_encrypt)),
    ("ScheduleKeyDeletion", opened!(state::schedule_key_deletion)),
    ("SetDeletionProtection", opened!(state::set_deletion_protection)),
    ("UpdateAlias", opened!(aliases::update_alias)),
    ("UpdateKeyDescription", opened!(keys::update_key_description)),
    ("UpdateRotationPolicy", opened!(rotation::update_rotation_policy)),
];
