//! `strongroom export`: where the target listens, and what is found there.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::control::target::{ControllerReport, ExportsReport, SubsystemReport, VhostUserSocketReport};

use super::Outcome;
use super::client::Ask;
use super::table::{Align, Table, bytes, printable};

#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: ExportCommand,
}

#[derive(Subcommand)]
enum ExportCommand {
    /// Show where the target listens and what is found there
    List,
    /// List the controllers that NVMe hosts have, and their connections
    Connections,
}

pub(super) fn run(args: &ExportArgs) -> Outcome {
    match args.command {
        ExportCommand::List => args.ask.print("export.list", json!({}), |exports| list(&exports)),
        ExportCommand::Connections => args.ask.print("connection.list", json!({}), connections),
    }
}

fn list(exports: &ExportsReport) -> String {
    let mut lines = Vec::new();
    if let Some(nbd) = &exports.nbd {
        lines.push(format!("nbd on {}: connections {}", nbd.listen.join(", "), nbd.connections));
        for export in &nbd.exports {
            let mode = if export.read_only { "read-only" } else { "read-write" };
            let offline = if export.offline { ", OFFLINE" } else { "" };
            lines.push(format!("  {:?}: disk {}, {mode}{offline}", export.name, export.disk));
        }
    }
    if let Some(nvme_tcp) = &exports.nvme_tcp {
        lines.push(format!("nvme_tcp on {}: connections {}", nvme_tcp.listen.join(", "), nvme_tcp.connections));
        nvme_tcp.subsystems.iter().for_each(|subsystem| lines.extend(describe(subsystem)));
    }
    if let Some(vhost_user) = &exports.vhost_user {
        lines.push(format!("vhost_user in {}: sockets {}", vhost_user.directory, vhost_user.sockets.len()));
        lines.extend(vhost_user.sockets.iter().map(describe_socket));
    }
    lines.iter().map(|line| printable(line) + "\n").collect()
}

fn describe_socket(socket: &VhostUserSocketReport) -> String {
    let mode = if socket.read_only { "read-only" } else { "read-write" };
    let who = socket.peer.as_ref().map_or("nobody connected".to_owned(), |peer| {
        let cores: Vec<String> = socket.queue_cores.iter().map(ToString::to_string).collect();
        format!("{peer}, queues on cores {}", if cores.is_empty() { "none".to_owned() } else { cores.join(" ") })
    });
    format!("  {}: disk {}, {mode}, {who}", socket.path, socket.disk)
}

fn describe(subsystem: &SubsystemReport) -> Vec<String> {
    let or_nobody = |hosts: &[String]| if hosts.is_empty() { "nobody".to_owned() } else { hosts.join(", ") };
    let mut lines = vec![format!("  {}: hosts {}", subsystem.nqn, or_nobody(&subsystem.hosts))];
    for namespace in &subsystem.namespaces {
        let shared = if namespace.shared { ", shared" } else { "" };
        let (nsid, disk, size) = (namespace.nsid, &namespace.disk, bytes(namespace.size_bytes));
        let seen_by = or_nobody(&namespace.attached_to);
        lines.push(format!("    namespace {nsid}: disk {disk}, {size}{shared}, seen by {seen_by}"));
    }
    for controller in &subsystem.controllers {
        let (id, queues) = (controller.id, controller.queues.len());
        let host = controller.host.as_ref().unwrap_or(&controller.host_nqn);
        lines.push(format!("    controller {id}: host {host}, queues {queues}"));
    }
    lines
}

fn connections(controllers: Vec<ControllerReport>) -> String {
    let mut table = Table::new(&[
        ("SUBSYSTEM", Align::Left),
        ("CONTROLLER", Align::Right),
        ("HOST", Align::Left),
        ("QUEUES", Align::Right),
        ("PEER", Align::Left),
        ("KEEP ALIVE s", Align::Right),
        ("SILENT s", Align::Right),
    ]);
    for controller in controllers {
        let seconds = |ms: u64| format!("{:.1}", ms as f64 / 1000.0);
        table.row([
            controller.account.unwrap_or_else(|| "discovery".to_owned()),
            controller.id.to_string(),
            controller.host.unwrap_or(controller.host_nqn),
            controller.queues.len().to_string(),
            controller.queues.first().map(|queue| queue.peer.clone()).unwrap_or_default(),
            if controller.keep_alive_ms == 0 { "none".to_owned() } else { seconds(controller.keep_alive_ms) },
            seconds(controller.silent_ms),
        ]);
    }
    table.text_or("no host is connected")
}
