//! The machine that a run belongs to. What can't be found out is `None`, and null in a record.

use std::fs;

use memalloc::MemAlloc;
use serde::{Deserialize, Serialize};

use crate::measure::available_cpus;

/// The properties of the machine that a result may depend on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// The processor's name.
    pub(crate) cpu: String,
    /// Its stepping, within the model of that name.
    #[serde(default)]
    pub(crate) stepping: Option<u32>,
    /// The version of its microcode, as the system writes it.
    #[serde(default)]
    pub(crate) microcode: Option<String>,
    /// CPUs that the process may use.
    pub(crate) cores: usize,
    /// The policy by which the system sets the frequency of the first CPU.
    #[serde(default)]
    pub(crate) governor: Option<String>,
    /// The hypervisor; `None` on bare metal, or if unknown.
    #[serde(default)]
    pub(crate) hypervisor: Option<String>,
    /// Memory of the machine, in bytes.
    #[serde(default)]
    pub(crate) memory_bytes: Option<u64>,
    /// The system and its version.
    pub(crate) kernel: String,
    /// The way in which the allocator finds its caches.
    pub(crate) cpu_mode: String,
    /// The way in which readers and grace periods are ordered.
    pub(crate) barrier: String,
}

impl Host {
    /// This machine.
    pub(crate) fn here() -> Self {
        let modes = MemAlloc::<memalloc::Immediate>::with_policy().ok().map(|allocator| {
            let stats = allocator.stats();
            (stats.cpu_mode.to_string(), stats.barrier.to_string())
        });
        let (cpu_mode, barrier) = modes.unwrap_or_else(|| ("unknown".into(), "unknown".into()));
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cpu: field(&info, "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            stepping: field(&info, "stepping").and_then(|stepping| stepping.parse().ok()),
            microcode: field(&info, "microcode"),
            cores: available_cpus(),
            governor: line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            hypervisor: hypervisor(),
            memory_bytes: field(&memory, "MemTotal").as_deref().and_then(bytes),
            kernel: line_of("/proc/sys/kernel/osrelease")
                .map_or_else(|| std::env::consts::OS.into(), |release| format!("Linux {release}")),
            cpu_mode,
            barrier,
        }
    }
}

/// The first value of that name in a table of the system's: "name : value" lines.
fn field(table: &str, name: &str) -> Option<String> {
    let pairs = table.lines().filter_map(|line| line.split_once(':'));
    let mut values = pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
    values.next().map(str::to_owned)
}

/// "24689012 kB", in bytes.
fn bytes(text: &str) -> Option<u64> {
    let kibibytes: u64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

fn line_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn hypervisor() -> Option<String> {
    use raw_cpuid::Hypervisor;

    Some(match raw_cpuid::CpuId::new().get_hypervisor_info()?.identify() {
        Hypervisor::Unknown(..) => "unknown".into(),
        known => format!("{known:?}"),
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn hypervisor() -> Option<String> {
    line_of("/sys/hypervisor/type")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_the_first_of_its_exact_name() {
        let table = "model\t\t: 1\nmodel name\t: A: B\nstepping\t: 2\nstepping\t: 3\n";
        assert_eq!(field(table, "model name").as_deref(), Some("A: B"));
        assert_eq!(field(table, "stepping").as_deref(), Some("2"));
        assert_eq!(field(table, "microcode"), None);
        assert_eq!(bytes("2 kB"), Some(2048));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory_and_a_kernel() {
        let host = Host::here();
        assert!(host.memory_bytes.is_some_and(|bytes| bytes > 1 << 24), "{host:?}");
        assert!(host.kernel.starts_with("Linux ") && host.cores > 0, "{host:?}");
    }
}
