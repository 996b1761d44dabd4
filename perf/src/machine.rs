//! Facts about the machine and the programs that are compared: what someone needs who reads a result elsewhere or later.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::process;

/// CPU features that decide which kernels serve.
const FEATURES: [&str; 8] = ["aes", "avx2", "vaes", "vpclmulqdq", "avx512f", "avx512bw", "avx512vl", "sha_ni"];

/// Facts about the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The CPU's name.
    pub cpu: String,
    /// Family, model and stepping, which a virtual machine hides less than the name.
    pub cpu_id: String,
    /// Its clock in MHz as the kernel sees it.
    pub cpu_mhz: Option<f64>,
    /// Those of its features that decide which kernels serve.
    pub features: Vec<&'static str>,
    /// Cores.
    pub cores: usize,
    /// The hypervisor's presence: `/proc/cpuinfo` has the flag `hypervisor`.
    pub virtual_machine: bool,
    /// The frequency governor of core 0, if the kernel has one.
    pub governor: Option<String>,
    /// MiB of memory.
    pub memory_mib: u64,
    /// Reserved 2 MiB pages: all, and free.
    pub hugepages: (u64, u64),
    /// The kernel's release.
    pub kernel: String,
    /// The commit that was measured, with `+changes` if the work tree differs from it.
    pub commit: String,
    /// The compiler.
    pub rustc: String,
    /// Versions of the rivals that are here.
    pub rivals: Vec<String>,
}

impl Machine {
    /// Looks at this machine.
    pub fn inspect(spdk: Option<&Path>) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let meminfo = read("/proc/meminfo");
        let flags: Vec<&str> = field(&cpuinfo, "flags").unwrap_or("").split_whitespace().collect();
        let number = |key| field(&meminfo, key).and_then(|v| v.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        let id = |key| field(&cpuinfo, key).unwrap_or("?");
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cpu_id: format!("family {} model {} stepping {}", id("cpu family"), id("model"), id("stepping")),
            cpu_mhz: field(&cpuinfo, "cpu MHz").and_then(|v| v.parse().ok()),
            features: FEATURES.into_iter().filter(|f| flags.contains(f)).collect(),
            cores: cores(),
            virtual_machine: flags.contains(&"hypervisor"),
            governor: Some(read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim().to_owned())
                .filter(|v| !v.is_empty()),
            memory_mib: number("MemTotal") / 1024,
            hugepages: (number("HugePages_Total"), number("HugePages_Free")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: commit(),
            rustc: process::version("rustc", &["--version"]).unwrap_or_else(|| "unknown".into()),
            rivals: rivals(spdk),
        }
    }
}

/// Cores that are online.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Free reserved 2 MiB pages.
pub fn free_hugepages() -> u64 {
    field(&read("/proc/meminfo"), "HugePages_Free").and_then(|v| v.parse().ok()).unwrap_or(0)
}

fn commit() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).display().to_string();
    let Some(hash) = process::version("git", &["-C", &root, "rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    match process::version("git", &["-C", &root, "status", "--porcelain", "--untracked-files=no"]) {
        Some(_) => hash + "+changes",
        None => hash,
    }
}

fn rivals(spdk: Option<&Path>) -> Vec<String> {
    let found = ["fio", "qemu-storage-daemon", "qemu-nbd", "nbdkit"]
        .into_iter()
        .filter_map(|program| process::version(program, &["--version"]));
    found.chain(spdk.map(|script| format!("SPDK by {}", script.display()))).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first value of a key in a file of `key : value` lines.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: AMD EPYC\nHugePages_Free:      512\n";
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(field(text, "HugePages_Free"), Some("512"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn this_machine_has_cores_and_a_kernel() {
        let machine = Machine::inspect(None);
        assert!(machine.cores >= 1);
        assert!(!machine.kernel.is_empty());
    }
}
