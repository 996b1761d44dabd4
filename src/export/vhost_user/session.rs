//! A session with a front end: the protocol of vhost-user (QEMU, `docs/interop/vhost-user.rst`), as the `vhost` crate hands it over.
//!
//! It runs on a thread of its own, which may block: starting and ending queues is asked of their reactors. A queue runs when the front end has said
//! where its ring is, has given its kick and has enabled it; whatever is missing is waited for, in any order. The front end is answered only when what it
//! asked for is so: a queue that was stopped, or memory that was taken back, is not touched any more.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight, VhostUserLog,
    VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

use super::config_space::{self, feature};
use super::exported::{Exported, SessionView};
use super::memory::{GuestMemory, RegionInfo};
use super::queue::{QueueSetup, Tally};
use super::reactors::Reactors;
use super::ring::{InflightShared, Layout, RingFeatures};
use super::shard::Shard;

/// Regions of memory that a guest may have. The crate passes no more descriptors in a message than this.
const MEMORY_SLOTS: u64 = 32;

/// What is kept with requests at work: how the guest has set its write cache.
const CACHE_IS_ON: u32 = 0;
const CACHE_IS_OFF: u32 = 1;

/// A session.
pub(super) struct Session {
    exported: Arc<Exported>,
    reactors: Arc<Reactors>,
    /// The reactor of the first queue: the others follow.
    first_reactor: usize,
    features: u64,
    memory: Arc<GuestMemory>,
    inflight: Option<InflightShared>,
    write_through: Arc<AtomicBool>,
    /// Whether the guest has turned its write cache off.
    cache_is_off: bool,
    queues: Vec<QueueState>,
    /// Whether a queue has ever run.
    was_used: bool,
    tally: Tally,
}

/// A queue, running or not.
#[derive(Default)]
struct QueueState {
    layout: Layout,
    is_placed: bool,
    base: u32,
    /// The front end has given a kick, or said that there is none.
    kick: Option<Option<OwnedFd>>,
    call: Option<OwnedFd>,
    error: Option<OwnedFd>,
    enabled: bool,
    /// Its number on its reactor.
    running: Option<u64>,
}

/// Something that the front end cannot have.
fn refused<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::ReqHandlerError(io::Error::other(what.into())))
}

fn from_text<T>(done: std::result::Result<T, String>) -> Result<T> {
    done.or_else(refused)
}

impl Session {
    pub(super) fn new(exported: Arc<Exported>, reactors: Arc<Reactors>) -> Self {
        let queues = (0..exported.queues).map(|_| QueueState::default()).collect();
        Self {
            first_reactor: reactors.next(),
            reactors,
            exported,
            features: 0,
            memory: GuestMemory::empty(),
            inflight: None,
            write_through: Arc::default(),
            cache_is_off: false,
            queues,
            was_used: false,
            tally: Tally::default(),
        }
    }

