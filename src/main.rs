//! The `strongroom` command; see `cli` in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    strongroom::cli::main()
}
