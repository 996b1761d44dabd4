//! The self-test of the hand-written kernels: before one serves for the first time in a process, it has to give the same bytes as `bulk`.
//!
//! A kernel is chosen by the CPU's features, on machines that its authors may never have seen. One that computes something else there would
//! destroy data silently; so it is tried on runs that reach all its paths, and set aside if it is wrong.

use std::sync::OnceLock;

use super::kernel::Kernel;
use super::key::XtsKey;
use super::sector::{SectorSize, Tweak};

/// Runs of so many sectors: a single one, several that do not fill a group of four, and more than one group.
const RUNS: [(SectorSize, usize); 5] = [
    (SectorSize::B512, 1),
    (SectorSize::B512, 7),
    (SectorSize::B512, 33),
    (SectorSize::B4096, 1),
    (SectorSize::B4096, 5),
];
const LONGEST: usize = 5 * 4096;

/// Whether the kernel computes what `bulk` computes. The CPU has the kernel's features.
pub(super) fn passes(kernel: Kernel) -> bool {
    static VAES512: OnceLock<bool> = OnceLock::new();
    static VAES256: OnceLock<bool> = OnceLock::new();
    match kernel {
        Kernel::Vaes512 => *VAES512.get_or_init(|| agrees(kernel)),
        Kernel::Vaes256 => *VAES256.get_or_init(|| agrees(kernel)),
        Kernel::Bulk => true,
    }
}

fn agrees(kernel: Kernel) -> bool {
    // Not a secret: bytes that all differ.
    let key = std::array::from_fn(|i| i as u8);
    let text: Vec<u8> = (0..LONGEST).map(|i| ((i * i) >> 3) as u8).collect();
    let (ours, reference) = (XtsKey::expand_untested(kernel, &key), XtsKey::expand_untested(Kernel::Bulk, &key));
    RUNS.iter().all(|&(sector, sectors)| {
        let text = &text[..sector.bytes() * sectors];
        // The number carries into the upper 64 bits on the way.
        let tweak = Tweak { first: u128::from(u64::MAX) - 2, step: 8 };
        let (mut cipher, mut expected) = (vec![0; text.len()], vec![0; text.len()]);
        ours.encrypt(sector, tweak, text, &mut cipher);
        reference.encrypt(sector, tweak, text, &mut expected);
        let encrypts = cipher == expected;
        ours.decrypt_in_place(sector, tweak, &mut cipher);
        encrypts && cipher == text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_that_this_cpu_has_the_features_for_passes() {
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.has_features()) {
            assert!(passes(kernel), "{kernel} computes something else than bulk");
        }
    }
}
