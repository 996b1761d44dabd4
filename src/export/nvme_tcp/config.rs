//! The NVMe/TCP export in the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::memory::{LARGEST_BUFFER, PAGE};

use super::NvmeTcpError;

/// The most entries of an I/O queue that can be configured.
const DEEPEST_QUEUE: u32 = 1024;

/// The NVMe/TCP export: where it listens, and its limits. Who sees which disk is said by accounts, hosts and disks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NvmeTcpConfig {
    /// Where hosts connect: `"10.0.0.1:4420"`; port 0 is any free one.
    pub listen: Vec<SocketAddr>,
    /// Bytes of data that a command capsule may carry: writes of up to this size need no round trip for their data.
    pub in_capsule_bytes: u32,
    /// Entries of a queue: commands of one queue that are served at once.
    pub queue_depth: u32,
    /// I/O queues of one controller.
    pub io_queues: u16,
    /// Seconds in which a connection has to have become a queue.
    pub handshake_timeout_s: u64,
    /// Seconds after which a host that neither takes its answers nor sends the rest of a PDU is disconnected.
    pub stall_timeout_s: u64,
    /// A folder for what has to survive a loss of power: reservations that hosts made persistent. Without it they cannot.
    pub state_dir: Option<PathBuf>,
    /// Connections at once; each reactor also takes only as many as its memory carries.
    pub max_connections: usize,
}

impl Default for NvmeTcpConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            in_capsule_bytes: 8192,
            queue_depth: 128,
            io_queues: 64,
            handshake_timeout_s: 10,
            stall_timeout_s: 30,
            state_dir: None,
            max_connections: 4096,
        }
    }
}

impl NvmeTcpConfig {
    /// Refuses limits that cannot be kept.
    pub fn check(&self) -> Result<(), NvmeTcpError> {
        let wrong = |what: String| Err(NvmeTcpError::Config(what));
        if self.listen.is_empty() {
            return wrong("`listen` is empty; give at least one address, such as \"127.0.0.1:4420\"".to_owned());
        }
        for (index, address) in self.listen.iter().enumerate() {
            if address.port() != 0 && self.listen[..index].contains(address) {
                return wrong(format!("`listen` has {address} twice"));
            }
        }
        // A capsule is 64 bytes and its data; IOCCSZ counts units of 16 (Base section 5.17.2.1).
        let data = self.in_capsule_bytes as usize;
        if !(PAGE..=LARGEST_BUFFER / 4).contains(&data) || !data.is_multiple_of(16) {
            return wrong(format!("in_capsule_bytes has to be {PAGE} to {}, a multiple of 16", LARGEST_BUFFER / 4));
        }
        if !(2..=DEEPEST_QUEUE).contains(&self.queue_depth) {
            return wrong(format!("queue_depth has to be 2 to {DEEPEST_QUEUE}"));
        }
        if self.io_queues == 0 || self.io_queues > 1024 {
            return wrong("io_queues has to be 1 to 1024".to_owned());
        }
        if self.stall_timeout_s == 0 || self.handshake_timeout_s == 0 {
            return wrong("stall_timeout_s and handshake_timeout_s have to be at least 1".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_cannot_be_kept_are_refused_by_name() {
        for (text, wanted) in [
            ("", "`listen` is empty"),
            ("listen = ['127.0.0.1:1', '127.0.0.1:1']", "127.0.0.1:1 twice"),
            ("listen = ['127.0.0.1:0']\nin_capsule_bytes = 100", "in_capsule_bytes"),
            ("listen = ['127.0.0.1:0']\nqueue_depth = 1", "queue_depth"),
            ("listen = ['127.0.0.1:0']\nio_queues = 0", "io_queues"),
            ("listen = ['127.0.0.1:0']\nstall_timeout_s = 0", "stall_timeout_s"),
        ] {
            let config: NvmeTcpConfig = toml::from_str(text).expect("a configuration");
            let error = config.check().expect_err("refused").to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let config: NvmeTcpConfig = toml::from_str("listen = ['127.0.0.1:0', '127.0.0.1:0']").expect("fits");
        assert!(config.check().is_ok());
        assert!(toml::from_str::<NvmeTcpConfig>("port = 1").is_err());
    }
}
