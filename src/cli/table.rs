//! Tables for people: columns as wide as what is in them, two spaces between.

use std::fmt::Write;

use crate::time::Date;

/// A table under its head line.
pub(super) struct Table {
    /// Titles, and whether a column is of numbers, which stand to the right.
    columns: Vec<(&'static str, bool)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.iter().map(|(title, align)| (*title, *align == Align::Right)).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.columns.len());
        self.rows.push(cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { printable(&cell) }).into());
    }

    /// The text, or `empty` if there is nothing to list.
    pub(super) fn text_or(&self, empty: &str) -> String {
        if self.rows.is_empty() {
            return format!("{empty}\n");
        }
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let lines = || std::iter::once(&titles).chain(&self.rows);
        let widths: Vec<usize> = (0..titles.len())
            .map(|column| lines().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for line in lines() {
            let mut shown = String::new();
            for ((cell, &width), (_, right)) in line.iter().zip(&widths).zip(&self.columns) {
                let written =
                    if *right { write!(shown, "{cell:>width$}  ") } else { write!(shown, "{cell:<width$}  ") };
                written.expect("a string takes everything");
            }
            text += shown.trim_end();
            text.push('\n');
        }
        text
    }
}

/// Where the cells of a column stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Names come from configurations and may hold anything: a terminal gets no control characters of theirs.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

/// Bytes in the largest unit that keeps three digits.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len()).rev().find(|unit| count >= 1 << (10 * unit)).unwrap_or(0);
    let scale = 1u64 << (10 * unit);
    if count.is_multiple_of(scale) {
        format!("{} {}", count / scale, UNITS[unit])
    } else {
        format!("{:.1} {}", count as f64 / scale as f64, UNITS[unit])
    }
}

/// A time, in seconds since 1970, as a date in UTC.
pub(super) fn date(seconds: u64) -> String {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{} {hour:02}:{minute:02}:{second:02}Z", Date::of_day(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("HOSTS", Align::Left)]);
        assert_eq!(table.text_or("none"), "none\n");
        table.row(["v0".to_owned(), "8 MiB".to_owned(), String::new()]);
        table.row(["volume-1".to_owned(), "1 GiB".to_owned(), "a\x1b[2J".to_owned()]);
        let expected = "NAME       SIZE  HOSTS\nv0        8 MiB  -\nvolume-1  1 GiB  a\u{FFFD}[2J\n";
        assert_eq!(table.text_or(""), expected);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // date -u -d @SECONDS
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_735_689_599, "2024-12-31 23:59:59Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn bytes_have_a_unit_that_fits() {
        for (count, text) in
            [(0, "0 B"), (4096, "4 KiB"), (8 << 20, "8 MiB"), (1536 << 20, "1.5 GiB"), (3 << 40, "3 TiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
