//! The server: listens, spreads connections over reactors, and stops in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::info;

use crate::disk::Disk;
use crate::export::stream::{Acceptor, Arrival, Connections, ListenAddress, Listener, finish};
use crate::reactor::Remote;

use super::NbdError;
use super::clients::Hold;
use super::config::NbdConfig;
use super::exports::Exports;
use super::shard::Shard;

/// Numbers for servers, so that several can share a reactor.
static NEXT_SERVER: AtomicU64 = AtomicU64::new(0);

/// A disk that no client may reach until this is dropped.
pub struct Held {
    _exports: Vec<Hold>,
}

/// A running NBD server. Dropped without [`NbdServer::stop`], it ends its connections without waiting for them.
pub struct NbdServer {
    number: u64,
    reactors: Vec<Remote>,
    connections: Arc<Connections>,
    exports: Arc<Exports>,
    addresses: Vec<ListenAddress>,
    acceptor: Option<Acceptor>,
}

impl NbdServer {
    /// Opens each export's disk on each reactor, listens, and serves.
    pub fn start(config: &NbdConfig, disks: &[Arc<Disk>], reactors: &[Remote]) -> Result<Self, NbdError> {
        check(config, disks, reactors)?;
        let exports = Arc::new(Exports::new(&config.exports, disks));
        let listeners = config.listen.iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners.iter().map(|listener| listener.address().clone()).collect();
        let number = NEXT_SERVER.fetch_add(1, Ordering::Relaxed);
        // From here on a failure drops the server, which closes what was opened.
        let mut server = Self {
            number,
            reactors: reactors.to_vec(),
            connections: Connections::new(0, &[]),
            exports: exports.clone(),
            addresses,
            acceptor: None,
        };
        let mut most = Vec::with_capacity(reactors.len());
        for reactor in reactors {
            let (config, exports) = (config.clone(), exports.clone());
            most.push(reactor.call(move |reactor| Shard::open(reactor, number, &config, &exports))?);
        }
        server.connections = Connections::new(config.max_connections, &most);
        let reactors = reactors.to_vec();
        let deliver = move |arrival: Arrival| {
            reactors[arrival.admission.reactor()].post(move |_| Shard::arrive(number, arrival));
        };
        server.acceptor = Some(Acceptor::start("nbd", listeners, server.connections.clone(), deliver)?);
        for address in &server.addresses {
            info!("nbd listens on {address}");
        }
        Ok(server)
    }

    /// Where the server listens, with the actual ports.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        self.connections.count()
    }

    /// Keeps clients away from a disk, if none has it; or says how many have. Who comes meanwhile is refused, and may try again.
    pub fn hold(&self, disk: &str) -> Result<Held, usize> {
        let exports = self.exports.iter().filter(|export| export.disk.name() == disk);
        let held = exports.map(|export| export.clients.hold()).collect::<Result<_, _>>()?;
        Ok(Held { _exports: held })
    }

    /// Stops: no more connections, no more requests; what is under way is finished, answered and made durable. Returns whether all that was
    /// done within `timeout`.
    pub fn stop(mut self, timeout: Duration) -> bool {
        self.acceptor = None;
        self.end_connections();
        let number = self.number;
        finish("nbd", &self.connections, &self.reactors, timeout, move |flushed| Shard::flush(number, flushed))
    }

    fn end_connections(&self) {
        let number = self.number;
        self.reactors.iter().for_each(|reactor| reactor.post(move |_| Shard::stop(number)));
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        let number = self.number;
        self.acceptor = None;
        self.end_connections();
        self.reactors.iter().for_each(|reactor| reactor.post(move |_| Shard::close(number)));
    }
}

fn check(config: &NbdConfig, disks: &[Arc<Disk>], reactors: &[Remote]) -> Result<(), NbdError> {
    let wrong = |what: &str| Err(NbdError::Config(what.to_owned()));
    if config.listen.is_empty() {
        return wrong("`listen` is empty; give at least one address, such as \"unix:/run/strongroom/nbd.sock\"");
    }
    if config.exports.is_empty() {
        return wrong("there are no exports; add [[nbd.exports]] with a name and a disk");
    }
    config.check_exports(disks.iter().map(|disk| disk.name()))?;
    if reactors.is_empty() {
        return wrong("there are no reactors to serve on");
    }
    if !(1..=1024).contains(&config.iodepth) {
        return wrong("iodepth has to be 1 to 1024");
    }
    if config.stall_timeout_s == 0 || config.handshake_timeout_s == 0 {
        return wrong("stall_timeout_s and handshake_timeout_s have to be at least 1");
    }
    let mut seen = HashMap::new();
    let fixed = |address: &&ListenAddress| !matches!(address, ListenAddress::Tcp(tcp) if tcp.port() == 0);
    if let Some(twice) = config.listen.iter().filter(fixed).find(|address| seen.insert(*address, ()).is_some()) {
        return Err(NbdError::Config(format!("`listen` has {twice} twice")));
    }
    Ok(())
}