    /// Ends all queues; tells what they have done.
    pub(super) fn end(&mut self) -> Tally {
        (0..self.queues.len()).for_each(|index| self.stop(index));
        self.tally
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn queue(&mut self, index: u32) -> Result<&mut QueueState> {
        let count = self.queues.len();
        match self.queues.get_mut(index as usize) {
            Some(queue) => Ok(queue),
            None => refused(format!("it names queue {index} of {count}")),
        }
    }

    /// A queue that does not run, for who changes what it is made of.
    fn stopped_queue(&mut self, index: u32) -> Result<&mut QueueState> {
        let queue = self.queue(index)?;
        if queue.running.is_some() {
            return refused(format!("it changes queue {index}, which runs; it has to be stopped first"));
        }
        Ok(queue)
    }

    fn reactor_of(&self, index: usize) -> usize {
        self.first_reactor + index
    }

    /// Starts a queue, if nothing is missing.
    fn start(&mut self, index: usize) -> Result<()> {
        let features = RingFeatures {
            packed: self.has(feature::RING_PACKED),
            indirect: self.has(feature::INDIRECT_DESC),
            event_index: self.has(feature::EVENT_IDX),
        };
        let is_enabled_from_the_start = !self.has(feature::PROTOCOL);
        let queue = &self.queues[index];
        let Some(kick) = &queue.kick else { return Ok(()) };
        if queue.running.is_some() || !queue.is_placed || !(queue.enabled || is_enabled_from_the_start) {
            return Ok(());
        }
        let clone = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose();
        let inflight = self.inflight.as_ref().map(|inflight| inflight.queue(index)).transpose();
        let setup = QueueSetup {
            index,
            exported: self.exported.clone(),
            write_through: self.write_through.clone(),
            memory: self.memory.clone(),
            layout: queue.layout,
            features,
            base: queue.base,
            inflight: inflight.or_else(|e| refused(e.to_string()))?,
            kick: clone(kick).map_err(Error::ReqHandlerError)?,
            call: clone(&queue.call).map_err(Error::ReqHandlerError)?,
            error: clone(&queue.error).map_err(Error::ReqHandlerError)?,
        };
        let number = self.reactors.new_number();
        let server = self.reactors.server();
        let reactor = self.reactors.remote(self.reactor_of(index));
        from_text(reactor.call(move |_| Shard::start_queue(server, number, setup)))?;
        self.queues[index].running = Some(number);
        self.show();
        if !std::mem::replace(&mut self.was_used, true) {
            // The disk may have grown while this front end had no session.
            self.exported.tell_size();
        }
        Ok(())
    }

    /// Stops a queue, if it runs: its requests have ended when this returns.
    fn stop(&mut self, index: usize) {
        let Some(number) = self.queues[index].running.take() else { return };
        let server = self.reactors.server();
        let reactor = self.reactors.remote(self.reactor_of(index));
        let ended = reactor.run(async move |_| Shard::end_queue(server, number).await);
        if let Some((base, tally)) = ended {
            self.queues[index].base = base;
            self.tally.requests += tally.requests;
            self.tally.errors += tally.errors;
        }
        self.show();
    }

    /// Starts a queue again with something new.
    fn restart(&mut self, index: usize) -> Result<()> {
        self.stop(index);
        self.start(index)
    }

    /// Tells reports which queues run.
    fn show(&self) {
        let running = self.queues.iter().enumerate().filter(|(_, queue)| queue.running.is_some());
        let cores: Vec<usize> = running.map(|(n, _)| self.reactors.remote(self.reactor_of(n)).core()).collect();
        if let Some(SessionView { queues, cores: shown, .. }) = &mut *self.exported.session() {
            (*queues, *shown) = (cores.len(), cores);
        }
    }

    /// Gives the guest's memory to all queues; when this returns, none of them touches what was its memory before.
    fn set_memory(&mut self, memory: Arc<GuestMemory>) {
        self.memory = memory;
        let server = self.reactors.server();
        for (index, queue) in self.queues.iter().enumerate() {
            let Some(number) = queue.running else { continue };
            let memory = self.memory.clone();
            let reactor = self.reactors.remote(self.reactor_of(index));
            reactor.run(async move |_| Shard::change_memory(server, number, memory).await);
        }
    }

    /// Sets whether writes are durable before they are answered: if the guest has turned its cache off, or knows of none (section 5.2.6.2).
    fn settle_cache(&mut self) {
        let knows_no_cache = self.features != 0 && !self.has(feature::FLUSH) && !self.has(feature::CONFIG_WCE);
        let write_through = self.cache_is_off || knows_no_cache;
        self.keep_cache_mode();
        let was_on = !self.write_through.swap(write_through, Ordering::Relaxed);
        if was_on && write_through {
            // What was written before is durable too, as the guest takes it.
            let (server, number) = (self.reactors.server(), self.exported.number);
            let flushed = self.reactors.remote(0).run(async move |_| Shard::flush_disk(server, number).await);
            if let Err(e) = flushed {
                warn!("vhost_user {}: disk {}: {e}", self.exported.socket(), self.exported.disk().name());
            }
        }
    }

    /// A guest that has turned its cache off is not told when the target is started again, so that has to outlive this process.
    fn keep_cache_mode(&self) {
        if let Some(inflight) = &self.inflight {
            inflight.set_note(if self.cache_is_off { CACHE_IS_OFF } else { CACHE_IS_ON });
        }
    }

    /// As it was before the guest's driver came.
    fn reset(&mut self) {
        (0..self.queues.len()).for_each(|index| self.stop(index));
        for queue in &mut self.queues {
            (queue.enabled, queue.kick) = (false, None);
        }
        self.cache_is_off = false;
        self.settle_cache();
    }
}

impl VhostUserBackendReqHandlerMut for Session {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.reset();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(config_space::features(self.exported.of.read_only))
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let unknown = features & !config_space::features(self.exported.of.read_only);
        if unknown != 0 {
            return refused(format!("it takes features that were not offered: {unknown:#x}"));
        }
        let changed = (self.features ^ features)
            & (feature::RING_PACKED | feature::INDIRECT_DESC | feature::EVENT_IDX | feature::PROTOCOL);
        if changed != 0 && self.queues.iter().any(|queue| queue.running.is_some()) {
            return refused("it takes other features of rings while queues run");
        }
        self.features = features;
        self.settle_cache();
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let regions = regions.iter().zip(files).map(|(region, file)| region_info(region, file)).collect();
        let memory = GuestMemory::of(regions).or_else(|e| refused(e.to_string()))?;
        self.set_memory(memory);
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let queue = self.stopped_queue(index)?;
        match u16::try_from(num) {
            Ok(size) => queue.layout.size = size,
            Err(_) => return refused(format!("queue {index}: no ring has {num} entries")),
        }
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
        let queue = self.stopped_queue(index)?;
        (queue.layout.descriptors, queue.layout.driver, queue.layout.device) = (descriptor, available, used);
        queue.is_placed = true;
        self.start(index as usize)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.stopped_queue(index)?.base = base;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.queue(index)?;
        self.stop(index as usize);
        let queue = self.queue(index)?;
        // It starts again with a new kick.
        queue.kick = None;
        Ok(VhostUserVringState::new(index, queue.base))
    }

