//! A user's workload: its correctness requirements and its numbers.
//!
//! It comes from options, from a TOML file, or from a recording of the user's own program, and is
//! completed by defaults. Knows nothing of how it is measured.

mod correct;
mod notation;
mod partial;
mod plan;
mod recording;

pub(crate) use correct::{Demands, Shared, Signals, Standing, standings};
pub(crate) use notation::{SizeWeights, ThreadGroups};
pub(crate) use partial::{LONGEST_STALL_MS, PartialDemands, PartialNumbers, PartialShape};
pub(crate) use plan::Plan;
#[cfg(test)]
pub(crate) use recording::derive as derive_recording;
pub(crate) use recording::{Recorded, read as read_recording};

/// A workload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    /// The correctness requirements.
    pub(crate) demands: Demands,
    /// The numbers.
    pub(crate) numbers: Numbers,
}

/// A workload in numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numbers {
    /// The sizes of objects, in bytes.
    pub(crate) sizes: SizeWeights,
    /// The number of live objects.
    pub(crate) live_objects: usize,
    /// The threads, and the share of updates in their operations.
    pub(crate) threads: ThreadGroups,
    /// Frees per second of all threads together; `None` for as many as possible.
    pub(crate) frees_per_s: Option<f64>,
    /// The length of a read section, in microseconds.
    pub(crate) section_us: f64,
    /// The longest time that a reader stays in a section, in milliseconds; 0 if no section is
    /// longer than `section_us`.
    pub(crate) stall_ms: f64,
    /// The share of frees on another CPU than the allocation.
    pub(crate) other_cpu_frees: f64,
    /// The most memory that the allocator may take, in MiB.
    pub(crate) budget_mib: Option<f64>,
    /// The latency percentile to judge by.
    pub(crate) percentile: f64,
    /// The limit for the update latency at that percentile, in microseconds.
    pub(crate) latency_limit_us: Option<f64>,
}

impl Numbers {
    /// Returns the memory budget in bytes.
    pub(crate) fn budget_bytes(&self) -> Option<u64> {
        self.budget_mib.map(|mib| (mib * MIB) as u64)
    }

    /// Returns the bytes of the live objects, each as large as its size class.
    pub(crate) fn live_bytes(&self) -> u64 {
        (self.sizes.mean_class() * self.live_objects as f64) as u64
    }
}

/// The bytes of a MiB.
pub(crate) const MIB: f64 = 1_048_576.0;
