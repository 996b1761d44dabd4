//! What a running reactor promises.

use super::*;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

fn reactor(config: ReactorConfig) -> ReactorThread {
    ReactorThread::start(allowed_cpus()[0], &ReactorConfig { memory_mib: 4, hugepages: HugePages::Never, ..config })
        .expect("a reactor")
}

fn end(reactor: ReactorThread) {
    reactor.remote().stop();
    reactor.join();
}

#[test]
fn reads_back_what_was_written_through_the_ring() {
    let reactor = reactor(ReactorConfig::default());
    let file = tempfile::tempfile().expect("a file");
    let read = reactor.remote().run(|r| async move {
        let file = File::new(&r, OwnedFd::from(file));
        let mut buffer = r.buffers().take(8192).await;
        buffer.fill(0x5a);
        assert_eq!(file.write_at(4096, &mut buffer, 0..8192).await.expect("written"), 8192);
        file.sync_data().await.expect("synced");
        buffer.fill(0);
        let read = file.read_at(0, &mut buffer, 0..8192).await.expect("read");
        (read, buffer[4095], buffer[4096])
    });
    assert_eq!(read, (8192, 0, 0x5a));
    end(reactor);
}

#[test]
fn more_operations_than_the_ring_has_entries_all_complete() {
    let reactor = reactor(ReactorConfig { ring_entries: 4, ..ReactorConfig::default() });
    let file = tempfile::tempfile().expect("a file");
    let done = reactor.remote().run(|r| async move {
        let file = Rc::new(File::new(&r, OwnedFd::from(file)));
        let done = Rc::new(Cell::new(0));
        for n in 0..200u64 {
            let (file, done, r2) = (file.clone(), done.clone(), r.clone());
            r.spawn(async move {
                let mut buffer = r2.buffers().take(4096).await;
                buffer.fill(n as u8);
                assert_eq!(file.write_at(n * 4096, &mut buffer, 0..4096).await.expect("written"), 4096);
                done.set(done.get() + 1);
            });
        }
        while done.get() < 200 {
            yield_now().await;
        }
        done.get()
    });
    assert_eq!(done, 200);
    end(reactor);
}

#[test]
fn a_dropped_receive_keeps_its_buffer_until_the_kernel_is_done() {
    let reactor = reactor(ReactorConfig::default());
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let free = reactor.remote().run(|r| async move {
        let before = r.buffers().free_bytes();
        let socket = Socket::new(&r, OwnedFd::from(ours));
        let mut buffer = r.buffers().take(4096).await;
        {
            let mut receive = std::pin::pin!(socket.receive(&mut buffer, 0..4096));
            let mut polled = false;
            std::future::poll_fn(|cx| {
                assert!(receive.as_mut().poll(cx).is_pending());
                if std::mem::replace(&mut polled, true) {
                    return std::task::Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
        }
        assert_eq!(buffer.len(), 0, "the ring has the buffer");
        while r.buffers().free_bytes() < before {
            yield_now().await;
        }
        r.buffers().free_bytes() - before
    });
    assert_eq!(free, 0);
    drop(theirs);
    end(reactor);
}

#[test]
fn receives_bring_all_that_comes_whether_they_have_to_wait_or_not() {
    let reactor = reactor(ReactorConfig::default());
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let client = std::thread::spawn(move || {
        // Each byte waits for the answer to the one before, so each receive has to wait; then there is more at once than a receive takes.
        for n in 0..10 {
            theirs.write_all(&[n]).expect("sent");
            theirs.read_exact(&mut [0]).expect("answered");
        }
        theirs.write_all(&[7; 1000]).expect("sent");
        theirs.shutdown(std::net::Shutdown::Write).expect("ended");
        theirs.read_to_end(&mut Vec::new()).expect("answered")
    });
    let received = reactor.remote().run(|r| async move {
        let socket = Socket::new(&r, OwnedFd::from(ours));
        let mut buffer = r.buffers().take(4096).await;
        let mut answer = SendBatch::with_room(1, 1);
        let mut received = 0;
        loop {
            match socket.receive(&mut buffer, 0..64).await.expect("received") {
                0 => return received,
                bytes => received += bytes,
            }
            answer.header(&[1]);
            socket.send(&mut answer).await.expect("sent");
        }
    });
    assert_eq!(received, 1010);
    assert!(client.join().expect("no panic") >= 1000 / 64);
    end(reactor);
}

#[test]
fn an_idle_reactor_sleeps_and_a_message_wakes_it() {
    let reactor = reactor(ReactorConfig { idle_us: 100, ..ReactorConfig::default() });
    let started = std::time::Instant::now();
    while reactor.remote().stats().sleeps() == 0 && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(reactor.remote().stats().sleeps() > 0, "the reactor never slept");
    assert_eq!(reactor.remote().call(|_| 7), 7);
    end(reactor);
}

#[test]
fn a_blocking_call_is_made_elsewhere() {
    let reactor = reactor(ReactorConfig::default());
    let name = reactor.remote().run(|_| offload(|| std::thread::current().name().map(str::to_owned)));
    assert_eq!(name.as_deref(), Some("offload"));
    end(reactor);
}

#[test]
fn a_timer_fires_after_its_time() {
    let reactor = reactor(ReactorConfig::default());
    let slept = reactor.remote().run(|r| async move {
        let start = std::time::Instant::now();
        r.sleep(Duration::from_millis(20)).await;
        start.elapsed()
    });
    assert!(slept >= Duration::from_millis(19), "{slept:?}");
    end(reactor);
}
