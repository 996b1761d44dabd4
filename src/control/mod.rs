//! What runs beside the reactors and never on their cores: configuration, the life of the process, hardening.

mod config;
mod hardening;
mod server;

pub use config::{Config, ConfigError, KernelChoice};
pub use server::{ServeError, serve};
