//! A stack of their own for the cipher kernels of a thread.
//!
//! A kernel has more round keys than there are vector registers, so it spills some to the stack. From there they spread: a future that is made later is
//! copied to the heap together with whatever lies in its unused parts. Wiping the stack after each call would be paid for by every sector. So the
//! kernels run on another stack, which lies in memory for keys; it is wiped by [`wipe`], which [`scrub`](super::scrub::scrub) calls.
//!
//! Always: nothing that runs there calls [`call`] again, and it needs much less than there is: frames of kernels are of a fixed size, and they call
//! nothing that is not known when they are compiled. A panic there ends the process, as on every reactor.
//!
//! Only x86-64 has it. Elsewhere kernels run on the thread's own stack, and what they leave there goes with `scrub`.
#![allow(unsafe_code)]

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod own {
    use std::cell::{Cell, RefCell, UnsafeCell};
    use std::ptr::null_mut;

    use zeroize::Zeroize;

    use crate::memory::{Secret, SecretError};

    /// Kernels need a few KiB, also without optimization.
    const BYTES: usize = 64 << 10;

    /// Aligned as the System V ABI wants a stack where a function is called (section 3.2.2), and more.
    #[repr(C, align(64))]
    struct Bytes(UnsafeCell<[u8; BYTES]>);

    enum Place {
        Locked(Secret<Bytes>),
        /// There is no locked memory left; keys themselves are never here.
        Plain(Box<Bytes>),
    }

    impl Place {
        fn make() -> Self {
            let locked = Secret::<Bytes>::build(|place| {
                // SAFETY: bytes that are zero are a value of the type.
                Ok::<_, SecretError>(unsafe {
                    place.as_mut_ptr().write_bytes(0, 1);
                    place.assume_init_mut()
                })
            });
            locked.map_or_else(|_| Self::Plain(Box::new(Bytes(UnsafeCell::new([0; BYTES])))), Self::Locked)
        }

        fn bytes(&self) -> *mut [u8; BYTES] {
            match self {
                Self::Locked(bytes) => bytes.0.get(),
                Self::Plain(bytes) => bytes.0.get(),
            }
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            // SAFETY: the place is this thread's, and nothing runs on it now.
            unsafe { (*self.bytes()).zeroize() };
        }
    }

    thread_local! {
        static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
        /// Where the stack begins, which grows downwards; null before its first use.
        static TOP: Cell<*mut u8> = const { Cell::new(null_mut()) };
    }

    #[cold]
    fn make() -> *mut u8 {
        let place = Place::make();
        let top = place.bytes().cast::<u8>().wrapping_add(BYTES);
        PLACE.set(Some(place));
        TOP.set(top);
        top
    }

    /// Runs `work`, which must not come here again, on the other stack.
    #[inline]
    pub(in crate::crypto) fn call<F: FnOnce()>(work: F) {
        extern "C" fn run<F: FnOnce()>(work: *mut Option<F>) {
            // SAFETY: `call` waits with its option, and nobody else knows it.
            if let Some(work) = unsafe { (*work).take() } {
                work();
            }
        }
        let top = match TOP.get() {
            top if top.is_null() => make(),
            top => top,
        };
        let mut work = Some(work);
        // SAFETY: the stack is as large as `run` needs, aligned, this thread's, and not in use; it stays where it is until the thread ends. r12 is kept by
        // the function that is called (System V ABI, section 3.2.1), so the thread's own stack is found again. What else a call may change is declared.
        unsafe {
            std::arch::asm!(
                "mov r12, rsp",
                "mov rsp, r13",
                "call r14",
                "mov rsp, r12",
                in("r13") top,
                in("r14") run::<F> as extern "C" fn(*mut Option<F>),
                in("rdi") &raw mut work,
                out("r12") _,
                clobber_abi("C"),
            );
        }
    }

    /// Wipes what kernels of this thread have left.
    pub(in crate::crypto) fn wipe() {
        // A thread that is ending has wiped it already.
        let _ = PLACE.try_with(|place| {
            if let Some(place) = &*place.borrow() {
                // SAFETY: the place is this thread's, and nothing runs on it now.
                unsafe { (*place.bytes()).zeroize() };
            }
        });
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn work_is_done_elsewhere_and_what_it_leaves_is_wiped() {
            let own = 0u8;
            let (mut there, mut sum) = (0usize, 0u64);
            call(|| {
                let mut mark = [0xA5u8; 4096];
                std::hint::black_box(&mut mark);
                there = mark.as_ptr().addr();
                sum = mark.iter().map(|byte| u64::from(*byte)).sum();
            });
            assert_eq!(sum, 4096 * 0xA5);
            assert!(there.abs_diff((&raw const own).addr()) > BYTES);
            let has = |byte: u8| {
                PLACE.with_borrow(|place| {
                    // SAFETY: nothing runs there now.
                    unsafe { &*place.as_ref().expect("made").bytes() }.iter().filter(|other| **other == byte).count()
                })
            };
            assert!(has(0xA5) >= 4096);
            wipe();
            assert_eq!(has(0), BYTES);
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod own {
    #[inline]
    pub(in crate::crypto) fn call<F: FnOnce()>(work: F) {
        work();
    }

    pub(in crate::crypto) fn wipe() {}
}

pub(super) use own::{call, wipe};
