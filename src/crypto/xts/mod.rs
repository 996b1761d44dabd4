//! AES-256-XTS over runs of sectors (IEEE 1619-2018, NIST SP 800-38E): the key, and the calls that the data path makes.
//!
//! A call encrypts or decrypts a *run*: whole sectors, one after the other, each an XTS data unit whose number follows
//! from [`Tweak`]. Source and destination may be the same memory or different memory, so that encryption is the
//! copy; they may also be cut into pieces anywhere ([`XtsKey::encrypt_segments`]). Nothing here allocates, locks or
//! branches on a secret.
//!
//! Three kernels do the work, chosen once from the CPU's features ([`Kernel::best`]); all give the same bytes:
//!
//! | kernel | needs | |
//! | --- | --- | --- |
//! | `vaes512` | AVX-512F, VAES | hand-written, 512-bit width |
//! | `vaes256` | AVX2, VAES | hand-written, 256-bit width |
//! | `bulk` | nothing | safe code over the `aes` crate |

mod bulk;
mod kernel;
mod key;
#[cfg(all(test, target_arch = "x86_64"))]
mod model;
#[cfg(target_arch = "x86_64")]
mod pipeline;
#[cfg(target_arch = "x86_64")]
mod schedule;
mod sector;
mod segments;
mod self_test;
mod span;
#[cfg(target_arch = "x86_64")]
mod vaes;
#[cfg(target_arch = "x86_64")]
mod vector;

pub use kernel::{Kernel, UnknownKernel};
pub use key::{KeyError, XtsKey, XtsKeyBytes};
pub use sector::{SectorSize, SectorSizeError, Tweak};
