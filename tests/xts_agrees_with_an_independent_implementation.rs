//! Every kernel gives the bytes that the `xts-mode` crate gives: any length, alignment, cut, direction, in place or not,
//! any data unit number and step, also where the number wraps.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use aes::Aes256;
use aes::cipher::KeyInit;
use strongroom::crypto::xts::{Kernel, SectorSize, Tweak, XtsKey};
use strongroom::memory::Segment;
use xts_mode::Xts128;

const SIZES: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

/// A small generator of reproducible numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Data unit numbers, with those near a wrap often among them.
    fn tweak(&mut self) -> Tweak {
        let step = [1, 1, 8, 8, 7, u64::from(u32::MAX) + 3, u64::MAX][self.below(7)];
        let back = u128::from(self.next() % 40) * u128::from(step.min(8));
        let first = match self.below(5) {
            0 => self.below(1000) as u128,
            1 => u128::from(self.next()),
            2 => u128::from(u64::MAX).wrapping_sub(back),
            3 => u128::MAX.wrapping_sub(back),
            _ => u128::from(self.next()) << 64 | u128::from(self.next()),
        };
        Tweak { first, step }
    }
}

struct Oracle(Xts128<Aes256>);

impl Oracle {
    fn new(key: &[u8; 64]) -> Self {
        let half = |half: &[u8]| Aes256::new(half.try_into().unwrap());
        Self(Xts128::new(half(&key[..32]), half(&key[32..])))
    }

    fn units(sector: SectorSize, tweak: Tweak, buf: &mut [u8], mut unit: impl FnMut(&mut [u8], [u8; 16])) {
        let mut number = tweak.first;
        for sector in buf.chunks_mut(sector.bytes()) {
            unit(sector, number.to_le_bytes());
            number = number.wrapping_add(u128::from(tweak.step));
        }
    }

    fn encrypt(&self, sector: SectorSize, tweak: Tweak, buf: &mut [u8]) {
        Self::units(sector, tweak, buf, |unit, number| self.0.encrypt_sector(unit, number.into()));
    }

    fn decrypt(&self, sector: SectorSize, tweak: Tweak, buf: &mut [u8]) {
        Self::units(sector, tweak, buf, |unit, number| self.0.decrypt_sector(unit, number.into()));
    }
}

/// Runs `test` for each kernel that the CPU has, with a key of its own, and says which were skipped.
fn for_each_kernel(seed: u64, mut test: impl FnMut(&XtsKey, &Oracle, &mut Dice)) {
    for kernel in Kernel::ALL {
        if !kernel.is_supported() {
            println!("skipped {kernel}: this CPU cannot run it");
            continue;
        }
        println!("checked {kernel}");
        let mut dice = Dice(seed);
        let key: [u8; 64] = dice.bytes(64).try_into().unwrap();
        test(&XtsKey::expand(kernel, &key).unwrap(), &Oracle::new(&key), &mut dice);
    }
}

#[test]
fn at_every_length_up_to_a_hundred_sectors() {
    for_each_kernel(1, |key, oracle, dice| {
        for (sector, longest) in [(SectorSize::B512, 100), (SectorSize::B4096, 20)] {
            for sectors in 0..=longest {
                let (tweak, plain) = (dice.tweak(), dice.bytes(sectors * sector.bytes()));
                let mut wanted = plain.clone();
                oracle.encrypt(sector, tweak, &mut wanted);
                let mut got = vec![0; plain.len()];
                key.encrypt(sector, tweak, &plain, &mut got);
                assert!(got == wanted, "encrypt {sectors} x {sector:?}, {tweak:?}");
                let mut back = vec![0; plain.len()];
                key.decrypt(sector, tweak, &got, &mut back);
                assert!(back == plain, "decrypt {sectors} x {sector:?}, {tweak:?}");
            }
        }
    });
}

