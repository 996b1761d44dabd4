//! The simulated device loses, at a power cut, what was not flushed and nothing else; and the same seed loses the same.

mod engine;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use engine::{all, on_reactor};
use strongroom::device::{
    ByteRange, Device, DeviceHandle, IoError, SharedDevice, SimulatedConfig, SimulatedDevice, Zeroes, read_whole,
    write_whole,
};
use strongroom::reactor::Reactor;

const SIZE: u64 = 1 << 20;
const SECTOR: usize = 512;

fn device(most_turns: u32, seed: u64) -> SimulatedDevice {
    SimulatedDevice::new(SimulatedConfig { size: SIZE, most_turns, seed, is_recorded: true, ..Default::default() })
}

fn handle(reactor: &Reactor, device: &SimulatedDevice) -> DeviceHandle {
    SharedDevice::simulated("d0", device.clone()).handle(reactor).expect("a handle")
}

async fn write(reactor: &Reactor, device: &DeviceHandle, at: u64, byte: u8, len: usize) -> Result<(), IoError> {
    let mut buffer = reactor.buffers().take(len).await;
    buffer[..len].fill(byte);
    write_whole(device, at, &mut buffer, 0..len).await
}

/// The first byte of each sector.
async fn sectors(reactor: &Reactor, device: &SimulatedDevice) -> Vec<u8> {
    let (mut buffer, handle) = (reactor.buffers().take(SIZE as usize).await, handle(reactor, device));
    assert_eq!(read_whole(&handle, 0, &mut buffer, 0..SIZE as usize).await, Ok(()));
    let sectors = buffer.chunks_exact(SECTOR);
    sectors.inspect(|sector| assert!(sector.iter().all(|&byte| byte == sector[0]), "torn")).map(|s| s[0]).collect()
}

#[test]
fn what_was_flushed_survives_and_the_rest_is_old_or_new() {
    on_reactor(|reactor| async move {
        let old = device(0, 1);
        let disk = handle(&reactor, &old);
        assert_eq!(write(&reactor, &disk, 0, 1, 65536).await, Ok(()));
        assert_eq!(disk.flush().await, Ok(()));
        assert_eq!(write(&reactor, &disk, 32768, 2, 65536).await, Ok(()));
        let (mut lost, mut kept) = (false, false);
        for seed in 0..50 {
            let found = sectors(&reactor, &old.cut_power(seed)).await;
            assert!(found[..64].iter().all(|&byte| byte == 1));
            assert!(found[64..128].iter().all(|&byte| byte == 1 || byte == 2));
            assert!(found[128..192].iter().all(|&byte| byte == 0 || byte == 2));
            assert!(found[192..].iter().all(|&byte| byte == 0));
            lost |= found[128..192].contains(&0);
            kept |= found[128..192].contains(&2);
        }
        assert!(lost && kept);
        assert!(sectors(&reactor, &old.cut_power_keeping_all()).await[64..192].iter().all(|&byte| byte == 2));
        assert!(sectors(&reactor, &old.cut_power_keeping_none()).await[64..128].iter().all(|&byte| byte == 1));
    });
}

#[test]
fn every_command_fails_once_the_power_is_off() {
    on_reactor(|reactor| async move {
        let device = device(3, 1);
        let disk = handle(&reactor, &device);
        device.cut_power(0);
        let range = ByteRange::new(0, 4096).expect("fits");
        let mut buffer = reactor.buffers().take(4096).await;
        assert_eq!(write(&reactor, &disk, 0, 1, 4096).await, Err(IoError::Media));
        assert_eq!(read_whole(&disk, 0, &mut buffer, 0..4096).await, Err(IoError::Media));
        assert_eq!(disk.flush().await, Err(IoError::Media));
        assert_eq!(disk.discard(range).await, Err(IoError::Media));
        assert_eq!(disk.write_zeroes(range, Zeroes::MayFree).await, Err(IoError::Media));
        assert_eq!(disk.extents(range).await, Err(IoError::Media));
    });
}

