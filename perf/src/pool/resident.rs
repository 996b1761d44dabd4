//! The memory that this process has.
#![allow(unsafe_code)]

use std::fs;

/// Bytes that are resident now, as the kernel counts them (`VmRSS` in proc(5)).
pub fn bytes() -> u64 {
    field("VmRSS")
}

/// The most that was resident since [`forget_peak`].
pub fn peak_bytes() -> u64 {
    field("VmHWM")
}

/// Begins a new peak (`clear_refs` in proc(5)).
pub fn forget_peak() {
    // Without the right to it the peak is that of the whole process, and is told as such.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Gives back to the kernel what the allocator keeps for later, so that what is taken afterwards is seen.
pub fn trim() {
    // SAFETY: malloc_trim(3) may be called at any time, from any thread.
    unsafe { libc::malloc_trim(0) };
}

fn field(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_memory() {
        // Other tests take and free memory meanwhile, so nothing is subtracted.
        let more = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(super::bytes() >= 64 << 20 && super::peak_bytes() >= 64 << 20);
        drop(more);
    }
}
