//! How the command asks a running target: one connection to its control socket.

use std::error::Error;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::progress::during;

/// The longest that a method takes is a detach whose commands do not end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whom to ask, and in which form to answer.
#[derive(Args, Clone)]
pub(super) struct Ask {
    /// The target's control socket
    #[arg(
        long,
        global = true,
        env = "STRONGROOM_SOCKET",
        default_value = "/run/strongroom/control.sock",
        value_name = "PATH",
        help_heading = "Target"
    )]
    socket: PathBuf,
    /// Print the target's answer as JSON
    #[arg(long, global = true, help_heading = "Target")]
    pub(super) json: bool,
}

impl Ask {
    /// Asks once and prints the answer, for people as `show` puts it.
    pub(super) fn print<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
        show: impl FnOnce(T) -> String,
    ) -> super::Outcome {
        let result = self.connect()?.call(method, params)?;
        if self.json {
            say(&format!("{result:#}\n"));
        } else {
            say(&show(serde_json::from_value(result)?));
        }
        Ok(std::process::ExitCode::SUCCESS)
    }

    pub(super) fn connect(&self) -> Result<Client, Box<dyn Error>> {
        let path = &self.socket;
        let stream = UnixStream::connect(path).map_err(|e| no_target(path, &e))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { answers: BufReader::new(stream) })
    }
}

fn no_target(path: &Path, error: &std::io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "no target listens on {path}; start one whose configuration has [control], or name its socket with --socket or STRONGROOM_SOCKET"
        ),
        ErrorKind::PermissionDenied => {
            format!("{path} may be used by the target's user and by root only; become one of them")
        }
        _ => format!("cannot connect to {path}: {error}"),
    }
}

/// A connection to a target.
pub(super) struct Client {
    answers: BufReader<UnixStream>,
}

impl Client {
    /// The result of a method; an error is the target's refusal, in its words.
    pub(super) fn call(&mut self, method: &str, params: Value) -> Result<Value, Box<dyn Error>> {
        let request = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        self.answers.get_mut().write_all(format!("{request}\n").as_bytes()).map_err(lost)?;
        let mut line = Vec::new();
        during("waiting for the target", |_| self.answers.read_until(b'\n', &mut line)).map_err(lost)?;
        if line.is_empty() {
            return Err("the target ended the connection; it may be stopping".into());
        }
        let mut answer: Value = serde_json::from_slice(&line)?;
        if let Some(message) = answer["error"]["message"].as_str() {
            return Err(message.into());
        }
        Ok(answer["result"].take())
    }
}

fn lost(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock => format!("the target has not answered within {PATIENCE:?}"),
        _ => format!("the connection to the target broke: {error}"),
    }
}

/// Writes to standard output. Whoever read it may have gone, which is no error.
pub(super) fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
