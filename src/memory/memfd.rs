//! Memory as a file without a name, which another process can be given.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;

/// Makes a file of so many zeros in memory; `flags` are those of `memfd_create(2)`, beside `MFD_CLOEXEC`. The name is for people who look into `/proc`.
pub fn memfd(name: &CStr, bytes: u64, flags: libc::c_uint) -> io::Result<File> {
    // SAFETY: the name is a whole string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags | libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now and belongs to nobody else.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes)?;
    Ok(file)
}
