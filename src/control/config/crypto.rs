//! The cipher in the configuration.

use std::str::FromStr;

use serde::Deserialize;

use crate::crypto::xts::{Kernel, UnknownKernel};

use super::ConfigError;

/// The cipher.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CryptoConfig {
    /// Which kernel to use.
    pub kernel: KernelChoice,
}

/// Which kernel of the cipher to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum KernelChoice {
    /// The best that the CPU can run.
    #[default]
    Auto,
    /// This one.
    Only(Kernel),
}

impl KernelChoice {
    /// The kernel, if the CPU can run it.
    pub fn choose(self) -> Result<Kernel, ConfigError> {
        match self {
            Self::Auto => Ok(Kernel::best()),
            Self::Only(kernel) if kernel.is_supported() => Ok(kernel),
            Self::Only(kernel) => Err(ConfigError::Kernel(kernel)),
        }
    }
}

impl FromStr for KernelChoice {
    type Err = UnknownKernel;

    fn from_str(text: &str) -> Result<Self, UnknownKernel> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Only) }
    }
}

impl TryFrom<String> for KernelChoice {
    type Error = UnknownKernel;

    fn try_from(text: String) -> Result<Self, UnknownKernel> {
        text.parse()
    }
}