    fn set_vring_kick(&mut self, index: u8, kick: Option<File>) -> Result<()> {
        self.queue(index.into())?.kick = Some(kick.map(OwnedFd::from));
        self.restart(index.into())
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        let queue = self.queue(index.into())?;
        queue.call = call.map(OwnedFd::from);
        let Some(number) = queue.running else { return Ok(()) };
        let call = queue.call.as_ref().map(OwnedFd::try_clone).transpose().map_err(Error::ReqHandlerError)?;
        let server = self.reactors.server();
        let reactor = self.reactors.remote(self.reactor_of(index.into()));
        from_text(reactor.call(move |_| Shard::set_call(server, number, call)))
    }

    fn set_vring_err(&mut self, index: u8, error: Option<File>) -> Result<()> {
        self.queue(index.into())?.error = error.map(OwnedFd::from);
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        use VhostUserProtocolFeatures as P;
        Ok(P::MQ
            | P::REPLY_ACK
            | P::CONFIG
            | P::BACKEND_REQ
            | P::INFLIGHT_SHMFD
            | P::RESET_DEVICE
            | P::CONFIGURE_MEM_SLOTS)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.queues.len() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.queue(index)?.enabled = enable;
        if enable {
            return self.start(index as usize);
        }
        self.stop(index as usize);
        Ok(())
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let (disk, queues) = (self.exported.disk(), self.exported.queues);
        match config_space::read(disk, queues, !self.cache_is_off, offset, size) {
            Some(bytes) => Ok(bytes),
            None => refused(format!("it reads {size} bytes at {offset} of the configuration space")),
        }
    }

    fn set_config(&mut self, offset: u32, bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        match config_space::write(offset, bytes) {
            Some(writeback) => {
                self.cache_is_off = !writeback;
                self.settle_cache();
                Ok(())
            }
            None => refused(format!("it writes {} bytes at {offset} of the configuration space", bytes.len())),
        }
    }

    fn set_gpu_socket(&mut self, _gpu: GpuBackend) -> Result<()> {
        refused("it takes the disk for a GPU")
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        refused("there are no shared objects")
    }

    fn get_inflight_fd(&mut self, wanted: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let VhostUserInflight { num_queues, queue_size, .. } = *wanted;
        let packed = self.has(feature::RING_PACKED);
        let made = InflightShared::make(num_queues, queue_size, packed).or_else(|e| refused(e.to_string()))?;
        let file = made.file().map_err(Error::ReqHandlerError)?;
        let answer = VhostUserInflight::new(made.size(), 0, num_queues, queue_size);
        self.inflight = Some(made);
        self.keep_cache_mode();
        Ok((answer, file))
    }

    fn set_inflight_fd(&mut self, given: &VhostUserInflight, file: File) -> Result<()> {
        let VhostUserInflight { mmap_size, mmap_offset, num_queues, queue_size } = *given;
        let packed = self.has(feature::RING_PACKED);
        let adopted = InflightShared::adopt(file, mmap_offset, mmap_size, num_queues, queue_size, packed);
        let adopted = adopted.or_else(|e| refused(e.to_string()))?;
        if let Some(mode) = adopted.note() {
            self.cache_is_off = mode == CACHE_IS_OFF;
        }
        self.inflight = Some(adopted);
        self.settle_cache();
        Ok(())
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MEMORY_SLOTS)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<u64>> {
        let memory = self.memory.with(region_info(region, file)).or_else(|e| refused(e.to_string()))?;
        self.set_memory(memory);
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let memory = self.memory.without(region.guest_phys_addr, region.memory_size);
        self.set_memory(memory.or_else(|e| refused(e.to_string()))?);
        Ok(())
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        refused("a disk has no state to be moved")
    }

    fn check_device_state(&mut self) -> Result<()> {
        refused("a disk has no state to be moved")
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        refused("a disk has no shared memory")
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        refused("memory that was written is not logged")
    }
}

fn region_info(region: &VhostUserMemoryRegion, file: File) -> RegionInfo {
    RegionInfo {
        guest: region.guest_phys_addr,
        len: region.memory_size,
        front_end: region.user_addr,
        file: file.into(),
        offset: region.mmap_offset,
    }
}
