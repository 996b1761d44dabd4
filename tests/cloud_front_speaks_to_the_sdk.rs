//! The cloud's official SDKs for Python, both generations, ask the cloud API's front: they are served, and understand why they are refused.
//!
//! `scripts/sdk` installs them in `target/sdk`. Without them the test is skipped, and says so.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use strongroom::cloud::http::{AccessKey, CloudHttpConfig, CloudServer, Product, Service};
use strongroom::cloud::{ApiError, Caller, Params};
use strongroom::secrets::SecretRef;

/// Keeps the disks that are created.
struct Shelf {
    secret: PathBuf,
    disks: Mutex<Vec<Value>>,
}

impl Service for Shelf {
    fn access_key(&self, id: &str) -> Result<Option<AccessKey>, ApiError> {
        let secret = || SecretRef::File(self.secret.clone()).read().expect("a secret");
        let key = |enabled| AccessKey { account: "acme".to_owned(), enabled, secret: secret() };
        Ok(match id {
            "testid" => Some(key(true)),
            "off" => Some(key(false)),
            _ => None,
        })
    }

    fn knows(&self, product: Product, action: &str) -> bool {
        let actions: &[&str] = match product {
            Product::Ecs => &["CreateDisk", "DescribeDisks", "DeleteDisk"],
            Product::Kms => &["GenerateDataKey", "Encrypt", "DescribeKey"],
        };
        actions.contains(&action)
    }

    fn call(&self, caller: &Caller, _: Product, action: &str, params: &Params) -> Result<Value, ApiError> {
        assert_eq!((caller.account.as_str(), caller.access_key.as_str()), ("acme", "testid"));
        let param = |name: &str| params.get(name).unwrap_or_else(|| panic!("{action} without {name}: {params:?}"));
        let mut disks = self.disks.lock().expect("a lock");
        match action {
            "CreateDisk" => {
                let id = format!("d-{}", disks.len());
                assert_eq!((param("Tag.1.Key"), param("Tag.1.Value"), param("RegionId")), ("k", "v", "cn-hangzhou"));
                disks.push(json!({
                    "DiskId": id,
                    "DiskName": param("DiskName"),
                    "Encrypted": param("Encrypted").eq_ignore_ascii_case("true"),
                    "Size": param("Size").parse::<u32>().expect("a number"),
                }));
                Ok(json!({ "DiskId": id }))
            }
            "DescribeDisks" => {
                let ids: Vec<String> = serde_json::from_str(param("DiskIds")).expect("a list");
                let wanted = |disk: &&Value| ids.iter().any(|id| disk["DiskId"] == *id);
                let found: Vec<_> = disks.iter().filter(wanted).cloned().collect();
                Ok(json!({ "TotalCount": found.len(), "PageNumber": 1, "PageSize": 10, "Disks": { "Disk": found } }))
            }
            "DeleteDisk" if param("DiskId") == "d-attached" => Err(ApiError::new(
                "IncorrectDiskStatus",
                403,
                "The current disk status does not support this operation.",
            )),
            "DeleteDisk" => Ok(json!({})),
            "GenerateDataKey" => Ok(json!({
                "KeyId": param("KeyId"),
                "Plaintext": "QUJD",
                "CiphertextBlob": param("EncryptionContext"),
            })),
            "Encrypt" => Ok(json!({ "KeyId": param("KeyId"), "CiphertextBlob": param("Plaintext") })),
            _ => Err(ApiError::new("Forbidden.KeyNotFound", 404, "The specified Key is not found.")),
        }
    }
}

#[test]
fn official_sdks_are_served_and_understand_refusals() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/sdk/bin/python");
    if !root.join("target/sdk/packages").exists() {
        return eprintln!("SKIPPED: the official SDKs are not there; scripts/sdk installs them");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "testsecret\n").expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let config: CloudHttpConfig = toml::from_str("listen = ['127.0.0.1:0']").expect("a configuration");
    let shelf = Arc::new(Shelf { secret, disks: Mutex::default() });
    let server = CloudServer::start(&config, dir.path(), shelf.clone()).expect("a server");
    let port = server.addresses()[0].port().to_string();

    let probe = Command::new(python)
        .args([root.join("tests/sdk/probe.py").as_os_str(), port.as_ref()])
        .env("HOME", dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("python runs");
    let said = [&probe.stdout[..], &probe.stderr[..]].concat();
    assert!(probe.status.success(), "{}", String::from_utf8_lossy(&said));
    assert_eq!(String::from_utf8_lossy(&probe.stdout).lines().count(), 3, "{}", String::from_utf8_lossy(&said));
    assert_eq!(shelf.disks.lock().expect("a lock").len(), 3);
    assert!(server.stop(Duration::from_secs(60)));
}
