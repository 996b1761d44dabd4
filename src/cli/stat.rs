//! `strongroom stat`: what disks have done, since they were opened or in each interval.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::control::target::{PoolSpace, StatReport, TallyReport, WayReport};

use super::Outcome;
use super::client::{Ask, Client, say};
use super::table::{Align, Table, bytes};

#[derive(Args)]
pub(super) struct StatArgs {
    #[command(flatten)]
    ask: Ask,
    /// The disk; all, if left out
    disk: Option<String>,
    /// Report again and again what was done in each so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    interval: Option<Duration>,
    /// Stop after so many intervals
    #[arg(long, value_name = "N", requires = "interval")]
    count: Option<u64>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    let interval = Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())?;
    if interval < Duration::from_millis(10) { Err("at least 0.01".to_owned()) } else { Ok(interval) }
}

pub(super) fn run(args: &StatArgs) -> Outcome {
    let Some(interval) = args.interval else {
        return args.ask.print("stat", json!({"name": args.disk}), |now: Vec<StatReport>| totals(&now));
    };
    let mut client = args.ask.connect()?;
    let mut before = ask(args, &mut client)?;
    for _ in 0..args.count.unwrap_or(u64::MAX) {
        std::thread::sleep(interval);
        let now = ask(args, &mut client)?;
        let earlier: HashMap<&str, &StatReport> = before.iter().map(|disk| (disk.name.as_str(), disk)).collect();
        // A disk that was not there before is told from the next interval on.
        let moved: Vec<StatReport> =
            now.iter().filter_map(|disk| since(disk, earlier.get(disk.name.as_str())?)).collect();
        if args.ask.json {
            say(&format!("{}\n", json!(moved)));
        } else {
            say(&(rates(&moved) + "\n"));
        }
        before = now;
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(args: &StatArgs, client: &mut Client) -> Result<Vec<StatReport>, Box<dyn std::error::Error>> {
    Ok(serde_json::from_value(client.call("stat", json!({"name": args.disk}))?)?)
}

/// What was done since an earlier report; `uptime_s` is the time between the two. `None` if the counters began anew, or no time has passed.
fn since(now: &StatReport, before: &StatReport) -> Option<StatReport> {
    let uptime_s = now.uptime_s - before.uptime_s;
    if uptime_s <= 0.0 {
        return None;
    }
    Some(StatReport {
        name: now.name.clone(),
        pool: now.pool.clone(),
        uptime_s,
        busy_s: now.busy_s - before.busy_s,
        read: way_since(&now.read, &before.read)?,
        write: way_since(&now.write, &before.write)?,
        flush: way_since(&now.flush, &before.flush)?,
        discard: tally_since(now.discard, before.discard)?,
        write_zeroes: tally_since(now.write_zeroes, before.write_zeroes)?,
        compare: tally_since(now.compare, before.compare)?,
        compare_and_write: tally_since(now.compare_and_write, before.compare_and_write)?,
        verify: tally_since(now.verify, before.verify)?,
    })
}

fn tally_since(now: TallyReport, before: TallyReport) -> Option<TallyReport> {
    Some(TallyReport {
        commands: now.commands.checked_sub(before.commands)?,
        bytes: now.bytes.checked_sub(before.bytes)?,
        errors: now.errors.checked_sub(before.errors)?,
    })
}

fn way_since(now: &WayReport, before: &WayReport) -> Option<WayReport> {
    let earlier: HashMap<u64, u64> = before.histogram_ns.iter().map(|(from, _, count)| (*from, *count)).collect();
    let mut buckets = Vec::new();
    for &(from, to, count) in &now.histogram_ns {
        let more = count.checked_sub(earlier.get(&from).copied().unwrap_or(0))?;
        if more > 0 {
            buckets.push((from, to, more));
        }
    }
    let tally = tally_since(now.tally, before.tally)?;
    // Mean, maximum and outer quantiles of an interval are told by its histogram alone.
    Some(WayReport { tally, latency_us: None, histogram_ns: buckets })
}

/// The latency within which this part of the commands was done, in microseconds.
fn quantile(buckets: &[(u64, u64, u64)], part: f64) -> String {
    let all: u64 = buckets.iter().map(|(_, _, count)| count).sum();
    let rank = ((part * all as f64).ceil() as u64).max(1);
    let mut seen = 0;
    let bucket = buckets.iter().find(|(_, _, count)| {
        seen += count;
        seen >= rank
    });
    bucket.map(|&(from, to, _)| format!("{:.1}", from.midpoint(to) as f64 / 1000.0)).unwrap_or_default()
}

fn errors(disk: &StatReport) -> u64 {
    let ways = [disk.read.tally, disk.write.tally, disk.flush.tally];
    let others = [disk.discard, disk.write_zeroes, disk.compare, disk.compare_and_write, disk.verify];
    ways.iter().chain(&others).map(|tally| tally.errors).sum()
}

/// A line for each pool that is low on space.
fn low_pools(disks: &[StatReport]) -> String {
    let mut low: Vec<&PoolSpace> =
        disks.iter().filter_map(|disk| disk.pool.as_ref()).filter(|pool| pool.low_space).collect();
    low.sort_by_key(|pool| &pool.name);
    low.dedup_by_key(|pool| &pool.name);
    let line = |pool: &&PoolSpace| format!("pool {} is low on space: {} free\n", pool.name, bytes(pool.free_bytes));
    low.iter().map(line).collect()
}

fn totals(disks: &[StatReport]) -> String {
    let mut table = Table::new(&[
        ("DISK", Align::Left),
        ("READS", Align::Right),
        ("READ", Align::Right),
        ("P50 µs", Align::Right),
        ("P99 µs", Align::Right),
        ("WRITES", Align::Right),
        ("WRITTEN", Align::Right),
        ("P50 µs", Align::Right),
        ("P99 µs", Align::Right),
        ("FLUSHES", Align::Right),
        ("ERRORS", Align::Right),
    ]);
    for disk in disks {
        table.row([
            disk.name.clone(),
            disk.read.tally.commands.to_string(),
            bytes(disk.read.tally.bytes),
            quantile(&disk.read.histogram_ns, 0.5),
            quantile(&disk.read.histogram_ns, 0.99),
            disk.write.tally.commands.to_string(),
            bytes(disk.write.tally.bytes),
            quantile(&disk.write.histogram_ns, 0.5),
            quantile(&disk.write.histogram_ns, 0.99),
            disk.flush.tally.commands.to_string(),
            errors(disk).to_string(),
        ]);
    }
    table.text_or("there are no disks") + &low_pools(disks)
}

fn rates(disks: &[StatReport]) -> String {
    let mut table = Table::new(&[
        ("DISK", Align::Left),
        ("r/s", Align::Right),
        ("rMiB/s", Align::Right),
        ("P50 µs", Align::Right),
        ("P99 µs", Align::Right),
        ("w/s", Align::Right),
        ("wMiB/s", Align::Right),
        ("P50 µs", Align::Right),
        ("P99 µs", Align::Right),
        ("flush/s", Align::Right),
        ("ERRORS", Align::Right),
    ]);
    for disk in disks {
        let rate = |count: u64| format!("{:.0}", count as f64 / disk.uptime_s);
        let mib = |count: u64| format!("{:.1}", count as f64 / f64::from(1 << 20) / disk.uptime_s);
        table.row([
            disk.name.clone(),
            rate(disk.read.tally.commands),
            mib(disk.read.tally.bytes),
            quantile(&disk.read.histogram_ns, 0.5),
            quantile(&disk.read.histogram_ns, 0.99),
            rate(disk.write.tally.commands),
            mib(disk.write.tally.bytes),
            quantile(&disk.write.histogram_ns, 0.5),
            quantile(&disk.write.histogram_ns, 0.99),
            rate(disk.flush.tally.commands),
            errors(disk).to_string(),
        ]);
    }
    table.text_or("there are no disks") + &low_pools(disks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(commands: u64, histogram_ns: &[(u64, u64, u64)]) -> WayReport {
        let tally = TallyReport { commands, bytes: commands * 4096, errors: 0 };
        WayReport { tally, latency_us: None, histogram_ns: histogram_ns.to_vec() }
    }

    fn report(uptime_s: f64, read: WayReport) -> StatReport {
        StatReport {
            name: "d".to_owned(),
            pool: None,
            uptime_s,
            busy_s: 0.0,
            read,
            write: way(0, &[]),
            flush: way(0, &[]),
            discard: TallyReport::default(),
            write_zeroes: TallyReport::default(),
            compare: TallyReport::default(),
            compare_and_write: TallyReport::default(),
            verify: TallyReport::default(),
        }
    }

    #[test]
    fn an_interval_is_what_was_added_between_two_reports() {
        let before = report(1.0, way(3, &[(1000, 2000, 3)]));
        let now = report(3.0, way(7, &[(1000, 2000, 3), (4000, 5000, 4)]));
        let moved = since(&now, &before).expect("counters grow");
        assert_eq!((moved.read.tally.commands, moved.read.histogram_ns), (4, vec![(4000, 5000, 4)]));
        let text = rates(&[since(&now, &before).expect("counters grow")]);
        assert!(text.lines().nth(1).expect("a row").starts_with("d       2     0.0     4.5     4.5"), "{text}");
        assert!(since(&before, &now).is_none(), "a disk that was removed and added again");
    }

    #[test]
    fn quantiles_are_the_middle_of_their_bucket() {
        let buckets = [(0, 1000, 98), (8000, 9000, 1), (100_000, 110_000, 1)];
        assert_eq!(quantile(&buckets, 0.5), "0.5");
        assert_eq!(quantile(&buckets, 0.99), "8.5");
        assert_eq!(quantile(&buckets, 1.0), "105.0");
        assert_eq!(quantile(&[], 0.5), "");
    }
}
