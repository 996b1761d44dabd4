//! Work on a pool that no target has open: a device, and one reactor that lives as long as the command.

use std::path::Path;
use std::sync::Arc;

use crate::device::{DeviceConfig, DeviceKind, SharedDevice, Size};
use crate::memory::HugePages;
use crate::reactor::{ReactorConfig, ReactorThread, Remote, allowed_cpus};

use super::Failure;

/// Buffers of the reactor: metadata only goes through it.
const MEMORY_MIB: usize = 32;

/// Opens a file or block device, or makes the file of that size, and does the work with it.
pub(super) fn with_device<T>(
    path: &Path,
    create: Option<Size>,
    work: impl FnOnce(&Arc<SharedDevice>, &Remote) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let device = SharedDevice::open(&DeviceConfig {
        name: name_of(path),
        kind: DeviceKind::File,
        path: Some(path.to_owned()),
        size: create,
        create: create.is_some(),
        hugepages: HugePages::Never,
        layers: Vec::new(),
    })?;
    // The last core, as targets begin with the first ones.
    let core = *allowed_cpus().last().ok_or("this process may not run on any core")?;
    let config = ReactorConfig { memory_mib: MEMORY_MIB, hugepages: HugePages::Never, ..ReactorConfig::default() };
    let reactor = ReactorThread::start(core, &config)?;
    let done = work(&Arc::new(device), reactor.remote());
    reactor.remote().stop();
    reactor.join();
    done
}

/// What a device, and the pool on it, is called in messages.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
