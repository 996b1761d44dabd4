//! Why the inventory cannot be changed as asked.

use thiserror::Error;

/// Why the inventory cannot be changed as asked. Nothing was changed.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum InventoryError {
    /// The account cannot name a subsystem.
    #[error("account {0:?}: a name has 1 to 64 letters, digits, '-', '_' and '.', and begins with a letter or digit")]
    Account(String),
    /// Not an NVMe Qualified Name.
    #[error("{0:?} is not an NVMe Qualified Name: it begins with \"nqn.\" and has at most 223 bytes")]
    Nqn(String),
    /// There is no subsystem for the account.
    #[error("account {0}: there is no subsystem; add it first")]
    NoSubsystem(String),
    /// There is one already.
    #[error("account {0}: there is a subsystem already")]
    SubsystemExists(String),
    /// There is no such host in the account.
    #[error("account {account}: there is no host {host}; add it first")]
    NoHost {
        /// The account.
        account: String,
        /// The host.
        host: String,
    },
    /// The name, NQN or host identifier is taken.
    #[error("account {account}: host {host} has the same {what}")]
    HostExists {
        /// The account.
        account: String,
        /// The host that is there.
        host: String,
        /// What is the same.
        what: &'static str,
    },
    /// There is no such namespace.
    #[error("account {account}: there is no namespace {nsid}")]
    NoNamespace {
        /// The account.
        account: String,
        /// The namespace.
        nsid: u32,
    },
    /// The identifier cannot be used.
    #[error(
        "account {account}: namespace {nsid} is taken or is not within 1 to {most}; choose another or leave it out"
    )]
    Nsid {
        /// The account.
        account: String,
        /// The namespace.
        nsid: u32,
        /// The largest identifier.
        most: u32,
    },
    /// All identifiers are used.
    #[error("account {0}: there are as many namespaces as a subsystem can have; remove one first")]
    Full(String),
    /// The disk or its UUID is in the subsystem already.
    #[error("account {account}: disk {disk} has the same disk or UUID as namespace {nsid}")]
    DiskExists {
        /// The account.
        account: String,
        /// The disk that was to be added.
        disk: String,
        /// The namespace that has it.
        nsid: u32,
    },
    /// The disk is in another account's subsystem.
    #[error("disk {0} is a namespace of another account; remove it there first")]
    DiskElsewhere(String),
    /// A disk that is not shared has its one host.
    #[error("account {account}: disk {disk} is not shared and is attached to host {host}; detach it there first")]
    NotShared {
        /// The account.
        account: String,
        /// The disk.
        disk: String,
        /// The host that has it.
        host: String,
    },
}
