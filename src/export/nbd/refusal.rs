//! Why a request is answered with an error: the one table from the data path's errors to the protocol's ("Error values").

use crate::device::IoError;

use super::wire::error;

/// An error answer: the protocol's code, and a few words for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: u32,
    pub(super) why: &'static str,
}

impl Refusal {
    pub(super) const READ_ONLY: Self = Self { error: error::EPERM, why: "the export is read-only" };
    pub(super) const MISALIGNED: Self =
        Self { error: error::EINVAL, why: "offset and length have to be multiples of the minimum block size" };
    pub(super) const EMPTY: Self = Self { error: error::EINVAL, why: "the length is zero" };
    pub(super) const OUTSIDE: Self = Self { error: error::EINVAL, why: "the range ends behind the export" };
    /// As `OUTSIDE`, for what would write there.
    pub(super) const NO_SPACE_OUTSIDE: Self = Self { error: error::ENOSPC, why: "the range ends behind the export" };
    pub(super) const UNKNOWN_COMMAND: Self = Self { error: error::EINVAL, why: "unknown command" };
    pub(super) const UNKNOWN_FLAG: Self = Self { error: error::EINVAL, why: "a flag does not belong to this command" };
    pub(super) const NOT_NEGOTIATED: Self =
        Self { error: error::EINVAL, why: "no metadata context was negotiated for block status" };
    pub(super) const FLUSH_RANGE: Self = Self { error: error::EINVAL, why: "a flush has neither offset nor length" };
    pub(super) const TOO_LARGE: Self =
        Self { error: error::EOVERFLOW, why: "the length is larger than the maximum payload" };
    pub(super) const ENDING: Self =
        Self { error: error::ESHUTDOWN, why: "the connection ended while the request waited for the disk's limits" };
    /// As `TOO_LARGE`, for clients without structured replies, which do not expect `EOVERFLOW`.
    pub(super) const TOO_LARGE_SIMPLE: Self =
        Self { error: error::EINVAL, why: "the length is larger than the maximum payload" };
    pub(super) const TOO_LARGE_UNFRAGMENTED: Self =
        Self { error: error::EOVERFLOW, why: "too large for one chunk; read without the DF flag" };
}

impl From<IoError> for Refusal {
    fn from(error: IoError) -> Self {
        match error {
            IoError::OutOfRange => Self::OUTSIDE,
            IoError::Misaligned => Self::MISALIGNED,
            IoError::ReadOnly => Self { error: error::EPERM, why: "the disk is read-only" },
            IoError::NoSpace => Self { error: error::ENOSPC, why: "no space left under the disk" },
            IoError::Unsupported => Self { error: error::ENOTSUP, why: "not supported by the disk" },
            IoError::Media => Self { error: error::EIO, why: "the device failed" },
        }
    }
}
