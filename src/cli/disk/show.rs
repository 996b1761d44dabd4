//! Disks for people: a line for each, or one with all that is known of it.

use crate::cli::table::{Align, Table, bytes, date, printable};
use crate::control::target::{DiskDetail, DiskReport};
use crate::disk::Limits;

pub(super) fn list(disks: Vec<DiskReport>) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("SIZE", Align::Right),
        ("SECTOR", Align::Right),
        ("ENCRYPTION", Align::Left),
        ("ACCOUNT", Align::Left),
        ("NSID", Align::Right),
        ("ATTACHED TO", Align::Left),
        ("NBD", Align::Left),
        ("POOL", Align::Left),
        ("ALLOCATED", Align::Right),
    ]);
    for disk in disks {
        let shared = if disk.shared { " (shared)" } else { "" };
        let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        table.row([
            disk.name,
            disk.size_bytes.map_or("OFFLINE".to_owned(), bytes),
            number(disk.sector_bytes),
            if disk.key.as_deref() == Some("kms") { format!("{} (kms)", disk.encryption) } else { disk.encryption },
            disk.account.unwrap_or_default(),
            number(disk.nsid),
            if disk.state == "detached" { disk.state } else { disk.attached_to.join(", ") + shared },
            disk.nbd_exports.join(", "),
            disk.pool.unwrap_or_default(),
            disk.allocated_bytes.map(bytes).unwrap_or_default(),
        ]);
    }
    table.text_or("there are no disks")
}

fn limits_text(limits: Limits) -> String {
    let iops = (limits.iops > 0).then(|| format!("{} IOPS", limits.iops));
    let rate = (limits.bytes_per_second > 0).then(|| format!("{}/s", bytes(limits.bytes_per_second)));
    iops.into_iter().chain(rate).collect::<Vec<_>>().join(", ")
}

pub(super) fn one(DiskDetail { disk, kernel, device_is, volume }: &DiskDetail) -> String {
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let kernel = kernel.as_ref().map(|kernel| format!(" (kernel {kernel})")).unwrap_or_default();
    let unknown = || "unknown".to_owned();
    let mut lines = vec![("name", disk.name.clone())];
    if let Some(why) = &disk.offline {
        lines.push(("OFFLINE", why.clone()));
    }
    let size = |size| format!("{} ({size} bytes)", bytes(size));
    lines.extend([
        ("size", disk.size_bytes.map_or_else(unknown, size)),
        ("sector", disk.sector_bytes.map_or_else(unknown, |bytes| format!("{bytes} bytes"))),
        ("encryption", format!("{}{kernel}", disk.encryption)),
        ("state", disk.state.clone()),
    ]);
    if let Some(device) = &disk.device {
        lines.push(("device", format!("{device}: {}", device_is.clone().unwrap_or_else(unknown))));
    }
    if let Some(pool) = &disk.pool {
        lines.push(("pool", pool.clone()));
    }
    if let Some(volume) = volume {
        lines.extend([
            ("allocated", bytes(disk.allocated_bytes.unwrap_or_default())),
            ("own", format!("{} (its deletion would free this)", bytes(volume.own_bytes))),
            ("shared", format!("{} with snapshots or clones", bytes(volume.shared_bytes))),
            ("snapshots", or_none(volume.snapshots.join(", "))),
            ("made from", or_none(volume.made_from.clone().unwrap_or_default())),
            ("created", date(volume.created_at)),
        ]);
    }
    if let Some(limits) = disk.limits.filter(Limits::is_any) {
        lines.push(("limits", limits_text(limits)));
    }
    lines.extend([
        ("uuid", disk.uuid.to_string()),
        ("account", or_none(disk.account.clone().unwrap_or_default())),
        ("nsid", or_none(disk.nsid.map(|nsid| nsid.to_string()).unwrap_or_default())),
        ("shared", if disk.shared { "yes" } else { "no" }.to_owned()),
        ("attached to", or_none(disk.attached_to.join(", "))),
        ("nbd exports", or_none(disk.nbd_exports.join(", "))),
        ("sockets", or_none(disk.vhost_user_sockets.join(", "))),
    ]);
    lines.iter().map(|(key, value)| format!("{key:<12} {}\n", printable(value))).collect()
}
