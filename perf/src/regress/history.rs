//! What was measured of each commit on this machine: a line of JSON for each run, in `perf/results/history/regress.jsonl`.
//!
//! A rate of one day says little beside one of another day on a shared machine. So each line has the rate of BASE from the same minutes too.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::{Context, Failure, Result};

use super::report::Report;
use super::verdict::Missing;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub started: String,
    /// The commit of HEAD.
    pub commit: String,
    /// Its first line.
    pub subject: String,
    /// The commit of BASE.
    pub base: String,
    /// The processor: only runs on the same one are comparable.
    pub cpu: String,
    /// The speeds of its rows.
    pub speeds: Vec<Speed>,
}

/// How fast a row was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// The row.
    pub row: String,
    /// The figure's name.
    pub figure: String,
    /// HEAD's median.
    pub head: f64,
    /// BASE's median; nothing if BASE does not have the row.
    pub base: Option<f64>,
    /// Instructions of an I/O of HEAD.
    pub instructions: Option<f64>,
}

/// The runs so far, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Those on this processor.
    pub entries: Vec<Entry>,
}

impl Entry {
    /// Of a report.
    pub fn of(report: &Report) -> Self {
        let instructions = |title: &str| {
            let counted = report.instructions.iter().find(|counted| counted.title == title)?;
            Some(counted.head?.median)
        };
        let speed = |row: &super::verdict::RowVerdict| {
            let figure = row.figures.first()?;
            Some(Speed {
                row: row.title.clone(),
                figure: figure.metric.name().into(),
                head: figure.head.median,
                base: (!matches!(row.missing, Some(Missing::New(_)))).then_some(figure.base.median),
                instructions: instructions(&row.title),
            })
        };
        Self {
            started: report.started.clone(),
            commit: report.head.commit.clone(),
            subject: report.head.subject.clone(),
            base: report.base.commit.clone(),
            cpu: report.machine.cpu.clone(),
            speeds: report.rows.iter().filter_map(speed).collect(),
        }
    }
}

impl History {
    /// Reads the runs on a processor. A file that is not there has none; a line that cannot be read is an error, so that it is not lost unnoticed.
    pub fn read(path: &Path, cpu: &str) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.on_file("read", path)?,
        };
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let entry: Entry = serde_json::from_str(line).map_err(|e| Failure::Answer {
                program: format!("line {} of {}", number + 1, path.display()),
                why: e.to_string(),
            })?;
            entries.push(entry);
        }
        entries.retain(|entry| entry.cpu == cpu);
        Ok(Self { entries })
    }

    /// Adds a run, to the file as well.
    pub fn add(&mut self, path: &Path, entry: Entry) -> Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).on_file("make", dir)?;
        }
        let line = serde_json::to_string(&entry)
            .map_err(|e| Failure::Answer { program: "the history".into(), why: e.to_string() })?;
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}")).on_file("write", path)?;
        self.entries.push(entry);
        Ok(())
    }

    /// A row's speeds with the runs that they are from.
    pub fn of<'a>(&'a self, row: &'a str, figure: &'a str) -> Vec<(&'a Entry, &'a Speed)> {
        let speed = |entry: &'a Entry| entry.speeds.iter().find(|s| s.row == row && s.figure == figure);
        self.entries.iter().filter_map(|entry| Some((entry, speed(entry)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(cpu: &str, head: f64) -> Entry {
        let speed = Speed { row: "r".into(), figure: "IOPS".into(), head, base: Some(1.0), instructions: Some(300.0) };
        Entry {
            started: "t".into(),
            commit: "c".into(),
            subject: "s".into(),
            base: "b".into(),
            cpu: cpu.into(),
            speeds: vec![speed],
        }
    }

    #[test]
    fn runs_on_this_processor_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history/regress.jsonl");
        let mut history = History::read(&path, "a").unwrap();
        history.add(&path, entry("a", 5.0)).unwrap();
        history.add(&path, entry("b", 6.0)).unwrap();
        let again = History::read(&path, "a").unwrap();
        assert_eq!(again.entries, [entry("a", 5.0)]);
        assert_eq!(again.of("r", "IOPS")[0].1.head, 5.0);
        assert!(again.of("r", "p50").is_empty());
    }

    #[test]
    fn a_broken_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("regress.jsonl");
        fs::write(&path, "{}\n").unwrap();
        assert!(History::read(&path, "a").unwrap_err().to_string().contains("line 1 of"));
    }
}
