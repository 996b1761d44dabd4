//! Sockets that a killed server has left. Those that are there again are replaced when they are opened; the others, such as those of an instance that
//! was being stopped, nobody would take away, and who waits for a socket would find one at which there is nobody.

use std::fs;
use std::path::{Path, PathBuf};

use crate::export::stream::make_room;

/// Takes dead sockets away, from the directory and from the folders of hosts in it, and the folders that are empty then. A socket at which a server
/// answers stays, as does every other file.
pub(super) fn clear(directory: &Path) {
    for (path, is_folder) in entries(directory) {
        if is_folder {
            entries(&path).for_each(|(path, _)| clear_one(&path));
            // One in which something is stays.
            let _ = fs::remove_dir(&path);
        } else {
            clear_one(&path);
        }
    }
}

/// What is in a folder that can be read, and whether it is a folder itself.
fn entries(folder: &Path) -> impl Iterator<Item = (PathBuf, bool)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.file_type().ok()?.is_dir())))
}

fn clear_one(path: &Path) {
    // What has to stay is no error here: whoever wants its name for a socket is told.
    let _ = make_room(path);
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_what_nobody_answers_at_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        for folder in ["dead", "live", "both", "file"] {
            fs::create_dir(path(folder)).expect("a folder");
        }
        for name in ["export.sock", "dead/one.sock", "dead/two.sock", "both/one.sock"] {
            drop(UnixListener::bind(path(name)).expect("bound"));
        }
        let live = ["live/one.sock", "both/two.sock"].map(|name| UnixListener::bind(path(name)).expect("bound"));
        fs::write(path("file/words.sock"), "words").expect("written");
        std::os::unix::fs::symlink(path("live"), path("link")).expect("a link");

        clear(dir.path());
        let mut left: Vec<PathBuf> = entries(dir.path())
            .flat_map(|(path, _)| fs::read_dir(path).into_iter().flatten())
            .map(|entry| entry.expect("an entry").path())
            .collect();
        left.sort();
        assert_eq!(left, ["both/two.sock", "file/words.sock", "link/one.sock", "live/one.sock"].map(path));
        assert!(!path("dead").exists() && !path("export.sock").exists());
        drop(live);
        clear(&path("absent"));
    }
}
