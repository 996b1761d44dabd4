//! Pools that are driven inside a process of their own: what the contenders of the suite `pool` start.
//!
//! | module | owns |
//! | --- | --- |
//! | [`load`] | commands in flight on a volume or device |
//! | [`places`] | where they go |
//! | [`meter`] | what is measured of them |
//! | [`disk`] | a disk on a pool under the load of `strongroom bench` |
//! | [`small`] | a pool on the lab's file, made anew for each measurement |
//! | [`large`] | a pool of 1 TiB on a simulated device, which is filled once and measured again and again |
//! | [`resident`] | the memory of this process |
//!
//! In the last two one reactor is home and serves the load as well, so whatever the pool does for itself is felt by the load. Answers are
//! [`Sample`](crate::sample::Sample)s in JSON, one a line; those of `disk` are what `strongroom bench --json` prints.

pub mod disk;
pub mod large;
mod load;
mod meter;
mod places;
mod resident;
pub mod small;

use std::error::Error;
use std::future::Future;
use std::rc::Rc;

use clap::Subcommand;
use strongroom::reactor::{Reactor, ReactorConfig, ReactorThread, Remote};
use strongroom::volume::{Home, VolumeQueue};

use crate::failure::Failure;

use places::Places;

/// What went wrong in such a process, in words.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// Bytes of a block, which is what is written at a time.
const BLOCK: u64 = 4096;
/// Blocks of a cluster.
const BLOCKS_PER_CLUSTER: u64 = 16;
/// Bytes of a cluster.
const CLUSTER: u64 = BLOCK * BLOCKS_PER_CLUSTER;

/// The pool to drive.
#[derive(Subcommand)]
pub enum Args {
    /// A disk, for one measurement
    Disk(disk::Args),
    /// A pool on a file, for one measurement; its content is lost
    Small(small::Args),
    /// A pool of 1 TiB on a simulated device: fills it, says `ready`, and answers requests, one a line
    Large(large::Args),
}

/// Drives it.
pub fn run(args: Args) -> Outcome<()> {
    match args {
        Args::Disk(args) => {
            println!("{}", disk::measure(args)?);
            Ok(())
        }
        Args::Small(args) => {
            let sample = on_reactor(args.core, move |reactor| small::measure(reactor, args))?;
            println!("{}", serde_json::to_string(&sample)?);
            Ok(())
        }
        Args::Large(args) => large::serve(args),
    }
}

/// Runs a task on a reactor of its own, pinned to `core`, and gives its result.
fn on_reactor<T, F>(core: usize, task: impl FnOnce(Reactor) -> F + Send + 'static) -> Outcome<T>
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>> + 'static,
{
    // It never sleeps: what a wake-up costs is not the pool's.
    let config = ReactorConfig { idle_us: 0, ..ReactorConfig::default() };
    let thread = ReactorThread::start(core, &config)?;
    // The reactor is left as it is: the process ends.
    on(thread.remote(), task)
}

/// Runs a task on a reactor and gives its result.
fn on<T, F>(reactor: &Remote, task: impl FnOnce(Reactor) -> F + Send + 'static) -> Outcome<T>
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>> + 'static,
{
    let done = reactor.run(async move |reactor| task(reactor).await.map_err(|e| e.to_string()));
    done.map_err(|what| Failure::Request(what).into())
}

/// Writes so many places of a volume, in order, and makes them durable now and then.
async fn fill(
    reactor: &Reactor,
    home: &Home,
    queue: &Rc<VolumeQueue>,
    load: load::New,
    stride: load::Stride,
) -> Outcome<()> {
    let durable_after = (1 << 20).min(stride.count);
    for from in (0..stride.count).step_by(durable_after as usize) {
        let count = durable_after.min(stride.count - from);
        let places = Places::in_order(from * stride.bytes, stride.bytes, count);
        let under = load::Under::Volume(queue.clone());
        load(reactor, under, places, load::Step::Write(stride.len)).run(load::FILL_DEPTH).await?;
        home.commit().await?;
    }
    home.checkpoint().await?;
    Ok(())
}
