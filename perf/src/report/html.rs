//! The report as one static HTML page: no script, nothing from outside, readable in light and dark.

use std::fmt::Write;

use crate::contender::OURS;
use crate::row::RowResult;
use crate::sample::{Metric, count, micros};
use crate::target::Verdict;

use super::{Report, plot, text};

pub const STYLE: &str = include_str!("page.css");

/// A text as it may stand in HTML, between tags or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The page.
pub fn page(report: &Report) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.push_str(
        "<meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">",
    );
    let _ = write!(out, "<title>Strongroom performance: {}</title><style>{STYLE}</style></head><body>", report.suite);
    let _ = write!(out, "<h1>Strongroom performance: {}</h1>", report.suite);
    let (class, word) = if report.quiet() { ("pass", "QUIET") } else { ("short", "NOT QUIET") };
    let _ = write!(
        out,
        "<p><span class=\"badge {class}\">{word}</span> {} · {}</p>",
        escape(&report.started),
        escape(&report.verdicts())
    );
    let _ = write!(out, "<pre>{}</pre>", escape(&text::head(report)));
    out.push_str(
        "<p class=\"hint\">A bar is the median, a dot one round. Ratios are taken within a round, then their median. \
         Latency runs from issue to completion; a point is the median of the rounds.</p>",
    );
    report.rows.iter().for_each(|row| section(&mut out, row));
    out + "</body></html>\n"
}

fn section(out: &mut String, row: &RowResult) {
    let _ = write!(out, "<section><h2>{}</h2>", escape(&row.title));
    let rate = match row.workload {
        None => row.idle_metric(),
        Some(workload) if workload.block_kib >= 128 => Metric::GibPerS,
        Some(_) => Metric::Iops,
    };
    out.push_str("<div class=\"plots\">");
    for (title, svg) in [(rate.name(), plot::bars(row, rate)), ("latency", plot::latencies(row))] {
        if !svg.is_empty() {
            let _ = write!(out, "<figure><figcaption>{title}</figcaption>{svg}</figure>");
        }
    }
    out.push_str("</div>");
    table(out, row);
    out.push_str("<ul>");
    for judgement in &row.judgements {
        let (class, word) = badge(judgement.verdict);
        let _ = write!(
            out,
            "<li><span class=\"badge {class}\">{word}</span> {}: {}</li>",
            escape(&judgement.subject),
            escape(&judgement.words)
        );
    }
    for (rival, r) in text::ratios(row) {
        let _ = write!(out, "<li>{OURS} / {}, IOPS: {:.2} ({:.2}..{:.2})</li>", escape(rival), r.median, r.min, r.max);
    }
    for left_out in &row.left_out {
        let _ = write!(out, "<li class=\"hint\">left out: {} ({})</li>", escape(&left_out.name), escape(&left_out.why));
    }
    out.push_str("</ul></section>");
}

fn badge(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Pass => ("pass", "PASS"),
        Verdict::Short => ("short", "SHORT"),
        Verdict::NotMeasured => ("short", "NOT MEASURED"),
        Verdict::Shown => ("shown", "SHOWN"),
    }
}

fn table(out: &mut String, row: &RowResult) {
    if row.workload.is_none() {
        return;
    }
    out.push_str("<table><tr><th>contender<th>IOPS<th>GiB/s<th>p50<th>p90<th>p99<th>p99.9<th>p99.99<th>max<th>CPU %<th>CPU µs/IO");
    for (index, contender) in row.contenders.iter().enumerate() {
        let median = |metric| contender.summary(metric).map(|s| s.median);
        let note = contender.note().map(|n| format!(" <small>{}</small>", escape(n))).unwrap_or_default();
        let _ = write!(
            out,
            "<tr><td><i class=\"{}\"></i>{}{note}<td>{}<td>{}",
            plot::colour(index),
            escape(&contender.name),
            median(Metric::Iops).map_or("-".into(), count),
            median(Metric::GibPerS).map_or("-".into(), |v| format!("{v:.2}"))
        );
        let latency = contender.latency();
        match latency.is_empty() {
            true => out.push_str(&"<td>-".repeat(6)),
            false => latency.iter().for_each(|&(_, us)| out.push_str(&format!("<td>{}", micros(us)))),
        }
        let dash = |v: Option<f64>, digits: usize| v.map_or("-".into(), |v| format!("{v:.digits$}"));
        let _ = write!(out, "<td>{}<td>{}", dash(median(Metric::CpuPercent), 0), dash(contender.cpu_us_per_io(), 2));
    }
    out.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{ContenderResult, LeftOut};
    use crate::sample::Sample;
    use crate::workload::Workload;

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escape("a<b & \"c\" 'd'>"), "a&lt;b &amp; &quot;c&quot; &#39;d&#39;&gt;");
    }

    #[test]
    fn a_hostile_reason_stays_text() {
        let row = RowResult {
            title: "memory <plain>".into(),
            workload: Some(Workload::randread_4k(32)),
            contenders: vec![ContenderResult {
                name: "a&b".into(),
                samples: vec![Some(Sample { iops: Some(5.0), ..Sample::default() })],
            }],
            left_out: vec![LeftOut { name: "x".into(), why: "<script>alert(1)</script>".into() }],
            judgements: Vec::new(),
        };
        let mut out = String::new();
        section(&mut out, &row);
        assert!(!out.contains("<script") && !out.contains("<plain>") && !out.contains("a&b"), "{out}");
        assert!(out.contains("<svg"), "{out}");
    }
}
