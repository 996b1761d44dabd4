//! Every device and every layer keeps the contract that is written on the `Device` trait.

mod engine;

use std::path::Path;
use std::rc::Rc;

use engine::{all, bytes_of, device_config, on_reactor};
use strongroom::device::layer::LayerConfig;
use strongroom::device::{
    ByteRange, Device, DeviceConfig, DeviceHandle, DeviceKind, IoError, SharedDevice, SimulatedConfig, SimulatedDevice,
    Zeroes, read_whole, write_whole,
};
use strongroom::memory::Buffer;
use strongroom::reactor::Reactor;

const MIB: u64 = 8;
const SIZE: u64 = MIB << 20;

/// What a device does with data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Keeps,
    Forgets,
}

/// Holds a device to the contract. Each check takes the device as the one before left it.
async fn keeps_the_contract(reactor: Reactor, device: DeviceHandle, memory: Memory) {
    let subject = Subject { reactor, device: Rc::new(device), memory };
    subject.tells_sane_facts();
    subject.gives_back_what_was_written().await;
    subject.refuses_ranges_outside_its_blocks().await;
    subject.zeroes_what_it_says_it_zeroed().await;
    subject.discards_nothing_else().await;
    subject.describes_its_extents().await;
    subject.serves_many_commands_at_once().await;
    subject.survives_a_dropped_command().await;
    assert_eq!(subject.device.flush().await, Ok(()));
}

struct Subject {
    reactor: Reactor,
    device: Rc<DeviceHandle>,
    memory: Memory,
}

impl Subject {
    async fn buffer(&self, len: usize) -> Buffer {
        self.reactor.buffers().take(len).await
    }

    async fn write(&self, at: u64, data: &[u8]) {
        let mut buffer = self.buffer(data.len()).await;
        buffer[..data.len()].copy_from_slice(data);
        assert_eq!(write_whole(&*self.device, at, &mut buffer, 0..data.len()).await, Ok(()), "write at {at}");
        if self.device.direct(ByteRange::new(at, 512).expect("fits")).is_none() {
            assert_eq!(&buffer[..data.len()], data, "a write changed its buffer");
        }
    }

