//! Hosts: who may connect. An instance of the account, known by its NQN.

use std::sync::Arc;

use super::super::auth::HostPolicy;
use super::name::Nqn;

/// A host identifier (Base section 5.27.1.25): the holder of reservations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub [u8; 16]);

impl HostId {
    /// Whether it identifies a host: zero does not.
    pub fn is_some(self) -> bool {
        self.0 != [0; 16]
    }
}

/// A host that an account lets in.
#[derive(Clone)]
pub struct Host {
    /// The name that operators use.
    pub name: String,
    /// The name that it connects with.
    pub nqn: Nqn,
    /// The identifier that it has to connect with; any, if there is none.
    pub id: Option<HostId>,
    /// How it has to prove who it is before anything else; it need not, if there is nothing here.
    pub authentication: Option<Arc<HostPolicy>>,
}
