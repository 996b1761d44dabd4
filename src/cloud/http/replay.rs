//! Nonces that were used, so that a request which somebody has seen cannot be sent again.
//!
//! A nonce is remembered until the time of its signature is outside of the window, as the request is refused for that from then on. What is not
//! remembered is not accepted:
//! - Each access key has room for so many nonces. If it needs more, the ones with the oldest signatures go, and from then on signatures as old as
//!   these are refused. That hits only clients whose clocks are slow, and only while their key is used that much.
//! - The nonces are also in a file, written before the request is carried out, so that a restart forgets none. It is not synced: after a crash of the
//!   machine, requests of the last seconds before it could be sent again.
//!
//! The file has a line for each nonce: the time of the signature, a hash, and the access key, with blanks between. A hash of `-` says that signatures as old
//! as this are refused. What is no such line, as the end of a file may be, is passed over. When the file is opened and when it has grown, it is written
//! anew.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use aws_lc_rs::digest;
use tracing::warn;

use crate::cloud::ApiError;
use crate::time::Time;

use super::refusal;
use super::signature::WINDOW_MS;

/// Nonces of one access key: what 100 requests a second use in the window, and some more.
const MOST_NONCES: usize = 1 << 17;
/// The file is written anew when it has grown by this, and by as much as it had.
const LEAST_GROWTH: u64 = 1 << 20;
const FILE: &str = "nonces";
const NO_HASH: &str = "-";

/// Half of a SHA-256.
type Hash = u128;

/// The nonces that were used.
pub(super) struct Nonces {
    book: Mutex<Book>,
}

struct Book {
    keys: HashMap<String, Used>,
    most: usize,
    path: PathBuf,
    file: File,
    /// What was appended since the file was written anew.
    appended: u64,
    /// What it had then.
    written: u64,
    /// Its last line may not be whole: another one after it would not be read.
    torn: bool,
}

/// The nonces of one access key.
#[derive(Default)]
struct Used {
    known: HashSet<Hash>,
    by_time: BTreeSet<(Time, Hash)>,
    /// Signatures as old as this are refused: their nonces are forgotten.
    forgotten: Option<Time>,
}

/// What is wrong with a nonce.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Used,
    Forgotten,
}

impl Used {
    fn add(&mut self, signed_at: Time, hash: Hash, most: usize) -> Result<(), Refused> {
        if self.forgotten.is_some_and(|forgotten| signed_at <= forgotten) {
            return Err(Refused::Forgotten);
        }
        if !self.known.insert(hash) {
            return Err(Refused::Used);
        }
        self.by_time.insert((signed_at, hash));
        if self.known.len() > most {
            let (time, _) = *self.by_time.first().expect("there are some");
            self.forget_until(time);
        }
        Ok(())
    }

    fn forget_until(&mut self, time: Time) {
        self.drop_until(time);
        self.forgotten = self.forgotten.max(Some(time));
    }

    /// Drops the nonces of signatures that are refused for their age, too.
    fn drop_until(&mut self, time: Time) {
        while let Some((signed_at, hash)) = self.by_time.first().copied().filter(|(signed_at, _)| *signed_at <= time) {
            self.by_time.remove(&(signed_at, hash));
            self.known.remove(&hash);
        }
    }
}

impl Nonces {
    /// Reads what is in the folder.
    pub(super) fn open(folder: &Path, now_ms: u64) -> Result<Self, (PathBuf, io::Error)> {
        Self::open_with(folder, now_ms, MOST_NONCES)
    }

    fn open_with(folder: &Path, now_ms: u64, most: usize) -> Result<Self, (PathBuf, io::Error)> {
        let path = folder.join(FILE);
        let open = || {
            let keys = match fs::read(&path) {
                Ok(bytes) => read(&bytes, most),
                Err(e) if e.kind() == io::ErrorKind::NotFound => HashMap::new(),
                Err(e) => return Err(e),
            };
            let file = append_to(&path)?;
            let mut book = Book { keys, most, path: path.clone(), file, appended: 0, written: 0, torn: false };
            book.write_anew(expired(now_ms))?;
            Ok(book)
        };
        Ok(Self { book: Mutex::new(open().map_err(|e| (path.clone(), e))?) })
    }

