//! The expanded key of one disk for one kernel, and the calls that use it.
//!
//! Always: the two halves of a key differ (FIPS 140-3 IG C.I); a key is made in place or moved by its owner, never
//! copied; its round keys are overwritten when it is dropped; expansion leaves no copy on the stack or in vector
//! registers.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::MaybeUninit;

use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroize;

use super::bulk::BulkKey;
use super::kernel::Kernel;
#[cfg(target_arch = "x86_64")]
use super::schedule;
use super::sector::{BLOCK, SectorSize, Tweak};
use super::segments;
use super::span::Span;
#[cfg(target_arch = "x86_64")]
use super::vaes;
use crate::crypto::scrub::scrub;
use crate::crypto::stack;
use crate::memory::Segment;

/// Both halves of a key, not expanded: the data key, then the tweak key (Key1 and Key2 of IEEE 1619-2018).
pub struct XtsKeyBytes(pub [u8; 64]);

impl Default for XtsKeyBytes {
    fn default() -> Self {
        Self([0; 64])
    }
}

/// Why a key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Key1 = Key2: XTS would give away relations between blocks (FIPS 140-3 IG C.I).
    #[error("the two halves of the XTS key are equal: derive them from disjoint key material")]
    EqualHalves,
    /// The CPU lacks what the kernel needs.
    #[error("this CPU cannot run the XTS kernel {0}: choose another, or none to get the best")]
    Unsupported(Kernel),
}

/// An AES-256-XTS key, expanded for one kernel: compact (about 720 bytes), zeroized on drop, never copied.
///
/// Where secrets must not be swapped or dumped, reserve a place in locked memory and use [`XtsKey::expand_into`].
pub struct XtsKey {
    schedules: Schedules,
}

/// The round keys in the form that the kernel wants.
///
/// `Vaes512` and `Vaes256` are made only where the CPU has what those kernels need.
enum Schedules {
    #[cfg(target_arch = "x86_64")]
    Vaes512(schedule::Schedules),
    #[cfg(target_arch = "x86_64")]
    Vaes256(schedule::Schedules),
    Bulk(BulkKey),
}

impl XtsKey {
    /// Expands `key`: 32 bytes for the data, then 32 bytes for the tweak (Key1 and Key2 of IEEE 1619-2018).
    pub fn expand(kernel: Kernel, key: &[u8; 64]) -> Result<Self, KeyError> {
        let mut place = MaybeUninit::uninit();
        Self::expand_into(&mut place, kernel, key)?;
        // SAFETY: `expand_into` has initialized the place, which is not used as a key again.
        let expanded = unsafe { place.assume_init_read() };
        place.zeroize();
        Ok(expanded)
    }

