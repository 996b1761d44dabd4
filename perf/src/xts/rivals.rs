//! Other implementations of AES-256-XTS, driven as a storage target would have to drive them.

use std::process::Command;

use aes::Aes256;
use aes::cipher::KeyInit;
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use xts_mode::Xts128;

use super::clock::Sampler;
use super::report::Row;
use super::{Direction, Work};

/// The crates `aes` and `xts-mode`, default features.
pub(crate) fn xts_mode(key: &[u8; 64]) -> Work {
    let half = |half: &[u8]| Aes256::new(half.try_into().expect("half a key"));
    let xts = Xts128::new(half(&key[..32]), half(&key[32..]));
    let tweak = |number: u128| number.to_le_bytes().into();
    Box::new(move |direction, sector, buf| match direction {
        Direction::Encrypt => xts.encrypt_area(buf, sector.bytes(), 1000, tweak),
        Direction::Decrypt => xts.decrypt_area(buf, sector.bytes(), 1000, tweak),
    })
}

/// The system's OpenSSL through EVP: the key stays, each data unit gets its own iv, as it must.
pub(crate) fn openssl_evp(key: &[u8; 64]) -> Work {
    let context = |direction| {
        let mut context = CipherCtx::new().expect("OpenSSL makes a context");
        match direction {
            Direction::Encrypt => context.encrypt_init(Some(Cipher::aes_256_xts()), Some(key), Some(&[0; 16])),
            Direction::Decrypt => context.decrypt_init(Some(Cipher::aes_256_xts()), Some(key), Some(&[0; 16])),
        }
        .expect("OpenSSL takes the key");
        context
    };
    let (mut encrypt, mut decrypt) = (context(Direction::Encrypt), context(Direction::Decrypt));
    Box::new(move |direction, sector, buf| {
        for (number, unit) in (1000u128..).zip(buf.chunks_mut(sector.bytes())) {
            let iv = number.to_le_bytes();
            let context = match direction {
                Direction::Encrypt => {
                    encrypt.encrypt_init(None, None, Some(&iv)).expect("OpenSSL takes the iv");
                    &mut encrypt
                }
                Direction::Decrypt => {
                    decrypt.decrypt_init(None, None, Some(&iv)).expect("OpenSSL takes the iv");
                    &mut decrypt
                }
            };
            context.cipher_update_inplace(unit, unit.len()).expect("OpenSSL encrypts a data unit");
        }
    })
}

/// `openssl speed`, which never changes the iv and so leaves out the tweak. Nothing if the command is not there.
pub(crate) fn openssl_speed(sampler: &mut Sampler) -> Vec<Row> {
    let mut rows = Vec::new();
    for bytes in [512, 4096] {
        for (way, flags) in [("enc", &[][..]), ("dec", &["-decrypt"][..])] {
            let run = Command::new("openssl")
                .args(["speed", "-mr", "-seconds", "1", "-bytes", &bytes.to_string(), "-evp", "aes-256-xts"])
                .args(flags)
                .output();
            // The machine-readable result: +F:<index>:<name>:<bytes per second>
            let rate = run.ok().and_then(|out| {
                let text = String::from_utf8_lossy(&out.stdout).into_owned();
                text.lines().find_map(|line| line.strip_prefix("+F:")?.rsplit(':').next()?.parse::<f64>().ok())
            });
            if let Some(rate) = rate.filter(|rate| *rate > 0.0) {
                let what = format!("{} x {bytes} {way}", super::HOT_BYTES / bytes);
                let mut row = Row::new("openssl speed".into(), &what, super::HOT_BYTES);
                row.samples.push(sampler.hertz() / rate * super::HOT_BYTES as f64);
                rows.push(row);
            }
        }
    }
    rows
}
