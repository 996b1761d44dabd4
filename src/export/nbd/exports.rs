//! The exports of a server: names, disks, and what is announced about them. Common to all reactors.
//!
//! Exports come and go. One is in the list only while each reactor has a queue on its disk, so whoever finds it there and counts as its client
//! is served. The lock is taken by handshakes and by the control thread, for moments; requests never look here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use crate::disk::Disk;

use super::config::NbdExportConfig;
use super::request::Negotiated;
use super::wire::transmission;
use crate::export::clients::Clients;

/// The announced preferred block size, unless sectors are larger.
const PREFERRED_BLOCK: u32 = 4096;

/// Numbers for exports: one of the same name that comes later is another one.
static NEXT_EXPORT: AtomicU64 = AtomicU64::new(0);

/// One export.
pub(super) struct Export {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) read_only: bool,
    pub(super) disk: Arc<Disk>,
    pub(super) clients: Arc<Clients>,
}

impl Export {
    pub(super) fn new(config: &NbdExportConfig, disk: &Arc<Disk>) -> Arc<Self> {
        Arc::new(Self {
            number: NEXT_EXPORT.fetch_add(1, Ordering::Relaxed),
            name: config.name.clone(),
            description: config.description.clone(),
            read_only: config.read_only,
            disk: disk.clone(),
            clients: Arc::default(),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.disk.size()
    }

    /// The minimum block size.
    pub(super) fn sector_bytes(&self) -> u32 {
        self.disk.sector_size().bytes() as u32
    }

    pub(super) fn preferred_block(&self) -> u32 {
        self.sector_bytes().max(PREFERRED_BLOCK)
    }

    /// "Transmission flags". Several connections may be used: no reactor caches, and a flush makes durable what any of them wrote.
    pub(super) fn flags(&self, negotiated: Negotiated) -> u16 {
        use transmission::*;
        let always = HAS_FLAGS | SEND_FLUSH | SEND_FUA | CAN_MULTI_CONN | SEND_CACHE;
        let writes = if self.read_only { READ_ONLY } else { SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO };
        always | writes | if negotiated.structured { SEND_DF } else { 0 }
    }
}

/// All exports of a server: in the order of the configuration, and then in that in which they came.
#[derive(Default)]
pub(super) struct Exports(RwLock<Vec<Arc<Export>>>);

impl Exports {
    /// Those that there are now.
    pub(super) fn all(&self) -> Vec<Arc<Export>> {
        self.0.read().expect(NO_PANIC).clone()
    }

    /// The export that a client means: the one with the name, or for `""` the only one.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Export>> {
        let all = self.0.read().expect(NO_PANIC);
        let only = || all.first().filter(|_| name.is_empty() && all.len() == 1);
        all.iter().find(|export| export.name == name).or_else(only).cloned()
    }

    /// The export with exactly this name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<Export>> {
        self.0.read().expect(NO_PANIC).iter().find(|export| export.name == name).cloned()
    }

    pub(super) fn add(&self, export: Arc<Export>) {
        self.0.write().expect(NO_PANIC).push(export);
    }

    pub(super) fn remove(&self, export: &Export) {
        self.0.write().expect(NO_PANIC).retain(|other| other.number != export.number);
    }
}

const NO_PANIC: &str = "no thread panics while it holds this lock";
