//! The errors of the data path: a small closed set that every layer passes up unchanged and every protocol maps to a code of its own.

use std::convert::Infallible;
use std::io;

use thiserror::Error;

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IoError {
    /// The range does not lie within the device or disk.
    #[error("the range lies outside")]
    OutOfRange,
    /// The range is not made of whole sectors, or the buffer is too small.
    #[error("the range is not made of whole sectors")]
    Misaligned,
    /// The device or disk may only be read.
    #[error("read-only")]
    ReadOnly,
    /// There is no room for the data.
    #[error("no space left")]
    NoSpace,
    /// The device cannot do this.
    #[error("not supported")]
    Unsupported,
    /// The device failed.
    #[error("the device failed")]
    Media,
}

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Self::NoSpace,
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => Self::Unsupported,
            Some(libc::EINVAL) => Self::Misaligned,
            Some(libc::EROFS | libc::EPERM | libc::EBADF) => Self::ReadOnly,
            _ => Self::Media,
        }
    }
}

impl From<Infallible> for IoError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
