//! The report as one static HTML page in the style of the other reports.

use std::fmt::Write;

use crate::report::html::{STYLE, escape};
use crate::report::plot;
use crate::row::{ContenderResult, RowResult};

use super::chart;
use super::history::History;
use super::report::{Outcome, Report};
use super::side::Role;
use super::text;
use super::verdict::{Finding, RowVerdict};

/// The page.
pub fn page(report: &Report, history: &History) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.push_str(
        "<meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">",
    );
    let title = format!("Strongroom regression: {} to {}", report.base.commit, report.head.commit);
    let _ = write!(out, "<title>{}</title><style>{STYLE}{}</style></head><body>", escape(&title), chart::STYLE);
    let (class, word) = match report.outcome() {
        Outcome::Clean => ("pass", "NO REGRESSION FOUND"),
        Outcome::Regression => ("short", "REGRESSION"),
        Outcome::Unsure => ("short", "UNSURE"),
    };
    let _ = write!(out, "<h1>{}</h1>", escape(&title));
    let _ = write!(out, "<p><span class=\"badge {class}\">{word}</span> {}</p>", escape(&report.started));
    let _ = write!(out, "<pre>{}\n\n{}</pre>", escape(&text::head(report)), escape(&text::conclusion(report)));
    let _ = write!(out, "<h2>Slowdown of HEAD</h2>{}", chart::intervals(report));
    out.push_str(
        "<p class=\"hint\">A point is Hodges and Lehmann's estimate, a line its interval at the level at which the figure was judged; grey is BASE \
         against itself, at 95 %. The band is the tolerance. Right is slower.</p>",
    );
    figures(&mut out, report);
    instructions(&mut out, report);
    for row in &report.rows {
        section(&mut out, row, history);
    }
    out + "</body></html>\n"
}

fn figures(out: &mut String, report: &Report) {
    out.push_str("<table><tr><th>row<th>figure<th>BASE<th>HEAD<th>change %<th>interval<th>BASE against itself %<th>95 %<th>smallest seen %<th>units<th>finding");
    for (row, figure) in report.figures() {
        let class = match figure.finding {
            Finding::Same => "shown",
            Finding::Faster => "pass",
            Finding::Slower | Finding::Unsure => "short",
        };
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td><span class=\"badge {class}\">{}</span>",
            escape(&row.title),
            figure.metric.name(),
            figure.metric.show(figure.base.median),
            figure.metric.show(figure.head.median),
            text::signed(figure.change),
            text::range(figure.interval),
            text::signed(figure.noise),
            text::range(figure.noise_interval),
            text::seen(figure),
            row.units,
            figure.finding.word()
        );
    }
    out.push_str("</table><ul>");
    for (row, missing) in report.rows.iter().filter_map(|row| Some((row, row.missing.as_ref()?))) {
        let _ = write!(out, "<li>{}: {}</li>", escape(&row.title), escape(&text::missing_words(missing)));
    }
    out.push_str("</ul>");
}

fn instructions(out: &mut String, report: &Report) {
    let _ = write!(out, "<h2>Instructions</h2><pre>{}</pre>", escape(&text::instructions(report)));
}

fn section(out: &mut String, row: &RowVerdict, history: &History) {
    let Some(figure) = row.figures.first() else { return };
    let _ = write!(out, "<section><h2>{}</h2><div class=\"plots\">", escape(&row.title));
    let sides = as_result(row);
    let commits = chart::commits(row, figure.metric, history);
    let title = format!("{} over commits", figure.metric.name());
    for (title, svg) in [
        (figure.metric.name(), plot::bars(&sides, figure.metric)),
        ("latency", plot::latencies(&sides)),
        (&title, commits),
    ] {
        if !svg.is_empty() {
            let _ = write!(out, "<figure><figcaption>{title}</figcaption>{svg}</figure>");
        }
    }
    out.push_str("</div></section>");
}

/// The sides as contenders of a row, which is what the plots take.
fn as_result(row: &RowVerdict) -> RowResult {
    let contender = |role: Role| ContenderResult {
        name: role.name().into(),
        samples: row.samples[role as usize].iter().cloned().map(Some).collect(),
    };
    RowResult {
        title: row.title.clone(),
        workload: Some(row.workload),
        contenders: Role::ALL.map(contender).into(),
        left_out: Vec::new(),
        judgements: Vec::new(),
    }
}
