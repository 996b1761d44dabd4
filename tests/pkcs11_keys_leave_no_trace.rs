//! After a disk key was unwrapped and dropped, neither the target's memory nor its helper's holds it, nor does any file of the token.
//!
//! The scanner reads `/proc/PID/mem`, and first has to find the key where it is known to be.

#[path = "servers/softhsm.rs"]
mod softhsm;

use std::fs::File;
use std::os::unix::fs::FileExt;

use softhsm::{PIN, SoftHsm, context, error_of, owner};
use strongroom::kms::{DiskKey, KeyProvider, KmsError};

/// What is looked for: kept so that the scanner's own copy does not look like it.
struct Needle(Vec<u8>);

impl Needle {
    fn new(bytes: &[u8]) -> Self {
        Self(bytes.iter().map(|byte| byte ^ 0xff).collect())
    }

    fn is_at(&self, window: &[u8]) -> bool {
        window.iter().zip(&self.0).all(|(byte, hidden)| byte ^ 0xff == *hidden)
    }

    fn count_in(&self, bytes: &[u8]) -> usize {
        bytes.windows(self.0.len()).filter(|window| self.is_at(window)).count()
    }
}

/// The places in a process's memory where it lies; nothing if nobody may look.
fn places(pid: u32, needle: &Needle) -> Option<Vec<String>> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let (mut at, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        while at < end {
            let want = buffer.len().min((end - at) as usize);
            let Ok(read @ 1..) = memory.read_at(&mut buffer[..want], at) else { break };
            let copies = needle.count_in(&buffer[..read]);
            if copies > 0 {
                found.push(format!("{copies} in {line}"));
            }
            // Pieces overlap by what a needle that lies across their border needs.
            at += if at + (read as u64) < end { (read - needle.0.len()) as u64 } else { read as u64 };
        }
    }
    buffer.fill(0);
    Some(found)
}

#[test]
fn a_key_that_was_dropped_is_nowhere() {
    let Some(token) = SoftHsm::new() else { return };
    let kms = token.provider();
    let us = std::process::id();
    let id = kms.service_key(&owner("a")).expect("made").value.id;
    let (wrapped, needle) = {
        let key = DiskKey::random().expect("a key");
        let needle = Needle::new(&key.0);
        let Some(here) = places(us, &needle) else {
            eprintln!("SKIPPED: memory cannot be looked at");
            return;
        };
        if here.is_empty() {
            eprintln!("note: the kernel does not even show the key's own memory");
        }
        (kms.wrap(&id, &key, &context("a", 1)).expect("wrapped").value, needle)
    };
    let opened = kms.unwrap(&wrapped).expect("opened").value;
    let copy = opened.0.to_vec();
    assert!(!places(us, &needle).expect("looked at").is_empty(), "the scanner finds a key on the heap");
    zeroize(copy);
    drop(opened);
    let rewrapped = kms.rewrap(&wrapped).expect("wrapped anew").value;
    for key in [&wrapped, &rewrapped, &wrapped] {
        drop(kms.unwrap(key).expect("opened"));
    }
    assert_eq!(places(us, &needle).expect("looked at"), [] as [&str; 0], "in the target");
    assert_eq!(needle.count_in(&token.files()), 0, "in a file of the token");
    let looked =
        kms.helper_pid().and_then(|pid| Some((places(pid, &needle)?, places(pid, &Needle::new(b"SOFTHSM2_CONF="))?)));
    let Some((there, control)) = looked else {
        eprintln!("SKIPPED in part: only root may look into the helper");
        return;
    };
    assert!(!control.is_empty(), "the scanner finds what is known to be in the helper");
    assert_eq!(there, [] as [&str; 0], "in the helper while it waits");
    // One that does not open must not be left half opened.
    let mut stranger = wrapped.clone();
    stranger.context = context("a", 2);
    assert!(matches!(error_of(kms.unwrap(&stranger)), KmsError::NotAuthentic { .. }));
    assert_eq!(kms.helper_pid(), None, "it ends after a failure");
    assert_eq!(places(us, &needle).expect("looked at"), [] as [&str; 0], "in the target");
}

#[test]
fn the_pin_stays_in_its_file() {
    let Some(token) = SoftHsm::new() else { return };
    let kms = token.provider();
    kms.health().expect("well");
    let needle = Needle::new(PIN.as_bytes());
    let Some(there) = kms.helper_pid().and_then(|pid| places(pid, &needle)) else {
        eprintln!("SKIPPED: only root may look into the helper");
        return;
    };
    assert_eq!(there, [] as [&str; 0], "in the helper");
}

fn zeroize(mut bytes: Vec<u8>) {
    bytes.fill(0);
    std::hint::black_box(&mut bytes);
}