    /// Remembers a nonce, unless it was used.
    pub(super) fn use_once(&self, access_key: &str, nonce: &str, signed_at: Time, now_ms: u64) -> Result<(), ApiError> {
        let hash = hash(nonce);
        let mut book = self.book.lock().expect("no thread panics while it holds this lock");
        let most = book.most;
        let used = book.keys.entry(access_key.to_owned()).or_default();
        used.drop_until(expired(now_ms));
        match used.add(signed_at, hash, most) {
            Ok(()) => {}
            Err(Refused::Used) => return Err(refusal::nonce_used()),
            Err(Refused::Forgotten) => {
                return Err(refusal::timestamp("The timestamp is too old for how much this AccessKey is used."));
            }
        }
        book.append(signed_at, hash, access_key, expired(now_ms)).map_err(|e| {
            warn!("cloud API: nonces cannot be written to {}: {e}; requests are refused", book.path.display());
            refusal::unavailable()
        })
    }
}

/// Signatures of this time and before are refused by their age. One that is just in the window is not.
fn expired(now_ms: u64) -> Time {
    Time::from_ms(now_ms.saturating_sub(WINDOW_MS + 1))
}

fn hash(nonce: &str) -> Hash {
    let hash = digest::digest(&digest::SHA256, nonce.as_bytes());
    Hash::from_be_bytes(*hash.as_ref().first_chunk().expect("it is longer"))
}

impl Book {
    fn append(&mut self, signed_at: Time, hash: Hash, access_key: &str, expired: Time) -> io::Result<()> {
        let line = line(signed_at, &hash_text(hash), access_key);
        self.appended += line.len() as u64;
        if self.torn || self.appended > LEAST_GROWTH.max(self.written) {
            return self.write_anew(expired);
        }
        let appended = self.file.write_all(line.as_bytes());
        self.torn = appended.is_err();
        appended
    }

