//! The cloud's official Python SDKs as tests use them: both generations, in the virtual environment that `scripts/sdk` makes.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod signing;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A generation of the SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// aliyun-python-sdk-*: HMAC-SHA1.
    Classic,
    /// alibabacloud_*: ACS3-HMAC-SHA256.
    Current,
}

/// Both.
pub const GENERATIONS: [Generation; 2] = [Generation::Classic, Generation::Current];

/// What the SDK has raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The code.
    pub code: String,
    /// The HTTP status.
    pub status: u64,
    /// The message.
    pub message: String,
}

/// A process with the SDKs.
pub struct Sdk {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    region: String,
}

impl Sdk {
    /// Starts one. Nothing, with the reason on stderr, if the SDKs are not installed.
    pub fn start(address: &str, region: &str, access_key: &str, secret: &str) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("sdk/bin/python");
        if !python.exists() {
            eprintln!("SKIPPED: the SDKs are not installed; `scripts/sdk` does that");
            return None;
        }
        let mut process = Command::new(python)
            .arg(folder.join("tests/sdk/client.py"))
            .args([address, region, access_key])
            .env("SECRET", secret)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let to = process.stdin.take().expect("it is piped");
        let from = BufReader::new(process.stdout.take().expect("it is piped"));
        Some(Self { process, to, from, region: region.to_owned() })
    }

    /// Has a generation ask for an operation of ECS.
    pub fn ecs(&mut self, by: Generation, action: &str, mut params: Value) -> Result<Value, Raised> {
        params["RegionId"] = json!(self.region);
        self.ask(by, "ecs", action, params)
    }

    /// Has a generation ask for an operation of the KMS.
    pub fn kms(&mut self, by: Generation, action: &str, params: Value) -> Result<Value, Raised> {
        self.ask(by, "kms", action, params)
    }

    fn ask(&mut self, by: Generation, product: &str, action: &str, params: Value) -> Result<Value, Raised> {
        let generation = match by {
            Generation::Classic => "classic",
            Generation::Current => "current",
        };
        let ask = json!({"generation": generation, "product": product, "action": action, "params": params});
        writeln!(self.to, "{ask}").expect("Python reads");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("Python writes");
        assert!(!line.is_empty(), "{action}: the SDK has ended; its last words are above");
        let mut answer: Value = serde_json::from_str(&line).expect("JSON");
        if answer.get("answer").is_some() {
            return Ok(answer["answer"].take());
        }
        Err(Raised {
            code: answer["code"].as_str().unwrap_or_default().to_owned(),
            status: answer["status"].as_u64().unwrap_or_default(),
            message: answer["message"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        // Only a process that has ended cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
