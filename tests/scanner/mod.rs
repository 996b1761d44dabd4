//! Looks for secrets where they must not be: in all memory of a process that root can read, in core dumps, and in files.
//!
//! A [`Needles`] says what is looked for: each secret in every form that it is likely to be written in, and AES keys also as round keys. To add a secret
//! is one call; so is to add a folder ([`in_files`]). A test that finds nothing proves something only if the same scan has found the same needles
//! where they are known to be: see [`Needles::all_forms`].
#![allow(dead_code, reason = "each test file uses its part")]

mod aes;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes that are looked at in one go.
const PIECE: usize = 1 << 20;
/// Shorter ones would be found by chance.
const SHORTEST: usize = 12;

/// What is looked for.
struct Needle {
    name: String,
    bytes: Vec<u8>,
}

/// Secrets in all their forms.
pub struct Needles {
    all: Vec<Needle>,
    longest: usize,
    /// The needles that begin with these two bytes.
    by_beginning: Vec<Vec<u16>>,
}

impl Default for Needles {
    fn default() -> Self {
        Self { all: Vec::new(), longest: 0, by_beginning: vec![Vec::new(); 1 << 16] }
    }
}

impl Needles {
    /// An XTS pair: the whole of it, and each half as an AES key.
    pub fn xts_key(self, name: &str, key: &[u8; 64]) -> Self {
        let (halves, _) = key.as_chunks::<32>();
        let whole = self.secret(name, key);
        whole.aes_key(&format!("{name}, data half"), &halves[0]).aes_key(&format!("{name}, tweak half"), &halves[1])
    }

    /// An AES-256 key: as it is, and each round key of both directions.
    pub fn aes_key(self, name: &str, key: &[u8; 32]) -> Self {
        let encrypt = aes::round_keys(key);
        let decrypt = aes::inverse_round_keys(&encrypt);
        let with_key = self.secret(name, key);
        let each = |needles: Self, (what, keys): (&str, &[[u8; 16]])| {
            let keys = keys.iter().enumerate();
            keys.fold(needles, |needles, (round, key)| needles.secret(&format!("{name}, {what} {round}"), key))
        };
        [("round key", &encrypt[..]), ("inverse round key", &decrypt[..])].into_iter().fold(with_key, each)
    }

    /// Any secret: as it is, reversed, in hex and in base64.
    pub fn secret(mut self, name: &str, bytes: &[u8]) -> Self {
        self.add(name.to_owned(), bytes.to_vec());
        self.add(format!("{name}, reversed"), bytes.iter().rev().copied().collect());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.add(format!("{name}, in HEX"), hex.to_uppercase().into_bytes());
        self.add(format!("{name}, in hex"), hex.into_bytes());
        // It may begin at any place within three bytes; what shares its digits with others is left out.
        for skipped in 0..3.min(bytes.len()) {
            let whole = (bytes.len() - skipped) / 3 * 3;
            let text = openssl::base64::encode_block(&bytes[skipped..skipped + whole]);
            self.add(format!("{name}, in base64 from byte {skipped}"), text.into_bytes());
        }
        self
    }

    /// Plain text: only as it is.
    pub fn text(mut self, name: &str, bytes: &[u8]) -> Self {
        self.add(name.to_owned(), bytes.to_vec());
        self
    }

