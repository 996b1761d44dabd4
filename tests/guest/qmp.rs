//! QEMU's monitor (QMP): what an operator of the virtual machine would do to it while it runs.
//!
//! A message is a line of JSON. QEMU answers commands in their order and says in between what has happened to the machine; that is kept until
//! somebody waits for it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// QEMU says something at least this often, while one waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A monitor that accepts commands.
pub struct Monitor {
    lines: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Monitor {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("a monitor");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut monitor = Self { lines: BufReader::new(stream), events: Vec::new() };
        assert!(monitor.next().get("QMP").is_some(), "QEMU greets");
        monitor.run("qmp_capabilities", json!({}));
        monitor
    }

    /// Runs a command that has to succeed, and gives what it returns.
    pub fn run(&mut self, command: &str, arguments: Value) -> Value {
        eprintln!("[qemu] {command} {arguments}");
        let message = json!({ "execute": command, "arguments": arguments });
        writeln!(self.lines.get_mut(), "{message}").expect("sent");
        loop {
            let mut answer = self.next();
            if answer.get("event").is_some() {
                self.events.push(answer);
                continue;
            }
            let Some(returned) = answer.get_mut("return") else { panic!("{command}: {answer}") };
            return returned.take();
        }
    }

    /// Waits until one of these has happened to the device; which.
    pub fn wait_for(&mut self, events: &[&'static str], device: &str) -> &'static str {
        let is_it = |said: &Value, event: &str| said["event"] == event && said["data"]["device"] == device;
        loop {
            let mut all = self.events.iter().enumerate();
            let found = all.find_map(|(at, said)| Some((at, *events.iter().find(|event| is_it(said, event))?)));
            if let Some((at, event)) = found {
                self.events.remove(at);
                return event;
            }
            let said = self.next();
            self.events.push(said);
        }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("QEMU says something");
        assert!(read > 0, "QEMU has ended");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"))
    }
}
