//! OpenKmsService, DescribeAccountKmsStatus and DescribeRegions: what can be asked before the KMS is opened.

use serde_json::{Value, json};

use super::ask::{change, has_opened};
use super::errors::KmsError;
use crate::cloud::service::{Call, Cloud};

/// The operation OpenKmsService. It costs nothing; only a second time is refused.
pub fn open_kms_service(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    change(cloud, call, |world| {
        let account = world.accounts.get_mut(call.account());
        let account = account.ok_or_else(|| KmsError::internal(format!("there is no account {}", call.account())))?;
        if account.kms_opened {
            return Err(KmsError::new("Forbidden.Opened", 400, "Your kms service has been opened."));
        }
        account.kms_opened = true;
        Ok(())
    })
}

/// The operation DescribeAccountKmsStatus.
pub fn describe_account_kms_status(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let status = if has_opened(cloud, call.account()) { "Enabled" } else { "NotEnabled" };
    Ok(json!({ "AccountStatus": status }))
}

/// The operation DescribeRegions.
pub fn describe_regions(cloud: &Cloud, _call: &Call<'_>) -> Result<Value, KmsError> {
    Ok(json!({ "Regions": { "Region": [{ "RegionId": cloud.region() }] } }))
}
