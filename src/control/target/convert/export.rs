//! The content of a plain snapshot as a file.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::copy::{self, Task, Work};
use crate::control::rpc::{Kind, Refusal};
use crate::control::target::Target;

impl Target {
    /// Writes a snapshot into a file, sparse where the snapshot has nothing. The file is there as a whole or not at all.
    pub(in crate::control) fn export_snapshot(&self, pool: &str, name: &str, to: &Path) -> Result<(), Refusal> {
        let source = self.storage.open_plain(pool, name)?;
        let ranges = self.storage.pool(pool)?.pool.diff(None, name)?;
        let part = beside(to);
        let failed = |e: std::io::Error| Refusal::new(Kind::Failed, format!("{}: {e}", to.display()));
        // What an earlier life has left.
        match std::fs::remove_file(&part) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let destination = self.storage.open_new_file(&part, source.size())?;
        let work = Work { source, destination, ranges, task: Task::Copy, until: None, progress: Arc::default() };
        let (ended, end) = sync_channel(1);
        self.remotes.last().expect("a target has reactors").post(move |reactor| {
            let task = copy::run(reactor.clone(), work);
            reactor.spawn(async move {
                // Whoever waits does so to the end.
                let _ = ended.send(task.await);
            });
        });
        let done = end.recv().expect("the reactor runs until the target has stopped").map_err(Refusal::from);
        let named = done.and_then(|()| std::fs::rename(&part, to).and_then(|()| sync_folder(to)).map_err(failed));
        if named.is_err() {
            // It may be what could not be written.
            let _ = std::fs::remove_file(&part);
        }
        named
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".part");
    name.into()
}

/// The name is durable too.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
