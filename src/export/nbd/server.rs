//! The server: listens, spreads connections over reactors, lets exports come and go, and stops in order.
//!
//! An export's disk is opened on every reactor before a client can find it, and closed after the last one that could has gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use crate::disk::Disk;
use crate::export::stream::{Acceptor, Arrival, Connections, ListenAddress, Listener, finish, on_each};
use crate::reactor::Remote;

use super::NbdError;
use super::config::{NbdConfig, NbdExportConfig};
use super::exports::{Export, Exports};
use super::shard::Shard;
use crate::export::clients::Hold;

/// Numbers for servers, so that several can share a reactor.
static NEXT_SERVER: AtomicU64 = AtomicU64::new(0);

/// How long the end of an export waits for its last commands, which no client waits for any more.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);

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
        if config.exports.is_empty() {
            let what = "there are no exports; add [[nbd.exports]] with a name and a disk";
            return Err(NbdError::Config(what.to_owned()));
        }
        Self::start_even_empty(config, disks, reactors)
    }

    /// The same, but there may be no exports yet: [`NbdServer::add_export`] brings them.
    pub fn start_even_empty(config: &NbdConfig, disks: &[Arc<Disk>], reactors: &[Remote]) -> Result<Self, NbdError> {
        check(config, disks, reactors)?;
        let exports = Arc::<Exports>::default();
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
            most.push(reactor.call(move |reactor| Shard::open(reactor, number, &config, &exports)));
        }
        for export in &config.exports {
            let disk = disks.iter().find(|disk| disk.name() == export.disk);
            server.add_export(export, disk.expect("the disk was found when the exports were checked"))?;
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

    /// The names of the exports that there are now.
    pub fn exports(&self) -> Vec<String> {
        self.exports.all().iter().map(|export| export.name.clone()).collect()
    }

    /// Exports a disk under a name that no other export has: opens it on each reactor. Clients find it from then on. One change at a time.
    pub fn add_export(&self, config: &NbdExportConfig, disk: &Arc<Disk>) -> Result<(), NbdError> {
        config.check()?;
        let wrong = |what: String| Err(NbdError::Config(format!("export {}: {what}", config.name)));
        if self.exports.named(&config.name).is_some() {
            return wrong("the name is taken; choose another".to_owned());
        }
        if disk.name() != config.disk {
            return wrong(format!("it names disk {}, but {} is given", config.disk, disk.name()));
        }
        let export = Export::new(config, disk);
        for reactor in &self.reactors {
            let (number, here) = (self.number, export.clone());
            if let Err(e) = reactor.call(move |_| Shard::open_export(number, &here)) {
                self.close_export(&export);
                return Err(e.into());
            }
        }
        self.exports.add(export);
        Ok(())
    }

    /// Takes an export back that has no clients: makes the disk durable and closes it on each reactor. When this returns, no reactor has its key
    /// any more, and nothing of its plain text is left in free buffers. One change at a time.
    pub fn remove_export(&self, name: &str) -> Result<(), NbdError> {
        let export = self.exports.named(name).ok_or_else(|| NbdError::NoExport(name.to_owned()))?;
        let in_use = |clients| NbdError::InUse { export: name.to_owned(), clients };
        let hold = export.clients.hold().map_err(in_use)?;
        self.exports.remove(&export);
        // Who has found it before comes too late.
        hold.keep();
        self.flush_export(&export);
        if self.close_export(&export) { Ok(()) } else { Err(NbdError::CloseTimeout(name.to_owned())) }
    }

    /// A flush on one reactor covers what was written on any.
    fn flush_export(&self, export: &Export) {
        let Some(reactor) = self.reactors.first() else { return };
        let (number, wanted) = (self.number, export.number);
        let flushed = reactor.run(async move |_| Shard::flush_export(number, wanted).await);
        if let Err(e) = flushed {
            warn!("nbd: the last flush of export {:?} failed: {e}", export.name);
        }
    }

    /// Whether each reactor has let go of an export's disk.
    fn close_export(&self, export: &Export) -> bool {
        let (server, number) = (self.number, export.number);
        on_each(&self.reactors, CLOSE_LIMIT, move |reactor| Shard::close_export(reactor, server, number))
    }

    /// Keeps clients away from a disk, if none has it; or says how many have. Who comes meanwhile is refused, and may try again.
    pub fn hold(&self, disk: &str) -> Result<Held, usize> {
        let exports = self.exports.all();
        let held = exports.iter().filter(|export| export.disk.name() == disk);
        let held = held.map(|export| export.clients.hold()).collect::<Result<_, _>>()?;
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
