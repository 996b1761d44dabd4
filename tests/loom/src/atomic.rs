//! Loom's atomics, made to try every order.
//!
//! Loom 0.7 remembers only the last access to an atomic. A thread that loads and then changes one hides behind its own load that another thread
//! has loaded it before, and the order in which that one comes later is never tried: `tests/loom_itself.rs` shows it. So each atomic here has
//! a companion that every access changes first, which makes any two accesses of one atomic meet. That is relaxed, so it orders no memory: a load
//! still gets any value that it may get.

use loom::sync::atomic;

pub use loom::sync::atomic::Ordering;

/// What every access changes, so that loom sees it.
struct Companion(atomic::AtomicUsize);

impl Companion {
    fn new() -> Self {
        Self(atomic::AtomicUsize::new(0))
    }

    fn meet(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An access by another access of the same name.
macro_rules! forward {
    ($type:ty: $($name:ident($($argument:ident: $of:ty),*) -> $gives:ty;)*) => {
        $(
            /// As the standard library's.
            pub fn $name(&self, $($argument: $of),*) -> $gives {
                self.companion.meet();
                self.inner.$name($($argument),*)
            }
        )*
    };
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        /// As the standard library's.
        pub struct $name {
            inner: atomic::$name,
            companion: Companion,
        }

        impl $name {
            /// As the standard library's.
            pub fn new(value: $value) -> Self {
                Self { inner: atomic::$name::new(value), companion: Companion::new() }
            }

            forward! { $value:
                load(ordering: Ordering) -> $value;
                store(value: $value, ordering: Ordering) -> ();
                swap(value: $value, ordering: Ordering) -> $value;
                compare_exchange(old: $value, new: $value, done: Ordering, not: Ordering) -> Result<$value, $value>;
                compare_exchange_weak(old: $value, new: $value, done: Ordering, not: Ordering) -> Result<$value, $value>;
                fetch_or(value: $value, ordering: Ordering) -> $value;
                fetch_and(value: $value, ordering: Ordering) -> $value;
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(<$value>::default())
            }
        }
    };
}

macro_rules! counts {
    ($name:ident, $value:ty) => {
        impl $name {
            forward! { $value:
                fetch_add(value: $value, ordering: Ordering) -> $value;
                fetch_sub(value: $value, ordering: Ordering) -> $value;
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
atomic!(AtomicI64, i64);
counts!(AtomicU32, u32);
counts!(AtomicU64, u64);
counts!(AtomicI64, i64);

/// As the standard library's.
pub struct AtomicPtr<T> {
    inner: atomic::AtomicPtr<T>,
    companion: Companion,
}

impl<T> AtomicPtr<T> {
    /// As the standard library's.
    pub fn new(pointer: *mut T) -> Self {
        Self { inner: atomic::AtomicPtr::new(pointer), companion: Companion::new() }
    }

    forward! { T:
        load(ordering: Ordering) -> *mut T;
        store(value: *mut T, ordering: Ordering) -> ();
        swap(value: *mut T, ordering: Ordering) -> *mut T;
    }
}
