//! ModifyImageSharePermission and DescribeImageSharePermission: which other accounts may use an image. One with encrypted parts is its owner's only.

use serde_json::{Value, json};

use crate::cloud::ecs::ask::check_region;
use crate::cloud::ecs::image::owner::is_encrypted;
use crate::cloud::error::ApiError;
use crate::cloud::page::Page;
use crate::cloud::params::Params;
use crate::cloud::rows::Image;
use crate::cloud::service::{Call, Cloud};
use crate::cloud::store::World;

/// Accounts that an image may be shared with.
const MOST_ACCOUNTS: usize = 50;
/// Accounts in one request.
const MOST_AT_ONCE: usize = 10;

/// The operation.
pub fn modify_image_share_permission(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_our_region(cloud, call.params)?;
    let id = call.params.needed("ImageId")?;
    let (added, removed) = (call.params.list("AddAccount"), call.params.list("RemoveAccount"));
    for (name, accounts) in [("AddAccount", &added), ("RemoveAccount", &removed)] {
        if accounts.len() > MOST_AT_ONCE {
            return Err(ApiError::invalid(name));
        }
    }
    cloud.change(call, |world| {
        let image = own_image(world, call.account(), id)?;
        if !image.is_available {
            return Err(ApiError::new("IncorrectImageStatus", 400, "The image is not available."));
        }
        if is_encrypted(world, image) {
            let what = "The image contains encrypted snapshots, which do not support share.";
            return Err(ApiError::new("OperationDeined.EncryptedSnapshot", 403, what));
        }
        let mut accounts = image.shared_with.clone();
        for account in added {
            check_account(world, call.account(), account)?;
            if !accounts.iter().any(|there| there == account) {
                accounts.push(account.to_owned());
            }
        }
        for account in removed {
            // One that is gone can still be taken out.
            if !accounts.iter().any(|there| there == account) {
                check_account(world, call.account(), account)?;
            }
            accounts.retain(|there| there != account);
        }
        if accounts.len() > MOST_ACCOUNTS {
            return Err(ApiError::new("QuotaExceed.ShareImageUser", 403, "The shared image user quota exceeds."));
        }
        world.images.get_mut(id).expect("it was just found").shared_with = accounts;
        Ok(json!({}))
    })
}

/// The operation.
pub fn describe_image_share_permission(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_our_region(cloud, call.params)?;
    let id = call.params.needed("ImageId")?;
    let page = Page::of(call.params)?;
    let accounts =
        cloud.store().read(|world| own_image(world, call.account(), id).map(|image| image.shared_with.clone()))?;
    let mut answer = page.answer("Accounts", "Account", &accounts, |account| json!({ "AliyunId": account }));
    answer["ImageId"] = json!(id);
    answer["RegionId"] = json!(cloud.region());
    answer["ShareGroups"] = json!({ "ShareGroup": [] });
    Ok(answer)
}

fn check_our_region(cloud: &Cloud, params: &Params) -> Result<(), ApiError> {
    check_region(cloud, params)
        .map_err(|_| ApiError::new("InvalidRegionId.NotFound", 400, "The specified region does not exist."))
}

/// The caller's image: others', and the system's, are not for the caller to share.
fn own_image<'w>(world: &'w World, account: &str, id: &str) -> Result<&'w Image, ApiError> {
    let image = world.images.get(id).filter(|image| image.account == account);
    image.ok_or_else(|| ApiError::new("InvalidImageId.NotFound", 403, "The specified ImageId does not exist."))
}

fn check_account(world: &World, own: &str, account: &str) -> Result<(), ApiError> {
    if account == own {
        return Err(ApiError::new("InvalidAccount.Forbbiden", 404, "The specified account does not yourself."));
    }
    if !world.accounts.contains(account) {
        let what = "The specified parameter AddAccount.n or RemoveAccount.n does not exist.";
        return Err(ApiError::new("InvalidAccount.NotFound", 404, what));
    }
    Ok(())
}
