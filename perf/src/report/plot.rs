//! Plots as SVG: bars of a rate with a dot for each round, and latency percentiles as lines over a logarithmic scale.
//!
//! Colours come from the page's style (classes `c0`, `c1`, …), so that a plot is readable in light and dark.

use std::fmt::Write;

use crate::row::{ContenderResult, RowResult};
use crate::sample::{Metric, micros};

use super::html::escape;

/// Colours that the page has.
const COLOURS: usize = 6;
const WIDTH: f64 = 560.0;
const BAR: f64 = 22.0;
const GAP: f64 = 26.0;
const LABEL: f64 = 96.0;

/// The class of a contender's colour.
pub fn colour(index: usize) -> String {
    format!("c{}", index % COLOURS)
}

/// Bars of a metric: the length is the median, a dot is one round.
pub fn bars(row: &RowResult, metric: Metric) -> String {
    let summaries: Vec<_> =
        row.contenders.iter().enumerate().filter_map(|(i, c)| Some((i, c, c.summary(metric)?))).collect();
    let most = summaries.iter().map(|(_, _, s)| s.max).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let height = summaries.len() as f64 * (BAR + GAP) + 6.0;
    let mut svg = open(height, &format!("{} of {}", metric.name(), row.title));
    let x = |value: f64| value / most * (WIDTH - LABEL);
    for (place, (index, contender, summary)) in summaries.iter().enumerate() {
        let top = place as f64 * (BAR + GAP) + 18.0;
        let class = colour(*index);
        let _ = write!(svg, r#"<text x="0" y="{:.1}">{}</text>"#, top - 5.0, escape(&contender.name));
        let _ = write!(
            svg,
            r#"<rect class="fill {class}" x="0" y="{top:.1}" width="{:.1}" height="{BAR}" rx="2"/>"#,
            x(summary.median).max(1.0)
        );
        for value in contender.values(metric).into_iter().flatten() {
            let _ = write!(svg, r#"<circle class="round" cx="{:.1}" cy="{:.1}" r="3"/>"#, x(value), top + BAR / 2.0);
        }
        let end = x(summary.max) + 9.0;
        let middle = top + BAR / 2.0 + 4.5;
        let _ =
            write!(svg, r#"<text class="value" x="{end:.1}" y="{middle:.1}">{}</text>"#, metric.show(summary.median));
    }
    svg + "</svg>"
}

/// Latency percentiles of all contenders that tell them.
pub fn latencies(row: &RowResult) -> String {
    let lines: Vec<_> = row.contenders.iter().map(ContenderResult::latency).enumerate().collect();
    let values = lines.iter().flat_map(|(_, points)| points).map(|&(_, us)| us).filter(|&us| us > 0.0);
    let (least, most) = values.fold((f64::MAX, 0.0_f64), |(least, most), us| (least.min(us), most.max(us)));
    if most == 0.0 {
        return String::new();
    }
    let scale = Scale { low: least.log10().floor(), high: most.log10().ceil().max(least.log10().floor() + 1.0) };
    let mut svg = open(Scale::BOTTOM + 22.0, &format!("latency of {}", row.title));
    scale.grid(&mut svg);
    let names =
        lines.iter().find(|(_, points)| !points.is_empty()).map(|(_, points)| points.clone()).unwrap_or_default();
    for (at, (name, _)) in names.iter().enumerate() {
        let _ = write!(
            svg,
            r#"<text class="axis mid" x="{:.1}" y="{:.1}">{name}</text>"#,
            Scale::x(at),
            Scale::BOTTOM + 17.0
        );
    }
    for (index, points) in lines.iter().filter(|(_, points)| !points.is_empty()) {
        let class = colour(*index);
        let place = |(at, &(_, us)): (usize, &(&str, f64))| (Scale::x(at), scale.y(us.max(least)));
        let places: Vec<_> = points.iter().enumerate().map(place).collect();
        let path: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(svg, r#"<polyline class="line {class}" points="{}"/>"#, path.join(" "));
        for ((x, y), (name, us)) in places.iter().zip(points) {
            let title = escape(&format!("{}, {name}: {}", row.contenders[*index].name, micros(*us)));
            let _ = write!(
                svg,
                r#"<circle class="fill {class}" cx="{x:.1}" cy="{y:.1}" r="4"><title>{title}</title></circle>"#
            );
        }
    }
    svg + "</svg>"
}

/// A vertical logarithmic scale of whole decades, in log10 of microseconds.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    const TOP: f64 = 10.0;
    const BOTTOM: f64 = 190.0;
    const LEFT: f64 = 62.0;

    fn x(at: usize) -> f64 {
        Self::LEFT + 30.0 + at as f64 * (WIDTH - Self::LEFT - 60.0) / 5.0
    }

    fn y(&self, us: f64) -> f64 {
        Self::BOTTOM - (us.log10() - self.low) / (self.high - self.low) * (Self::BOTTOM - Self::TOP)
    }

    fn grid(&self, svg: &mut String) {
        for decade in self.low as i32..=self.high as i32 {
            let us = 10f64.powi(decade);
            let y = self.y(us);
            let _ = write!(svg, r#"<line class="grid" x1="{}" x2="{WIDTH}" y1="{y:.1}" y2="{y:.1}"/>"#, Self::LEFT);
            let label = match us {
                us if us >= 1e6 => format!("{:.0} s", us / 1e6),
                us if us >= 1e3 => format!("{:.0} ms", us / 1e3),
                us => format!("{us} µs"),
            };
            let _ = write!(svg, r#"<text class="axis end" x="{}" y="{:.1}">{label}</text>"#, Self::LEFT - 8.0, y + 4.0);
        }
    }
}

fn open(height: f64, title: &str) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{}">"#, escape(title))
}
