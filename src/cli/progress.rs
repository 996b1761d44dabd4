//! What is told on standard error while something takes longer than a second: on a terminal a line that changes, elsewhere a line now and then.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What is shorter needs no words.
const PATIENCE: Duration = Duration::from_secs(1);
/// Who reads a log does not want a line each second.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Nobody knows how much is done.
const UNKNOWN: u8 = u8::MAX;

/// How much is done; set by the work, on any thread, and read by who tells.
#[derive(Clone)]
pub(super) struct Percent(Arc<AtomicU8>);

impl Percent {
    pub(super) fn set(&self, percent: usize) {
        self.0.store(percent.min(100) as u8, Ordering::Relaxed);
    }
}

/// Does the work, and tells about it meanwhile if it takes long.
pub(super) fn during<T>(what: &str, work: impl FnOnce(&Percent) -> T) -> T {
    let percent = Percent(Arc::new(AtomicU8::new(UNKNOWN)));
    let (end, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| tell(what, &percent, ended));
        let done = work(&percent);
        drop(end);
        done
    })
}

fn tell(what: &str, percent: &Percent, ended: mpsc::Receiver<()>) {
    let mut stderr = std::io::stderr();
    let (start, is_terminal) = (Instant::now(), stderr.is_terminal());
    let mut told = false;
    let mut wait = PATIENCE;
    while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let seconds = start.elapsed().as_secs();
        let text = match percent.0.load(Ordering::Relaxed) {
            UNKNOWN => format!("{what}: {seconds} s"),
            percent => format!("{what}: {percent} %, {seconds} s"),
        };
        // A line that cannot be shown is no reason to stop.
        let _ = if is_terminal { write!(stderr, "\r{text}\x1b[K") } else { writeln!(stderr, "{text}") };
        let _ = stderr.flush();
        told = true;
        wait = if is_terminal { PATIENCE } else { LOG_INTERVAL };
    }
    if told && is_terminal {
        let _ = write!(stderr, "\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_and_its_result_given_back() {
        let done = during("counting", |percent| {
            percent.set(100);
            7
        });
        assert_eq!(done, 7);
    }
}
