//! A front end's session with a back end: what the two agree on, memory that they share, queues that run (QEMU, `docs/interop/vhost-user.rst`).
//!
//! The `vhost` crate speaks the protocol. One message it cannot send: where a packed ring begins takes 32 bits, of which its call has 16.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight, VhostUserProtocolFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VringConfigData};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::error::VhostUserError;
use super::memory::SharedMemory;

/// How long a back end may take to answer a message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Queues of which messages may speak.
const MOST_QUEUES: u64 = 256;
/// `VHOST_USER_SET_VRING_BASE`.
const SET_VRING_BASE: u32 = 10;
/// The version of the protocol, in the flags of each message.
const VERSION: u32 = 1;
/// The flag of a message that is to be answered in any case.
const NEED_REPLY: u32 = 1 << 3;

/// Feature bits of a block device (virtio 1.2, sections 5.2.3 and 6).
pub mod feature {
    /// There is a largest segment.
    pub const SIZE_MAX: u64 = 1 << 1;
    /// There is a largest number of segments.
    pub const SEG_MAX: u64 = 1 << 2;
    /// The disk cannot be written.
    pub const RO: u64 = 1 << 5;
    /// There is a block size.
    pub const BLK_SIZE: u64 = 1 << 6;
    /// There is a cache, which can be flushed.
    pub const FLUSH: u64 = 1 << 9;
    /// The cache can be turned off.
    pub const CONFIG_WCE: u64 = 1 << 11;
    /// There may be several queues.
    pub const MQ: u64 = 1 << 12;
    /// Ranges can be discarded.
    pub const DISCARD: u64 = 1 << 13;
    /// Ranges can be made zeros.
    pub const WRITE_ZEROES: u64 = 1 << 14;
    /// Descriptors may lie in tables of their own.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Each side says from which entry on it wants to be told.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// `VHOST_USER_F_PROTOCOL_FEATURES`: of vhost-user itself.
    pub const PROTOCOL: u64 = 1 << 30;
    /// Not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
    /// Rings are packed.
    pub const RING_PACKED: u64 = 1 << 34;
}

/// `struct virtio_blk_config` (virtio 1.2, section 5.2.4) up to the limits of write zeroes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the specification's names")]
pub struct BlockConfig {
    pub capacity: U64,
    pub size_max: U32,
    pub seg_max: U32,
    pub geometry: [u8; 4],
    pub blk_size: U32,
    pub physical_block_exp: u8,
    pub alignment_offset: u8,
    pub min_io_size: U16,
    pub opt_io_size: U32,
    pub writeback: u8,
    pub unused0: u8,
    pub num_queues: U16,
    pub max_discard_sectors: U32,
    pub max_discard_seg: U32,
    pub discard_sector_alignment: U32,
    pub max_write_zeroes_sectors: U32,
    pub max_write_zeroes_seg: U32,
    pub write_zeroes_may_unmap: u8,
    pub unused1: [u8; 3],
}

const _: () = assert!(size_of::<BlockConfig>() == 60);

/// Where a ring is, by addresses in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPlace {
    /// Entries.
    pub size: u16,
    /// The descriptors.
    pub descriptors: u64,
    /// What the driver writes: the available ring, or when it wants to be told.
    pub driver: u64,
    /// What the device writes: the used ring, or when it wants to be told.
    pub device: u64,
}

/// A connected front end.
pub struct FrontEnd {
    protocol: Frontend,
    stream: UnixStream,
    /// What both can do.
    features: u64,
    protocol_features: VhostUserProtocolFeatures,
}

