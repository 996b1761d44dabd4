//! What the tests of a whole target share: a `strongroom serve` with a control socket, and the command that asks it.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod nvme;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// What has to happen happens within this time, or something hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Reactors that any machine can have, and a control socket.
const BEGINNING: &str = "[reactor]\nmemory_mib = 16\nhugepages = 'never'\n[control]\nsocket = 'c'\n";

/// A running target; killed if the test gives up.
pub struct Target {
    pub dir: TempDir,
    child: Child,
    /// What it said when it started.
    pub report: String,
}

impl Target {
    /// Starts a target with the configuration that follows its reactors and its control socket.
    pub fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory"), config)
    }

    /// The same in a folder where something lies already.
    pub fn start_in(dir: TempDir, config: &str) -> Self {
        Self::start_with(dir, &(BEGINNING.to_owned() + config))
    }

    /// The same with a whole configuration; its control socket is `c`.
    pub fn start_with(dir: TempDir, config: &str) -> Self {
        Self::start_command(dir, config, |_| ())
    }

    /// The same; `prepare` has its way with the command.
    pub fn start_command(dir: TempDir, config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let path = dir.path().join("target.toml");
        std::fs::write(&path, config).expect("written");
        let log = std::fs::File::create(dir.path().join("log")).expect("created");
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(["serve", "--config"]).arg(&path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        prepare(&mut command);
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut report = String::new();
        // The last line of the report.
        while !report.contains("control listens") {
            if lines.read_line(&mut report).expect("text") == 0 {
                panic!("the target ended: {}", std::fs::read_to_string(dir.path().join("log")).expect("text"));
            }
        }
        // Its last words go nowhere, but it has to be able to say them.
        std::thread::spawn(move || lines.read_to_string(&mut String::new()));
        Self { dir, child, report }
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("c")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("text")
    }

    /// The target's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// Runs `strongroom` against the target; returns standard output and error, and the exit code.
    pub fn run(&self, args: &[&str]) -> (String, String, i32) {
        command(args, &self.socket())
    }

    /// Runs a command that has to succeed; returns what it printed.
    pub fn done(&self, args: &[&str]) -> String {
        let (out, err, code) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        out
    }

    /// Runs a command that has to be refused; returns why.
    pub fn refused(&self, args: &[&str]) -> String {
        let (out, err, code) = self.run(args);
        assert_eq!(code, 1, "{args:?}: {out}{err}");
        err
    }

    /// Ends it as a crash would, and returns its folder.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"))
    }

    /// Stops it as systemd does, and returns its folder.
    pub fn stop(mut self) -> TempDir {
        #[allow(unsafe_code)]
        // SAFETY: the call touches no memory; the child has not been waited for, so its pid is its own.
        let sent = unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        assert_eq!(sent, 0);
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "the target did not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0), "{}", self.log());
        assert!(!self.socket().exists(), "the socket is left behind");
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `strongroom`; returns standard output and error, and the exit code.
pub fn command(args: &[&str], socket: &Path) -> (String, String, i32) {
    let mut command = Command::new("timeout");
    command.arg("60").arg(env!("CARGO_BIN_EXE_strongroom")).args(args).env("STRONGROOM_SOCKET", socket);
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(stdout), text(stderr), status.code().expect("an exit code"))
}

/// A client of the control socket that sends exactly what a test wants.
pub struct Client {
    pub stream: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_write_timeout(Some(PATIENCE)).expect("set");
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("sent");
    }

    /// The next line; nothing if the connection has ended.
    pub fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("a line is a document")),
            // What was still unread when the other side closed resets the connection.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("no answer: {e}"),
        }
    }

    /// Sends a request and returns its result or its error.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let request = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": "x"});
        self.send(format!("{request}\n").as_bytes());
        let answer = self.line().expect("an answer");
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!("x")), "{answer}");
        if answer["error"].is_null() { Ok(answer["result"].clone()) } else { Err(answer["error"].clone()) }
    }

    /// A request that has to succeed.
    pub fn result(&mut self, method: &str, params: Value) -> Value {
        self.call(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// A request that has to be refused: kind and message.
    pub fn refusal(&mut self, method: &str, params: Value) -> (String, String) {
        let error = self.call(method, params).expect_err("refused");
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        (text(&error["data"]["kind"]), text(&error["message"]))
    }
}
