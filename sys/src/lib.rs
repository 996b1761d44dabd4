//! Bindings to what other projects offer in C. Nothing here is written by hand: `bindgen` makes each module from the project's own headers when
//! the crate is built with the module's feature.
//!
//! | feature | module | headers |
//! | --- | --- | --- |
//! | `fio` | `fio` | fio's sources, which `scripts/fio-engine` fetches; their folder is in `STRONGROOM_FIO_SOURCE` |

/// The ABI between fio and its engines. It is that of one version of fio: [`VERSION`](fio::VERSION).
#[cfg(feature = "fio")]
#[allow(
    unsafe_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
pub mod fio {
    include!(concat!(env!("OUT_DIR"), "/fio.rs"));

    /// The version of the fio whose headers these are, as fio prints it.
    pub const VERSION: &str = env!("STRONGROOM_FIO_VERSION");
}
