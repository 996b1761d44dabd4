//! Memory for keys: never swapped, left out of core dumps, not there in a forked child, wiped when dropped.
//!
//! Where the kernel has `memfd_secret(2)` (Linux 5.14, unless `secretmem.enable=0`), a secret's pages are nobody's but this process's: not even
//! the kernel has them mapped, so `/proc/PID/mem`, `ptrace(2)`, direct I/O and core dumps cannot reach them. Elsewhere they are locked anonymous
//! pages, left out of core dumps. Which of the two is in use is found out once, and never changes while the process lives: a key does not
//! silently get a lesser place. Both count against RLIMIT_MEMLOCK.
//!
//! A secret is built in the place where it stays, through a `MaybeUninit`, so that no copy of it is left on a stack by a
//! move. Each secret has pages of its own: locking, dumping and wiping are properties of pages. Keys are few (one for each
//! disk and reactor), so a page each is cheap.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::OnceLock;

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

/// What kind of memory secrets lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretMemory {
    /// Pages of `memfd_secret(2)`, which only this process has mapped.
    Unmapped,
    /// Locked pages that are left out of core dumps.
    Locked,
}

impl SecretMemory {
    /// The kind that this process uses; the first call finds out.
    pub fn in_use() -> Self {
        static IN_USE: OnceLock<SecretMemory> = OnceLock::new();
        *IN_USE.get_or_init(|| match map_unmapped(PAGE) {
            Ok(page) => {
                // SAFETY: the page was just mapped and nothing refers to it.
                unsafe { libc::munmap(page.as_ptr().cast(), PAGE) };
                Self::Unmapped
            }
            Err(_) => Self::Locked,
        })
    }

    /// A few words for the start-up report.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Unmapped => "keys in memfd_secret pages",
            Self::Locked => "keys in locked pages (the kernel has no memfd_secret)",
        }
    }
}

/// A `T` in memory for keys.
pub struct Secret<T> {
    place: NonNull<T>,
    bytes: usize,
}

// SAFETY: a Secret owns its T as a Box does, and gives out shared references only.
unsafe impl<T: Send> Send for Secret<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Secret<T> {}

impl<T> Secret<T> {
    /// Maps a place, and lets `build` make the value in it.
    ///
    /// `build` returns `Ok` only after it has written the whole value; its signature says so by returning the reference
    /// that `MaybeUninit::write` and `MaybeUninit::assume_init_mut` give.
    pub fn build<E: From<SecretError>>(
        build: impl FnOnce(&mut MaybeUninit<T>) -> Result<&mut T, E>,
    ) -> Result<Self, E> {
        Self::build_in(SecretMemory::in_use(), build)
    }