impl FrontEnd {
    /// Connects and agrees on `wanted` as far as the device offers it.
    pub fn connect(path: &Path, wanted: u64) -> Result<Self, VhostUserError> {
        let connect = |source| VhostUserError::Connect { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(connect)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(connect)?;
        let protocol = Frontend::from_stream(stream.try_clone().map_err(connect)?, MOST_QUEUES);
        let no_protocol_features = VhostUserProtocolFeatures::empty();
        let mut end = Self { protocol, stream, features: 0, protocol_features: no_protocol_features };
        end.agree(wanted)?;
        Ok(end)
    }

    fn agree(&mut self, wanted: u64) -> Result<(), VhostUserError> {
        use VhostUserProtocolFeatures as P;
        let offered = self.protocol.get_features().map_err(failed("GET_FEATURES"))?;
        if offered & feature::PROTOCOL == 0 {
            return Err(VhostUserError::Config(
                "the back end has no protocol features, so no configuration".to_owned(),
            ));
        }
        let offered_protocol = self.protocol.get_protocol_features().map_err(failed("GET_PROTOCOL_FEATURES"))?;
        let wanted_protocol = P::MQ | P::REPLY_ACK | P::CONFIG | P::INFLIGHT_SHMFD | P::CONFIGURE_MEM_SLOTS;
        self.protocol_features = offered_protocol & wanted_protocol;
        self.protocol.set_protocol_features(self.protocol_features).map_err(failed("SET_PROTOCOL_FEATURES"))?;
        if self.acknowledges() {
            self.protocol.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        self.protocol.set_owner().map_err(failed("SET_OWNER"))?;
        self.features = offered & (wanted | feature::PROTOCOL);
        self.protocol.set_features(self.features).map_err(failed("SET_FEATURES"))
    }

    /// Whether both can do it.
    pub fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Whether the back end says of each message whether it did what it was asked.
    pub fn acknowledges(&self) -> bool {
        self.protocol_features.contains(VhostUserProtocolFeatures::REPLY_ACK)
    }

    /// The `vhost` crate's end, for messages that this has no call for.
    pub fn protocol(&mut self) -> &mut Frontend {
        &mut self.protocol
    }

    /// What the device tells of itself.
    pub fn config(&mut self) -> Result<BlockConfig, VhostUserError> {
        let mut config = BlockConfig::new_zeroed();
        let size = size_of::<BlockConfig>() as u32;
        let flags = VhostUserConfigFlags::empty();
        let (_, bytes) = self.protocol.get_config(0, size, flags, config.as_bytes()).map_err(failed("GET_CONFIG"))?;
        config.as_mut_bytes().copy_from_slice(&bytes);
        Ok(config)
    }

    /// The most queues that the device serves.
    pub fn queues(&mut self) -> Result<u64, VhostUserError> {
        match self.protocol_features.contains(VhostUserProtocolFeatures::MQ) {
            true => self.protocol.get_queue_num().map_err(failed("GET_QUEUE_NUM")),
            false => Ok(1),
        }
    }

    /// Makes these all of the device's memory.
    pub fn set_memory(&mut self, memory: &[&SharedMemory]) -> Result<(), VhostUserError> {
        let regions: Vec<_> = memory.iter().map(|memory| memory.region()).collect();
        self.protocol.set_mem_table(&regions).map(|_| ()).map_err(failed("SET_MEM_TABLE"))?;
        self.settle()
    }

    /// Adds memory while queues run.
    pub fn add_memory(&mut self, memory: &SharedMemory) -> Result<(), VhostUserError> {
        self.protocol.add_mem_region(&memory.region()).map(|_| ()).map_err(failed("ADD_MEM_REG"))
    }

    /// Takes memory back while queues run: when this returns, the device does not touch it any more.
    pub fn remove_memory(&mut self, memory: &SharedMemory) -> Result<(), VhostUserError> {
        self.protocol.remove_mem_region(&memory.region()).map_err(failed("REM_MEM_REG"))
    }

    /// Starts a queue whose ring begins at `base`.
    pub fn start_queue(
        &mut self,
        index: usize,
        ring: &RingPlace,
        base: u32,
        events: &QueueEvents,
    ) -> Result<(), VhostUserError> {
        let failed = |what: &str| failed(format!("{what} of queue {index}"));
        self.protocol.set_vring_num(index, ring.size).map_err(failed("SET_VRING_NUM"))?;
        self.set_base(index, base)?;
        let place = VringConfigData {
            queue_max_size: ring.size,
            queue_size: ring.size,
            flags: 0,
            desc_table_addr: ring.descriptors,
            used_ring_addr: ring.device,
            avail_ring_addr: ring.driver,
            log_addr: None,
        };
        self.protocol.set_vring_addr(index, &place).map_err(failed("SET_VRING_ADDR"))?;
        self.protocol.set_vring_err(index, &events.error).map_err(failed("SET_VRING_ERR"))?;
        self.protocol.set_vring_call(index, &events.call).map_err(failed("SET_VRING_CALL"))?;
        self.protocol.set_vring_kick(index, &events.kick).map_err(failed("SET_VRING_KICK"))?;
        self.protocol.set_vring_enable(index, true).map_err(failed("SET_VRING_ENABLE"))?;
        self.settle()
    }

    /// Stops a queue and tells where its ring is.
    pub fn stop_queue(&mut self, index: usize) -> Result<u32, VhostUserError> {
        self.protocol.get_vring_base(index).map_err(failed(format!("GET_VRING_BASE of queue {index}")))
    }

    /// The region in which the device notes what it has begun, for `queues` queues of `size` entries.
    pub fn inflight(&mut self, queues: u16, size: u16) -> Result<(VhostUserInflight, std::fs::File), VhostUserError> {
        let wanted = VhostUserInflight::new(0, 0, queues, size);
        self.protocol.get_inflight_fd(&wanted).map_err(failed("GET_INFLIGHT_FD"))
    }

    fn set_base(&mut self, index: usize, base: u32) -> Result<(), VhostUserError> {
        if let Ok(base) = u16::try_from(base) {
            let what = format!("SET_VRING_BASE of queue {index}");
            return self.protocol.set_vring_base(index, base).map_err(failed(what));
        }
        let sent = self.send_base(index as u32, base);
        sent.map_err(|source| VhostUserError::Socket { what: format!("SET_VRING_BASE of queue {index}"), source })
    }

    fn send_base(&mut self, index: u32, base: u32) -> io::Result<()> {
        let flags = VERSION | if self.acknowledges() { NEED_REPLY } else { 0 };
        let words = [SET_VRING_BASE, flags, 8, index, base];
        self.stream.write_all(words.as_bytes())?;
        if !self.acknowledges() {
            return Ok(());
        }
        // A header, and 0 for done.
        let mut answer = [0u32; 5];
        self.stream.read_exact(answer.as_mut_bytes())?;
        let [request, _, 8, 0, 0] = answer else { return Err(io::Error::other("the back end refuses")) };
        if request == SET_VRING_BASE { Ok(()) } else { Err(io::Error::other("the back end answers something else")) }
    }

    /// Waits until the back end has done what it was told, if it does not say so of each message: it answers one after the other.
    fn settle(&self) -> Result<(), VhostUserError> {
        match self.acknowledges() {
            true => Ok(()),
            false => self.protocol.get_features().map(|_| ()).map_err(failed("GET_FEATURES")),
        }
    }
}

/// What both ends wake each other with.
#[derive(Debug)]
pub struct QueueEvents {
    /// The device has something to do.
    pub kick: EventFd,
    /// The device has done something.
    pub call: EventFd,
    /// The ring is broken.
    pub error: EventFd,
}

impl QueueEvents {
    /// Three eventfds that do not block.
    pub fn new() -> io::Result<Self> {
        let one = || EventFd::new(EFD_NONBLOCK);
        Ok(Self { kick: one()?, call: one()?, error: one()? })
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(vhost::Error) -> VhostUserError {
    let what = what.into();
    move |source| VhostUserError::Message { what, source }
}
