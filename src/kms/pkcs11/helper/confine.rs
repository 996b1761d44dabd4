//! What the helper takes from itself before it loads a library.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

/// `CAP_IPC_LOCK` (capabilities(7)) as a bit of the sets in `/proc/self/status`.
const CAP_IPC_LOCK: u64 = 1 << 14;

/// No core dumps, no inspection by other processes of the same user, an end together with the target, and no file of the target's left open.
pub(super) fn confine() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the calls read one valid rlimit and numbers. Nothing in this process has opened a file above standard error yet, so that closing all
    // of those takes no descriptor from anybody who still means to use it.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) != 0
            || libc::setrlimit(libc::RLIMIT_CORE, &none) != 0
            || libc::close_range(3, libc::c_uint::MAX, 0) != 0
    };
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes the socket from standard input, where a library or its children might find it.
pub(super) fn take_socket() -> io::Result<UnixStream> {
    let stream = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from)?;
    stream.peer_addr()?;
    let nothing = File::open("/dev/null")?;
    // SAFETY: the call replaces the descriptor of standard input, which stays valid and which nobody reads.
    match unsafe { libc::dup2(nothing.as_raw_fd(), libc::STDIN_FILENO) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(stream),
    }
}

/// Keeps all memory of this process, the library's too, out of swap. Returns whether that is so.
///
/// Only where the limit cannot be hit later: a library that gets no memory any more would fail in the middle of a call.
pub(super) fn lock_memory() -> bool {
    if !(unlimited() || privileged()) {
        return false;
    }
    // SAFETY: the call reads its flags only.
    unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) == 0 }
}

fn unlimited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes the one rlimit that it is given.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) == 0 };
    known && limit.rlim_cur == libc::RLIM_INFINITY
}

fn privileged() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & CAP_IPC_LOCK != 0)
}
