//! How a back end is named on the command line: `vhost-user:/run/strongroom/vhost/d.sock`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// What an address begins with.
pub const SCHEME: &str = "vhost-user:";

/// The socket of a back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket(PathBuf);

impl Socket {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// A text that names no socket.
#[derive(Debug, Error)]
#[error("{0:?} is no socket of a vhost-user back end; write vhost-user:/PATH.sock")]
pub struct NotASocket(String);

impl FromStr for Socket {
    type Err = NotASocket;

    fn from_str(text: &str) -> Result<Self, NotASocket> {
        match text.strip_prefix(SCHEME) {
            Some(path) if !path.is_empty() => Ok(Self(path.into())),
            _ => Err(NotASocket(text.to_owned())),
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_path() {
        let socket: Socket = "vhost-user:/run/d.sock".parse().expect("a socket");
        assert_eq!(
            (socket.path(), socket.to_string()),
            (Path::new("/run/d.sock"), "vhost-user:/run/d.sock".to_owned())
        );
        for wrong in ["vhost-user:", "/run/d.sock", "nvme-tcp://127.0.0.1/x"] {
            assert!(wrong.parse::<Socket>().is_err(), "{wrong}");
        }
    }
}
