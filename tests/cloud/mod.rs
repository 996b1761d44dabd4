//! A cloud as the tests with its official SDKs have it: a target with a zone and a key store, and an account that signs its requests. What guests do
//! with its disks is in `files.rs`.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::keeper::{self, write_secret};
use crate::operator::Target;
use crate::sdk::{Generation, Sdk};

pub const ZONE: &str = "cn-test-a";
pub const GIB: u64 = 1 << 30;
/// What guests write, and nobody may find below.
pub const MARKER: &str = "what only the guest may read";

pub const REGION: &str = "cn-test";
const ACCOUNT: &str = "acme";
const KEY: &str = "AKLIFE";
const SECRET: &str = "a secret of the access key";

/// A cloud on a pool; `exports` says how hosts reach its disks, `api` more of how it is asked.
pub fn site(exports: &str, api: &str) -> String {
    format!(
        "region = '{REGION}'\n[reactor]\nmemory_mib = 64\nhugepages = 'never'\n[control]\nsocket = 'c'\n\
         [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '512M'\ncreate = true\n\
         [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n\
         [kms]\naudit_log = 'audit.log'\n\
         [kms.embedded]\npath = 'keys.store'\ncreate = true\nunlock = {{ passphrase = 'file:passphrase' }}\n\
         {exports}\n\
         [cloud]\nstate_dir = 'cloud'\n[cloud.api]\nlisten = ['127.0.0.1:0']\n{api}\
         [[cloud.zone]]\nname = '{ZONE}'\npool = 'p'\n"
    )
}

/// A folder with the secrets that it needs.
pub fn folder() -> TempDir {
    let dir = keeper::folder();
    write_secret(&dir.path().join("secret"), SECRET.as_bytes());
    dir
}

/// What follows a word of the start-up report, up to the end of its line.
pub fn reported<'a>(target: &'a Target, before: &str) -> &'a str {
    let found = target.report.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {}", target.report));
    found.1.lines().next().expect("a line").trim()
}

/// Where the API listens.
pub fn address(target: &Target) -> &str {
    reported(target, "cloud API listens on http://")
}

/// The SDK with the account's access key. Nothing, with the reason on stderr, if it is not installed.
pub fn sdk(target: &Target) -> Option<Sdk> {
    Sdk::start(address(target), REGION, KEY, SECRET)
}

/// The account, once for each folder. Its KMS is closed.
pub fn add_account(target: &Target) {
    target.done(&["account", "add", ACCOUNT]);
    let secret = format!("file:{}", target.dir.path().join("secret").display());
    target.done(&["access-key", "add", ACCOUNT, "--id", KEY, "--secret", &secret]);
}

/// Lets the account have encrypted disks.
pub fn open_kms(target: &Target) {
    target.done(&["account", "open-kms", ACCOUNT]);
}

pub fn text(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
}

/// The one disk of this identifier, as the API shows it.
pub fn shown(sdk: &mut Sdk, by: Generation, disk: &str) -> Value {
    let ids = json!([disk]).to_string();
    let answer = sdk.ecs(by, "DescribeDisks", json!({"DiskIds": ids})).expect("shown");
    let disks = answer["Disks"]["Disk"].as_array().expect("a list").clone();
    assert_eq!(disks.len(), 1, "{answer}");
    disks[0].clone()
}

/// Nothing of what guests wrote may be there in clear, in the folder of a target that has ended.
pub fn expect_no_marker(dir: &Path) {
    let bytes = std::fs::read(dir.join("pool")).expect("readable");
    let marker = MARKER.as_bytes();
    assert!(!bytes.windows(marker.len()).any(|window| window == marker), "plain text in the pool");
}
