//! The place of a run: where programs and files are, which cores are whose, how long things take.
//!
//! Owns every file that the run writes. Holds always: they lie in temporary directories that are removed when the lab is dropped.
//! Data files are preallocated, fully written, synced and out of the page cache before anything is measured on them: a hole or an
//! unwritten extent would be answered without the disk.

use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use tempfile::TempDir;

use crate::contender::large_pool::LargePool;
use crate::failure::{Context, Failure, Result};
use crate::process;

/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;
/// The name of the variable that names the script that runs SPDK's programs.
pub const SPDK_VARIABLE: &str = "STRONGROOM_PERF_SPDK";

/// The place of a run.
pub struct Lab {
    /// The `strongroom` program that is measured.
    pub strongroom: PathBuf,
    /// The script that runs SPDK's programs, if there is one.
    pub spdk: Option<PathBuf>,
    /// Seconds of one measurement.
    pub seconds: u32,
    /// Seconds of load before a measurement.
    pub ramp_s: u32,
    /// The core of the side under test.
    pub server_core: usize,
    /// The core of the client.
    pub client_core: usize,
    /// MiB of a data file.
    pub file_mib: u64,
    /// MiB of a memory device.
    pub memory_mib: u64,
    /// GiB of the volume in the large pool.
    pub large_gib: u64,
    data: TempDir,
    run: TempDir,
    file: OnceCell<PathBuf>,
    luks: OnceCell<PathBuf>,
    large: OnceCell<LargePool>,
}

/// What the user chose for a lab.
pub struct Choice {
    /// The `strongroom` program, or the one beside this program.
    pub strongroom: Option<PathBuf>,
    /// Where data files go.
    pub dir: PathBuf,
    /// Seconds of one measurement.
    pub seconds: u32,
    /// MiB of a data file.
    pub file_mib: u64,
    /// GiB of the volume in the large pool.
    pub large_gib: u64,
}

impl Lab {
    /// Checks the choice and makes the directories.
    pub fn open(choice: Choice) -> Result<Self> {
        let strongroom = match choice.strongroom {
            Some(path) => path,
            None => std::env::current_exe().context(|| "cannot find this program".into())?.with_file_name("strongroom"),
        };
        if !strongroom.is_file() {
            return Err(Failure::Missing {
                program: strongroom.display().to_string(),
                remedy: "build it (scripts/perf does) or name it with --strongroom".into(),
            });
        }
        let spdk = std::env::var_os(SPDK_VARIABLE).map(PathBuf::from);
        if let Some(script) = spdk.as_ref().filter(|s| !s.is_file()) {
            return Err(Failure::Request(format!("{SPDK_VARIABLE}={} is not a file", script.display())));
        }
        fs::create_dir_all(&choice.dir).on_file("make", &choice.dir)?;
        let data = tempfile::Builder::new().prefix("strongroom-perf-").tempdir_in(&choice.dir);
        let run = tempfile::Builder::new().prefix("strongroom-perf-").tempdir();
        let client_core = usize::from(crate::machine::cores() > 1);
        Ok(Self {
            strongroom,
            spdk,
            seconds: choice.seconds,
            ramp_s: 1,
            server_core: 0,
            client_core,
            file_mib: choice.file_mib,
            memory_mib: 512,
            large_gib: choice.large_gib,
            data: data.on_file("make a directory in", &choice.dir)?,
            run: run.context(|| "cannot make a temporary directory".into())?,
            file: OnceCell::new(),
            luks: OnceCell::new(),
            large: OnceCell::new(),
        })
    }

    /// A path for a socket, a key or a configuration.
    pub fn run_path(&self, name: &str) -> PathBuf {
        self.run.path().join(name)
    }

    /// The data file; made on first use.
    pub fn file(&self) -> Result<&Path> {
        if self.file.get().is_none() {
            let path = self.data.path().join("data");
            eprintln!("writing {} MiB to {}", self.file_mib, path.display());
            write_whole(&path, self.file_mib)?;
            let _ = self.file.set(path);
        }
        Ok(self.file.get().expect("set above"))
    }

