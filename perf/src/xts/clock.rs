//! Counts core cycles where there is no cycle counter.
//!
//! A chain of dependent 64-bit multiplications takes three core cycles each on every x86-64 CPU of the last ten years
//! (uops.info, IMUL r64,r64). Timing one before and after each sample turns ticks of the time stamp counter into core
//! cycles of that moment. If the two differ by more than 1 % the clock changed or something else ran: the sample is
//! thrown away.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::{__rdtscp, _mm_lfence, _rdtsc};

/// Multiplications in a chain.
const CHAIN: u64 = 10_000;

/// Cycles of one multiplication.
const MULTIPLY_CYCLES: f64 = 3.0;

/// Takes samples.
pub(crate) struct Sampler {
    pub(crate) taken: usize,
    pub(crate) kept: usize,
    /// Ticks of the time stamp counter in a core cycle, of each sample that was kept.
    ticks_per_cycle: Vec<f64>,
}

impl Sampler {
    pub(crate) fn new() -> Self {
        Self { taken: 0, kept: 0, ticks_per_cycle: Vec::new() }
    }

    /// The core cycles of `calls` calls of `work`, or nothing if the clock was not steady.
    pub(crate) fn cycles(&mut self, calls: usize, work: &mut dyn FnMut()) -> Option<f64> {
        self.taken += 1;
        work(); // Fetch code and data again: other cases ran meanwhile.
        let before = ticks_per_cycle();
        let start = now();
        for _ in 0..calls {
            work();
        }
        let ticks = now() - start;
        let after = ticks_per_cycle();
        if (before - after).abs() > 0.01 * before.min(after) {
            return None;
        }
        self.kept += 1;
        let mean = (before + after) / 2.0;
        self.ticks_per_cycle.push(mean);
        Some(ticks as f64 / mean)
    }

    /// Core cycles in a second, at the median over all samples.
    pub(crate) fn hertz(&self) -> f64 {
        ticks_per_second() / crate::xts::report::percentile(&self.ticks_per_cycle, 0.5)
    }
}

/// How fast the time stamp counter ticks, by the system's clock.
fn ticks_per_second() -> f64 {
    let (start, ticks) = (std::time::Instant::now(), now());
    std::thread::sleep(std::time::Duration::from_millis(50));
    (now() - ticks) as f64 / start.elapsed().as_secs_f64()
}

fn ticks_per_cycle() -> f64 {
    let start = now();
    let mut x = 3u64;
    // SAFETY: changes only the two registers that are declared.
    unsafe {
        asm!("2:", "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}",
            "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}", "dec {n}", "jnz 2b",
            x = inout(reg) x, n = inout(reg) CHAIN / 10 => _, options(nomem, nostack));
    }
    std::hint::black_box(x);
    (now() - start) as f64 / (CHAIN as f64 * MULTIPLY_CYCLES)
}

fn now() -> u64 {
    let mut core = 0;
    // SAFETY: reading the time stamp counter touches nothing else.
    unsafe {
        __rdtscp(&mut core);
        _mm_lfence();
        let ticks = _rdtsc();
        _mm_lfence();
        ticks
    }
}
