//! A thread that has served a volume for a while, as a job of fio does, may end: the pool waits for it no more, and has back what it had let go.

#[path = "common/random.rs"]
mod random;

mod engine;
mod pool;

use engine::{bytes_of, memory_device, small_reactor};
use pool::write;
use strongroom::device::ByteRange;
use strongroom::memory::HugePages;
use strongroom::reactor::{LocalReactor, ReactorConfig};
use strongroom::volume::{FormatOptions, NewVolume, OpenOptions, Pool, retire};

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 1024;

#[test]
fn jobs_come_and_go_and_the_pool_closes() {
    let device = memory_device(16);
    let reactor = small_reactor();
    let home = reactor.remote();
    Pool::format("p", device.clone(), home, FormatOptions::default()).expect("formatted");
    let pool = Pool::open("p", device.clone(), home, OpenOptions::default()).expect("opened");
    let new = NewVolume { name: "v".to_owned(), size: BLOCKS * BLOCK, attributes: Vec::new(), key: None };
    let volume = pool.create_volume(new).expect("a volume");
    // Each round lets go of a third of the device, which the next ones need.
    for round in 0..12 {
        let config = ReactorConfig { memory_mib: 2, hugepages: HugePages::Never, ..ReactorConfig::default() };
        let local = LocalReactor::start(&config).expect("a reactor");
        let (reactor, volume) = (local.reactor().clone(), volume.clone());
        local.reactor().spawn(async move {
            let queue = volume.queue(&reactor).expect("a queue");
            for block in 0..BLOCKS {
                write(&reactor, &queue, block * BLOCK, &bytes_of(round, BLOCK as usize)).await.expect("written");
            }
            queue.discard(ByteRange::new(0, BLOCKS * BLOCK).expect("fits")).await.expect("discarded");
            drop(queue);
            retire().await;
        });
        drop(local);
        pool.snapshot("v", &format!("s{round}")).expect("a snapshot");
        pool.delete(&format!("v@s{round}")).expect("deleted");
    }
    drop(volume);
    pool.close().expect("closed");
    let report = Pool::check("p", device, home, OpenOptions::default(), false, |_, _| {}).expect("checked");
    assert!(report.is_sound(), "{:?}", report.problems);
    reactor.remote().stop();
    reactor.join();
}