    /// A LUKS image of the same size, and the file with its secret; made on first use.
    pub fn luks(&self) -> Result<(&Path, PathBuf)> {
        let secret = self.run_path("luks-secret");
        if self.luks.get().is_none() {
            process::require("qemu-img", "qemu-utils")?;
            let path = self.data.path().join("luks");
            eprintln!("making a LUKS image of {} MiB in {}", self.file_mib, path.display());
            write_private(&secret, throwaway_hex()?.as_bytes())?;
            make_luks(&path, &secret, self.file_mib)?;
            let _ = self.luks.set(path);
        }
        Ok((self.luks.get().expect("set above"), secret))
    }

    /// The large pool; filled on first use, and there until the lab is dropped.
    pub fn large_pool(&self) -> Result<&LargePool> {
        if self.large.get().is_none() {
            eprintln!("filling a volume of {} GiB on a simulated device", self.large_gib);
            let _ = self.large.set(LargePool::start(self)?);
        }
        Ok(self.large.get().expect("set above"))
    }

    /// A file with a throwaway passphrase.
    pub fn passphrase(&self) -> Result<PathBuf> {
        let path = self.run_path("passphrase");
        if !path.exists() {
            write_private(&path, throwaway_hex()?.as_bytes())?;
        }
        Ok(path)
    }

    /// A file with a throwaway disk key of 64 random bytes.
    pub fn key_file(&self) -> Result<PathBuf> {
        let path = self.run_path("disk.key");
        if !path.exists() {
            write_private(&path, &random_bytes()?)?;
        }
        Ok(path)
    }
}

/// LUKS as qemu-img makes it (AES-256-XTS, plain64), every block written. Few hash iterations: the key derivation is not measured.
fn make_luks(path: &Path, secret: &Path, mib: u64) -> Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "luks", "--object"]);
    command.arg(format!("secret,id=s0,file={}", secret.display()));
    command.args(["-o", "key-secret=s0,iter-time=10,preallocation=full"]).arg(path).arg(format!("{mib}M"));
    process::run("qemu-img", &mut command)?;
    let file = File::open(path).on_file("open", path)?;
    settle(&file, path)
}

/// Writes every byte of a new file with changing content.
fn write_whole(path: &Path, mib: u64) -> Result<()> {
    let mut file = File::create_new(path).on_file("make", path)?;
    fallocate(&file, FallocateFlags::empty(), 0, mib << 20).on_file("preallocate", path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chunk = vec![0; CHUNK];
    for _ in 0..mib {
        for word in chunk.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&chunk).on_file("write", path)?;
    }
    settle(&file, path)?;
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    direct.map(|_| ()).on_file("open with O_DIRECT (choose another directory with --dir)", path)
}

/// Brings a file to the disk and out of the page cache.
fn settle(file: &File, path: &Path) -> Result<()> {
    file.sync_all().on_file("sync", path)?;
    fadvise(file, 0, None, Advice::DontNeed).on_file("drop from the page cache", path)
}

fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content)).on_file("write", path)
}

fn random_bytes() -> Result<[u8; 64]> {
    let mut bytes = [0; 64];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.context(|| "cannot read /dev/urandom".into())?;
    Ok(bytes)
}

fn throwaway_hex() -> Result<String> {
    Ok(random_bytes()?.iter().take(16).map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_file_has_no_holes() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("data");
        write_whole(&path, 2).unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(meta.len(), 2 << 20);
        assert!(meta.blocks() * 512 >= meta.len());
    }

    #[test]
    fn a_lab_without_the_program_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let strongroom = Some(dir.path().join("nothing"));
        let choice = Choice { strongroom, dir: dir.path().into(), seconds: 1, file_mib: 1, large_gib: 1 };
        let failure = Lab::open(choice).err().unwrap();
        assert!(failure.to_string().contains("--strongroom"), "{failure}");
    }
}
