//! `strongroom kms-helper`: the process in which the library of a key service runs. A target starts it; nobody else has a use for it.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::kms::pkcs11;

use super::Outcome;

#[derive(Args)]
pub(super) struct KmsHelperArgs {
    /// Which kind of key service
    kind: Kind,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Pkcs11,
}

pub(super) fn run(args: &KmsHelperArgs) -> Outcome {
    match args.kind {
        Kind::Pkcs11 => pkcs11::helper::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
