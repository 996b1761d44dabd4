//! Opening devices: configuration, ownership, and what the backing file can do.
//!
//! A file device is owned by one process: it holds an exclusive `flock(2)`, and a second one is refused with the owner's pid. The lock is
//! held by the [`SharedDevice`]; reactors open descriptors of their own.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use thiserror::Error;

use crate::memory::{Arena, ArenaError, HugePages, Pages};
use crate::reactor::Reactor;

#[cfg(feature = "simulation")]
use super::SimulatedDevice;
use super::layer::{Layer, LayerConfig};
use super::{Backend, DeviceHandle, DeviceInfo, FileDevice, Fill, Layered, MemoryDevice, NullDevice};

/// Devices have whole units of this many bytes.
const SIZE_UNIT: u64 = 4096;

/// A size in bytes, written as a number with an optional unit: `4096`, `"512 MiB"`, `"1G"` (units are powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SizeText")]
pub struct Size(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Bytes(u64),
    Text(String),
}

impl TryFrom<SizeText> for Size {
    type Error = String;

    fn try_from(text: SizeText) -> Result<Self, String> {
        match text {
            SizeText::Bytes(bytes) => Ok(Size(bytes)),
            SizeText::Text(text) => text.parse(),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size; write bytes, or a number with K, M, G or T (powers of 1024)");
        let digits = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
        let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
        let shift = match text.trim()[digits.len()..].trim().to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KIB" => 10,
            "M" | "MIB" => 20,
            "G" | "GIB" => 30,
            "T" | "TIB" => 40,
            _ => return Err(wrong()),
        };
        number.checked_mul(1 << shift).map(Size).ok_or_else(wrong)
    }
}

/// A device in the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// The name that disks refer to.
    pub name: String,
    /// `file`, `memory` or `null`.
    pub kind: DeviceKind,
    /// Where the blocks are: for `file`.
    pub path: Option<PathBuf>,
    /// Bytes: for `memory` and `null`, and for a `file` that is created.
    pub size: Option<Size>,
    /// Make the file, sparse, if it does not exist: for `file`.
    #[serde(default)]
    pub create: bool,
    /// What to do about hugepages: for `memory`.
    #[serde(default)]
    pub hugepages: HugePages,
    /// Layers, the lowest first.
    #[serde(default)]
    pub layers: Vec<LayerConfig>,
}

impl DeviceConfig {
    /// A file that is made.
    pub fn new_file(name: &str, path: &Path, bytes: u64) -> Self {
        Self {
            name: name.to_owned(),
            kind: DeviceKind::File,
            path: Some(path.to_owned()),
            size: Some(Size(bytes)),
            create: true,
            hugepages: HugePages::default(),
            layers: Vec::new(),
        }
    }
}

fn null(size: u64, fill: Fill) -> (DeviceInfo, Source) {
    (super::Device::info(&NullDevice::new(size, fill)), Source::Null(fill))
}

/// The kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A regular file or a block device.
    File,
    /// Memory.
    Memory,
    /// Nothing.
    Null,
    /// Nothing, and reads leave buffers as they are: for programs that measure inside one process, never for an export.
    #[serde(skip)]
    NullWithoutData,
}

