//! What the wire allows: two ends that exchange messages of NVMe/TCP's sizes and do nothing else, each spinning on its own core.
//!
//! - [`exchange`]: both ends are as small as can be; messages have no content. No target and no load generator can be faster.
//! - [`null_target`]: the other end speaks as much of NVMe/TCP as `strongroom bench` needs, and has no data. What `strongroom bench` gets out
//!   of it is the most that it can measure.

pub mod exchange;
pub mod null_target;
mod stream;

use crate::workload::Workload;

/// Bytes of a command capsule without data (NVMe/TCP Transport 1.0, section 3.6.2.6).
const CAPSULE: usize = 72;
/// Bytes of a response capsule, and of the header of data (sections 3.6.2.7 and 3.6.2.9).
const ANSWER: usize = 24;

/// Bytes of a command with its data, and of its answer with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// From client to server.
    pub request: usize,
    /// From server to client.
    pub answer: usize,
}

impl Sizes {
    /// What a workload's commands take on the wire, if data goes in the capsule and SUCCESS with the data.
    pub fn of(workload: Workload) -> Self {
        let data = workload.block_kib as usize * 1024;
        match workload.rw.is_write() {
            true => Self { request: CAPSULE + data, answer: ANSWER },
            false => Self { request: CAPSULE, answer: ANSWER + data },
        }
    }
}
