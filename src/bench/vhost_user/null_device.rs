//! A device without data, for loading the front end: it takes requests by our own ring code, and completes them at once without touching their data.
//!
//! It serves one front end at a time, which it trusts, on a core that each of its queues spins on: it is no target for anything else. What it leaves out of
//! the protocol it refuses. It can misbehave, so that a front end can be tested.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight, VhostUserLog,
    VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{BackendReqHandler, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use zerocopy::{FromZeros, IntoBytes};

use crate::export::vhost_user::memory::{GuestMemory, RegionInfo};
use crate::export::vhost_user::ring::{Chain, Head, Layout, Ring, RingFeatures};
use crate::reactor::pin_current_thread;

use super::front_end::{BlockConfig, feature};

/// Queues that it offers.
const QUEUES: usize = 16;
/// Bytes of a block.
const BLOCK: u32 = 512;
/// Pieces of data in a request, and their largest.
const SEGMENTS: u32 = 126;
const SEGMENT_BYTES: u32 = 1 << 20;
/// The header of a request: its type, and where (virtio 1.2, section 5.2.6).
const HEADER_BYTES: usize = 16;

/// Looks at an empty ring before others have their turn on the core.
const PATIENCE: u32 = 1000;

/// What it does to each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// Completes it.
    Good,
    /// Completes it with this status.
    Status(u8),
    /// Says that it wrote this much more than it did.
    MoreLength(u32),
    /// Completes another one, which it was not given.
    Another,
}

/// The device while it serves.
pub struct NullDevice {
    socket: PathBuf,
    ended: Arc<AtomicBool>,
}

impl NullDevice {
    /// Serves at a new socket until it is dropped; a session ends with its front end.
    pub fn start(socket: &Path, core: usize, disk_bytes: u64, manners: Manners) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let ended = Arc::new(AtomicBool::new(false));
        let stop = ended.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let device = Arc::new(Mutex::new(Device::new(core, disk_bytes, manners)));
                let mut handler = BackendReqHandler::from_stream(stream, device.clone());
                // A front end that goes away ends its session only.
                while handler.handle_request().is_ok() {}
                device.lock().expect("no thread panics while it has it").stop_all();
            }
        });
        Ok(Self { socket: socket.to_owned(), ended })
    }
}

impl Drop for NullDevice {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener. If it is gone already, there is nobody to wake.
        let _ = std::os::unix::net::UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A session.
struct Device {
    core: usize,
    disk_bytes: u64,
    manners: Manners,
    features: u64,
    memory: Arc<GuestMemory>,
    queues: Vec<Queue>,
}

#[derive(Default)]
struct Queue {
    layout: Layout,
    base: u32,
    running: Option<Running>,
}

struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

fn refused<T>() -> Result<T> {
    Err(Error::ReqHandlerError(io::ErrorKind::Unsupported.into()))
}

impl Device {
    fn new(core: usize, disk_bytes: u64, manners: Manners) -> Self {
        let queues = (0..QUEUES).map(|_| Queue::default()).collect();
        Self { core, disk_bytes, manners, features: 0, memory: GuestMemory::empty(), queues }
    }

    fn queue(&mut self, index: u32) -> Result<&mut Queue> {
        self.queues.get_mut(index as usize).ok_or(Error::InvalidParam)
    }

    fn start(&mut self, index: u32) -> Result<()> {
        let features = RingFeatures {
            packed: self.features & feature::RING_PACKED != 0,
            indirect: self.features & feature::INDIRECT_DESC != 0,
            event_index: false,
        };
        let (core, manners, memory) = (self.core, self.manners, self.memory.clone());
        let queue = self.queue(index)?;
        let (layout, base) = (queue.layout, queue.base);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (begun, answer) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let ring = Ring::new(memory, layout, features, base, None);
            // The session waits for this.
            let _ = begun.send(ring.as_ref().map(|_| ()).map_err(|e| *e));
            ring.map_or(base, |ring| serve(ring, core, manners, &stopped))
        });
        let begun = answer.recv().map_err(|_| Error::BackendInternalError)?;
        begun.map_err(|e| Error::ReqHandlerError(io::Error::other(e)))?;
        queue.running = Some(Running { stop, thread });
        Ok(())
    }

    fn stop(&mut self, index: u32) -> Result<()> {
        let queue = self.queue(index)?;
        if let Some(Running { stop, thread }) = queue.running.take() {
            stop.store(true, Ordering::Relaxed);
            queue.base = thread.join().map_err(|_| Error::BackendInternalError)?;
        }
        Ok(())
    }

    fn stop_all(&mut self) {
        // A thread that has panicked has said so.
        (0..QUEUES as u32).for_each(|index| drop(self.stop(index)));
    }

    fn config(&self) -> BlockConfig {
        let mut config = BlockConfig::new_zeroed();
        config.capacity = (self.disk_bytes / u64::from(BLOCK)).into();
        config.size_max = SEGMENT_BYTES.into();
        config.seg_max = SEGMENTS.into();
        config.blk_size = BLOCK.into();
        config.num_queues = (QUEUES as u16).into();
        config
    }
}

