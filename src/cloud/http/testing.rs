//! A service with a few operations, and clients that sign: for tests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::{digest, hmac};
use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cloud::{ApiError, Params};
use crate::secrets::SecretRef;
use crate::time::Time;

use super::signature::{Pair, canonical};
use super::{AccessKey, Caller, Product, Service};

pub(super) const ID: &str = "testid";
pub(super) const SECRET: &str = "testsecret";

/// Knows the keys `testid` of the account `acme`, `off`, which is disabled, and `broken`, which cannot be read.
pub(super) struct Dummy {
    dir: TempDir,
    pub(super) calls: AtomicU64,
}

impl Dummy {
    pub(super) fn new() -> Arc<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("secret");
        std::fs::write(&file, SECRET).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        Arc::new(Self { dir, calls: AtomicU64::new(0) })
    }

    /// Where a front may remember its nonces.
    pub(super) fn state(&self) -> &Path {
        self.dir.path()
    }
}

impl Service for Dummy {
    fn access_key(&self, id: &str) -> Result<Option<AccessKey>, ApiError> {
        let key = |enabled| {
            let secret = SecretRef::File(self.dir.path().join("secret")).read().expect("a secret");
            Ok(Some(AccessKey { account: "acme".to_owned(), enabled, secret }))
        };
        match id {
            ID => key(true),
            "off" => key(false),
            "broken" => Err(ApiError::new("ServiceUnavailable", 503, "The key cannot be read.")),
            _ => Ok(None),
        }
    }

    fn knows(&self, product: Product, action: &str) -> bool {
        match product {
            Product::Ecs => ["Echo", "Fail", "Panic", "Long"].contains(&action),
            Product::Kms => ["Echo", "Fail"].contains(&action),
        }
    }

    fn call(&self, caller: &Caller, _: Product, action: &str, params: &Params) -> Result<Value, ApiError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match action {
            "Echo" => {
                let params: Vec<_> =
                    params.iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
                Ok(json!({ "Account": caller.account, "Key": caller.access_key, "Params": { "Param": params } }))
            }
            "Long" => Ok(json!({ "Text": "x".repeat(64 << 20) })),
            "Panic" => panic!("the operation has a bug"),
            _ => Err(ApiError::new("InvalidDiskId.NotFound", 404, "The specified disk does not exist.")),
        }
    }
}

/// Now, as requests say it.
pub(super) fn now() -> String {
    let now = Time::now().to_string();
    format!("{}Z", &now[..19])
}

pub(super) fn nonce() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The parameters of a request in the older style, with their signature; those given count more than the usual ones.
pub(super) fn signed(method: &str, version: &str, given: &[(&str, &str)]) -> Vec<Pair> {
    let (now, nonce) = (now(), nonce());
    let usual = [
        ("AccessKeyId", ID),
        ("Action", "Echo"),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureNonce", &nonce),
        ("SignatureVersion", "1.0"),
        ("Timestamp", &now),
        ("Version", version),
    ];
    let usual = usual.iter().filter(|(name, _)| !given.iter().any(|(other, _)| other == name));
    let mut pairs: Vec<Pair> =
        usual.chain(given).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let text = format!("{method}&%2F&{}", canonical::encode(&canonical::query(&pairs)));
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, format!("{SECRET}&").as_bytes());
    let signature = Base64::encode_string(hmac::sign(&key, text.as_bytes()).as_ref());
    pairs.push(("Signature".to_owned(), signature));
    pairs
}

/// The headers of a request in the newer style, without the host.
pub(super) fn signed_headers(version: &str, host: &str, query: &str, body: &str) -> Vec<(String, String)> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sha256 = |text: &str| hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let mut headers = vec![
        ("host".to_owned(), host.to_owned()),
        ("x-acs-action".to_owned(), "Echo".to_owned()),
        ("x-acs-content-sha256".to_owned(), sha256(body)),
        ("x-acs-date".to_owned(), now()),
        ("x-acs-signature-nonce".to_owned(), nonce()),
        ("x-acs-version".to_owned(), version.to_owned()),
    ];
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!("POST\n/\n{query}\n{lines}\n{names}\n{}", sha256(body));
    let text = format!("ACS3-HMAC-SHA256\n{}", sha256(&canonical));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hex(hmac::sign(&key, text.as_bytes()).as_ref());
    let authorization = format!("ACS3-HMAC-SHA256 Credential={ID},SignedHeaders={names},Signature={signature}");
    headers.push(("authorization".to_owned(), authorization));
    headers.remove(0);
    headers
}
