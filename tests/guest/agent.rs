//! The host's end of the line to a guest's `init`: scripts go in, exit codes and outputs come back.
//!
//! The line format is described in `init`. Answers come in any order; a thread sorts them by number until somebody asks.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use openssl::base64::{decode_block, encode_block};

/// `init` stops a command after its time. If even that does not come through within this, the guest hangs.
const GRACE: Duration = Duration::from_secs(60);

/// The number under which `init` says that it is there.
const HELLO: u64 = 0;

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The exit code; 124 when its time was up.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// The line.
pub struct Agent {
    requests: Mutex<(ChildStdin, u64)>,
    inbox: Arc<Inbox>,
}

/// A command under way.
#[must_use = "a command's result has to be looked at"]
pub struct Running {
    number: u64,
    deadline: Instant,
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    answers: HashMap<u64, Answer>,
    closed: bool,
}

impl Agent {
    pub fn new(requests: ChildStdin, answers: ChildStdout) -> Self {
        let inbox = Arc::<Inbox>::default();
        let filled = inbox.clone();
        std::thread::spawn(move || filled.fill(answers));
        Self { requests: Mutex::new((requests, HELLO)), inbox }
    }

    /// Waits until the guest is up.
    pub fn wait_until_ready(&self, patience: Duration) -> Result<(), &'static str> {
        self.inbox.take(HELLO, Instant::now() + patience).map(|_| ())
    }

    /// Starts a script that may take this long.
    pub fn start(&self, time: Duration, script: &str) -> Running {
        let mut requests = self.requests.lock().expect("no panic under the lock");
        requests.1 += 1;
        let number = requests.1;
        // A guest that is gone is noticed when the answer is asked for.
        let _ = writeln!(requests.0, "{number} {} {}", time.as_secs(), encode_block(script.as_bytes()));
        Running { number, deadline: Instant::now() + time + GRACE, inbox: self.inbox.clone() }
    }
}

impl Running {
    /// Waits for the answer.
    pub fn finish(self) -> Result<Answer, &'static str> {
        self.inbox.take(self.number, self.deadline)
    }
}

impl Inbox {
    fn fill(&self, answers: ChildStdout) {
        for line in BufReader::new(answers).lines().map_while(Result::ok) {
            let (number, answer) = parse(&line).unwrap_or_else(|| panic!("not an answer: {line:?}"));
            self.state.lock().expect("no panic under the lock").answers.insert(number, answer);
            self.changed.notify_all();
        }
        self.state.lock().expect("no panic under the lock").closed = true;
        self.changed.notify_all();
    }

    fn take(&self, number: u64, deadline: Instant) -> Result<Answer, &'static str> {
        let mut state = self.state.lock().expect("no panic under the lock");
        loop {
            if let Some(answer) = state.answers.remove(&number) {
                return Ok(answer);
            }
            if state.closed {
                return Err("the guest is gone");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the guest does not answer");
            }
            state = self.changed.wait_timeout(state, left).expect("no panic under the lock").0;
        }
    }
}

fn parse(line: &str) -> Option<(u64, Answer)> {
    let [number, code, out, err] = line.trim_end().split(' ').collect::<Vec<_>>().try_into().ok()?;
    Some((number.parse().ok()?, Answer { code: code.parse().ok()?, out: text(out)?, err: text(err)? }))
}

fn text(encoded: &str) -> Option<String> {
    if encoded == "-" {
        return Some(String::new());
    }
    Some(String::from_utf8_lossy(&decode_block(encoded).ok()?).into_owned())
}
