//! The control socket: JSON-RPC 2.0 for operators and their programs, over a unix socket that only its owner and root can use.
//!
//! A line is a document: each request, or batch of requests, stands on one line, and so does each answer. [`METHODS`] is the one list of what
//! can be asked; `rpc.list` and `strongroom rpc --list` print it.
//!
//! Each client has a thread of its own, which is no reactor: a client that is slow or broken holds up nobody but itself, and a method
//! that waits, holds up nobody but its caller and other changes.

mod client;
mod message;
mod methods;
mod refusal;
mod socket;

pub use methods::{METHODS, Method, MethodList, MethodReport, Param, ParamReport};
pub use refusal::{Kind, Refusal};

pub(super) use socket::ControlSocket;
