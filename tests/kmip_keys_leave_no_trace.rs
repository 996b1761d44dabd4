//! After a disk key that a KMIP server unwrapped is dropped, it is nowhere in the process's memory: not in what TLS has decrypted, in no freed buffer, on no
//! stack. The scan has to find the key where it is known to be first.

#[path = "servers/pykmip.rs"]
mod pykmip;

use std::fs::File;
use std::os::unix::fs::FileExt;

use pykmip::{PyKmip, context, owner};
use strongroom::crypto::scrub::scrub;
use strongroom::kms::DiskKey;
use zeroize::Zeroize;

/// The key is known by its mask only, so that the test itself has no copy of it.
const MASK: u8 = 0xA5;

#[test]
fn a_dropped_key_is_nowhere_in_memory() {
    let Some(server) = PyKmip::start() else { return };
    let kms = server.provider();
    let cmk = kms.service_key(&owner("a")).expect("a key").value;
    let (wrapped, masked) = {
        let key = DiskKey::random().expect("a key");
        let wrapped = kms.wrap(&cmk.id, &key, &context("a", 1)).expect("wrapped").value;
        let masked: Vec<u8> = key.0.iter().map(|byte| byte ^ MASK).collect();
        (wrapped, masked)
    };
    scrub();
    assert_eq!(places(&masked), Vec::<String>::new(), "left by wrapping");

    for _ in 0..3 {
        let opened = kms.unwrap(&wrapped).expect("opened").value;
        // Where the kernel has secret pages, the key's own place is not seen.
        let own = places(&masked).len();
        assert!(own <= 1, "it is in {own} places");
        let mut plain = vec![0; opened.0.len()];
        plain.copy_from_slice(&opened.0);
        let found = places(&masked);
        assert!(found.len() > own, "the scan has to find the key: {found:?}");
        plain.zeroize();
        drop(opened);
        scrub();
        assert_eq!(places(&masked), Vec::<String>::new(), "left by unwrapping");
    }
    let again = kms.rewrap(&wrapped).expect("wrapped anew").value;
    scrub();
    assert_eq!(places(&masked), Vec::<String>::new(), "left by wrapping anew");
    drop(kms);
    assert_eq!(again.cmk_version, 1);
    assert_eq!(places(&masked), Vec::<String>::new(), "left by closing");
}

/// Where the key, or half of it, lies. What is read is masked at once in a buffer that is left out of the search.
fn places(masked: &[u8]) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let memory = File::open("/proc/self/mem").expect("memory");
    let mut found = Vec::new();
    let mut chunk = vec![0; 1 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw") || line.contains(" r-")) {
        let range = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("a number");
        let (mut at, end) = (number(range.0), number(range.1));
        while at < end {
            let len = chunk.len().min((end - at) as usize);
            let here = chunk.as_ptr() as u64;
            let Ok(read) = memory.read_at(&mut chunk[..len], at) else { break };
            chunk[..read].iter_mut().for_each(|byte| *byte ^= MASK);
            for half in [&masked[..16], &masked[16..]] {
                let hits = chunk[..read].windows(16).enumerate().filter(|(_, window)| *window == half);
                for (offset, _) in hits {
                    let place = at + offset as u64;
                    if !(here..here + (1 << 20)).contains(&place) {
                        found.push(format!("{:x} in {line}", place & !31));
                    }
                }
            }
            // Chunks overlap, so that nothing is cut in two.
            at += if read == len && at + (len as u64) < end { len as u64 - 32 } else { len as u64 };
        }
    }
    chunk.fill(0);
    found.sort();
    found.dedup();
    found
}
