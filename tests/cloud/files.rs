//! Files of known words on a cloud's disks, as guests write and read them; nobody may find their words below.

use crate::cloud::MARKER;
use crate::guest::Guest;

/// Adds a file to the file system on a disk.
pub fn write_file(vm: &Guest, disk: &str, name: &str) {
    vm.sh(&format!(
        "set -e; mkdir -p /mnt/d; mount {disk} /mnt/d; for n in {{1..500}}; do echo \"{MARKER} $n\"; done > /mnt/d/{name}
         sync -f /mnt/d; umount /mnt/d"
    ));
}

/// The files on a disk, on which nothing may be wrong.
pub fn files(vm: &Guest, disk: &str) -> String {
    vm.sh(&format!(
        "set -e; e2fsck -fn {disk} >&2; mkdir -p /mnt/d; mount -o ro {disk} /mnt/d; ls /mnt/d | grep -v lost+found
         for f in /mnt/d/file*; do [ $(grep -c \"{MARKER}\" $f) = 500 ]; done; umount /mnt/d"
    ))
    .split_whitespace()
    .collect::<Vec<_>>()
    .join(" ")
}
