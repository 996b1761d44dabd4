//! Measures the AES-256-XTS kernels: core cycles a byte, beside the CPU's own limit and other libraries.
//!
//! All rows of a table are taken in one run and interleaved: each round samples each case once, so that a change of
//! clock or load meets all alike. A row shows the 5th percentile (the code undisturbed) and the median. Nothing is
//! compared with a number from another run.

mod clock;
mod cold;
mod limit;
mod report;
mod rivals;

use std::cell::RefCell;
use std::error::Error;
use std::path::PathBuf;
use std::rc::Rc;

use clap::Args as ClapArgs;
use strongroom::crypto::xts::{Kernel, SectorSize, Tweak, XtsKey};

use clock::Sampler;
use cold::Cold;
use report::{Report, Row};

/// What to measure, and what to do with the result.
#[derive(ClapArgs)]
pub struct Args {
    /// Samples of each case.
    #[arg(long, default_value_t = 400)]
    rounds: usize,
    /// Write the result to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a hand-written kernel is more than 15 % slower than the CPU's limit.
    #[arg(long)]
    check: bool,
    /// Leave out `openssl speed`, which takes four seconds.
    #[arg(long)]
    no_openssl_speed: bool,
}

/// The most that a hand-written kernel may be slower than the limit.
const SLACK: f64 = 1.15;

/// The hot buffer: fits into any second-level cache.
const HOT_BYTES: usize = 64 << 10;

/// A fixed key: what is measured does not depend on it.
const KEY: [u8; 64] = {
    let mut key = [0; 64];
    let mut i = 0;
    while i < 64 {
        key[i] = (i * 7 + 3) as u8;
        i += 1;
    }
    key
};

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Encrypt,
    Decrypt,
}

impl Direction {
    const ALL: [Self; 2] = [Self::Encrypt, Self::Decrypt];

    fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "enc",
            Self::Decrypt => "dec",
        }
    }
}

/// An implementation that works in place on whole sectors, numbered from 1000.
pub(crate) type Work = Box<dyn FnMut(Direction, SectorSize, &mut [u8])>;

/// One thing to sample.
struct Case {
    row: Row,
    /// Calls in a sample, so that it lasts about 25 microseconds.
    calls: usize,
    call: Box<dyn FnMut()>,
}

/// Measures and prints; fails if `--check` finds a kernel too slow.
pub fn measure(args: &Args) -> Result<(), Box<dyn Error>> {
    let mut cases = cases()?;
    let mut sampler = Sampler::new();
    for _ in 0..args.rounds.max(1) {
        for case in &mut cases {
            if let Some(cycles) = sampler.cycles(case.calls, &mut case.call) {
                case.row.samples.push(cycles / case.calls as f64);
            }
        }
    }
    let mut rows: Vec<Row> = cases.into_iter().map(|case| case.row).collect();
    if !args.no_openssl_speed {
        rows.extend(rivals::openssl_speed(&mut sampler));
    }
    let report = Report::new(rows, &sampler);
    print!("{report}");
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report.json())?)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if args.check { report.check(SLACK).map_err(Into::into) } else { Ok(()) }
}

fn cases() -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for width in limit::widths() {
        let row = Row::new(format!("limit {}", width.bits()), "round", 1);
        cases.push(Case { row, calls: 1, call: Box::new(move || width.run()) });
    }
    for (name, make) in implementations() {
        for (sector, request) in [SectorSize::B512, SectorSize::B4096].into_iter().flat_map(|s| [(s, HOT_BYTES)]) {
            for direction in Direction::ALL {
                cases.push(case(&name, &make, direction, sector, request));
            }
        }
        for (sector, sectors) in [(SectorSize::B512, 1), (SectorSize::B512, 8), (SectorSize::B512, 32)] {
            cases.push(case(&name, &make, Direction::Encrypt, sector, sectors * sector.bytes()));
        }
        cases.push(case(&name, &make, Direction::Encrypt, SectorSize::B4096, 4096));
    }
    cases.extend(
        Kernel::available().flat_map(|kernel| [SectorSize::B512, SectorSize::B4096].map(|s| moving(kernel, s))),
    );
    let cold = Rc::new(RefCell::new(Cold::new()?));
    for kernel in Kernel::available() {
        for bytes in cold::REQUESTS {
            cases.extend(Direction::ALL.map(|direction| cold_case(&cold, kernel, direction, bytes)));
        }
    }
    Ok(cases)
}

/// All implementations by name, ours first.
fn implementations() -> Vec<(String, Box<dyn Fn() -> Work>)> {
    let mut all: Vec<(String, Box<dyn Fn() -> Work>)> = Vec::new();
    for kernel in Kernel::available() {
        all.push((kernel.to_string(), Box::new(move || ours(kernel))));
    }
    all.push(("xts-mode".into(), Box::new(|| rivals::xts_mode(&KEY))));
    all.push(("openssl EVP".into(), Box::new(|| rivals::openssl_evp(&KEY))));
    all
}

fn key(kernel: Kernel) -> XtsKey {
    XtsKey::expand(kernel, &KEY).expect("the kernel is available and the halves differ")
}

fn ours(kernel: Kernel) -> Work {
    let key = Box::new(key(kernel));
    Box::new(move |direction, sector, buf| match direction {
        Direction::Encrypt => key.encrypt_in_place(sector, Tweak::sectors(1000), buf),
        Direction::Decrypt => key.decrypt_in_place(sector, Tweak::sectors(1000), buf),
    })
}

/// A request of `bytes`, in place.
fn case(name: &str, make: &dyn Fn() -> Work, direction: Direction, sector: SectorSize, bytes: usize) -> Case {
    let what = format!("{} x {} {}", bytes >> sector.shift(), sector.bytes(), direction.name());
    let mut work = make();
    let mut buf = aligned(bytes);
    let slow = if name == "xts-mode" || name == "openssl EVP" { 4 } else { 1 };
    let calls = (6 * HOT_BYTES / bytes / slow).clamp(1, 600);
    Case {
        row: Row::new(name.to_owned(), &what, bytes),
        calls,
        call: Box::new(move || work(direction, sector, &mut buf)),
    }
}

/// A request of half the hot size, from one place to another.
fn moving(kernel: Kernel, sector: SectorSize) -> Case {
    let bytes = HOT_BYTES / 2;
    let what = format!("{} x {} enc, moved", bytes >> sector.shift(), sector.bytes());
    let (key, src, mut dst) = (Box::new(key(kernel)), aligned(bytes), aligned(bytes));
    let call = Box::new(move || key.encrypt(sector, Tweak::sectors(1000), &src, &mut dst));
    Case { row: Row::new(kernel.to_string(), &what, bytes), calls: 12, call }
}

/// A request that the caches know nothing of.
fn cold_case(cold: &Rc<RefCell<Cold>>, kernel: Kernel, direction: Direction, bytes: usize) -> Case {
    let what = format!("{} x 4096 {}, cold", bytes / 4096, direction.name());
    let (key, cold) = (Box::new(key(kernel)), cold.clone());
    let call = Box::new(move || cold.borrow_mut().request(&key, direction, bytes));
    Case { row: Row::new(kernel.to_string(), &what, bytes), calls: 4 * HOT_BYTES / bytes, call }
}

/// A buffer at a page border, where buffers of the data path start.
fn aligned(bytes: usize) -> Aligned {
    let memory = vec![0x5a; bytes + 4096];
    let start = memory.as_ptr().align_offset(4096);
    Aligned { memory, start, bytes }
}

struct Aligned {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl std::ops::Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.start..][..self.bytes]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.bytes]
    }
}
