//! What runs beside the reactors and never on their cores: configuration, the life of the process, hardening, and the operators' RPC.

mod cloud;
pub mod config;
mod conversion;
mod hardening;
mod keys;
pub mod log;
pub mod rpc;
mod server;
mod storage;
pub mod target;

pub use config::{Config, ConfigError, KernelChoice};
pub use hardening::forbid_dumps;
pub use log::LogFilter;
pub use server::{ServeError, serve};
pub use storage::{CLOSE_LIMIT, Storage};