    /// Expands `key` into `place`, such as a place in locked memory, and leaves no copy anywhere else.
    pub fn expand_into<'a>(
        place: &'a mut MaybeUninit<Self>,
        kernel: Kernel,
        key: &[u8; 64],
    ) -> Result<&'a mut Self, KeyError> {
        let (data, tweak) = halves(key);
        if bool::from(data.ct_eq(tweak)) {
            return Err(KeyError::EqualHalves);
        }
        if !kernel.is_supported() {
            return Err(KeyError::Unsupported(kernel));
        }
        // The thread that expands a key uses it: its stack for that is made here, and not by a command.
        stack::call(|| write_schedules(place, kernel, data, tweak));
        scrub();
        // SAFETY: `write_schedules` has initialized the place.
        Ok(unsafe { place.assume_init_mut() })
    }

    /// Expands a key that is not a secret, for a kernel whose self-test this is part of. The CPU has the kernel's features.
    pub(super) fn expand_untested(kernel: Kernel, key: &[u8; 64]) -> Self {
        assert!(kernel.has_features(), "the CPU cannot run {kernel}");
        let mut place = MaybeUninit::uninit();
        let (data, tweak) = halves(key);
        write_schedules(&mut place, kernel, data, tweak);
        // SAFETY: `write_schedules` has initialized the place, which is not used as a key again.
        unsafe { place.assume_init() }
    }

    /// The kernel that the key was expanded for.
    pub fn kernel(&self) -> Kernel {
        match self.schedules {
            #[cfg(target_arch = "x86_64")]
            Schedules::Vaes512(_) => Kernel::Vaes512,
            #[cfg(target_arch = "x86_64")]
            Schedules::Vaes256(_) => Kernel::Vaes256,
            Schedules::Bulk(_) => Kernel::Bulk,
        }
    }

    /// Encrypts the sectors of `src` into `dst`.
    ///
    /// # Panics
    /// If the lengths differ or are not whole sectors.
    pub fn encrypt(&self, sector: SectorSize, tweak: Tweak, src: &[u8], dst: &mut [u8]) {
        self.encrypt_span(sector, tweak, span_between(sector, src, dst));
    }

    /// Decrypts the sectors of `src` into `dst`.
    ///
    /// # Panics
    /// If the lengths differ or are not whole sectors.
    pub fn decrypt(&self, sector: SectorSize, tweak: Tweak, src: &[u8], dst: &mut [u8]) {
        self.decrypt_span(sector, tweak, span_between(sector, src, dst));
    }

    /// Encrypts the sectors of `buf` where they are.
    ///
    /// # Panics
    /// If the length is not whole sectors.
    pub fn encrypt_in_place(&self, sector: SectorSize, tweak: Tweak, buf: &mut [u8]) {
        self.encrypt_span(sector, tweak, span_in_place(sector, buf));
    }

    /// Decrypts the sectors of `buf` where they are.
    ///
    /// # Panics
    /// If the length is not whole sectors.
    pub fn decrypt_in_place(&self, sector: SectorSize, tweak: Tweak, buf: &mut [u8]) {
        self.decrypt_span(sector, tweak, span_in_place(sector, buf));
    }

    /// Encrypts the sectors that lie one after the other in the pieces of `src` into the pieces of `dst`.
    ///
    /// Either side may be cut anywhere, also inside a sector or an AES block, and the two sides differently; a piece
    /// may be empty. What lies at `after`, which may be null or not mapped, is fetched meanwhile: the caller works on it next.
    ///
    /// # Safety
    /// The pieces of `src` can be read and those of `dst` written. Byte n of the source and byte n of the destination
    /// are either the same byte for all n, or no piece of the source overlaps one of the destination.
    ///
    /// # Panics
    /// If the two sides differ in length or are not whole sectors.
    pub unsafe fn encrypt_segments(
        &self,
        sector: SectorSize,
        tweak: Tweak,
        src: &[Segment],
        dst: &[Segment],
        after: *const u8,
    ) {
        // SAFETY: the caller's promise is the one asked for.
        unsafe {
            segments::for_each_span(sector, src, dst, |at, span| {
                self.encrypt_span(sector, tweak.after(at), span.before(after));
            });
        }
    }

    /// Decrypts the sectors that lie one after the other in the pieces of `src` into the pieces of `dst`.
    ///
    /// # Safety
    /// As for [`XtsKey::encrypt_segments`].
    ///
    /// # Panics
    /// If the two sides differ in length or are not whole sectors.
    pub unsafe fn decrypt_segments(
        &self,
        sector: SectorSize,
        tweak: Tweak,
        src: &[Segment],
        dst: &[Segment],
        after: *const u8,
    ) {
        // SAFETY: the caller's promise is the one asked for.
        unsafe {
            segments::for_each_span(sector, src, dst, |at, span| {
                self.decrypt_span(sector, tweak.after(at), span.before(after));
            });
        }
    }

    fn encrypt_span(&self, sector: SectorSize, tweak: Tweak, span: Span) {
        stack::call(|| match &self.schedules {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the variant is made only where the CPU has what the kernel needs.
            Schedules::Vaes512(schedules) => unsafe { vaes::encrypt_512(schedules, sector, tweak, span) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the variant is made only where the CPU has what the kernel needs.
            Schedules::Vaes256(schedules) => unsafe { vaes::encrypt_256(schedules, sector, tweak, span) },
            Schedules::Bulk(key) => key.encrypt(sector, tweak, span),
        });
    }

    fn decrypt_span(&self, sector: SectorSize, tweak: Tweak, span: Span) {
        stack::call(|| match &self.schedules {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the variant is made only where the CPU has what the kernel needs.
            Schedules::Vaes512(schedules) => unsafe { vaes::decrypt_512(schedules, sector, tweak, span) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the variant is made only where the CPU has what the kernel needs.
            Schedules::Vaes256(schedules) => unsafe { vaes::decrypt_256(schedules, sector, tweak, span) },
            Schedules::Bulk(key) => key.decrypt(sector, tweak, span),
        });
    }
}

impl fmt::Debug for XtsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

fn halves(key: &[u8; 64]) -> (&[u8; 32], &[u8; 32]) {
    let (halves, _) = key.as_chunks::<32>();
    (&halves[0], &halves[1])
}

/// Kept out of line, so that whatever it and its callees leave lies below its caller's frame, where `scrub` reaches.
#[inline(never)]
fn write_schedules(place: &mut MaybeUninit<XtsKey>, kernel: Kernel, data: &[u8; 32], tweak: &[u8; 32]) {
    assert!(kernel.has_features(), "the kernel was checked before");
    let schedules = match kernel {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the CPU has what the kernel needs, and AES-NI is among it.
        Kernel::Vaes512 => Schedules::Vaes512(unsafe { schedule::Schedules::expand(data, tweak) }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the CPU has what the kernel needs, and AES-NI is among it.
        Kernel::Vaes256 => Schedules::Vaes256(unsafe { schedule::Schedules::expand(data, tweak) }),
        _ => Schedules::Bulk(BulkKey::expand(data, tweak)),
    };
    place.write(XtsKey { schedules });
}

fn span_between(sector: SectorSize, src: &[u8], dst: &mut [u8]) -> Span {
    assert_eq!(src.len(), dst.len(), "source and destination of a run differ in length");
    assert_whole_sectors(sector, src.len());
    // SAFETY: both are slices of that many bytes, and borrowed apart from each other.
    unsafe { Span::new(src.as_ptr(), dst.as_mut_ptr(), src.len() / BLOCK) }
}

fn span_in_place(sector: SectorSize, buf: &mut [u8]) -> Span {
    assert_whole_sectors(sector, buf.len());
    let ptr = buf.as_mut_ptr();
    // SAFETY: one slice of that many bytes is both source and destination.
    unsafe { Span::new(ptr, ptr, buf.len() / BLOCK) }
}

pub(super) fn assert_whole_sectors(sector: SectorSize, len: usize) {
    assert!(len.is_multiple_of(sector.bytes()), "a run of {len} bytes is not whole sectors of {}", sector.bytes());
}
