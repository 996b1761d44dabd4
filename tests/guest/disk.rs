//! A guest's virtio disks, where the kernel put them. They are found by their size: tests give each disk a size of its own.

use super::Guest;

impl Guest {
    /// Waits for the virtio disk of this many bytes, and gives its path, such as `/dev/vda`.
    pub fn block_device(&self, bytes: u64) -> String {
        let script = format!(
            "for f in /sys/block/vd*/size; do [[ $(<$f) = {} ]] && f=${{f%/size}} && echo ${{f##*/}}; done | grep .",
            bytes / 512
        );
        format!("/dev/{}", self.wait_for(&format!("a virtio disk of {bytes} bytes"), &script).trim())
    }
}
