//! The rules of the KMS, by name.

mod aliases;
mod crashes;
mod crypt;
mod keys;
mod rotation;
mod states;

use serde_json::Value;

use super::OPERATIONS;
use crate::cloud::backend::{Caller, KeyState, MasterKey};
use crate::cloud::error::ApiError;
use crate::cloud::params::Params;
use crate::cloud::service::{Call, Cloud};
use crate::cloud::testing::{Site, ZONE, ask, refusal};

/// Has an account ask for an operation of the KMS.
fn kms_as(cloud: &Cloud, account: &str, action: &str, params: &[(&str, &str)]) -> Result<Value, ApiError> {
    let caller = Caller { account: account.to_owned(), access_key: "test".to_owned() };
    let params: Params = params.iter().copied().collect();
    let operation = OPERATIONS.iter().find(|(name, _)| *name == action).expect("there is such an operation");
    operation.1(cloud, &Call { caller: &caller, action, params: &params, now: cloud.now() })
}

/// Has `acme` ask.
fn kms(cloud: &Cloud, action: &str, params: &[(&str, &str)]) -> Result<Value, ApiError> {
    kms_as(cloud, "acme", action, params)
}

/// The code and status with which `acme` is refused.
fn refused(cloud: &Cloud, action: &str, params: &[(&str, &str)]) -> (String, u16) {
    refusal(kms(cloud, action, params))
}

/// A refusal to be compared.
fn code(code: &str, status: u16) -> (String, u16) {
    (code.to_owned(), status)
}

/// A key of `acme`: its identifier.
fn new_key(cloud: &Cloud) -> String {
    text(&kms(cloud, "CreateKey", &[]).expect("it is made")["KeyMetadata"]["KeyId"])
}

/// The service key of `acme`, which an encrypted disk brings: its identifier.
fn service_key(site: &Site) -> String {
    ask(&site.open(), "CreateDisk", &[("ZoneId", ZONE), ("Size", "20"), ("Encrypted", "true")]).expect("it is made");
    site.target().keys.iter().find(|key| key.is_service_key).expect("the disk has brought it").id.clone()
}

/// What DescribeKey tells.
fn described(cloud: &Cloud, key: &str) -> Value {
    kms(cloud, "DescribeKey", &[("KeyId", key)]).expect("it is there")["KeyMetadata"].clone()
}

/// Changes a key behind the API.
fn with_key(site: &Site, id: &str, change: impl FnOnce(&mut MasterKey)) {
    change(site.target().keys.iter_mut().find(|key| key.id == id).expect("it is there"));
}

/// Brings a key into a state behind the API.
fn put_state(site: &Site, id: &str, state: KeyState) {
    with_key(site, id, |key| key.state = state);
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[test]
fn operations_stand_in_the_order_of_their_names() {
    assert!(OPERATIONS.is_sorted_by_key(|(name, _)| *name));
}
