//! The cloud behind its HTTP front: whose requests are taken, and which operations there are.

use serde_json::Value;

use super::error::ApiError;
use super::http::{AccessKey, Product, Service};
use super::params::Params;
use super::service::{Call, Cloud, Operation};
use super::{Caller, ecs, kms};

impl Cloud {
    /// The operation of this name.
    pub fn operation(product: Product, action: &str) -> Option<Operation> {
        let all = match product {
            Product::Ecs => ecs::OPERATIONS,
            Product::Kms => kms::OPERATIONS,
        };
        all.iter().find(|(name, _)| *name == action).map(|(_, operation)| *operation)
    }
}

impl Service for Cloud {
    fn access_key(&self, id: &str) -> Result<Option<AccessKey>, ApiError> {
        let opened = self.open_access_key(id)?;
        Ok(opened.map(|(key, secret)| AccessKey { account: key.account, enabled: key.enabled, secret }))
    }

    fn knows(&self, product: Product, action: &str) -> bool {
        Self::operation(product, action).is_some()
    }

    fn call(&self, caller: &Caller, product: Product, action: &str, params: &Params) -> Result<Value, ApiError> {
        let operation = Self::operation(product, action);
        let operation =
            operation.ok_or_else(|| ApiError::new("InvalidAction.NotFound", 404, "There is no such operation."))?;
        operation(self, &Call { caller, action, params, now: self.now() })
    }
}
