//! What the tests of the engine share: running a task on a reactor, without any export, and devices and disks to run it on.
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

pub mod pool;

use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use strongroom::device::{DeviceConfig, DeviceKind, SharedDevice, Size};
use strongroom::memory::HugePages;
use strongroom::reactor::{Reactor, ReactorConfig, ReactorThread, allowed_cpus};

/// A reactor with little memory, on normal pages: tests run on machines without hugepages.
pub fn small_reactor() -> ReactorThread {
    let config = ReactorConfig { memory_mib: 16, hugepages: HugePages::Never, ..ReactorConfig::default() };
    ReactorThread::start(*allowed_cpus().last().expect("a core"), &config).expect("a reactor")
}

/// More than any task of a test takes. A reactor whose thread has panicked never answers the others, which would wait for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a task on each of so many reactors at once, and returns when all are done.
pub fn on_reactors<F: Future<Output = ()> + 'static>(
    count: usize,
    task: impl Fn(usize, Reactor) -> F + Clone + Send + 'static,
) {
    let config = ReactorConfig { memory_mib: 8, hugepages: HugePages::Never, ..ReactorConfig::default() };
    let cpus = allowed_cpus();
    let threads: Vec<_> =
        (0..count).map(|n| ReactorThread::start(cpus[n % cpus.len()], &config).expect("a reactor")).collect();
    let (done, all_done) = mpsc::channel();
    for (number, thread) in threads.iter().enumerate() {
        let (task, done) = (task.clone(), done.clone());
        thread.remote().post(move |reactor| {
            let task = task(number, reactor.clone());
            reactor.spawn(async move {
                task.await;
                done.send(()).expect("the test waits");
            });
        });
    }
    drop(done);
    for _ in &threads {
        all_done.recv_timeout(PATIENCE).expect("every task ended without a panic");
    }
    threads.iter().for_each(|thread| thread.remote().stop());
    threads.into_iter().for_each(ReactorThread::join);
}

/// Runs a task on a reactor of its own and returns its result.
pub fn on_reactor<T, F>(task: impl FnOnce(Reactor) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let thread = small_reactor();
    let result = thread.remote().run(task);
    thread.remote().stop();
    thread.join();
    result
}

/// Runs `count` tasks side by side on the reactor and waits for all.
pub async fn all<F: Future<Output = ()> + 'static>(reactor: &Reactor, count: u64, task: impl Fn(u64) -> F) {
    let left = Rc::new(std::cell::Cell::new(count));
    for number in 0..count {
        let (task, left) = (task(number), left.clone());
        reactor.spawn(async move {
            task.await;
            left.set(left.get() - 1);
        });
    }
    while left.get() > 0 {
        strongroom::reactor::yield_now().await;
    }
}

/// A device's configuration without layers.
pub fn device_config(kind: DeviceKind, path: Option<PathBuf>, mib: u64) -> DeviceConfig {
    DeviceConfig {
        name: "d0".to_owned(),
        kind,
        create: path.is_some(),
        path,
        size: Some(Size(mib << 20)),
        hugepages: HugePages::Never,
        layers: Vec::new(),
    }
}

/// A memory device.
pub fn memory_device(mib: u64) -> Arc<SharedDevice> {
    Arc::new(SharedDevice::open(&device_config(DeviceKind::Memory, None, mib)).expect("a memory device"))
}

/// Bytes that follow from a seed: the same seed gives the same bytes.
pub fn bytes_of(seed: u64, len: usize) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A memory device with layers, as the configuration has them.
pub fn layered(mib: u64, layers: &str) -> Arc<SharedDevice> {
    let mut config = device_config(DeviceKind::Memory, None, mib);
    config.layers = toml::from_str::<toml::Table>(layers).expect("TOML")["layers"].clone().try_into().expect("layers");
    Arc::new(SharedDevice::open(&config).expect("a device"))
}
