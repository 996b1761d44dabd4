//! The helper: a process of its own in which a vendor's library runs, so that what goes wrong in it goes wrong here.
//!
//! It speaks with the target over its standard input, a socket, and ends when that is closed, when it was idle for the time that it was told, or
//! after a request that failed. It leaves no core dump, and is killed together with the target. What a library leaves on its heap or stack is gone
//! with the process, shortly after the last call.

mod confine;
mod token;
mod trouble;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::crypto::scrub::scrub;
use crate::memory::Secret;

use super::frame::{Frame, WireError};
use super::message::{Answer, Failure, Request};
use token::{LoggedIn, Token};
use trouble::Trouble;

/// Why a helper cannot even begin.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Standard input is no socket.
    #[error("the helper of a key service is started by the target, not by people: {0}")]
    NotStarted(io::Error),
    /// The process cannot be closed to others.
    #[error("the helper cannot shut itself off: {0}")]
    Confine(io::Error),
}

/// Serves the target at the other end of standard input until it is done.
pub fn run() -> Result<(), HelperError> {
    confine::confine().map_err(HelperError::Confine)?;
    let stream = confine::take_socket().map_err(HelperError::NotStarted)?;
    let mut helper = Helper { stream, idle: None, memory_locked: confine::lock_memory() };
    // Whatever has ended the conversation has been told where somebody listens.
    if let Err(trouble) = helper.serve() {
        let _ = helper.answer(&Answer::Failed { failure: trouble.failure, what: &trouble.what });
    }
    Ok(())
}

struct Helper {
    stream: UnixStream,
    idle: Option<Duration>,
    memory_locked: bool,
}

impl Helper {
    fn serve(&mut self) -> Result<(), Trouble> {
        let Some(frame) = self.next()? else { return Ok(()) };
        let Request::Open { module, token, idle_ms } = decode(&frame)? else { return Err(out_of_order()) };
        let token = Token::open(Path::new(OsStr::from_bytes(module)), token)?;
        self.idle = Some(Duration::from_millis(idle_ms.into()));
        self.answer(&Answer::Done)?;
        let Some(frame) = self.next()? else { return Ok(()) };
        let Request::Login { pin } = decode(&frame)? else { return Err(out_of_order()) };
        let token = token.login(pin)?;
        drop(frame);
        scrub();
        self.answer(&Answer::Done)?;
        while let Some(frame) = self.next()? {
            self.obey(&token, &decode(&frame)?)?;
            drop(frame);
            scrub();
        }
        token.close();
        Ok(())
    }

    /// The next request, unless the target is gone or has nothing to ask.
    fn next(&self) -> Result<Option<Secret<Frame>>, Trouble> {
        match Frame::receive(&self.stream, self.idle.map(|idle| Instant::now() + idle)) {
            Ok(frame) => Ok(Some(frame)),
            Err(WireError::Gone | WireError::TimedOut) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Kept out of line, so that what it leaves on the stack lies where `scrub` reaches.
    #[inline(never)]
    fn obey(&self, token: &LoggedIn, request: &Request<'_>) -> Result<(), Trouble> {
        match *request {
            Request::Open { .. } | Request::Login { .. } => return Err(out_of_order()),
            Request::Health => self.answer(&Answer::About { text: &self.about(token)? })?,
            Request::List { prefix } => {
                token.list(prefix, |object| Ok(self.answer(&Answer::Key { object })?))?;
                self.answer(&Answer::Done)?;
            }
            Request::Generate { object } => {
                token.generate(object)?;
                self.answer(&Answer::Done)?;
            }
            Request::Wrap { with, key } => self.answer(&Answer::Sealed { sealed: &token.wrap(with, key)? })?,
            Request::Unwrap { with, sealed } => {
                let key = token.unwrap(with, sealed)?;
                self.answer(&Answer::Plain { key: &key })?;
            }
            Request::Rewrap { from, sealed, to } => {
                let key = token.unwrap(from, sealed)?;
                self.answer(&Answer::Sealed { sealed: &token.wrap(to, &key)? })?;
            }
        }
        Ok(())
    }

    fn about(&self, token: &LoggedIn) -> Result<String, Trouble> {
        let note = if self.memory_locked { "" } else { "; its helper's memory may be swapped out: raise LimitMEMLOCK" };
        token.about().map(|text| text + note)
    }

    fn answer(&self, answer: &Answer<'_>) -> Result<(), WireError> {
        // The target may read slowly, but not for ever.
        answer.encode()?.send(&self.stream, Some(Instant::now() + Duration::from_secs(10)))
    }
}

fn decode(frame: &Frame) -> Result<Request<'_>, Trouble> {
    Request::decode(frame).map_err(|error| Trouble::from(WireError::from(error)))
}

fn out_of_order() -> Trouble {
    Trouble::new(Failure::Nonsense, "a request came out of order")
}
