//! Numbers that follow from a seed, so that a failing run can be done again.
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// A seed out of an environment variable, or a new one; printed, so that a failure tells it.
    pub fn seed(variable: &str) -> u64 {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("noise");
        let chosen = std::env::var(variable).ok().map(|seed| seed.parse().expect("a number"));
        let seed = chosen.unwrap_or(u64::from_le_bytes(random));
        println!("{variable}={seed}");
        seed
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
