//! The report as tables for a terminal.

use std::fmt::Write;

use crate::contender::OURS;
use crate::row::{ContenderResult, RowResult};
use crate::sample::{Metric, count, micros};
use crate::stats::Summary;

use super::Report;

/// The machine, its noise and what was run.
pub fn head(report: &Report) -> String {
    let m = &report.machine;
    let mut out = String::new();
    let clock = m.cpu_mhz.map(|mhz| format!(", {mhz:.0} MHz")).unwrap_or_default();
    let virt = if m.virtual_machine { ", virtual machine" } else { "" };
    let _ = writeln!(out, "machine  {} ({}{clock}), {} cores{virt}", m.cpu, m.cpu_id, m.cores);
    let _ = writeln!(out, "         {}", m.features.join(" "));
    let _ = writeln!(
        out,
        "         Linux {}, {} MiB, hugepages {} ({} free)",
        m.kernel, m.memory_mib, m.hugepages.0, m.hugepages.1
    );
    if let Some(warning) = hugepage_warning(m.hugepages.1) {
        let _ = writeln!(out, "         {warning}");
    }
    let _ = writeln!(out, "build    commit {}, {}", m.commit, m.rustc);
    let _ = writeln!(out, "rivals   {}", m.rivals.join("; "));
    let _ = writeln!(
        out,
        "run      {} rounds of {} s, interleaved; {}",
        report.rounds,
        report.seconds,
        cores(report.cores)
    );
    let _ = writeln!(out, "before   {}", report.noise_before);
    let _ = writeln!(out, "after    {}", report.noise_after);
    out
}

/// What to know if too few hugepages are free for our side: 512 MiB of disk, 128 MiB of buffers, and some for fio.
pub fn hugepage_warning(free: u64) -> Option<String> {
    const ENOUGH: u64 = (512 + 128 + 64) / 2;
    (free < ENOUGH).then(|| {
        format!(
            "TOO FEW HUGEPAGES: {free} of 2 MiB are free and {ENOUGH} are needed, so ours runs on normal pages; \
             sysctl vm.nr_hugepages={ENOUGH} first"
        )
    })
}

/// Which core is whose.
pub fn cores([server, client]: [usize; 2]) -> String {
    match server == client {
        true => format!(
            "ONE CORE ONLY: client and server share core {server}, so NBD figures are the client's as much as the server's"
        ),
        false => format!("target on core {server}, client on core {client}"),
    }
}

/// One row as a table with its ratios and verdicts.
pub fn row(row: &RowResult) -> String {
    let mut out = format!("{}\n", row.title);
    let width = row.contenders.iter().map(|c| c.name.chars().count()).max().unwrap_or(0).max(9);
    if row.workload.is_some() {
        let _ = writeln!(
            out,
            "  {:width$}  {:>8} {:>17} {:>7} {:>9} {:>9} {:>9} {:>9} {:>6} {:>9} {:>6}",
            "contender", "IOPS", "min..max", "GiB/s", "p50", "p90", "p99", "p99.9", "CPU %", "CPU µs/IO", "steal"
        );
        row.contenders.iter().for_each(|c| out.push_str(&loaded(c, width)));
    } else {
        let metric = row.idle_metric();
        let _ = writeln!(out, "  {:width$}  {:>10} {:>22}", "contender", metric.name(), "min..max");
        row.contenders.iter().for_each(|c| out.push_str(&idle(c, width, metric)));
    }
    for left_out in &row.left_out {
        let _ = writeln!(out, "  {:width$}  left out: {}", left_out.name, left_out.why);
    }
    for (rival, ratio) in ratios(row) {
        let _ = writeln!(out, "    {OURS} / {rival}, IOPS: {:.2} ({:.2}..{:.2})", ratio.median, ratio.min, ratio.max);
    }
    for judgement in &row.judgements {
        let _ = writeln!(out, "    {}: {}", judgement.subject, judgement.words);
    }
    out
}

/// Our IOPS against each rival's that no target covers already.
pub fn ratios(row: &RowResult) -> Vec<(&str, Summary)> {
    let Some(ours) = row.contenders.iter().find(|c| c.name == OURS) else { return Vec::new() };
    let ours = ours.values(Metric::Iops);
    let covered = |rival: &str| row.judgements.iter().any(|j| j.subject.ends_with(&format!("/ {rival}, IOPS")));
    row.contenders
        .iter()
        .filter(|c| c.name != OURS && !covered(&c.name))
        .filter_map(|c| {
            let pairs = ours.iter().copied().zip(c.values(Metric::Iops));
            Some((c.name.as_str(), Summary::of_ratios(pairs)?))
        })
        .collect()
}

fn loaded(contender: &ContenderResult, width: usize) -> String {
    let median = |metric| contender.summary(metric).map(|s| s.median);
    let iops = contender.summary(Metric::Iops);
    let latency = contender.latency();
    let at = |name: &str| latency.iter().find(|(n, _)| *n == name).map_or("-".into(), |&(_, us)| micros(us));
    let dash = |value: Option<f64>, digits: usize| value.map_or("-".into(), |v| format!("{v:.digits$}"));
    format!(
        "  {:width$}  {:>8} {:>17} {:>7} {:>9} {:>9} {:>9} {:>9} {:>6} {:>9} {:>6.1}{}\n",
        contender.name,
        iops.map_or("-".into(), |s| count(s.median)),
        iops.map_or("-".into(), |s| format!("{}..{}", count(s.min), count(s.max))),
        dash(median(Metric::GibPerS), 2),
        at("p50"),
        at("p90"),
        at("p99"),
        at("p99.9"),
        dash(median(Metric::CpuPercent), 0),
        dash(contender.cpu_us_per_io(), 2),
        contender.steal_percent_most(),
        contender.note().map(|note| format!("  {note}")).unwrap_or_default(),
    )
}

fn idle(contender: &ContenderResult, width: usize, metric: Metric) -> String {
    match contender.summary(metric) {
        Some(s) => {
            let range = format!("{}..{}", metric.show(s.min), metric.show(s.max));
            let note = contender.note().map(|note| format!("  {note}")).unwrap_or_default();
            format!("  {:width$}  {:>10} {range:>22}{note}\n", contender.name, metric.show(s.median))
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_and_few_hugepages_are_told() {
        assert!(cores([0, 0]).starts_with("ONE CORE ONLY"));
        assert_eq!(cores([0, 1]), "target on core 0, client on core 1");
        assert!(hugepage_warning(0).unwrap().contains("vm.nr_hugepages=352"));
        assert_eq!(hugepage_warning(352), None);
    }
}
