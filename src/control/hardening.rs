//! Keeping keys inside: no core dumps, no inspection by other processes of the same user.
#![allow(unsafe_code)]

use std::io;

/// Forbids core dumps, and `ptrace(2)` and `/proc/PID/mem` for everybody but root. Done before a key is read.
pub fn forbid_dumps() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the calls read one valid rlimit and numbers.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || libc::setrlimit(libc::RLIMIT_CORE, &none) != 0
    };
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}
