//! Exports: where the target listens, and what is found there.

use serde::{Deserialize, Serialize};

use super::Target;

/// All exports; one that the configuration does not have is absent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportsReport {
    /// NBD.
    pub nbd: Option<NbdReport>,
}

/// The NBD export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NbdReport {
    /// Where it listens.
    pub listen: Vec<String>,
    /// Connections at this moment.
    pub connections: usize,
    /// What is found there.
    pub exports: Vec<NbdExportReport>,
}

/// A disk under a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NbdExportReport {
    /// The name.
    pub name: String,
    /// The disk.
    pub disk: String,
    /// Whether clients cannot change it.
    pub read_only: bool,
}

impl Target {
    pub(in crate::control) fn exports(&self) -> ExportsReport {
        ExportsReport { nbd: self.nbd_report() }
    }

    fn nbd_report(&self) -> Option<NbdReport> {
        let server = self.nbd.as_ref()?;
        let exports = self.state().config.nbd.iter().flat_map(|nbd| nbd.exports.clone()).collect::<Vec<_>>();
        Some(NbdReport {
            listen: server.addresses().iter().map(ToString::to_string).collect(),
            connections: server.connections(),
            exports: exports
                .into_iter()
                .map(|export| NbdExportReport { name: export.name, disk: export.disk, read_only: export.read_only })
                .collect(),
        })
    }
}
