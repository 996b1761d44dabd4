//! Why a measurement could not be made, in words for the person who started it.

use std::io;
use std::path::Path;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried, with the object.
        what: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A program is not on this machine.
    #[error("{program} is not installed; {remedy}")]
    Missing {
        /// The program.
        program: String,
        /// What to do.
        remedy: String,
    },
    /// A program ended with an error, or ended when it should have gone on.
    #[error("{program} failed ({status}): {said}")]
    Program {
        /// The program.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of what it wrote to its error output.
        said: String,
    },
    /// A program answered something that cannot be used.
    #[error("{program} answered what cannot be used: {why}")]
    Answer {
        /// The program.
        program: String,
        /// What is wrong with it.
        why: String,
    },
    /// The request contradicts itself or the machine.
    #[error("{0}")]
    Request(String),
    /// The user stopped the run.
    #[error("interrupted; what was started has been stopped and what was written removed")]
    Interrupted,
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Failure>;

/// Names what was tried when the system refuses it.
pub trait Context<T> {
    /// Turns the kernel's answer into a failure that says what was tried.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;

    /// The same, for an operation on one file.
    fn on_file(self, action: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Failure::System { what: what(), source: e.into() })
    }

    fn on_file(self, action: &str, path: &Path) -> Result<T> {
        self.context(|| format!("cannot {action} {}", path.display()))
    }
}