    fn build_in<E: From<SecretError>>(
        memory: SecretMemory,
        build: impl FnOnce(&mut MaybeUninit<T>) -> Result<&mut T, E>,
    ) -> Result<Self, E> {
        let mut place = Place::<T>::map(memory)?;
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

/// Mapped pages whose value is not built yet.
struct Place<T> {
    at: NonNull<T>,
    bytes: usize,
}

impl<T> Place<T> {
    fn map(memory: SecretMemory) -> Result<Self, SecretError> {
        const { assert!(align_of::<T>() <= PAGE) };
        let bytes = size_of::<T>().max(1).next_multiple_of(PAGE);
        let mapped = match memory {
            SecretMemory::Unmapped => map_unmapped(bytes),
            SecretMemory::Locked => map_locked(bytes),
        };
        let (what, source) = match mapped {
            Ok(at) => return Ok(Self { at: at.cast(), bytes }),
            Err(failed) => failed,
        };
        Err(SecretError::Memory { what, bytes, source })
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

/// What could not be done, and what the kernel answered.
type Failed = (&'static str, io::Error);

/// Pages of `memfd_secret(2)`. They need no lock, and no advice against dumps; a child would inherit them.
fn map_unmapped(bytes: usize) -> Result<NonNull<u8>, Failed> {
    // SAFETY: the call touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(("get memfd_secret memory of", io::Error::last_os_error()));
    }
    // SAFETY: memfd_secret gave us this descriptor, which nobody else has. The mapping outlives it.
    let file = unsafe { File::from_raw_fd(fd as i32) };
    file.set_len(bytes as u64).map_err(|e| ("size memfd_secret memory of", e))?;
    let at = map(bytes, libc::MAP_SHARED, file.as_raw_fd())?;
    advise(at, bytes, &[(libc::MADV_DONTFORK, "keep from children")])
}

/// Locked pages. A child does not get them; should it ever, they are empty there.
fn map_locked(bytes: usize) -> Result<NonNull<u8>, Failed> {
    let at = map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    // SAFETY: the call names exactly the pages mapped above.
    if unsafe { libc::mlock(at.as_ptr().cast(), bytes) } != 0 {
        let failed = ("lock", io::Error::last_os_error());
        // SAFETY: the pages were just mapped and nothing refers to them.
        unsafe { libc::munmap(at.as_ptr().cast(), bytes) };
        return Err(failed);
    }
    let advice = [
        (libc::MADV_DONTDUMP, "keep out of core dumps"),
        (libc::MADV_WIPEONFORK, "wipe in children"),
        (libc::MADV_DONTFORK, "keep from children"),
    ];
    advise(at, bytes, &advice)
}

fn map(bytes: usize, flags: i32, fd: i32) -> Result<NonNull<u8>, Failed> {
    // SAFETY: a fresh mapping; no existing memory is touched.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    if at == libc::MAP_FAILED {
        return Err(("map", io::Error::last_os_error()));
    }
    Ok(NonNull::new(at.cast()).expect("mmap never returns null"))
}

/// Gives the kernel advice on fresh pages, which are unmapped again if it does not take it.
fn advise(at: NonNull<u8>, bytes: usize, all: &[(i32, &'static str)]) -> Result<NonNull<u8>, Failed> {
    for &(advice, what) in all {
        // SAFETY: the caller has just mapped these pages.
        if unsafe { libc::madvise(at.as_ptr().cast(), bytes, advice) } != 0 {
            let failed = (what, io::Error::last_os_error());
            // SAFETY: as above, and nothing refers to them.
            unsafe { libc::munmap(at.as_ptr().cast(), bytes) };
            return Err(failed);
        }
    }
    Ok(at)
}

/// # Safety
/// `at` names `bytes` mapped bytes that nothing uses any more.
unsafe fn wipe_and_unmap(at: NonNull<u8>, bytes: usize) {
    // SAFETY: by this function's contract.
    unsafe {
        wipe(at, bytes);
        libc::munmap(at.as_ptr().cast(), bytes);
    }
}

/// # Safety
/// `at` names `bytes` mapped bytes that nothing uses any more.
unsafe fn wipe(at: NonNull<u8>, bytes: usize) {
    // SAFETY: by this function's contract; zeroize writes volatile zeros, which the compiler may not leave out.
    unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), bytes).zeroize() };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds that this kernel has.
    fn kinds() -> Vec<SecretMemory> {
        let mut kinds = vec![SecretMemory::Locked];
        match SecretMemory::in_use() {
            SecretMemory::Unmapped => kinds.push(SecretMemory::Unmapped),
            SecretMemory::Locked => eprintln!("skipped in part: this kernel has no memfd_secret"),
        }
        kinds
    }

    fn secret(memory: SecretMemory) -> Secret<[u8; 32]> {
        Secret::build_in(memory, |place| Ok::<_, SecretError>(place.write([7; 32]))).expect("memory for a key")
    }

    #[test]
    fn holds_what_was_built_and_never_prints_it() {
        for secret in kinds().into_iter().map(secret) {
            assert_eq!(*secret, [7; 32]);
            assert_eq!(format!("{secret:?}"), "[secret]");
        }
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

    #[test]
    fn the_pages_are_wiped_before_they_are_given_back() {
        for memory in kinds() {
            let mut place = Place::<[u8; 32]>::map(memory).expect("memory for a key");
            place.uninit().write([7; 32]);
            // SAFETY: the pages are mapped, and the array needs no drop.
            let left = unsafe {
                wipe(place.at.cast(), place.bytes);
                std::slice::from_raw_parts(place.at.cast::<u8>().as_ptr(), place.bytes)
            };
            assert!(left.iter().all(|&byte| byte == 0), "{memory:?}");
        }
    }

    #[test]
    fn a_forked_child_does_not_have_it() {
        for memory in kinds() {
            let secret = secret(memory);
            assert_eq!(in_a_child(|| is_mapped(&secret)), 0, "{memory:?}");
            assert!(is_mapped(&secret));
        }
    }

    /// What `find_out` says in a forked child, which may only make system calls.
    fn in_a_child(find_out: impl FnOnce() -> bool) -> i32 {
        // SAFETY: the child makes two system calls that are safe after a fork, and ends.
        match unsafe { libc::fork() } {
            -1 => panic!("no child: {}", io::Error::last_os_error()),
            // SAFETY: ends the child at once.
            0 => unsafe { libc::_exit(i32::from(find_out())) },
            child => {
                let mut status = 0;
                // SAFETY: the pointer names an integer of ours.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert!(libc::WIFEXITED(status));
                libc::WEXITSTATUS(status)
            }
        }
    }

    /// `mincore(2)` refuses pages that are not mapped.
    fn is_mapped(secret: &Secret<[u8; 32]>) -> bool {
        let mut resident = 0u8;
        // SAFETY: the call writes one byte, as one page is asked about.
        unsafe { libc::mincore(secret.place.as_ptr().cast(), PAGE, (&raw mut resident).cast()) == 0 }
    }
}
