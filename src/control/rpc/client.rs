//! One client: reads its lines, has them carried out, and writes the answers.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use tracing::{debug, info};

use crate::control::target::Target;
use crate::kms::audit::Actor;

use super::message::{Call, answer, unreadable};
use super::methods::find;
use super::refusal::{Kind, Refusal};

/// The longest line.
pub(super) const LONGEST_LINE: usize = 1 << 20;
/// How long the rest of a line may take, and how long an answer may be left lying. Between lines a client may be silent for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes taken at once.
const READ_BYTES: usize = 16 << 10;
/// The longest piece of a method's name that is repeated.
const SHOWN_NAME: usize = 64;

/// How a client stands: what decides who has to go when there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It has never asked for anything.
    Silent(Instant),
    /// It has asked, and got its answer.
    Idle(Instant),
    /// Its request is being carried out, or its answer is on the way.
    Busy(Instant),
}

/// The connection of a client.
pub(super) struct Client {
    stream: UnixStream,
    peer: String,
    actor: Actor,
    standing: Mutex<Standing>,
}

impl Client {
    pub(super) fn new(stream: UnixStream, peer: String, actor: Actor) -> io::Result<Self> {
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, peer, actor, standing: Mutex::new(Standing::Silent(Instant::now())) })
    }

    pub(super) fn standing(&self) -> Standing {
        *self.standing.lock().expect("no thread panics while it holds this lock")
    }

    fn stand(&self, standing: Standing) {
        *self.standing.lock().expect("no thread panics while it holds this lock") = standing;
    }

    /// Ends the connection; may be called from any thread and more than once.
    pub(super) fn end(&self) {
        // It may have ended by itself.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Serves the client until it goes, is ended, or breaks the rules.
    pub(super) fn serve(&self, target: &Target) {
        let mut lines = Lines { stream: &self.stream, bytes: Vec::new(), seen: 0 };
        let end = loop {
            match lines.next() {
                Ok(Line::End) => return,
                Ok(Line::TooLong) => {
                    let why = unreadable(&format!("a line has at most {LONGEST_LINE} bytes; the connection ends here"));
                    break self.send(&why);
                }
                Ok(Line::Whole(line)) => {
                    self.stand(Standing::Busy(Instant::now()));
                    let sent = match answer(&line, |call| self.run(target, call)) {
                        Some(answer) => self.send(&answer),
                        None => Ok(()),
                    };
                    if sent.is_err() {
                        break sent;
                    }
                    self.stand(Standing::Idle(Instant::now()));
                }
                Err(e) => break Err(e),
            }
        };
        if let Err(e) = end {
            debug!(peer = self.peer, "control: a client is given up: {e}");
        }
    }

    fn run(&self, target: &Target, call: Call) -> Result<Value, Refusal> {
        let Some(method) = find(&call.method) else {
            let name: String = call.method.chars().take(SHOWN_NAME).collect();
            let what = format!("there is no method {name:?}; rpc.list tells which ones there are");
            return Err(Refusal::new(Kind::MethodNotFound, what));
        };
        let result = (method.run)(target, self.actor, call.params);
        if method.changes {
            match &result {
                Ok(_) => info!(peer = self.peer, "control: {} done", method.name),
                Err(why) => info!(peer = self.peer, "control: {} refused: {why}", method.name),
            }
        }
        result
    }

    fn send(&self, answer: &Value) -> io::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        (&self.stream).write_all(&line)
    }
}

/// A piece of what a client sends.
enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

/// Cuts a stream into lines. Empty ones are left out.
struct Lines<'a> {
    stream: &'a UnixStream,
    bytes: Vec<u8>,
    /// Bytes that were searched for the end of the line.
    seen: usize,
}

impl Lines<'_> {
    fn next(&mut self) -> io::Result<Line> {
        let mut deadline = None;
        loop {
            if let Some(at) = self.bytes[self.seen..].iter().position(|&byte| byte == b'\n') {
                let rest = self.bytes.split_off(self.seen + at + 1);
                let line = std::mem::replace(&mut self.bytes, rest);
                self.seen = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Line::Whole(line));
            }
            self.seen = self.bytes.len();
            if self.seen > LONGEST_LINE {
                return Ok(Line::TooLong);
            }
            let patience = if self.bytes.is_empty() {
                None
            } else {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the rest of a line did not come"));
                }
                Some(left)
            };
            self.stream.set_read_timeout(patience)?;
            if self.receive()? == 0 {
                return Ok(Line::End);
            }
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut chunk) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                got => {
                    self.bytes.extend_from_slice(&chunk[..*got.as_ref().unwrap_or(&0)]);
                    return got;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(sent: &[u8]) -> Vec<Vec<u8>> {
        let (mut ours, theirs) = UnixStream::pair().expect("sockets");
        let sent = sent.to_vec();
        let sender = std::thread::spawn(move || {
            // In small pieces, so that lines come cut anywhere.
            sent.chunks(7).for_each(|piece| ours.write_all(piece).expect("sent"));
        });
        let mut lines = Lines { stream: &theirs, bytes: Vec::new(), seen: 0 };
        let mut all = Vec::new();
        while let Line::Whole(line) = lines.next().expect("read") {
            all.push(line);
        }
        sender.join().expect("sent");
        all
    }

    #[test]
    fn a_stream_is_cut_at_line_ends_and_nowhere_else() {
        let all = lines_of(b"{\"a\": \"0123456789\"}\n\n  \r\n[1]\nhalf a line");
        assert_eq!(all, [&b"{\"a\": \"0123456789\"}\n"[..], b"[1]\n"]);
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let (mut ours, theirs) = UnixStream::pair().expect("sockets");
        let sender = std::thread::spawn(move || while ours.write_all(&[b'x'; 4096]).is_ok() {});
        let mut lines = Lines { stream: &theirs, bytes: Vec::new(), seen: 0 };
        assert!(matches!(lines.next().expect("read"), Line::TooLong));
        assert!(lines.bytes.len() <= LONGEST_LINE + READ_BYTES);
        drop(theirs);
        sender.join().expect("ended");
    }

    #[test]
    fn who_never_asked_goes_first_and_who_waits_goes_last() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut all = [Standing::Busy(now), Standing::Idle(later), Standing::Silent(later), Standing::Idle(now)];
        all.sort();
        assert_eq!(all, [Standing::Silent(later), Standing::Idle(now), Standing::Idle(later), Standing::Busy(now)]);
    }
}
