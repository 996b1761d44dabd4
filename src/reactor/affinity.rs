//! Cores: which ones the process may use, and pinning a thread to one.
#![allow(unsafe_code)]

use std::io;
use std::sync::OnceLock;

/// The cores that the process was allowed when it started, in ascending order.
///
/// Asked once: after a thread has pinned itself, the kernel answers with that thread's core only.
pub fn allowed_cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        // SAFETY: all-zero is a valid, empty cpu_set_t, and the kernel fills at most its size. Pid 0 would be this thread, which may
        // be pinned; the process's first thread never is.
        let set = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::sched_getaffinity(libc::getpid(), size_of::<libc::cpu_set_t>(), &mut set);
            set
        };
        // SAFETY: the index stays below the size of the set.
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
    })
}

/// The allowed cores without `core`; none if that leaves nothing.
pub(super) fn other_cpus(core: usize) -> Option<libc::cpu_set_t> {
    let others: Vec<usize> = allowed_cpus().iter().copied().filter(|&cpu| cpu != core).collect();
    (!others.is_empty()).then(|| cpu_set(&others))
}

/// The core that the calling thread is on at this moment.
pub(super) fn current_cpu() -> usize {
    // SAFETY: the call touches no memory of ours.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or_default()
}

fn cpu_set(cpus: &[usize]) -> libc::cpu_set_t {
    // SAFETY: all-zero is a valid, empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: the index lies below the size of the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    set
}

/// Pins the calling thread to one core.
pub fn pin_current_thread(core: usize) -> io::Result<()> {
    let set = cpu_set(&[core]);
    // SAFETY: the set is valid and its size is given; pid 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