    fn add(&mut self, name: String, bytes: Vec<u8>) {
        assert!(bytes.len() >= SHORTEST, "{name} has only {} bytes and would be found by chance", bytes.len());
        assert!(bytes.iter().any(|&byte| byte != bytes[0]), "{name} is the same byte all over");
        // The last round key of one direction is the first of the other.
        if self.all.iter().any(|other| other.bytes == bytes) {
            return;
        }
        self.longest = self.longest.max(bytes.len());
        self.by_beginning[beginning(&bytes)].push(self.all.len() as u16);
        self.all.push(Needle { name, bytes });
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Every needle, with something between them: for a process or a file in which all have to be found.
    pub fn all_forms(&self) -> Vec<u8> {
        self.all.iter().flat_map(|needle| needle.bytes.iter().copied().chain(*b"between")).collect()
    }

    /// The needles that lie in the bytes, and where.
    fn find<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (&'a str, usize)> {
        bytes.windows(2).enumerate().flat_map(move |(at, pair)| {
            let candidates = self.by_beginning[beginning(pair)].iter().map(|&index| &self.all[usize::from(index)]);
            candidates
                .filter(move |needle| bytes[at..].starts_with(&needle.bytes))
                .map(move |needle| (&*needle.name, at))
        })
    }

    /// Looks through something that is read by its offset, from `start` to `end`, up to where it cannot be read.
    fn scan(&self, start: u64, end: u64, read: impl Fn(&mut [u8], u64) -> io::Result<usize>) -> Scan {
        let mut scan = Scan::default();
        let mut buffer = Vec::new();
        let mut at = start;
        while at < end {
            // What may go on behind the piece before is looked at again.
            let kept = buffer.len().min(self.longest);
            buffer.drain(..buffer.len() - kept);
            let want = PIECE.min((end - at) as usize);
            buffer.resize(kept + want, 0);
            let got = match read(&mut buffer[kept..], at) {
                Ok(0) => break,
                Ok(got) => got,
                Err(e) => {
                    scan.ended_by = Some(e);
                    break;
                }
            };
            buffer.truncate(kept + got);
            let first = at - kept as u64;
            scan.found.extend(self.find(&buffer).map(|(name, found)| (name.to_owned(), first + found as u64)));
            scan.bytes += got as u64;
            at += got as u64;
        }
        scan
    }
}

fn beginning(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

#[derive(Default)]
struct Scan {
    /// Names of needles, and where they are.
    found: BTreeSet<(String, u64)>,
    bytes: u64,
    /// What could not be read.
    ended_by: Option<io::Error>,
}

/// What a scan has seen.
#[derive(Default, Debug)]
pub struct Report {
    /// Names of needles, and where they are.
    pub found: BTreeSet<(String, String)>,
    pub bytes: u64,
    /// Regions of `memfd_secret(2)` memory, which not even root can read: what is there does not leak.
    pub secret_regions: usize,
    /// Other regions that could not be read.
    pub unreadable: Vec<String>,
}

impl Report {
    fn take(&mut self, scan: Scan, place: impl Fn(u64) -> String) {
        self.bytes += scan.bytes;
        self.found.extend(scan.found.into_iter().map(|(name, at)| (name, place(at))));
    }

    /// How many different needles were found.
    pub fn kinds(&self) -> usize {
        self.found.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len()
    }

    /// Fails if anything was found.
    pub fn expect_nothing(&self, when: &str) {
        let few: Vec<_> = self.found.iter().take(20).map(|(name, place)| format!("  {name}: {place}")).collect();
        assert!(self.found.is_empty(), "{when}: {} finds, among them\n{}", self.found.len(), few.join("\n"));
        eprintln!(
            "{when}: nothing in {} MiB ({} regions that nobody can read)",
            self.bytes >> 20,
            self.secret_regions + self.unreadable.len()
        );
    }
}

/// Whether this test may look into other processes; says so if not.
pub fn may_look_into_processes() -> bool {
    #[allow(unsafe_code)]
    // SAFETY: the call touches no memory.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        eprintln!("SKIPPED: only root may read the memory of a process that is not dumpable");
    }
    is_root
}

/// Looks through all memory of a process that root can read.
pub fn in_process(needles: &Needles, pid: u32) -> Report {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the list of its regions");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("its memory, as root");
    let mut report = Report::default();
    for line in maps.lines() {
        let region = Region::parse(line);
        // Code and clocks of the kernel.
        if !region.is_readable || region.name.starts_with("[v") {
            continue;
        }
        let scan = needles.scan(region.start, region.end, |buffer, at| memory.read_at(buffer, at));
        match &scan.ended_by {
            None => {}
            Some(_) if region.name.starts_with("/secretmem") => report.secret_regions += 1,
            Some(e) => report.unreadable.push(format!("{}: {e}", region.describe())),
        }
        report.take(scan, |at| format!("{at:#x} in {}", region.describe()));
    }
    report
}

/// A line of `/proc/PID/maps` (proc(5)).
struct Region<'a> {
    start: u64,
    end: u64,
    is_readable: bool,
    name: &'a str,
}

impl<'a> Region<'a> {
    fn parse(line: &'a str) -> Self {
        let number = |digits| u64::from_str_radix(digits, 16).expect("an address");
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next().and_then(|range| range.split_once('-')).expect("a range");
        let is_readable = words.next().expect("rights").starts_with('r');
        let name = words.nth(3).unwrap_or_default().trim();
        Self { start: number(start), end: number(end), is_readable, name }
    }

    fn describe(&self) -> String {
        let name = if self.name.is_empty() { "anonymous memory" } else { self.name };
        format!("{:#x}-{:#x} {name}", self.start, self.end)
    }
}

/// Looks through a core dump that a debugger makes of a process, registers among it; nothing if there is no debugger.
pub fn in_core_dump(needles: &Needles, pid: u32) -> Option<Report> {
    if Command::new("gcore").arg("-h").output().is_err() {
        eprintln!("SKIPPED: there is no gcore, which comes with gdb");
        return None;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let output = Command::new("timeout")
        .args(["120", "gcore", "-a", "-o"])
        .arg(folder.path().join("core"))
        .arg(pid.to_string())
        .output()
        .expect("gcore runs");
    let core = folder.path().join(format!("core.{pid}"));
    if !core.exists() {
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!("SKIPPED: gcore makes no core dump here: {}", said.trim());
        return None;
    }
    Some(in_files(needles, &[folder.path()]))
}

/// Looks through files, and all files in folders.
pub fn in_files(needles: &Needles, places: &[&Path]) -> Report {
    let mut report = Report::default();
    let mut left: Vec<PathBuf> = places.iter().map(|&place| place.to_owned()).collect();
    while let Some(place) = left.pop() {
        // Folders that others use too change meanwhile.
        let Ok(kind) = std::fs::symlink_metadata(&place).map(|meta| meta.file_type()) else { continue };
        if kind.is_dir() {
            let entries = std::fs::read_dir(&place).expect("a folder");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if kind.is_file() {
            let Ok(file) = File::open(&place) else { continue };
            let scan = needles.scan(0, u64::MAX, |buffer, _| (&file).read(buffer));
            if let Some(e) = &scan.ended_by {
                report.unreadable.push(format!("{}: {e}", place.display()));
            }
            report.take(scan, |at| format!("byte {at} of {}", place.display()));
        }
    }
    report
}

/// Makes a command run where the kernel has no `memfd_secret(2)`, so that it keeps its secrets in locked memory.
#[cfg(target_arch = "x86_64")]
pub fn without_memfd_secret(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let load_number = 0x20;
    let skip_unless_equal = 0x15;
    let answer = 0x06;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The number of the call is the first word that the filter sees (seccomp(2)).
    let filter = [
        op(load_number, 0, 0, 0),
        op(skip_unless_equal, 0, 1, libc::SYS_memfd_secret as u32),
        op(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        op(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the calls read numbers and a filter that lives until they return.
        #[allow(unsafe_code)]
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if installed { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    #[allow(unsafe_code)]
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(install);
    }
}
