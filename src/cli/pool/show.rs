//! Pools for people: a line for each, or one with all that lies in it.

use serde_json::{Value, json};

use crate::cli::table::{Align, Table, bytes, date, printable};
use crate::control::target::{PoolDetail, PoolReport, PoolStanding, VolumeReport};
use crate::volume::PoolInfo;

pub(super) fn list(pools: Vec<PoolReport>) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("SIZE", Align::Right),
        ("USED", Align::Right),
        ("FREE", Align::Right),
        ("VOLUMES", Align::Right),
        ("SNAPSHOTS", Align::Right),
        ("STATE", Align::Left),
        ("DEVICE", Align::Left),
    ]);
    for pool in pools {
        let state = state(&pool);
        let cell = |of: fn(&PoolStanding) -> String| pool.standing.as_ref().map(of).unwrap_or_default();
        table.row([
            pool.name.clone(),
            cell(|standing| bytes(standing.size_bytes)),
            cell(|standing| bytes(standing.used_bytes)),
            cell(|standing| bytes(standing.free_bytes)),
            cell(|standing| standing.volumes.to_string()),
            cell(|standing| standing.snapshots.to_string()),
            state,
            pool.device,
        ]);
    }
    table.text_or("there are no pools")
}

fn state(pool: &PoolReport) -> String {
    let Some(standing) = &pool.standing else { return "OFFLINE".to_owned() };
    let mut words = Vec::new();
    if standing.low_space {
        words.push("LOW ON SPACE".to_owned());
    }
    if !standing.damaged.is_empty() {
        words.push(format!("{} DAMAGED", standing.damaged.len()));
    }
    if words.is_empty() { "ok".to_owned() } else { words.join(", ") }
}

pub(super) fn one(PoolDetail { pool, device_is, contents }: &PoolDetail) -> String {
    let device = device_is.as_ref().map_or(pool.device.clone(), |is| format!("{}: {is}", pool.device));
    let mut lines = vec![("name", pool.name.clone()), ("device", device), ("state", state(pool))];
    if let Some(why) = &pool.offline {
        lines.push(("why", why.clone()));
    }
    if let Some(standing) = &pool.standing {
        lines.extend(space(standing.size_bytes, standing.used_bytes, standing.free_bytes, standing.freeing_bytes));
        lines.push(("low below", format!("{} % free", standing.low_space_percent)));
        lines.push(("uuid", standing.uuid.to_string()));
    }
    let text = text_of(&lines);
    if pool.standing.is_some() { text + "\n" + &contents_table(contents, true) } else { text }
}

/// A pool that no target has open.
pub(super) fn offline(path: &str, info: &PoolInfo, volumes: &[VolumeReport]) -> String {
    let mut lines = vec![("path", path.to_owned())];
    lines.extend(space(info.size_bytes, info.used_bytes, info.free_bytes, info.freeing_bytes));
    lines.push(("uuid", info.uuid.to_string()));
    text_of(&lines) + "\n" + &contents_table(volumes, false)
}

/// The same for programs.
pub(super) fn offline_json(info: &PoolInfo, volumes: &[VolumeReport]) -> Value {
    json!({
        "uuid": info.uuid,
        "size_bytes": info.size_bytes,
        "used_bytes": info.used_bytes,
        "free_bytes": info.free_bytes,
        "reserved_bytes": info.reserved_bytes,
        "volumes": info.volumes,
        "snapshots": info.snapshots,
        "damaged": info.damaged,
        "contents": volumes,
    })
}

fn space(size: u64, used: u64, free: u64, freeing: u64) -> [(&'static str, String); 3] {
    let freeing = if freeing > 0 { format!(" ({} more in a moment)", bytes(freeing)) } else { String::new() };
    [("size", bytes(size)), ("used", bytes(used)), ("free", bytes(free) + &freeing)]
}

fn text_of(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(key, value)| format!("{key:<12} {}\n", printable(value))).collect()
}

fn contents_table(contents: &[VolumeReport], with_disks: bool) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("SIZE", Align::Right),
        ("ALLOCATED", Align::Right),
        ("CREATED", Align::Left),
        ("FROM", Align::Left),
        ("STATE", Align::Left),
    ]);
    for volume in contents {
        let is_snapshot = volume.kind == "snapshot";
        let state = match &volume.offline {
            Some(why) => format!("OFFLINE: {why}"),
            None if is_snapshot => "snapshot".to_owned(),
            None if volume.is_disk => "open".to_owned(),
            None if with_disks => "not open".to_owned(),
            None => "volume".to_owned(),
        };
        // A snapshot's volume stands in its name.
        let from = volume.parent.clone().filter(|_| !is_snapshot).unwrap_or_default();
        table.row([
            volume.name.clone(),
            bytes(volume.size_bytes),
            bytes(volume.allocated_bytes),
            date(volume.created_at),
            from,
            state,
        ]);
    }
    table.text_or("it holds no volumes")
}