#[test]
fn at_every_alignment_and_in_place() {
    for_each_kernel(2, |key, oracle, dice| {
        for sector in SIZES {
            for shift in 0..64 {
                let (tweak, sectors) = (dice.tweak(), 1 + dice.below(9));
                let plain = dice.bytes(sectors * sector.bytes());
                let mut wanted = plain.clone();
                oracle.decrypt(sector, tweak, &mut wanted);
                let mut buf = vec![0xa5; plain.len() + 128];
                let place = shift..shift + plain.len();
                buf[place.clone()].copy_from_slice(&plain);
                key.decrypt_in_place(sector, tweak, &mut buf[place.clone()]);
                assert!(buf[place.clone()] == wanted, "decrypt at {shift}, {sectors} x {sector:?}, {tweak:?}");
                key.encrypt_in_place(sector, tweak, &mut buf[place.clone()]);
                assert!(buf[place.clone()] == plain, "encrypt at {shift}, {sectors} x {sector:?}, {tweak:?}");
                let untouched = buf[..shift].iter().chain(&buf[place.end..]).all(|&byte| byte == 0xa5);
                assert!(untouched, "wrote outside its run at {shift}");
            }
        }
    });
}

#[test]
fn where_the_data_unit_number_wraps() {
    for_each_kernel(3, |key, oracle, dice| {
        for sector in SIZES {
            for step in [1, 2, 8, 1 << 63, u64::MAX] {
                for end in [1u128 << 64, 0, 1 << 127] {
                    for before in 0..12u128 {
                        let tweak = Tweak { first: end.wrapping_sub(before * u128::from(step)), step };
                        let plain = dice.bytes(12 * sector.bytes());
                        let (mut wanted, mut got) = (plain.clone(), plain);
                        oracle.encrypt(sector, tweak, &mut wanted);
                        key.encrypt_in_place(sector, tweak, &mut got);
                        assert!(got == wanted, "{sector:?}, {tweak:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn in_pieces_cut_anywhere() {
    for_each_kernel(4, |key, oracle, dice| {
        for round in 0..400 {
            let sector = SIZES[round % 2];
            let (tweak, sectors) = (dice.tweak(), 1 + dice.below(if round % 2 == 0 { 40 } else { 9 }));
            let mut plain = dice.bytes(sectors * sector.bytes());
            let mut wanted = plain.clone();
            oracle.encrypt(sector, tweak, &mut wanted);
            let mut got = vec![0; plain.len()];
            let (src, dst) = (cut(&mut plain, dice), cut(&mut got, dice));
            // SAFETY: the pieces are those of two vectors, which live on.
            unsafe { key.encrypt_segments(sector, tweak, &src, &dst, std::ptr::null()) };
            assert!(got == wanted, "encrypt round {round}: {src:?} -> {dst:?}");
            // The same memory on both sides, cut differently.
            let (src, dst) = (cut(&mut got, dice), cut(&mut got, dice));
            // SAFETY: the pieces are those of one vector, which lives on, in order on both sides.
            unsafe { key.decrypt_segments(sector, tweak, &src, &dst, src.as_ptr().cast()) };
            assert!(got == plain, "decrypt round {round}: {src:?} -> {dst:?}");
        }
    });
}

/// Cuts a buffer into pieces: at sectors, at blocks, anywhere, and empty ones among them.
fn cut(buf: &mut [u8], dice: &mut Dice) -> Vec<Segment> {
    let grain = [1, 1, 16, 512, 4096][dice.below(5)];
    let longest = [8, 100, 1000, 5000, 100_000][dice.below(5)];
    let base = NonNull::new(buf.as_mut_ptr()).unwrap();
    let (mut at, mut pieces) = (0, Vec::new());
    while at < buf.len() {
        let len = (dice.below(longest) / grain * grain).min(buf.len() - at);
        let len = if len == 0 && dice.below(4) > 0 { grain.min(buf.len() - at) } else { len };
        // SAFETY: the piece lies within the buffer.
        pieces.push(unsafe { Segment::new(base.add(at), len) });
        at += len;
    }
    pieces
}
