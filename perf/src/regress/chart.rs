//! The plots that only this report has: intervals of all figures, and a figure over commits. Colours are the page's.

use std::fmt::Write;

use crate::report::html::escape;
use crate::sample::Metric;

use super::history::History;
use super::matrix::slowdown_percent;
use super::report::Report;
use super::verdict::{Figure, Finding, RowVerdict};

/// What the page's style lacks.
pub const STYLE: &str = ".band{fill:var(--rule);fill-opacity:.5}.dim{stroke:var(--dim);stroke-width:2}.dimfill{fill:var(--dim)}\
    .found{stroke:var(--short);stroke-width:2.5}.foundfill{fill:var(--short)}.good{stroke:var(--pass);stroke-width:2.5}\
    .goodfill{fill:var(--pass)}.plain{stroke:var(--c0);stroke-width:2.5}.plainfill{fill:var(--c0)}.hollow{fill:var(--bg);stroke:var(--c0);stroke-width:1.5}";

const WIDTH: f64 = 1100.0;
const LABEL: f64 = 430.0;
const LINE: f64 = 24.0;
/// The scale does not show more percent than these; longer intervals are cut.
const MOST_PERCENT: f64 = 30.0;

/// The interval of each figure, one below the other.
pub fn intervals(report: &Report) -> String {
    let figures: Vec<_> = report.figures().collect();
    if figures.is_empty() {
        return String::new();
    }
    let ends = figures.iter().flat_map(|(_, f)| [Some(slowdown_percent(f.metric, f.change)), extreme(f)]).flatten();
    let most = ends.fold(2.0 * report.tolerance_percent, |most, end| most.max(end.abs())).clamp(2.0, MOST_PERCENT);
    let x = |percent: f64| LABEL + (percent.clamp(-most, most) / most + 1.0) / 2.0 * (WIDTH - LABEL - 20.0);
    let height = figures.len() as f64 * LINE + 24.0;
    let mut svg =
        format!(r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="slowdown of HEAD in percent">"#);
    let (left, right) = (x(-report.tolerance_percent), x(report.tolerance_percent));
    let bottom = height - 22.0;
    let _ = write!(svg, r#"<rect class="band" x="{left:.1}" y="0" width="{:.1}" height="{bottom:.1}"/>"#, right - left);
    let _ = write!(svg, r#"<line class="grid" x1="{0:.1}" x2="{0:.1}" y1="0" y2="{bottom:.1}"/>"#, x(0.0));
    for percent in [-most, -most / 2.0, 0.0, most / 2.0, most] {
        let at = x(percent);
        let _ = write!(svg, r#"<text class="axis mid" x="{at:.1}" y="{:.1}">{percent:+.1} %</text>"#, height - 6.0);
    }
    for (place, (row, figure)) in figures.iter().enumerate() {
        let y = place as f64 * LINE + 13.0;
        let name = escape(&format!("{}: {}", row.title, figure.metric.name()));
        let _ = write!(svg, r#"<text class="end" x="{:.1}" y="{:.1}">{name}</text>"#, LABEL - 12.0, y + 4.0);
        bar(&mut svg, &x, y + 5.0, figure.metric, figure.noise, figure.noise_interval, "dim");
        bar(&mut svg, &x, y - 2.0, figure.metric, figure.change, figure.interval, colour(figure.finding));
    }
    svg + "</svg>"
}

fn colour(finding: Finding) -> &'static str {
    match finding {
        Finding::Slower | Finding::Unsure => "found",
        Finding::Faster => "good",
        Finding::Same => "plain",
    }
}

/// The end of an interval that is farther from nothing.
fn extreme(figure: &Figure) -> Option<f64> {
    let ends = figure.interval?.map(|end| slowdown_percent(figure.metric, end));
    Some(if ends[0].abs() > ends[1].abs() { ends[0] } else { ends[1] })
}

fn bar(
    svg: &mut String,
    x: &impl Fn(f64) -> f64,
    y: f64,
    metric: Metric,
    change: f64,
    interval: Option<[f64; 2]>,
    class: &str,
) {
    let at = |change: f64| x(slowdown_percent(metric, change));
    if let Some([low, high]) = interval {
        let (from, to) = (at(low), at(high));
        let _ = write!(svg, r#"<line class="{class}" x1="{from:.1}" x2="{to:.1}" y1="{y:.1}" y2="{y:.1}"/>"#);
    }
    let _ = write!(svg, r#"<circle class="{class}fill" cx="{:.1}" cy="{y:.1}" r="3.5"/>"#, at(change));
}

/// A figure of a row over the commits of the history: filled what was HEAD, hollow its BASE in the same minutes.
pub fn commits(row: &RowVerdict, metric: Metric, history: &History) -> String {
    const WIDTH: f64 = 560.0;
    const TOP: f64 = 14.0;
    const BOTTOM: f64 = 190.0;
    let runs = history.of(&row.title, metric.name());
    let values = || runs.iter().flat_map(|(_, speed)| [Some(speed.head), speed.base]).flatten();
    let most = values().fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    // From nothing, so that noise does not look like a fall.
    let y = |value: f64| BOTTOM - value / (most * 1.1) * (BOTTOM - TOP);
    let step = (WIDTH - 110.0) / runs.len() as f64;
    let x = |at: usize| 80.0 + (at as f64 + 0.5) * step;
    let label = escape(&format!("{} of {} over commits", metric.name(), row.title));
    let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {:.0}" role="img" aria-label="{label}">"#, BOTTOM + 22.0);
    for value in [0.0, most / 2.0, most] {
        let at = y(value);
        let _ = write!(svg, r#"<line class="grid" x1="72" x2="{WIDTH}" y1="{at:.1}" y2="{at:.1}"/>"#);
        let _ = write!(svg, r#"<text class="axis end" x="66" y="{:.1}">{}</text>"#, at + 4.0, metric.show(value));
    }
    let line: Vec<_> = runs.iter().enumerate().map(|(at, (_, s))| format!("{:.1},{:.1}", x(at), y(s.head))).collect();
    let _ = write!(svg, r#"<polyline class="line c0" points="{}"/>"#, line.join(" "));
    for (at, (entry, speed)) in runs.iter().enumerate() {
        let point = |svg: &mut String, class: &str, commit: &str, value: f64| {
            let title = escape(&format!("{commit}, {}: {}", entry.started, metric.show(value)));
            let (x, y) = (x(at), y(value));
            let _ =
                write!(svg, r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="4"><title>{title}</title></circle>"#);
        };
        if let Some(base) = speed.base {
            point(&mut svg, "hollow", &entry.base, base);
        }
        point(&mut svg, "fill c0", &format!("{} {}", entry.commit, entry.subject), speed.head);
        // Names stay apart from each other.
        if at % (runs.len() / 6 + 1) == 0 {
            let name: String = entry.commit.chars().take(7).collect();
            let _ = write!(
                svg,
                r#"<text class="axis mid" x="{:.1}" y="{:.1}">{}</text>"#,
                x(at),
                BOTTOM + 17.0,
                escape(&name)
            );
        }
    }
    svg + "</svg>"
}
