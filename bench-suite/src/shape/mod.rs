//! A user's workload: what has to be correct in it, and its numbers.
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
pub(crate) use partial::{PartialDemands, PartialNumbers, PartialShape};
pub(crate) use plan::Plan;
pub(crate) use recording::{Recorded, read as read_recording};

/// A workload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    /// What has to be correct.
    pub(crate) demands: Demands,
    /// What it does.
    pub(crate) numbers: Numbers,
}

/// What a workload does, in numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numbers {
    /// The sizes of objects, in bytes.
    pub(crate) sizes: SizeWeights,
    /// Objects that live at the same time.
    pub(crate) live_objects: usize,
    /// Threads and the share of updates in what they do.
    pub(crate) threads: ThreadGroups,
    /// Frees a second of all threads together; as many as can be if there is none.
    pub(crate) frees_per_s: Option<f64>,
    /// The length of a read section, in microseconds.
    pub(crate) section_us: f64,
    /// The longest time that a reader stays in a section, in milliseconds; 0 if no reader stays
    /// longer than usual.
    pub(crate) stall_ms: f64,
    /// The part of frees that happen on another CPU than the allocation.
    pub(crate) other_cpu_frees: f64,
    /// The most memory that the allocator may take, in MiB.
    pub(crate) budget_mib: Option<f64>,
    /// The percentile of latencies that matters.
    pub(crate) percentile: f64,
    /// The longest update at that percentile, in microseconds.
    pub(crate) latency_limit_us: Option<f64>,
}

impl Numbers {
    /// The memory budget in bytes.
    pub(crate) fn budget_bytes(&self) -> Option<u64> {
        self.budget_mib.map(|mib| (mib * MIB) as u64)
    }

    /// Bytes of the live objects, as large as their classes.
    pub(crate) fn live_bytes(&self) -> u64 {
        (self.sizes.mean_class() * self.live_objects as f64) as u64
    }
}

/// Bytes of a MiB.
pub(crate) const MIB: f64 = 1_048_576.0;