/// Why a device cannot be opened.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The configuration is contradictory.
    #[error("device {name}: {what}")]
    Config {
        /// The device.
        name: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// The file cannot be used.
    #[error("device {name}: {path}: cannot {what}: {source}")]
    File {
        /// The device.
        name: String,
        /// The file.
        path: PathBuf,
        /// What failed.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Another process has it.
    #[error("device {name}: {path} is in use by {owner}; stop that process or choose another file")]
    InUse {
        /// The device.
        name: String,
        /// The file.
        path: PathBuf,
        /// The owner, with its pid if the kernel tells.
        owner: String,
    },
    /// Its size cannot become what was asked for.
    #[error("device {name}: {what}")]
    Resize {
        /// The device.
        name: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// No memory.
    #[error("device {name}: {source}")]
    Memory {
        /// The device.
        name: String,
        /// Why not.
        source: ArenaError,
    },
}

/// A device that the process has opened.
pub struct SharedDevice {
    name: String,
    /// As it was when it was opened; the size of now is beside it.
    info: DeviceInfo,
    /// Shared with every handle: one store, and all reactors check against the new size.
    size: Arc<AtomicU64>,
    source: Source,
    layers: Vec<Layer>,
}

enum Source {
    /// `file` holds the exclusive lock for as long as the device is open; who has the mutex may change the size.
    File {
        path: PathBuf,
        direct: bool,
        file: Mutex<File>,
    },
    Memory(MemoryDevice, Pages),
    Null(Fill),
    #[cfg(feature = "simulation")]
    Simulated(SimulatedDevice),
}

impl SharedDevice {
    /// Opens what the configuration says.
    pub fn open(config: &DeviceConfig) -> Result<Self, DeviceError> {
        let wrong = |what: &str| DeviceError::Config { name: config.name.clone(), what: what.to_owned() };
        let size = || match config.size {
            None => Err(wrong("a size is needed: size = \"1 GiB\"")),
            Some(Size(size)) if size == 0 || !size.is_multiple_of(SIZE_UNIT) => {
                Err(wrong("the size has to be a positive multiple of 4096 bytes"))
            }
            Some(Size(size)) => Ok(size),
        };
        if config.kind != DeviceKind::File && (config.path.is_some() || config.create) {
            return Err(wrong("path and create are for kind = \"file\" only"));
        }
        let (info, source) = match config.kind {
            DeviceKind::File => {
                let path = config.path.as_deref().ok_or_else(|| wrong("a path is needed: path = \"/…\""))?;
                if config.create {
                    create(config, path, size()?)?;
                }
                open_file(&config.name, path)?
            }
            DeviceKind::Memory => {
                let size = size()?;
                let arena = Arena::new(size as usize, config.hugepages)
                    .map_err(|source| DeviceError::Memory { name: config.name.clone(), source })?;
                let pages = arena.pages().clone();
                let device = MemoryDevice::new(Arc::new(arena), size);
                (super::Device::info(&device), Source::Memory(device, pages))
            }
            DeviceKind::Null => null(size()?, Fill::Zeros),
            DeviceKind::NullWithoutData => null(size()?, Fill::Nothing),
        };
        let layers = config.layers.iter().map(Layer::new).collect();
        Ok(Self { name: config.name.clone(), info, size: shared_size(info), source, layers })
    }

    /// A simulated device, which the caller keeps a hand on.
    #[cfg(feature = "simulation")]
    pub fn simulated(name: &str, device: SimulatedDevice) -> Self {
        let (info, size) = (super::Device::info(&device), device.size().clone());
        Self { name: name.to_owned(), info, size, source: Source::Simulated(device), layers: Vec::new() }
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the device is like now.
    pub fn info(&self) -> DeviceInfo {
        DeviceInfo { size: self.size.load(Ordering::Acquire), ..self.info }
    }

    /// The number of bytes on it, as it changes.
    pub(crate) fn size(&self) -> &Arc<AtomicU64> {
        &self.size
    }

    /// Makes the regular file larger, sparse, and durably so; all handles take commands behind the old end at once. Returns the new size.
    /// Blocking.
    pub fn grow(&self, to: u64) -> Result<u64, DeviceError> {
        let wrong = |what: String| DeviceError::Resize { name: self.name.clone(), what };
        let Source::File { path, file, .. } = &self.source else { return Err(self.fixed_size()) };
        let failed = |what| self.file_error(path, what);
        let mut file = file.lock().expect("no panic under this lock");
        let size = self.info().size;
        if to < size {
            return Err(wrong(format!("it has {size} bytes and is not made smaller; {to} were asked for")));
        }
        if !to.is_multiple_of(SIZE_UNIT) {
            return Err(wrong(format!("{to} bytes is not a multiple of {SIZE_UNIT}; choose one")));
        }
        if file.metadata().map_err(failed("inspect"))?.file_type().is_block_device() {
            let what = format!(
                "{} is a block device: make it larger where it was made, then refresh the size",
                path.display()
            );
            return Err(wrong(what));
        }
        if size_of_file(&mut file).map_err(failed("measure"))? < to {
            file.set_len(to).map_err(failed("grow"))?;
            // Before anybody writes there: the data of a flushed write must not lie behind the end after a power cut.
            file.sync_all().map_err(failed("sync"))?;
        }
        self.take_size(&mut file, path)
    }

    /// Looks again how large the file or block device is, and takes commands up to there. Returns the size. Blocking.
    pub fn refresh_size(&self) -> Result<u64, DeviceError> {
        let Source::File { path, file, .. } = &self.source else { return Ok(self.info().size) };
        self.take_size(&mut file.lock().expect("no panic under this lock"), path)
    }

    fn take_size(&self, file: &mut File, path: &Path) -> Result<u64, DeviceError> {
        let found = size_of_file(file).map_err(self.file_error(path, "measure"))?;
        let (now, before) = (usable(found, self.info.block_size), self.info().size);
        if now < before {
            return Err(DeviceError::Resize {
                name: self.name.clone(),
                what: format!(
                    "{} has become smaller: {found} bytes, where {before} were in use; the size in use stays, and commands behind \
                     the new end fail until it is made larger again",
                    path.display()
                ),
            });
        }
        self.size.store(now, Ordering::Release);
        Ok(now)
    }

    fn fixed_size(&self) -> DeviceError {
        let kind = match &self.source {
            Source::File { .. } => "file",
            Source::Memory(..) => "memory",
            Source::Null(_) => "null",
            #[cfg(feature = "simulation")]
            Source::Simulated(_) => "simulated",
        };
        DeviceError::Resize {
            name: self.name.clone(),
            what: format!("the size of a {kind} device is fixed while it is open; change it in the configuration"),
        }
    }

    fn file_error(&self, path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> DeviceError {
        let (name, path) = (self.name.clone(), path.to_owned());
        move |source| DeviceError::File { name, path, what, source }
    }

    /// A few words for the start-up report.
    pub fn describe(&self) -> String {
        let what = match &self.source {
            Source::File { path, direct: true, .. } => format!("file {} (O_DIRECT)", path.display()),
            Source::File { path, direct: false, .. } => {
                format!("file {} (through the page cache: its file system has no O_DIRECT)", path.display())
            }
            Source::Memory(_, Pages::Huge) => "memory on 2 MiB hugepages".to_owned(),
            Source::Memory(_, Pages::Normal(why)) => format!("memory on normal pages ({why})"),
            Source::Null(_) => "null".to_owned(),
            #[cfg(feature = "simulation")]
            Source::Simulated(_) => "simulated".to_owned(),
        };
        let layers: String = self.layers.iter().map(|layer| format!(" + {}", layer.name())).collect();
        format!("{what}{layers}, {} MiB, {}-byte blocks", self.info().size >> 20, self.info.block_size)
    }

    /// A handle for one reactor.
    pub fn handle(&self, reactor: &Reactor) -> Result<DeviceHandle, DeviceError> {
        let backend = match &self.source {
            Source::File { path, direct, .. } => {
                let failed =
                    |source| DeviceError::File { name: self.name.clone(), path: path.clone(), what: "open", source };
                let fd = OwnedFd::from(open_rw(path, *direct).map_err(failed)?);
                Backend::File(FileDevice::new(reactor, fd, self.info, self.size.clone()).map_err(failed)?)
            }
            Source::Memory(device, _) => Backend::Memory(device.clone()),
            Source::Null(fill) => Backend::Null(NullDevice::new(self.info.size, *fill)),
            #[cfg(feature = "simulation")]
            Source::Simulated(device) => Backend::Simulated(device.clone()),
        };
        Ok(Layered::new(reactor, backend, self.layers.clone()))
    }
}

/// Makes a sparse file of the size, unless there is one, whose size has to be the same.
fn create(config: &DeviceConfig, path: &Path, size: u64) -> Result<(), DeviceError> {
    let failed =
        |what| move |source| DeviceError::File { name: config.name.clone(), path: path.to_owned(), what, source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file.set_len(size).map_err(failed("set the size of")),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let found = size_of_file(&mut File::open(path).map_err(failed("open"))?).map_err(failed("measure"))?;
            if found == size {
                return Ok(());
            }
            Err(DeviceError::Config {
                name: config.name.clone(),
                what: format!(
                    "{} exists with {found} bytes, not {size}; leave out `size` and `create` to take it as it is",
                    path.display()
                ),
            })
        }
        Err(e) => Err(failed("create")(e)),
    }
}

fn open_file(name: &str, path: &Path) -> Result<(DeviceInfo, Source), DeviceError> {
    let failed = |what| move |source| DeviceError::File { name: name.to_owned(), path: path.to_owned(), what, source };
    let mut lock = open_rw(path, false).map_err(failed("open"))?;
    take_lock(&lock).map_err(|error| match error {
        Some(source) => failed("lock")(source),
        None => DeviceError::InUse { name: name.to_owned(), path: path.to_owned(), owner: owner_of(&lock) },
    })?;
    let is_block_device = lock.metadata().map_err(failed("inspect"))?.file_type().is_block_device();
    // tmpfs and some others refuse O_DIRECT with EINVAL (open(2)).
    let direct = match open_rw(path, true) {
        Ok(_) => true,
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => false,
        Err(e) => return Err(failed("open with O_DIRECT")(e)),
    };
    let block_size = if direct { direct_alignment(&lock, is_block_device) } else { 512 };
    let size = size_of_file(&mut lock).map_err(failed("measure"))?;
    let usable = usable(size, block_size);
    if usable == 0 {
        return Err(DeviceError::Config {
            name: name.to_owned(),
            what: format!(
                "{} has {size} bytes; at least 4096 are needed (create = true with a size makes one)",
                path.display()
            ),
        });
    }
    let info = DeviceInfo { size: usable, block_size, can_discard: true, can_write_zeroes: true };
    Ok((info, Source::File { path: path.to_owned(), direct, file: Mutex::new(lock) }))
}

/// What of a file's bytes makes whole units.
fn usable(size: u64, block_size: u32) -> u64 {
    size - size % u64::from(block_size).max(SIZE_UNIT)
}

fn shared_size(info: DeviceInfo) -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(info.size))
}

fn open_rw(path: &Path, direct: bool) -> io::Result<File> {
    let flags = libc::O_CLOEXEC | if direct { libc::O_DIRECT } else { 0 };
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// The size of a file, or of a block device, whose metadata says 0.
fn size_of_file(file: &mut File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// The alignment that O_DIRECT needs, as the kernel tells it; 4096 where it does not, which fits everywhere.
fn direct_alignment(file: &File, is_block_device: bool) -> u32 {
    let found = if is_block_device { logical_block_size(file) } else { statx_alignment(file) };
    found.filter(|a| a.is_power_of_two() && (512..=4096).contains(a)).unwrap_or(4096)
}

fn statx_alignment(file: &File) -> Option<u32> {
    // SAFETY: all-zero is a valid statx buffer, the path is a C string, and the kernel fills at most the buffer.
    let answer = unsafe {
        let mut answer: libc::statx = std::mem::zeroed();
        let mask = libc::STATX_DIOALIGN;
        if libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, &mut answer) != 0 {
            return None;
        }
        answer
    };
    (answer.stx_mask & libc::STATX_DIOALIGN != 0).then_some(answer.stx_dio_offset_align)
}

fn logical_block_size(file: &File) -> Option<u32> {
    let mut size: libc::c_int = 0;
    // SAFETY: BLKSSZGET writes one int.
    (unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKSSZGET, &mut size) } == 0).then_some(size as u32)
}