/// Writers and flushers until the power goes at the given command; what was answered, and the device of after.
async fn busy_until_cut(reactor: Reactor, seed: u64, cut_after: u64) -> (Vec<(u64, u8)>, Vec<u8>) {
    let device = device(6, seed);
    device.cut_after(cut_after);
    let (disk, promised) = (Rc::new(handle(&reactor, &device)), Rc::new(RefCell::new(Vec::new())));
    let ended = Rc::new(Cell::new(0));
    {
        let (reactor, promised, ended) = (reactor.clone(), promised.clone(), ended.clone());
        all(&reactor.clone(), 4, move |task| {
            let (reactor, disk, promised, ended) = (reactor.clone(), disk.clone(), promised.clone(), ended.clone());
            async move {
                // Each task has sectors of its own and counts in them.
                for round in 1..100 {
                    let at = task * 65536 + u64::from(round) % 3 * 1536;
                    if write(&reactor, &disk, at, round, 1536).await.is_err() || disk.flush().await.is_err() {
                        break;
                    }
                    promised.borrow_mut().push((at, round));
                }
                ended.set(ended.get() + 1);
            }
        })
        .await;
    }
    assert!(device.is_cut() && ended.get() == 4);
    let after = sectors(&reactor, &device.cut_power(seed)).await;
    (promised.take(), after)
}

#[test]
fn the_power_may_go_at_any_command_and_the_same_seed_loses_the_same() {
    on_reactor(|reactor| async move {
        for seed in 0..100 {
            let (promised, after) = busy_until_cut(reactor.clone(), seed, seed + 1).await;
            for &(at, round) in &promised {
                for (number, &found) in after[at as usize / SECTOR..][..3].iter().enumerate() {
                    // Later rounds of the same task may have got there as well.
                    assert!(
                        found >= round,
                        "seed {seed}: {found} in sector {number} at {at}, where {round} was flushed"
                    );
                }
            }
            assert_eq!((promised, after), busy_until_cut(reactor.clone(), seed, seed + 1).await, "seed {seed}");
        }
    });
}

#[test]
fn a_record_is_replayed_to_any_point() {
    on_reactor(|reactor| async move {
        let device = device(0, 1);
        let disk = handle(&reactor, &device);
        for round in 1..=5 {
            assert_eq!(write(&reactor, &disk, 0, round, 512).await, Ok(()));
            assert_eq!(write(&reactor, &disk, u64::from(round) * 4096, round, 512).await, Ok(()));
            assert_eq!(disk.flush().await, Ok(()));
        }
        let record = device.record().expect("kept");
        assert_eq!(record.len(), 15);
        assert_eq!(sectors(&reactor, &record.replay_to(4)).await[0], 2);
        let (mut replay, mut flushes) = (record.replay(), 0);
        while let Some(then) = replay.next_flush() {
            flushes += 1;
            let found = sectors(&reactor, &then).await;
            assert_eq!((found[0], found[flushes * 8], found[flushes * 8 + 8]), (flushes as u8, flushes as u8, 0));
        }
        assert_eq!((flushes, replay.position()), (5, 15));
    });
}

#[test]
fn a_tebibyte_of_zeros_costs_nothing_and_the_device_grows() {
    on_reactor(|reactor| async move {
        let device = SimulatedDevice::new(SimulatedConfig { size: 1 << 40, ..Default::default() });
        let disk = handle(&reactor, &device);
        for at in (0..1u64 << 40).step_by(1 << 33) {
            assert_eq!(write(&reactor, &disk, at, 0, 1 << 20).await, Ok(()));
        }
        assert_eq!(device.bytes_kept(), 0);
        assert_eq!(write(&reactor, &disk, 1 << 40, 1, 4096).await, Err(IoError::OutOfRange));
        device.grow(2 << 40);
        assert_eq!(write(&reactor, &disk, 1 << 40, 1, 4096).await, Ok(()));
        assert_eq!(device.bytes_kept(), 4096);
    });
}
