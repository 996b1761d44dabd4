//! Where a server listens, as it is written in configurations.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// Where a server listens: `unix:` and a path, or `tcp:` and an IP address with a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum ListenAddress {
    /// A unix socket, which only its owner can use.
    Unix(PathBuf),
    /// An address and a port; port 0 is any free one.
    Tcp(SocketAddr),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no address to listen on; write \"unix:/run/strongroom/nbd.sock\" or \"tcp:127.0.0.1:10809\""
            )
        };
        match text.split_once(':').ok_or_else(wrong)? {
            ("unix", path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            ("tcp", address) => Ok(Self::Tcp(address.parse().map_err(|_| wrong())?)),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back_as_they_are_shown() {
        for text in ["unix:/run/nbd.sock", "unix:nbd.sock", "tcp:127.0.0.1:10809", "tcp:[::1]:0"] {
            assert_eq!(text.parse::<ListenAddress>().expect(text).to_string(), text);
        }
        for text in ["", "/run/nbd.sock", "unix:", "tcp:localhost", "tcp:10809", "udp:127.0.0.1:1"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
