//! Where this machine may swap to. Keys never go there; data in buffers on normal pages may.

use std::io;

/// A list that the kernel keeps (proc(5)).
const SWAPS: &str = "/proc/swaps";

/// The files and devices that the machine swaps to; none if it does not swap.
pub fn swap_areas() -> io::Result<Vec<String>> {
    match std::fs::read_to_string(SWAPS) {
        // A kernel without swap has no such file.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map(|text| areas(&text)),
    }
}

/// The first word of each line but the heading.
fn areas(text: &str) -> Vec<String> {
    let lines = text.lines().skip(1);
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_the_kernel_is_read() {
        let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(areas(heading).is_empty());
        let one = format!("{heading}/dev/sda2                               partition\t2097148\t\t0\t\t-2\n");
        assert_eq!(areas(&one), ["/dev/sda2"]);
        swap_areas().expect("this machine's list");
    }
}
