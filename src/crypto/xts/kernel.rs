//! The kernels by name, and which of them this CPU can run.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::self_test;

#[cfg(target_arch = "x86_64")]
use super::vaes::{has_256 as has_vaes256, has_512 as has_vaes512};

/// An implementation of AES-256-XTS. All give the same bytes; they differ in speed and in what the CPU must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Hand-written, 512-bit VAES.
    Vaes512,
    /// Hand-written, 256-bit VAES.
    Vaes256,
    /// The `aes` crate's many-blocks call between tweak passes; runs anywhere.
    Bulk,
}

impl Kernel {
    /// All kernels, fastest first.
    pub const ALL: [Self; 3] = [Self::Vaes512, Self::Vaes256, Self::Bulk];

    /// The fastest kernel that this CPU can run.
    pub fn best() -> Self {
        Self::available().next().unwrap_or(Self::Bulk)
    }

    /// The kernels that this CPU can run, fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.is_supported())
    }

    /// Whether this CPU can run the kernel: it has the features, and the kernel has passed its self-test.
    pub fn is_supported(self) -> bool {
        self.has_features() && self_test::passes(self)
    }

    pub(super) fn has_features(self) -> bool {
        match self {
            Self::Vaes512 => has_vaes512(),
            Self::Vaes256 => has_vaes256(),
            Self::Bulk => true,
        }
    }

    /// The name that users give and see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vaes512 => "vaes512",
            Self::Vaes256 => "vaes256",
            Self::Bulk => "bulk",
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vaes512() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vaes256() -> bool {
    false
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no kernel has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no XTS kernel `{0}`: use vaes512, vaes256 or bulk")]
pub struct UnknownKernel(pub String);

impl FromStr for Kernel {
    type Err = UnknownKernel;

    fn from_str(name: &str) -> Result<Self, UnknownKernel> {
        Self::ALL.into_iter().find(|kernel| kernel.name() == name).ok_or_else(|| UnknownKernel(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kernel in Kernel::ALL {
            assert_eq!(kernel.to_string().parse(), Ok(kernel));
        }
        assert!("aesni".parse::<Kernel>().unwrap_err().to_string().contains("`aesni`"));
    }

    #[test]
    fn the_best_kernel_is_supported() {
        assert!(Kernel::best().is_supported());
        assert_eq!(Kernel::available().last(), Some(Kernel::Bulk));
    }
}
