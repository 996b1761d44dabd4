//! The exchange itself: a server thread that answers each request, and a client thread that keeps requests in flight and measures.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use hdrhistogram::Histogram;
use strongroom::reactor::{Clock, pin_current_thread};

use crate::failure::{Context, Failure, Result};
use crate::sample::{Latency, Sample};

use super::Sizes;
use super::stream::Stream;

/// Which cores, how long, how much.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The core of the end that answers.
    pub server_core: usize,
    /// The core of the end that asks.
    pub client_core: usize,
    /// Requests in flight.
    pub depth: usize,
    /// Before the measurement.
    pub ramp: Duration,
    /// The measurement.
    pub time: Duration,
    /// Bytes of data in an exchange; for the throughput.
    pub data: usize,
}

/// Measures one exchange.
pub fn measure(run: Run, sizes: Sizes) -> Result<Sample> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(|| "cannot listen on loopback".into())?;
    let address = listener.local_addr().context(|| "cannot ask for the port".into())?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || serve(&listener, run.server_core, sizes));
        let client = scope.spawn(move || ask(TcpStream::connect(address)?, run, sizes));
        let sample = client.join().map_err(|_| Failure::Request("the client of the echo panicked".into()))?;
        let served = server.join().map_err(|_| Failure::Request("the server of the echo panicked".into()))?;
        served.context(|| "the server of the echo failed".into())?;
        sample.context(|| "the client of the echo failed".into())
    })
}

fn serve(listener: &TcpListener, core: usize, sizes: Sizes) -> io::Result<()> {
    let (socket, _) = listener.accept()?;
    pin_current_thread(core)?;
    let mut stream = Stream::new(socket, sizes.request, sizes.answer)?;
    loop {
        // The client leaves when its time is over, with answers under way: that is the end, not a failure.
        let answered = match stream.receive() {
            Ok(None) => return Ok(()),
            Ok(Some(requests)) => stream.send(requests),
            Err(e) => Err(e),
        };
        match answered {
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => return Ok(()),
            other => other?,
        }
    }
}

fn ask(socket: TcpStream, run: Run, sizes: Sizes) -> io::Result<Sample> {
    pin_current_thread(run.client_core)?;
    let clock = Clock::get();
    let mut stream = Stream::new(socket, sizes.answer, sizes.request)?;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 1 << 40, 3).expect("valid bounds");
    let from = clock.now().plus(clock.ticks(run.ramp));
    let end = from.plus(clock.ticks(run.time));
    // Answers come in the order of the requests.
    let mut started: VecDeque<_> = std::iter::repeat_n(clock.now(), run.depth).collect();
    stream.send(run.depth)?;
    let mut now = clock.now();
    while now < end {
        let answers = stream.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        now = clock.now();
        for start in started.drain(..answers) {
            if start >= from {
                histogram.saturating_record(now.since(start));
            }
        }
        started.extend(std::iter::repeat_n(now, answers));
        stream.send(answers)?;
    }
    Ok(sample(&histogram, &clock, now.since(from), run.data))
}

fn sample(histogram: &Histogram<u64>, clock: &Clock, ticks: u64, data: usize) -> Sample {
    let seconds = clock.nanoseconds(ticks) as f64 / 1e9;
    let us = |ticks: f64| ticks * clock.nanoseconds(1 << 30) as f64 / f64::from(1 << 30) / 1e3;
    let at = |quantile| us(histogram.value_at_quantile(quantile) as f64);
    let iops = histogram.len() as f64 / seconds;
    let latency = Latency {
        mean: us(histogram.mean()),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p99_9: at(0.999),
        p99_99: at(0.9999),
        max: us(histogram.max() as f64),
    };
    Sample {
        iops: Some(iops),
        mib_per_s: Some(iops * data as f64 / f64::from(1 << 20)),
        latency_us: Some(latency),
        ..Sample::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_size_are_answered() {
        for sizes in [Sizes { request: 72, answer: 4120 }, Sizes { request: 131_144, answer: 24 }] {
            let run = Run {
                server_core: 0,
                client_core: usize::from(crate::machine::cores() > 1),
                depth: 4,
                ramp: Duration::from_millis(1),
                time: Duration::from_millis(50),
                data: 4096,
            };
            let sample = measure(run, sizes).unwrap();
            assert!(sample.iops > Some(0.0) && sample.latency_us.unwrap().p50 > 0.0, "{sample:?}");
        }
    }
}
