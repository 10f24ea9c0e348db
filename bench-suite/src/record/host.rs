//! The machine and the build that a measurement belongs to.

use std::fs;

use memalloc::MemAlloc;
use serde::Serialize;

use crate::measure::available_cpus;

const UNKNOWN: &str = "unknown";

/// What a result may depend on. What can't be found out is "unknown", or null for `dirty`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    /// The processor's name.
    pub(crate) cpu: String,
    /// CPUs that the process may use.
    pub(crate) cores: usize,
    /// The system and its version.
    pub(crate) kernel: String,
    /// The compiler.
    pub(crate) rustc: &'static str,
    /// The commit.
    pub(crate) git: &'static str,
    /// Whether the sources differed from the commit.
    pub(crate) dirty: Option<bool>,
    /// How the allocator finds its caches here.
    pub(crate) cpu_mode: String,
    /// How readers and grace periods are ordered here.
    pub(crate) barrier: String,
}

impl Host {
    /// This machine, and this build.
    pub(crate) fn here() -> Self {
        let modes = MemAlloc::<memalloc::Immediate>::new().ok().map(|allocator| {
            let stats = allocator.stats();
            (stats.cpu_mode.to_string(), stats.barrier.to_string())
        });
        let (cpu_mode, barrier) = modes.unwrap_or_else(|| (UNKNOWN.into(), UNKNOWN.into()));
        Self {
            cpu: cpu_name().unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: available_cpus(),
            kernel: kernel().unwrap_or_else(|| std::env::consts::OS.into()),
            rustc: option_env!("BENCH_RUSTC").unwrap_or(UNKNOWN),
            git: option_env!("BENCH_GIT").unwrap_or(UNKNOWN),
            dirty: option_env!("BENCH_GIT_DIRTY").and_then(|dirty| dirty.parse().ok()),
            cpu_mode,
            barrier,
        }
    }
}

fn cpu_name() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kernel() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(format!("Linux {}", release.trim()))
}
