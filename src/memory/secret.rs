//! Memory for keys: locked (never swapped), left out of core dumps, empty in a forked child, wiped when dropped.
//!
//! A secret is built in the place where it stays, through a `MaybeUninit`, so that no copy of it is left on a stack by a
//! move. Each secret has pages of its own: locking, dumping and wiping are properties of pages. Keys are few (one for each
//! disk and reactor), so a page each is cheap.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;

use thiserror::Error;
use zeroize::Zeroize;

use super::PAGE;

/// Why a secret could not be kept.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Mapping or locking failed.
    #[error("cannot {what} {bytes} bytes for a key: {source}; raise LimitMEMLOCK or grant CAP_IPC_LOCK")]
    Memory {
        /// What failed.
        what: &'static str,
        /// How much was asked for.
        bytes: usize,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// A `T` in locked memory.
pub struct Secret<T> {
    place: NonNull<T>,
    bytes: usize,
}

// SAFETY: a Secret owns its T as a Box does, and gives out shared references only.
unsafe impl<T: Send> Send for Secret<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Secret<T> {}

impl<T> Secret<T> {
    /// Maps and locks a place, and lets `build` make the value in it.
    ///
    /// `build` returns `Ok` only after it has written the whole value; its signature says so by returning the reference
    /// that `MaybeUninit::write` and `MaybeUninit::assume_init_mut` give.
    pub fn build<E: From<SecretError>>(
        build: impl FnOnce(&mut MaybeUninit<T>) -> Result<&mut T, E>,
    ) -> Result<Self, E> {
        let mut place = Place::<T>::map()?;
        let at = place.at;
        let built: *mut T = build(place.uninit())?;
        assert!(std::ptr::eq(built, at.as_ptr()), "the value was built elsewhere");
        let bytes = place.bytes;
        std::mem::forget(place);
        Ok(Self { place: at, bytes })
    }
}

impl<T: Default> Secret<T> {
    /// A secret that starts as the default value and is filled by `fill`.
    pub fn filled<E: From<SecretError>>(fill: impl FnOnce(&mut T) -> Result<(), E>) -> Result<Self, E> {
        Self::build(|place| {
            let value = place.write(T::default());
            fill(value)?;
            Ok(value)
        })
    }
}

impl<T> Deref for Secret<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `build` made the value here, and it lives until drop.
        unsafe { self.place.as_ref() }
    }
}

impl<T> Drop for Secret<T> {
    fn drop(&mut self) {
        // SAFETY: the value was built in `build` and is dropped once; the pages were mapped with this length.
        unsafe {
            std::ptr::drop_in_place(self.place.as_ptr());
            wipe_and_unmap(self.place.cast(), self.bytes);
        }
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Mapped and locked pages whose value is not built yet.
struct Place<T> {
    at: NonNull<T>,
    bytes: usize,
}

impl<T> Place<T> {
    fn map() -> Result<Self, SecretError> {
        const { assert!(align_of::<T>() <= PAGE) };
        let bytes = size_of::<T>().max(1).next_multiple_of(PAGE);
        let failed = |what| SecretError::Memory { what, bytes, source: io::Error::last_os_error() };
        // SAFETY: a fresh anonymous mapping; no existing memory is touched.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(failed("map"));
        }
        let place = Self { at: NonNull::new(at.cast()).expect("mmap never returns null"), bytes };
        // SAFETY: the calls name exactly the pages mapped above.
        unsafe {
            if libc::mlock(at, bytes) != 0 {
                return Err(failed("lock"));
            }
            for (advice, what) in
                [(libc::MADV_DONTDUMP, "keep out of core dumps"), (libc::MADV_WIPEONFORK, "keep from children")]
            {
                if libc::madvise(at, bytes, advice) != 0 {
                    return Err(failed(what));
                }
            }
        }
        Ok(place)
    }

    fn uninit(&mut self) -> &mut MaybeUninit<T> {
        // SAFETY: the pages are mapped, large enough and aligned, and nothing else refers to them.
        unsafe { self.at.cast::<MaybeUninit<T>>().as_mut() }
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        // SAFETY: the pages were mapped with this length and nothing refers to them any more.
        unsafe { wipe_and_unmap(self.at.cast(), self.bytes) };
    }
}

/// # Safety
/// `at` names `bytes` mapped bytes that nothing uses any more.
unsafe fn wipe_and_unmap(at: NonNull<u8>, bytes: usize) {
    // SAFETY: by this function's contract; zeroize writes volatile zeros, which the compiler may not leave out.
    unsafe {
        std::slice::from_raw_parts_mut(at.as_ptr(), bytes).zeroize();
        libc::munmap(at.as_ptr().cast(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_built_and_never_prints_it() {
        let secret = Secret::<[u8; 32]>::filled(|key| {
            key.fill(7);
            Ok::<_, SecretError>(())
        })
        .expect("locked memory");
        assert_eq!(*secret, [7; 32]);
        assert_eq!(format!("{secret:?}"), "[secret]");
    }

    #[test]
    fn a_failed_build_returns_its_error() {
        #[derive(Debug)]
        struct Refused;
        impl From<SecretError> for Refused {
            fn from(_: SecretError) -> Self {
                Self
            }
        }
        assert!(Secret::<[u8; 32]>::build(|_| Err(Refused)).is_err());
    }
}