/// Takes the exclusive lock; `Err(None)` if another process has it.
fn take_lock(file: &File) -> Result<(), Option<io::Error>> {
    // SAFETY: the call touches no memory of ours.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        e if e.kind() == io::ErrorKind::WouldBlock => Err(None),
        e => Err(Some(e)),
    }
}

/// Who holds a lock on the file, by `/proc/locks` (proc(5)).
fn owner_of(file: &File) -> String {
    let unknown = "another process".to_owned();
    let (Ok(meta), Ok(locks)) = (file.metadata(), std::fs::read_to_string("/proc/locks")) else { return unknown };
    let (major, minor) = (libc::major(meta.dev()), libc::minor(meta.dev()));
    let inode = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let pid = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let at = fields.iter().position(|field| *field == inode)?;
        fields.get(at - 1).map(|pid| (*pid).to_owned())
    });
    pid.map_or(unknown, |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, bytes) in [("4096", 4096), ("512 MiB", 512 << 20), ("1G", 1 << 30), ("2 tib", 2 << 40)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "MiB", "1.5G", "1 parsec", "99999999999T"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_second_owner_is_told_the_first_ones_pid() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = DeviceConfig {
            name: "d0".to_owned(),
            kind: DeviceKind::File,
            path: Some(dir.path().join("disk")),
            size: Some(Size(1 << 20)),
            create: true,
            hugepages: HugePages::Prefer,
            layers: Vec::new(),
        };
        let first = SharedDevice::open(&config).expect("opened");
        // The lock belongs to the open file, not to the process, so a second open in this process is refused as well.
        let error = SharedDevice::open(&config).err().expect("refused").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        SharedDevice::open(&config).expect("free again");
    }
}