    async fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut buffer = self.buffer(len).await;
        buffer.fill(0xee);
        assert_eq!(read_whole(&*self.device, at, &mut buffer, 0..len).await, Ok(()), "read at {at}");
        buffer[..len].to_vec()
    }

    async fn expect(&self, at: u64, data: &[u8]) {
        let read = self.read(at, data.len()).await;
        let wanted = if self.memory == Memory::Keeps { data.to_vec() } else { vec![0; data.len()] };
        assert!(read == wanted, "{} bytes at {at} are not what was written", data.len());
    }

    fn tells_sane_facts(&self) {
        let info = self.device.info();
        assert_eq!(info.size, SIZE);
        assert!(info.block_size.is_power_of_two() && (512..=4096).contains(&info.block_size));
    }

    async fn gives_back_what_was_written(&self) {
        let block = self.device.info().block_size as usize;
        for (at, len) in [(0, block), (4096, 4096), (65536, 128 << 10), (SIZE - 4096, 4096), (1 << 20, 1 << 20)] {
            self.write(at, &bytes_of(at + len as u64, len)).await;
            self.expect(at, &bytes_of(at + len as u64, len)).await;
        }
        // A window that does not start at the buffer's first byte.
        let (mut buffer, data) = (self.buffer(16384).await, bytes_of(7, 4096));
        buffer.fill(0);
        buffer[8192..12288].copy_from_slice(&data);
        assert_eq!(write_whole(&*self.device, 4096, &mut buffer, 8192..12288).await, Ok(()));
        buffer.fill(0xee);
        assert_eq!(read_whole(&*self.device, 4096, &mut buffer, 4096..8192).await, Ok(()));
        assert!(buffer[..4096].iter().chain(&buffer[8192..]).all(|&b| b == 0xee), "bytes beside the window changed");
        self.expect(4096, &data).await;
        self.expect(0, &bytes_of(block as u64, block)).await;
    }

    async fn refuses_ranges_outside_its_blocks(&self) {
        let device = &*self.device;
        let mut buffer = self.buffer(8192).await;
        let range = |at, len| ByteRange::new(at, len).expect("fits");
        assert_eq!(device.read(1, &mut buffer, 0..4096).await, Err(IoError::Misaligned));
        assert_eq!(device.write(0, &mut buffer, 0..100).await, Err(IoError::Misaligned));
        assert_eq!(device.read(SIZE, &mut buffer, 0..4096).await, Err(IoError::OutOfRange));
        assert_eq!(device.write(SIZE - 4096, &mut buffer, 0..8192).await, Err(IoError::OutOfRange));
        assert_eq!(device.discard(range(SIZE, 4096)).await, Err(IoError::OutOfRange));
        assert_eq!(device.write_zeroes(range(7, 4096), Zeroes::MayFree).await, Err(IoError::Misaligned));
        assert_eq!(device.extents(range(0, SIZE + 4096)).await, Err(IoError::OutOfRange));
        assert_eq!(buffer.len(), 8192, "a refused command kept the buffer");
        self.expect(SIZE - 4096, &bytes_of(SIZE, 4096)).await;
    }

    async fn zeroes_what_it_says_it_zeroed(&self) {
        for space in [Zeroes::MayFree, Zeroes::KeepAllocated] {
            self.write(0, &bytes_of(1, 65536)).await;
            match self.device.write_zeroes(ByteRange::new(8192, 16384).expect("fits"), space).await {
                Ok(()) => self.expect(8192, &[0; 16384]).await,
                Err(e) => assert_eq!(e, IoError::Unsupported),
            }
            self.expect(0, &bytes_of(1, 65536)[..8192]).await;
            self.expect(24576, &bytes_of(1, 65536)[24576..]).await;
        }
    }

    async fn discards_nothing_else(&self) {
        self.write(0, &bytes_of(2, 65536)).await;
        let done = self.device.discard(ByteRange::new(16384, 16384).expect("fits")).await;
        assert!(matches!(done, Ok(()) | Err(IoError::Unsupported)), "{done:?}");
        self.expect(0, &bytes_of(2, 65536)[..16384]).await;
        self.expect(32768, &bytes_of(2, 65536)[32768..]).await;
        // What was discarded can be written again.
        self.write(16384, &bytes_of(3, 16384)).await;
        self.expect(16384, &bytes_of(3, 16384)).await;
    }

    async fn describes_its_extents(&self) {
        self.write(0, &bytes_of(4, 4096)).await;
        let extents = self.device.extents(ByteRange::new(0, SIZE).expect("fits")).await.expect("extents");
        let sum: u64 = extents.iter().map(|extent| extent.len).sum();
        assert!(!extents.is_empty() && sum <= SIZE && extents.iter().all(|extent| extent.len > 0));
        // A hole reads as zeros, so what holds data must not be called one.
        assert!(self.memory == Memory::Forgets || !extents[0].is_hole, "written bytes are called a hole");
    }

    async fn serves_many_commands_at_once(&self) {
        let (device, reactor) = (self.device.clone(), self.reactor.clone());
        all(&self.reactor, 128, move |number| {
            let (device, reactor) = (device.clone(), reactor.clone());
            async move {
                let data = bytes_of(1000 + number, 8192);
                let mut buffer = reactor.buffers().take(8192).await;
                buffer.copy_from_slice(&data);
                assert_eq!(write_whole(&*device, number * 8192, &mut buffer, 0..8192).await, Ok(()));
            }
        })
        .await;
        for number in 0..128 {
            self.expect(number * 8192, &bytes_of(1000 + number, 8192)).await;
        }
    }

    async fn survives_a_dropped_command(&self) {
        let free = self.reactor.buffers().free_bytes();
        let mut buffer = self.buffer(4096).await;
        {
            let mut read = std::pin::pin!(self.device.read(0, &mut buffer, 0..4096));
            std::future::poll_fn(|cx| {
                let _ = read.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
        }
        drop(buffer);
        while self.reactor.buffers().free_bytes() < free {
            strongroom::reactor::yield_now().await;
        }
    }
}

fn check(config: DeviceConfig, memory: Memory) {
    check_device(SharedDevice::open(&config).expect("a device"), memory);
}

fn check_device(shared: SharedDevice, memory: Memory) {
    on_reactor(move |reactor| async move {
        let device = shared.handle(&reactor).expect("a handle");
        keeps_the_contract(reactor, device, memory).await;
    });
}

fn file_config(dir: &Path) -> DeviceConfig {
    device_config(DeviceKind::File, Some(dir.join("blocks")), MIB)
}

fn layers(text: &str) -> Vec<LayerConfig> {
    #[derive(serde::Deserialize)]
    struct Layers {
        layers: Vec<LayerConfig>,
    }
    toml::from_str::<Layers>(text).expect("layers").layers
}

#[test]
fn file_keeps_the_contract() {
    // Beside the build, where O_DIRECT is more likely than in a temporary folder.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    check(file_config(dir.path()), Memory::Keeps);
}

#[test]
fn file_without_o_direct_keeps_the_contract() {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        return println!("skipped: there is no /dev/shm here");
    }
    let dir = tempfile::tempdir_in(shm).expect("a directory");
    check(file_config(dir.path()), Memory::Keeps);
}

