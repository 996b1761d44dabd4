//! One volume on several reactors at once: neighbours in the same cluster are written, discarded and read on different reactors, while snapshots
//! of the volume come and go and the space of other volumes is freed and used again. Nobody ever reads anything but what he wrote last.

#[path = "common/random.rs"]
mod random;

mod engine;
mod pool;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use engine::{bytes_of, memory_device, small_reactor};
use pool::{read, write};
use random::Random;
use strongroom::device::{ByteRange, IoError, SharedDevice};
use strongroom::reactor::{Reactor, ReactorThread, yield_now};
use strongroom::volume::{FormatOptions, NewVolume, OpenOptions, Pool, Volume, VolumeQueue};

const BLOCK: u64 = 4096;
/// Blocks of the volume: few, so that everybody meets.
const BLOCKS: u64 = 512;
const TASKS: u64 = 16;
const TIME: Duration = Duration::from_secs(4);

/// A writer that has every `TASKS`-th block for itself.
async fn write_and_check(reactor: Reactor, queue: Rc<VolumeQueue>, task: u64, stop: Arc<AtomicBool>) -> u64 {
    let mut random = Random(task);
    let mut blocks: Vec<Option<u64>> = vec![None; (BLOCKS / TASKS) as usize];
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let mine = random.below(blocks.len() as u64);
        let at = (mine * TASKS + task) * BLOCK;
        match random.below(8) {
            0 => {
                queue.discard(ByteRange::new(at, BLOCK).expect("fits")).await.expect("discarded");
                blocks[mine as usize] = None;
            }
            1..4 => {
                let seed = random.below(u64::MAX);
                match write(&reactor, &queue, at, &bytes_of(seed, BLOCK as usize)).await {
                    Ok(()) => blocks[mine as usize] = Some(seed),
                    Err(IoError::NoSpace) => {}
                    Err(error) => panic!("task {task}: {error}"),
                }
            }
            4 if random.below(50) == 0 => queue.flush().await.expect("flushed"),
            _ => {
                let found = read(&reactor, &queue, at, BLOCK as usize).await.expect("read");
                let wanted =
                    blocks[mine as usize].map_or(vec![0; BLOCK as usize], |seed| bytes_of(seed, BLOCK as usize));
                assert!(found == wanted, "task {task}: block {} is not what was written last", at / BLOCK);
            }
        }
        done += 1;
        if done % 16 == 0 {
            yield_now().await;
        }
    }
    done
}

/// Starts the writers; each says at its end how many commands it gave.
fn start(volume: &Arc<Volume>, reactors: &[ReactorThread], stop: &Arc<AtomicBool>) -> Receiver<u64> {
    let (answer, results) = channel();
    for task in 0..TASKS {
        let (volume, stop, answer) = (volume.clone(), stop.clone(), answer.clone());
        reactors[task as usize % reactors.len()].remote().post(move |reactor| {
            let queue = volume.queue(reactor).expect("a queue");
            let task_reactor = reactor.clone();
            reactor.spawn(async move {
                let count = write_and_check(task_reactor, queue, task, stop).await;
                answer.send(count).expect("the test waits");
            });
        });
    }
    results
}

#[test]
fn neighbours_on_different_reactors_disturb_nobody() {
    // So little that there is often nothing but what waits for its cycle.
    let device: Arc<SharedDevice> = memory_device(16);
    let reactors: Vec<_> = (0..3).map(|_| small_reactor()).collect();
    let home = reactors[0].remote();
    Pool::format("p", device.clone(), home, FormatOptions::default()).expect("formatted");
    let pool = Pool::open("p", device.clone(), home, OpenOptions::default()).expect("opened");
    let new = |name: &str| NewVolume { name: name.to_owned(), size: BLOCKS * BLOCK, attributes: Vec::new(), key: None };
    let volume = pool.create_volume(new("v")).expect("a volume");
    let stop = Arc::new(AtomicBool::new(false));
    let writers = start(&volume, &reactors, &stop);

    // Meanwhile: snapshots, clones that are written, rollbacks of them, deletions in any order.
    let mut random = Random(99);
    let begin = Instant::now();
    let mut snapshots: Vec<String> = Vec::new();
    let mut made = 0;
    while begin.elapsed() < TIME {
        match random.below(4) {
            0 | 1 if snapshots.len() < 4 => {
                let name = format!("s{made}");
                pool.snapshot("v", &name).expect("a snapshot");
                snapshots.push(name);
                made += 1;
            }
            2 if !snapshots.is_empty() => {
                let name = &snapshots[random.below(snapshots.len() as u64) as usize];
                let clone = pool.clone_snapshot(&format!("v@{name}"), &format!("c{made}")).expect("a clone");
                made += 1;
                exercise_clone(&clone, &reactors[made % reactors.len()]);
                pool.delete(&clone.name()).expect("deleted");
            }
            _ if !snapshots.is_empty() => {
                let name = snapshots.swap_remove(random.below(snapshots.len() as u64) as usize);
                pool.delete(&format!("v@{name}")).expect("deleted");
            }
            _ => {}
        }
    }
    stop.store(true, Ordering::Relaxed);
    let done: u64 = writers.iter().sum();
    println!("{done} commands beside {made} snapshots and clones");
    assert!(done > 1000);
    drop(volume);
    pool.close().expect("closed");
    let report = Pool::check("p", device, home, OpenOptions::default(), false, |_, _| {}).expect("checked");
    assert!(report.is_sound(), "{:?}", report.problems);
    for reactor in reactors {
        reactor.remote().stop();
        reactor.join();
    }
}

/// Writes all over a clone, on one reactor.
fn exercise_clone(clone: &Arc<Volume>, reactor: &ReactorThread) {
    let (answer, result) = channel();
    let clone = clone.clone();
    reactor.remote().post(move |reactor| {
        let queue = clone.queue(reactor).expect("a queue");
        let task_reactor = reactor.clone();
        reactor.spawn(async move {
            for block in (0..BLOCKS).step_by(37) {
                let data = bytes_of(block, BLOCK as usize);
                match write(&task_reactor, &queue, block * BLOCK, &data).await {
                    Ok(()) => {
                        let found = read(&task_reactor, &queue, block * BLOCK, BLOCK as usize).await.expect("read");
                        assert!(found == data);
                    }
                    Err(error) => assert_eq!(error, IoError::NoSpace),
                }
            }
            drop(queue);
            answer.send(()).expect("the test waits");
        });
    });
    result.recv().expect("the task ended without a panic");
}
