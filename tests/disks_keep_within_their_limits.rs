//! A disk does no more than its limits allow, its hosts share that, and nothing that ends commands waits for the limits.

mod common;
mod engine;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::nbd_client::{Client, DISC, READ, Reply, WRITE};
use common::nvme_client::{self, Digests, Host, Said};
use common::nvme_target::NvmeTarget;
use common::{Target, wait_for};
use engine::{all, memory_device, on_reactor, on_reactors};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::ByteRange;
use strongroom::disk::{Consumer, Cost, Disk, Limits};
use strongroom::export::nvme_tcp::wire::opcode::io;
use strongroom::reactor::Clock;

/// More commands than a slow disk does while the test runs.
const MANY: u64 = 60;

fn disk() -> Arc<Disk> {
    Disk::with_random_key("x", memory_device(8), SectorSize::B4096, Kernel::best()).expect("a disk")
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// One I/O a second: the first two are in the bucket.
fn slow() -> Option<Limits> {
    Some(Limits { iops: 1, ..Limits::default() })
}

#[test]
fn hosts_on_several_reactors_share_what_the_limits_allow() {
    let limits = Limits { iops: 2000, bytes_per_second: 1 << 30, burst: Limits::LEAST_BURST };
    let disk = disk();
    let clock = Clock::get();
    let start = clock.now();
    disk.set_limits(Some(limits));
    let counts: Arc<[AtomicU64; 2]> = Arc::default();
    let (served, counted) = (disk.clone(), counts.clone());
    on_reactors(3, move |number, reactor| {
        let (disk, counts) = (served.clone(), counted.clone());
        async move {
            // The first host is on one reactor, the other on two and with more under way.
            let host = number.min(1);
            let queue = disk.queue(&reactor).expect("a queue");
            let tap = std::rc::Rc::new(queue.tap(&Consumer::Named(format!("host {host}"))));
            let task_reactor = reactor.clone();
            all(&reactor, if host == 0 { 32 } else { 128 }, move |slot| {
                let (reactor, queue, tap, counts) = (task_reactor.clone(), queue.clone(), tap.clone(), counts.clone());
                async move {
                    let mut buffer = reactor.buffers().take(4096).await;
                    let range = ByteRange::new(slot * 4096, 4096).expect("fits");
                    while counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>() < 3000 {
                        tap.pass(Cost::of(range.len())).await;
                        queue.read(range, &mut buffer, 0).await.expect("done");
                        counts[host].fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
            .await;
        }
    });
    let elapsed_ns = clock.nanoseconds(clock.now().since(start));
    let [first, second] = [0, 1].map(|host: usize| counts[host].load(Ordering::Relaxed));
    let allowed = limits.iops * (elapsed_ns + limits.burst.as_nanos() as u64) / 1_000_000_000;
    assert!(first + second <= allowed + 1, "{first} and {second} of {allowed}");
    assert!(first <= 2 * second && second <= 2 * first, "{first} and {second}");
}

#[test]
fn limits_that_are_lifted_let_all_go_that_wait() {
    let disk = disk();
    disk.set_limits(slow());
    assert_eq!(disk.limits(), slow());
    let lifted = disk.clone();
    on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let tap = std::rc::Rc::new(queue.tap(&Consumer::new_one()));
        let passed = std::rc::Rc::new(std::cell::Cell::new(0));
        let (counted, sleeper) = (passed.clone(), reactor.clone());
        let waiting = tap.clone();
        all(&reactor, MANY + 1, move |number| {
            let (tap, counted) = (waiting.clone(), counted.clone());
            let (disk, sleeper) = (disk.clone(), sleeper.clone());
            async move {
                if number == MANY {
                    sleeper.sleep(Duration::from_millis(50)).await;
                    assert!(counted.get() < MANY, "the limit did not hold anybody up");
                    return disk.set_limits(None);
                }
                tap.pass(Cost::of(4096)).await;
                counted.set(counted.get() + 1);
            }
        })
        .await;
        assert_eq!(passed.get(), MANY);
        assert!(tap.passes(Cost::of(4096)));
    });
    assert_eq!(lifted.limits(), None);
}

#[test]
fn a_command_that_is_dropped_while_it_waits_holds_up_nobody() {
    on_reactor(|reactor| async move {
        let disk = disk();
        disk.set_limits(slow());
        let queue = disk.queue(&reactor).expect("a queue");
        let tap = queue.tap(&Consumer::new_one());
        let large = Cost::of(1 << 40);
        {
            let mut dropped = std::pin::pin!(tap.wait(Cost { ios: 100, ..large }));
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(dropped.as_mut().poll(cx).is_pending())).await);
            assert!(!tap.passes(Cost::of(4096)), "it would overtake");
        }
        // What the other had gathered is there again.
        tap.pass(Cost::of(4096)).await;
        tap.close();
        assert!(!tap.passes(Cost::of(4096)));
        tap.wait(Cost { ios: 100, ..large }).await;
    });
}

/// Sends reads, writes in capsules, and writes whose data is asked for.
fn send_many(host: &mut Host) {
    let page = engine::bytes_of(1, 4096);
    for n in 0..MANY {
        let mut command = nvme_client::blocks([io::READ, io::WRITE, io::READ][n as usize % 3], n, 1);
        command.data = nvme_client::transport(4096);
        match n % 3 {
            2 => host.send_with_data(nvme_client::blocks(io::WRITE, n, 1), &page),
            _ => host.send_as_is(command, &[]),
        };
    }
}

/// How many commands of so many succeed and fail.
fn listen_to(host: &mut Host, mut open: u64) -> (u64, u64) {
    let (mut done, mut refused) = (0, 0);
    let page = engine::bytes_of(1, 4096);
    while open > 0 {
        match host.listen() {
            Said::R2t { cid, tag, offset, len } => {
                let bytes = host.data_pdu(cid, tag, offset, &page[offset..offset + len], true);
                host.send(&bytes);
                continue;
            }
            Said::Data { success: true, .. } => done += 1,
            Said::Data { .. } => continue,
            Said::Completion { status, .. } if status.is_success() => done += 1,
            Said::Completion { .. } => refused += 1,
            other => panic!("{other:?}"),
        }
        open -= 1;
    }
    (done, refused)
}

#[test]
fn a_disk_is_detached_although_commands_wait_for_its_limits() {
    let disk = disk();
    let target = NvmeTarget::start(dir(), 2, std::slice::from_ref(&disk), "");
    let (admin, mut host) = target.both("a", Digests::NONE);
    disk.set_limits(slow());
    send_many(&mut host);
    wait_for("some command to be done", || disk.stats().tally(strongroom::disk::CommandKind::Read).commands > 0);
    target.server().detach("x", "a").expect("detached");
    let (done, refused) = listen_to(&mut host, MANY);
    assert!(refused > 0, "all {done} were done at once");
    drop((admin, host));
    target.expect_idle();
    target.stop();
}

#[test]
fn a_connection_ends_although_commands_wait_for_limits() {
    let disk = disk();
    let target = NvmeTarget::start(dir(), 2, std::slice::from_ref(&disk), "");
    disk.set_limits(slow());
    let (admin, mut host) = target.both("a", Digests::NONE);
    send_many(&mut host);
    drop((admin, host));
    target.expect_idle();
    target.stop();
}

#[test]
fn a_server_stops_in_order_although_commands_wait_for_limits() {
    let disk = disk();
    let target = NvmeTarget::start(dir(), 2, std::slice::from_ref(&disk), "");
    let (admin, mut host) = target.both("a", Digests::NONE);
    disk.set_limits(slow());
    for n in 0..MANY {
        host.send_as_is(nvme_client::blocks(io::WRITE_ZEROES, n, 1), &[]);
    }
    wait_for("some command to be done", || disk.stats().tally(strongroom::disk::CommandKind::WriteZeroes).commands > 0);
    target.stop();
    drop((admin, host));
}

#[test]
fn hosts_over_nvme_share_whatever_their_queues() {
    let disk = disk();
    let target = NvmeTarget::start(dir(), 2, std::slice::from_ref(&disk), "");
    disk.set_limits(Some(Limits { iops: 1000, ..Limits::default() }));
    let (_many, controller) = target.admin("a", Digests::NONE);
    let mut queues: Vec<_> = (1..=4).map(|queue| ("a", target.io("a", controller, queue, Digests::NONE, 4))).collect();
    let (_one, single) = target.both("b", Digests::NONE);
    queues.push(("b", single));
    let counts: [AtomicU64; 2] = Default::default();
    let total = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    std::thread::scope(|scope| {
        for (name, host) in &mut queues {
            let (counts, total) = (&counts[usize::from(*name == "b")], &total);
            scope.spawn(move || {
                let read = |host: &mut Host| {
                    let mut command = nvme_client::blocks(io::READ, 0, 1);
                    command.data = nvme_client::transport(4096);
                    host.send_as_is(command, &[]);
                };
                (0..16).for_each(|_| read(host));
                let mut open = 16;
                while open > 0 {
                    assert_eq!(listen_to(host, 1), (1, 0));
                    counts.fetch_add(1, Ordering::Relaxed);
                    if total() < 1500 { read(host) } else { open -= 1 }
                }
            });
        }
    });
    let [many, one] = counts.map(AtomicU64::into_inner);
    assert!(many <= 2 * one && one <= 2 * many, "{many} with four queues and {one} with one");
    drop(queues);
    target.stop();
}

#[test]
fn nbd_clients_wait_for_limits_and_end_in_time() {
    let disk = disk();
    let target = Target::start(dir(), 1, std::slice::from_ref(&disk), "");
    disk.set_limits(Some(Limits { iops: 20, ..Limits::default() }));
    let mut client = Client::silent(&target.socket()).greet().go("x", true);
    let data = engine::bytes_of(1, 300 << 10);
    let asked: Vec<_> = (0..12)
        .map(|n| match n % 3 {
            0 => client.request(WRITE, 0, 0, 300 << 10, &data),
            1 => client.request(WRITE, 0, 1 << 20, 4096, &data[..4096]),
            _ => client.request(READ, 0, 0, 300 << 10, &[]),
        })
        .collect();
    // All before it are carried out, as the protocol wants it.
    client.request(DISC, 0, 0, 0, &[]);
    for _ in &asked {
        let mut reply = Reply::default();
        while !client.part(&mut reply, |cookie| *asked.iter().find(|a| a.cookie == cookie).expect("asked")) {}
        assert_eq!(reply.error, 0);
    }
    assert!(client.is_closed());

    // One that goes without a word, and one that is there when the server stops.
    disk.set_limits(slow());
    let mut gone = Client::silent(&target.socket()).greet().go("x", false);
    for _ in 0..MANY {
        gone.request(READ, 0, 0, 4096, &[]);
    }
    drop(gone);
    target.expect_idle();
    let mut last = Client::silent(&target.socket()).greet().go("x", false);
    for _ in 0..MANY {
        last.request(WRITE, 0, 0, 4096, &data[..4096]);
    }
    target.stop();
}
