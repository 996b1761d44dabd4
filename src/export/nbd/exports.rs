//! The exports of a server: names, disks, and what is announced about them. Common to all reactors and never changed.

use std::sync::Arc;

use crate::disk::Disk;

use super::clients::Clients;
use super::config::NbdExportConfig;
use super::request::Negotiated;
use super::wire::transmission;

/// The announced preferred block size, unless sectors are larger.
const PREFERRED_BLOCK: u32 = 4096;

/// One export.
pub(super) struct Export {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) read_only: bool,
    pub(super) disk: Arc<Disk>,
    pub(super) clients: Arc<Clients>,
}

impl Export {
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

/// All exports of a server, in the order of the configuration.
pub(super) struct Exports(Vec<Export>);

impl Exports {
    /// The exports of a configuration whose exports were checked.
    pub(super) fn new(configs: &[NbdExportConfig], disks: &[Arc<Disk>]) -> Self {
        Self(configs.iter().map(|config| export(config, disks)).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Export> {
        self.0.iter()
    }

    pub(super) fn get(&self, index: usize) -> &Export {
        &self.0[index]
    }

    /// The export that a client means: the one with the name, or for `""` the only one.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let named = self.0.iter().position(|export| export.name == name);
        named.or_else(|| (name.is_empty() && self.0.len() == 1).then_some(0))
    }
}

fn export(config: &NbdExportConfig, disks: &[Arc<Disk>]) -> Export {
    let disk =
        disks.iter().find(|disk| disk.name() == config.disk).expect("the disk was found when the exports were checked");
    Export {
        name: config.name.clone(),
        description: config.description.clone(),
        read_only: config.read_only,
        disk: disk.clone(),
        clients: Arc::default(),
    }
}
