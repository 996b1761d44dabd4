//! The HTTP front of the cloud API: RPC style, for ECS (version 2014-05-26) and KMS (version 2016-01-20).
//!
//! | file | what it owns |
//! | --- | --- |
//! | `config` | where to listen, and limits |
//! | `server`, `connection`, `patience`, `tls` | the thread, its connections, and their ends |
//! | `front` | one request from its arrival to its answer |
//! | `request` | what a request says |
//! | `signature` | who has signed it |
//! | `replay` | signatures that were used before |
//! | `throttle` | how much an account may ask |
//! | `envelope`, `xml` | how answers look |
//! | `refusal` | what the front itself refuses requests with |
//!
//! A request is understood, its signature is checked, and only then anything is looked up or done for its caller. What a request says or is answered never
//! reaches the log: it may be a key. Nothing here knows an operation; they are behind [`Service`].

mod config;
mod connection;
mod envelope;
mod front;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod patience;
mod refusal;
mod replay;
mod request;
mod server;
mod signature;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod throttle;
mod tls;
mod xml;

pub use config::{CloudHttpConfig, CloudHttpError, CloudTlsConfig};
pub use server::CloudServer;

use crate::memory::Secret;
use crate::secrets::SecretText;

use super::{ApiError, Caller, Params};

/// Whose operations are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Disks, snapshots, instances.
    Ecs,
    /// Master keys.
    Kms,
}

impl Product {
    /// The product whose API has this version.
    fn of_version(version: &str) -> Option<Self> {
        match version {
            "2014-05-26" => Some(Self::Ecs),
            "2016-01-20" => Some(Self::Kms),
            _ => None,
        }
    }
}

/// What an account signs its requests with.
pub struct AccessKey {
    /// Whose it is.
    pub account: String,
    /// Requests that are signed with a key which is not are refused.
    pub enabled: bool,
    /// Its secret.
    pub secret: Secret<SecretText>,
}

/// What the front needs of the operations behind it. All of it may block.
pub trait Service: Send + Sync + 'static {
    /// The key of this id; its secret is read now. `Err` if the secret cannot be read, which is the operator's fault (`ServiceUnavailable`, 503).
    fn access_key(&self, id: &str) -> Result<Option<AccessKey>, ApiError>;

    /// Whether the operation exists.
    fn knows(&self, product: Product, action: &str) -> bool;

    /// Carries an operation out. The answer is a JSON object without `RequestId`, with lists wrapped as `{"Disks": {"Disk": [..]}}`.
    fn call(
        &self,
        caller: &Caller,
        product: Product,
        action: &str,
        params: &Params,
    ) -> Result<serde_json::Value, ApiError>;
}