#[test]
fn memory_keeps_the_contract() {
    check(device_config(DeviceKind::Memory, None, MIB), Memory::Keeps);
}

#[test]
fn null_keeps_the_contract() {
    check(device_config(DeviceKind::Null, None, MIB), Memory::Forgets);
}

#[test]
fn simulated_keeps_the_contract() {
    for (most_turns, block_size) in [(0, 512), (9, 512), (3, 4096)] {
        let config = SimulatedConfig { size: SIZE, block_size, most_turns, seed: 5, is_recorded: true };
        check_device(SharedDevice::simulated("d0", SimulatedDevice::new(config)), Memory::Keeps);
    }
}

#[test]
fn delay_layer_keeps_the_contract() {
    let delay = "layers = [{ kind = 'delay', read_us = 50, write_us = 100, flush_us = 200, discard_us = 20 }]";
    check(DeviceConfig { layers: layers(delay), ..device_config(DeviceKind::Memory, None, MIB) }, Memory::Keeps);
}

#[test]
fn fault_layer_with_short_completions_keeps_the_contract() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let short = "layers = [{ kind = 'fault', rules = [{ effect = 'short', every = 2 }] }]";
    check(DeviceConfig { layers: layers(short), ..file_config(dir.path()) }, Memory::Keeps);
}

#[test]
fn a_stack_of_layers_keeps_the_contract() {
    let stack = "layers = [{ kind = 'fault', rules = [{ effect = 'short', one_in = 3, seed = 5 }] }, { kind = 'delay', read_us = 10 }]";
    check(DeviceConfig { layers: layers(stack), ..device_config(DeviceKind::Memory, None, MIB) }, Memory::Keeps);
}

#[test]
fn a_torn_write_leaves_its_first_half_and_an_error() {
    let torn = "layers = [{ kind = 'fault', rules = [{ effect = 'torn', on = 'write', skip = 1, times = 1 }] }]";
    let config = DeviceConfig { layers: layers(torn), ..device_config(DeviceKind::Memory, None, MIB) };
    let shared = SharedDevice::open(&config).expect("a device");
    on_reactor(move |reactor| async move {
        let device = shared.handle(&reactor).expect("a handle");
        let mut buffer = reactor.buffers().take(8192).await;
        buffer.fill(1);
        assert_eq!(write_whole(&device, 0, &mut buffer, 0..8192).await, Ok(()));
        buffer.fill(2);
        assert_eq!(write_whole(&device, 0, &mut buffer, 0..8192).await, Err(IoError::Media));
        assert_eq!(read_whole(&device, 0, &mut buffer, 0..8192).await, Ok(()));
        assert!(buffer[..4096].iter().all(|&b| b == 2) && buffer[4096..].iter().all(|&b| b == 1));
    });
}