    /// Puts a file in place that has only what still counts.
    fn write_anew(&mut self, expired: Time) -> io::Result<()> {
        for used in self.keys.values_mut() {
            used.drop_until(expired);
            used.forgotten = used.forgotten.filter(|forgotten| *forgotten > expired);
        }
        self.keys.retain(|_, used| !used.known.is_empty() || used.forgotten.is_some());
        let new = self.path.with_extension("new");
        // What a process that was killed has left is in the way.
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = append_to(&new)?;
        let mut out = BufWriter::new(&file);
        for (access_key, used) in &self.keys {
            if let Some(time) = used.forgotten {
                out.write_all(line(time, NO_HASH, access_key).as_bytes())?;
            }
            for (time, hash) in &used.by_time {
                out.write_all(line(*time, &hash_text(*hash), access_key).as_bytes())?;
            }
        }
        out.flush()?;
        drop(out);
        fs::rename(&new, &self.path)?;
        self.written = file.metadata()?.len();
        (self.appended, self.torn) = (0, false);
        self.file = file;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn line(time: Time, hash: &str, access_key: &str) -> String {
    format!("{time} {hash} {access_key}\n")
}

fn hash_text(hash: Hash) -> String {
    format!("{hash:032x}")
}

fn read(bytes: &[u8], most: usize) -> HashMap<String, Used> {
    let mut keys: HashMap<String, Used> = HashMap::new();
    // What follows the last line end was not written whole.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &bytes[..end]);
    for line in whole.split(|byte| *byte == b'\n') {
        let Some((time, hash, access_key)) = parse(line) else { continue };
        let used = keys.entry(access_key.to_owned()).or_default();
        match hash {
            None => used.forget_until(time),
            // A line that comes twice changes nothing.
            Some(hash) => drop(used.add(time, hash, most)),
        }
    }
    keys
}

fn parse(line: &[u8]) -> Option<(Time, Option<Hash>, &str)> {
    let mut parts = std::str::from_utf8(line).ok()?.splitn(3, ' ');
    let (time, hash, access_key) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let hash = if hash == NO_HASH { None } else { Some(Hash::from_str_radix(hash, 16).ok()?) };
    Some((time, hash, access_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn at(ms: u64) -> Time {
        Time::from_ms(ms)
    }

    fn code(result: Result<(), ApiError>) -> String {
        result.map_or_else(|error| error.code.into_owned(), |()| "fine".to_owned())
    }

    fn open(folder: &Path, now: u64, most: usize) -> Nonces {
        Nonces::open_with(folder, now, most).map_err(|(path, e)| format!("{path:?}: {e}")).expect("opened")
    }

    #[test]
    fn a_nonce_is_good_for_one_request_of_its_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let nonces = open(dir.path(), NOW, MOST_NONCES);
        let used = |key, nonce| code(nonces.use_once(key, nonce, at(NOW), NOW));
        assert_eq!(used("a", "1"), "fine");
        assert_eq!(used("a", "1"), "SignatureNonceUsed");
        assert_eq!(used("b", "1"), "fine");
        assert_eq!(used("a", "2"), "fine");
    }

    #[test]
    fn it_is_remembered_as_long_as_its_signature_could_be_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let nonces = open(dir.path(), NOW, MOST_NONCES);
        // By a client whose clock is fast.
        let signed_at = at(NOW + WINDOW_MS);
        assert_eq!(code(nonces.use_once("a", "1", signed_at, NOW)), "fine");
        assert_eq!(code(nonces.use_once("a", "1", signed_at, NOW + 2 * WINDOW_MS)), "SignatureNonceUsed");
        let later = NOW + 2 * WINDOW_MS + 1;
        assert_eq!(code(nonces.use_once("a", "1", at(later), later)), "fine");
    }

    #[test]
    fn a_restart_forgets_none_and_clears_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(FILE);
        let nonces = open(dir.path(), NOW, MOST_NONCES);
        nonces.use_once("a key", "1", at(NOW), NOW).expect("fine");
        nonces.use_once("a key", "2", at(NOW + 1000), NOW).expect("fine");
        drop(nonces);
        // Killed while it wrote.
        let mut bytes = fs::read(&file).expect("a file");
        assert!(!bytes.windows(2).any(|two| two == b" 1"), "hashes only");
        bytes.extend(b"no line\n2023-11-14T22:13:20.000Z 00");
        fs::write(&file, &bytes).expect("written");

        let nonces = open(dir.path(), NOW, MOST_NONCES);
        for nonce in ["1", "2"] {
            assert_eq!(code(nonces.use_once("a key", nonce, at(NOW), NOW)), "SignatureNonceUsed");
        }
        nonces.use_once("a key", "3", at(NOW), NOW).expect("fine");
        assert_eq!(fs::read_to_string(&file).expect("text").lines().count(), 3);
        drop(nonces);
        open(dir.path(), NOW + 3 * WINDOW_MS, MOST_NONCES);
        assert_eq!(fs::read(&file).expect("a file"), b"");
    }

    #[test]
    fn what_has_no_room_is_refused_from_then_on_also_after_restarts() {
        let dir = tempfile::tempdir().expect("a directory");
        let nonces = open(dir.path(), NOW, 3);
        for n in 0..5 {
            nonces.use_once("a", &n.to_string(), at(NOW + n), NOW).expect("fine");
        }
        drop(nonces);
        for _ in 0..2 {
            let nonces = open(dir.path(), NOW, 3);
            assert_eq!(code(nonces.use_once("a", "0", at(NOW), NOW)), "IllegalTimestamp");
            assert_eq!(code(nonces.use_once("a", "1", at(NOW + 1), NOW)), "IllegalTimestamp");
            assert_eq!(code(nonces.use_once("a", "2", at(NOW + 2), NOW)), "SignatureNonceUsed");
            assert_eq!(code(nonces.use_once("b", "0", at(NOW), NOW)).replace("SignatureNonceUsed", "fine"), "fine");
        }
    }

    #[test]
    fn the_file_stays_small() {
        let dir = tempfile::tempdir().expect("a directory");
        let nonces = open(dir.path(), NOW, MOST_NONCES);
        let file = dir.path().join(FILE);
        let size = || fs::metadata(&file).expect("a file").len();
        // Each of these is expired when the next one comes.
        let mut largest = 0;
        for n in 0..2 * LEAST_GROWTH / 64 {
            let now = NOW + n * 2 * (WINDOW_MS + 1);
            nonces.use_once("a", &n.to_string(), at(now), now).expect("fine");
            largest = largest.max(size());
        }
        assert!(largest <= LEAST_GROWTH && largest > LEAST_GROWTH / 2 && size() < largest, "{largest} {}", size());
    }

    #[test]
    fn what_cannot_be_written_is_not_accepted() {
        let dir = tempfile::tempdir().expect("a directory");
        let nonces = open(dir.path(), NOW, MOST_NONCES);
        nonces.book.lock().expect("a lock").file = File::open(dir.path().join(FILE)).expect("for reading only");
        let error = nonces.use_once("a", "1", at(NOW), NOW).expect_err("refused");
        assert_eq!((error.code.as_ref(), error.status), ("ServiceUnavailable", 503));
        // The next one makes the file whole.
        assert_eq!(code(nonces.use_once("a", "2", at(NOW), NOW)), "fine");
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).expect("text").lines().count(), 2);
        let missing = dir.path().join("nowhere");
        assert!(Nonces::open(&missing, NOW).is_err());
    }
}
