//! The report as a table for a terminal.

use std::fmt::Write;

use crate::report::text::hugepage_warning;

use super::report::{Outcome, Report};
use super::verdict::{Figure, Finding, Missing};

/// What was compared, on what.
pub fn head(report: &Report) -> String {
    let m = &report.machine;
    let mut out = String::new();
    let _ = writeln!(out, "BASE     {} {}", report.base.commit, report.base.subject);
    let _ = writeln!(out, "HEAD     {} {}", report.head.commit, report.head.subject);
    let virt = if m.virtual_machine { ", virtual machine" } else { "" };
    let _ =
        writeln!(out, "machine  {} ({}), {} cores{virt}; Linux {}; {}", m.cpu, m.cpu_id, m.cores, m.kernel, m.rustc);
    if let Some(warning) = hugepage_warning(m.hugepages.1) {
        let _ = writeln!(out, "         {warning}");
    }
    let [least, most] = report.units;
    let _ = writeln!(
        out,
        "run      {least} to {most} units of a row, each side twice in a unit, slices of {:.2} s; no false alarm in the whole run with {} %",
        report.slice_s,
        100.0 * (1.0 - report.level)
    );
    let _ = writeln!(out, "         a slowdown of up to {} % is no regression", report.tolerance_percent);
    if let Some(percent) = report.proof_percent {
        let _ = writeln!(out, "PROOF    every command of HEAD is slowed down by {percent} % on purpose");
    }
    let _ = writeln!(out, "before   {}", report.noise_before);
    let _ = write!(out, "after    {}", report.noise_after);
    out
}

/// The figures.
pub fn table(report: &Report) -> String {
    let width = report.rows.iter().map(|row| row.title.chars().count()).max().unwrap_or(3).max(3);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:width$}  {:6} {:>10} {:>10} {:>8} {:>16}  {:>22} {:>7} {:>5}  finding",
        "row", "figure", "BASE", "HEAD", "change %", "interval", "BASE against itself", "seen %", "units"
    );
    for row in &report.rows {
        for figure in &row.figures {
            let _ = writeln!(
                out,
                "{:width$}  {:6} {:>10} {:>10} {:>8} {:>16}  {:>6} {:>15} {:>7} {:>5}  {}",
                row.title,
                figure.metric.name(),
                figure.metric.show(figure.base.median),
                figure.metric.show(figure.head.median),
                signed(figure.change),
                range(figure.interval),
                signed(figure.noise),
                range(figure.noise_interval),
                seen(figure),
                row.units,
                figure.finding.word()
            );
        }
        if let Some(missing) = &row.missing {
            let _ = writeln!(out, "{:width$}  {}", row.title, missing_words(missing));
        }
    }
    out
}

/// A row that has no figures, in words.
pub fn missing_words(missing: &Missing) -> String {
    match missing {
        Missing::New(why) => format!("NEW: BASE cannot do it: {why}"),
        Missing::Broken(why) => format!("BROKEN: HEAD cannot do it: {why}"),
        Missing::Unmeasured(why) => format!("not measured: {why}"),
    }
}

/// The instructions.
pub fn instructions(report: &Report) -> String {
    let Some(counter) = report.counter else {
        return "instructions of an I/O: not counted (this machine has neither counters for perf stat nor valgrind, or it was not asked for)\n"
            .into();
    };
    let width = report.instructions.iter().map(|c| c.title.chars().count()).max().unwrap_or(0).max(21);
    let mut out = format!(
        "{:width$}  {:>16} {:>16} {:>8}  finding ({})\n",
        "instructions of an I/O",
        "BASE",
        "HEAD",
        "change %",
        counter.name()
    );
    for counted in &report.instructions {
        let show = |side: Option<crate::stats::Summary>| {
            side.map_or("-".into(), |s| format!("{:.0} ±{:.0}", s.median, (s.max - s.min) / 2.0))
        };
        let change = counted.base.zip(counted.head).map(|(base, head)| 100.0 * (head.median / base.median - 1.0));
        let finding = counted.why.clone().unwrap_or_else(|| counted.finding.word().into());
        let _ = writeln!(
            out,
            "{:width$}  {:>16} {:>16} {:>8}  {finding}",
            counted.title,
            show(counted.base),
            show(counted.head),
            change.map_or("-".into(), signed)
        );
    }
    out
}

/// What it comes to.
pub fn conclusion(report: &Report) -> String {
    let figures: Vec<&Figure> = report.figures().map(|(_, figure)| figure).collect();
    let count = |finding| figures.iter().filter(|figure| figure.finding == finding).count();
    let found = format!(
        "{} figures: {} slower, {} faster, {} same, {} unsure",
        figures.len(),
        count(Finding::Slower),
        count(Finding::Faster),
        count(Finding::Same),
        count(Finding::Unsure)
    );
    let mut out = match (report.proof_percent, report.outcome()) {
        (Some(percent), _) if report.proves() => {
            format!(
                "PROVED: {percent} % are found in every row that runs in process, and nothing in BASE against itself ({found})"
            )
        }
        (Some(percent), _) => {
            format!("NOT PROVED: {percent} % should be found in every row that runs in process ({found})")
        }
        (_, Outcome::Clean) => format!("NO REGRESSION FOUND ({found})"),
        (_, Outcome::Regression) => format!("REGRESSION ({found})"),
        (_, Outcome::Unsure) => format!(
            "UNSURE: BASE was found to differ from itself, so the machine was too restless to tell; repeat the run ({found})"
        ),
    };
    for regression in report.regressions() {
        let _ = write!(out, "\n  {regression}");
    }
    out
}

/// `+1.2`.
pub fn signed(percent: f64) -> String {
    format!("{percent:+.1}")
}

/// `-1.2..+0.4`, or `too few units`.
pub fn range(interval: Option<[f64; 2]>) -> String {
    interval.map_or("too few units".into(), |[low, high]| format!("{low:+.1}..{high:+.1}"))
}

/// The smallest effect that would have been seen.
pub fn seen(figure: &Figure) -> String {
    figure.seen.map_or("-".into(), |percent| format!("{percent:.1}"))
}