/// Completes what comes until it is to stop; where the ring is then.
fn serve(mut ring: Ring, core: usize, manners: Manners, stop: &AtomicBool) -> u32 {
    // Without its core it is slower, and the front end's report says so.
    let _ = pin_current_thread(core);
    let mut chain = Chain::new();
    ring.refuse_kicks();
    let mut idle = 0;
    while !stop.load(Ordering::Relaxed) {
        match ring.next(&mut chain) {
            Ok(true) => {
                idle = 0;
                let written = answer(&mut chain, manners);
                complete(&mut ring, chain.head(), written, manners);
            }
            Ok(false) if idle < PATIENCE => {
                idle += 1;
                std::hint::spin_loop();
            }
            Ok(false) => {
                idle = 0;
                std::thread::yield_now();
            }
            // Its front end is trusted: this is a mistake of one of us, which the silence shows.
            Err(_) => break,
        }
    }
    ring.base()
}

fn answer(chain: &mut Chain, manners: Manners) -> u32 {
    let is_whole = chain.read_header(&mut [0; HEADER_BYTES]);
    let status = match manners {
        Manners::Status(status) => status,
        _ => u8::from(!is_whole),
    };
    chain.set_status(status);
    chain.writable_len() as u32 + 1
}

fn complete(ring: &mut Ring, head: Head, written: u32, manners: Manners) {
    match manners {
        Manners::MoreLength(more) => ring.complete(head, written + more),
        Manners::Another => ring.complete(head.another(), written),
        Manners::Good | Manners::Status(_) => ring.complete(head, written),
    }
}

impl VhostUserBackendReqHandlerMut for Device {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        refused()
    }

    fn reset_device(&mut self) -> Result<()> {
        refused()
    }

    fn get_features(&mut self) -> Result<u64> {
        use feature::{BLK_SIZE, INDIRECT_DESC, MQ, PROTOCOL, RING_PACKED, SEG_MAX, SIZE_MAX, VERSION_1};
        Ok(BLK_SIZE | INDIRECT_DESC | MQ | PROTOCOL | RING_PACKED | SEG_MAX | SIZE_MAX | VERSION_1)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        self.features = features;
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let region = |(region, file): (&VhostUserMemoryRegion, File)| RegionInfo {
            guest: region.guest_phys_addr,
            len: region.memory_size,
            front_end: region.user_addr,
            file: OwnedFd::from(file),
            offset: region.mmap_offset,
        };
        let memory = GuestMemory::of(regions.iter().zip(files).map(region).collect());
        self.memory = memory.map_err(|e| Error::ReqHandlerError(io::Error::other(e)))?;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.queue(index)?.layout.size = num.try_into().map_err(|_| Error::InvalidParam)?;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let layout = &mut self.queue(index)?.layout;
        (layout.descriptors, layout.device, layout.driver) = (descriptor, used, available);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.queue(index)?.base = base;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.stop(index)?;
        Ok(VhostUserVringState::new(index, self.queue(index)?.base))
    }

    fn set_vring_kick(&mut self, _index: u8, _fd: Option<File>) -> Result<()> {
        Ok(())
    }

    fn set_vring_call(&mut self, _index: u8, _fd: Option<File>) -> Result<()> {
        Ok(())
    }

    fn set_vring_err(&mut self, _index: u8, _fd: Option<File>) -> Result<()> {
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        use VhostUserProtocolFeatures as P;
        Ok(P::MQ | P::REPLY_ACK | P::CONFIG)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(QUEUES as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.stop(index)?;
        if enable { self.start(index) } else { Ok(()) }
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let config = self.config();
        let range = offset as usize..offset as usize + size as usize;
        config.as_bytes().get(range).map(<[u8]>::to_vec).ok_or(Error::InvalidParam)
    }

    fn set_config(&mut self, _offset: u32, _bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        refused()
    }

    fn set_gpu_socket(&mut self, _gpu: GpuBackend) -> Result<()> {
        refused()
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        refused()
    }

    fn get_inflight_fd(&mut self, _inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        refused()
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        refused()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        refused()
    }

    fn add_mem_region(
        &mut self,
        _region: &VhostUserSingleMemoryRegion,
        _file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<u64>> {
        refused()
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        refused()
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        refused()
    }

    fn check_device_state(&mut self) -> Result<()> {
        refused()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        refused()
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        refused()
    }
}
