//! What a controller promises to hosts: one place for the sizes that identify data, properties and the transport have to agree on.

/// The most data that one command moves. A power of two of 4096 bytes, as MDTS counts (Base section 5.17.2.1).
pub const LARGEST_TRANSFER: u32 = 256 << 10;

/// The most that a fused compare and write moves (ACWU, Base section 5.17.2.1). It is for locks: both halves are held at once while the host
/// sends them, and a host that does not must not be able to hold much.
pub const LARGEST_FUSED: u32 = 4 << 10;

/// Asynchronous Event Request commands that a controller holds at once. Hosts are told one less (AERL counts from 0).
pub const EVENT_REQUESTS: usize = 4;

/// Abort commands that a controller takes at once. Hosts are told one less (ACL counts from 0).
pub const ABORTS: usize = 4;

/// The largest namespace identifier (NN), and the most namespaces of a subsystem (MNAN).
pub const NAMESPACES: u32 = 1024;

/// What the configuration decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of a queue, Admin or I/O: 32 to 1024.
    pub queue_entries: u16,
    /// I/O queues of a controller.
    pub io_queues: u16,
    /// Bytes of data that a command capsule of an I/O queue may carry; a multiple of 16.
    pub in_capsule_data: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue_entries: 128, io_queues: 64, in_capsule_data: 8192 }
    }
}
