//! What went to Vault and came back is nowhere in the process once it was dropped: neither the key nor its base64, whole or in part.
//!
//! The process looks for it in its own memory. What it looks for it keeps in disguise, so that it does not find itself; and first of all it has to
//! find a key that lies there in plain. Alone in its file: other tests would leave things of theirs.

#[path = "servers/openbao.rs"]
mod openbao;

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;

use base64ct::{Base64, Encoding};
use openbao::{OpenBao, context, owner};
use strongroom::crypto::scrub::scrub;
use strongroom::kms::{DiskKey, KeyProvider, WrappedKey};
use strongroom::memory::Secret;
use zeroize::{Zeroize, Zeroizing};

const DISGUISE: u8 = 0x5a;
/// No 12 bytes of a key or of its text come about by chance.
const PART_BYTES: usize = 12;
const WINDOW_BYTES: usize = 1 << 20;

/// A key and its base64 in disguise.
struct Wanted {
    parts: Vec<[u8; PART_BYTES]>,
    raw_parts: usize,
}

impl Wanted {
    #[inline(never)]
    fn new(key: &Secret<DiskKey>) -> Self {
        let mut text = Zeroizing::new([0; 44]);
        Base64::encode(&key.0, &mut *text).expect("it fits");
        let parts_of = |bytes: &[u8]| -> Vec<[u8; PART_BYTES]> {
            let starts = (0..=bytes.len() - PART_BYTES).step_by(4);
            starts.map(|at| std::array::from_fn(|n| black_box(bytes[at + n]) ^ DISGUISE)).collect()
        };
        let raw = parts_of(&key.0);
        Self { raw_parts: raw.len(), parts: raw.into_iter().chain(parts_of(&text[..])).collect() }
    }

    /// Which parts lie where. The window through which memory is read is left out.
    fn find(&self) -> Vec<(usize, String)> {
        let mut window = vec![0; WINDOW_BYTES + PART_BYTES];
        let own = window.as_ptr_range();
        let own = own.start as usize..own.end as usize;
        let memory = File::open("/proc/self/mem").expect("our memory");
        let mut found = Vec::new();
        for (range, name) in mappings() {
            let mut at = range.start;
            while at < range.end {
                let len = (range.end - at).min(window.len());
                let read = memory.read_at(&mut window[..len], at as u64).unwrap_or(0);
                for (part, offset) in self.parts_in(&window[..read]) {
                    if !own.contains(&(at + offset)) {
                        found.push((part, format!("{:#x} {name}", at + offset)));
                    }
                }
                at += len.min(WINDOW_BYTES);
            }
        }
        window.zeroize();
        found.sort();
        found.dedup();
        found
    }

    fn parts_in<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (usize, usize)> + 'a {
        // The first byte of a part decides in most places.
        let mut firsts = [false; 256];
        self.parts.iter().for_each(|part| firsts[usize::from(part[0] ^ DISGUISE)] = true);
        (0..bytes.len().saturating_sub(PART_BYTES - 1)).filter(move |&at| firsts[usize::from(bytes[at])]).flat_map(
            move |at| {
                let is_here =
                    move |part: &[u8; PART_BYTES]| part.iter().zip(&bytes[at..]).all(|(p, b)| p ^ DISGUISE == *b);
                self.parts.iter().enumerate().filter(move |(_, part)| is_here(part)).map(move |(part, _)| (part, at))
            },
        )
    }

    fn has_raw(&self, found: &[(usize, String)]) -> bool {
        found.iter().any(|(part, _)| *part < self.raw_parts)
    }

    fn has_text(&self, found: &[(usize, String)]) -> bool {
        found.iter().any(|(part, _)| *part >= self.raw_parts)
    }
}

fn mappings() -> Vec<(std::ops::Range<usize>, String)> {
    let lines = BufReader::new(File::open("/proc/self/maps").expect("maps")).lines();
    let parse = |line: String| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        let readable = words.next()?.starts_with('r');
        let name = words.nth(3).unwrap_or("(anonymous)").to_owned();
        readable.then_some((hex(start)?..hex(end)?, name))
    };
    lines.map_while(Result::ok).filter_map(parse).filter(|(_, name)| !name.starts_with("[v")).collect()
}

/// A key in plain memory, and its text: both have to be found, and not to be found when they were overwritten.
fn the_search_works() {
    let key = DiskKey::random().expect("a key");
    let wanted = Wanted::new(&key);
    let mut raw: Box<[u8; 32]> = Box::new([0; 32]);
    raw.copy_from_slice(&key.0);
    let mut text = Base64::encode_string(&key.0);
    let found = wanted.find();
    black_box((&raw, &text));
    assert!(wanted.has_raw(&found) && wanted.has_text(&found), "the search finds nothing: {found:?}");
    raw.zeroize();
    text.zeroize();
    drop(key);
    scrub();
    assert_eq!(wanted.find(), [], "the search finds what is not there");
}

#[inline(never)]
fn send(vault: &dyn KeyProvider, lineage: u128) -> (WrappedKey, Wanted) {
    let cmk = vault.service_key(&owner("a")).expect("made").value;
    let key = DiskKey::random().expect("a key");
    let wrapped = vault.wrap(&cmk.id, &key, &context("a", lineage)).expect("wrapped").value;
    (wrapped, Wanted::new(&key))
}

#[inline(never)]
fn bring_back(vault: &dyn KeyProvider, wrapped: &WrappedKey, wanted: &Wanted) {
    drop(vault.unwrap(wrapped).expect("opened"));
    let anew = vault.rewrap(wrapped).expect("rewrapped").value;
    let opened = vault.unwrap(&anew).expect("opened").value;
    assert_eq!(wanted.parts_in(&opened.0).count(), wanted.raw_parts, "it is another key");
}

#[test]
fn a_key_that_was_dropped_is_nowhere() {
    the_search_works();
    let Some(bao) = OpenBao::start("10m") else { return };
    let vault = bao.client("timeout_s = 30");
    for lineage in 0..3 {
        let (wrapped, wanted) = send(&*vault, lineage);
        scrub();
        assert_eq!(wanted.find(), [], "left over of sending key {lineage}");
        bring_back(&*vault, &wrapped, &wanted);
        scrub();
        assert_eq!(wanted.find(), [], "left over of key {lineage}");
    }
    // Connections that are thrown away leave nothing either.
    let (wrapped, wanted) = send(&*vault, 9);
    bring_back(&*vault, &wrapped, &wanted);
    drop(vault);
    scrub();
    assert_eq!(wanted.find(), [], "left over of a closed connection");
}
