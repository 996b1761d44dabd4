//! What the kernel counts for this process and thread, and the one limit of it that a load generator may need raised.
#![allow(unsafe_code)]

use std::io;

/// User and system time of this process so far.
pub(super) fn process_cpu_seconds() -> f64 {
    cpu_seconds(libc::RUSAGE_SELF)
}

/// User and system time of this thread so far.
pub(super) fn thread_cpu_seconds() -> f64 {
    cpu_seconds(libc::RUSAGE_THREAD)
}

fn cpu_seconds(whose: libc::c_int) -> f64 {
    // SAFETY: all-zero is a valid rusage, which the kernel fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(whose, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Lets this process have `files` files open, as far as its hard limit goes.
pub(super) fn allow_open_files(files: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills one valid rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur >= files {
        return Ok(());
    }
    limit.rlim_cur = files.min(limit.rlim_max);
    // SAFETY: the kernel reads one valid rlimit.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
