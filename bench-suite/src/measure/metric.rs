//! The measured quantities, their units, and which direction is better. The names are fixed, so
//! that records of different versions can be compared.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Curve;

/// A quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Operations of all threads together, per second.
    OpsPerS,
    /// Lookups of the readers of a mixed workload, per second.
    LookupsPerS,
    /// Updates of the writers of a mixed workload, per second.
    UpdatesPerS,
    /// Signals handled by all threads, per second.
    SignalsPerS,
    /// The time that one thread spends on one operation.
    NsPerOp,
    /// The CPU time of the workers relative to the time in which they wanted to run. Well below 1,
    /// other programs used their CPUs, or there were too few CPUs.
    CpuShare,
    /// Keys that always exist and were not found. Any value but 0 fails the run.
    FalseNegatives,
    /// Objects that went in and never came out. Any value but 0 fails the run.
    Lost,
    /// The share of the allocations in signal handlers that would have blocked.
    WouldBlockShare,
    /// Objects that had two holders at once. Any value but 0 fails the run.
    Duplicated,
    /// A rival gave a wrong answer, and therefore has no values: always 1.
    WrongAnswers,
    /// The average number of restarts of a lookup.
    RetriesPerLookup,
    /// The time from a call that waits for a grace period to its return.
    GpLatencyNs,
    /// The share of an operation's time that a table takes, without its memory.
    TableShare,
    /// The share of an operation's time that allocating and freeing takes.
    AllocatorShare,
    /// The share of an operation's time that waiting for grace periods, or deferring objects,
    /// takes.
    GracePeriodShare,
    /// The time of an allocation, at the percentile in the parameters.
    AllocLatencyNs,
    /// The time of a free, at the percentile in the parameters.
    FreeLatencyNs,
    /// The time of a whole update, at the percentile in the parameters: an allocation, a swap and a
    /// free.
    UpdateLatencyNs,
    /// The median time of a group of 512 updates of one thread.
    UpdateGroupP50Ns,
    /// The time within which 99 % of the groups of 512 updates finished.
    UpdateGroupP99Ns,
    /// The time of the longest group of 512 updates: no update took longer.
    UpdateGroupMaxNs,
    /// The average time of an update in a group that took the median time.
    UpdateP50Ns,
    /// The average time of an update in a group at the 99th percentile.
    UpdateP99Ns,
    /// The share of the updates that were refused for lack of memory.
    RefusedShare,
    /// Memory held from the system, averaged over a workload.
    MemAvgBytes,
    /// The peak of the memory held from the system during a workload.
    MemPeakBytes,
    /// Memory held from the system by a structure without concurrent operations, per entry.
    BytesPerEntry,
    /// The same without the bytes of keys and values.
    OverheadBytesPerEntry,
}

impl fmt::Display for Metric {
    /// Writes the name used in records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl Metric {
    /// Returns the unit used in records.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::OpsPerS | Self::LookupsPerS | Self::UpdatesPerS | Self::SignalsPerS => "1/s",
            Self::NsPerOp
            | Self::GpLatencyNs
            | Self::AllocLatencyNs
            | Self::FreeLatencyNs
            | Self::UpdateLatencyNs
            | Self::UpdateGroupP50Ns
            | Self::UpdateGroupP99Ns
            | Self::UpdateGroupMaxNs
            | Self::UpdateP50Ns
            | Self::UpdateP99Ns => "ns",
            Self::CpuShare
            | Self::FalseNegatives
            | Self::Lost
            | Self::Duplicated
            | Self::WouldBlockShare
            | Self::RefusedShare
            | Self::WrongAnswers
            | Self::TableShare
            | Self::AllocatorShare
            | Self::GracePeriodShare
            | Self::RetriesPerLookup => "1",
            Self::MemAvgBytes
            | Self::MemPeakBytes
            | Self::BytesPerEntry
            | Self::OverheadBytesPerEntry => "B",
        }
    }

    /// Returns whether it is a speed, of which more is better; of all others less is better.
    pub(crate) fn is_speed(self) -> bool {
        self.unit() == "1/s"
    }
}

/// One value of one sample of a workload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// The case: a workload may serve several at once.
    pub(crate) case: &'static str,
    /// The quantity.
    pub(crate) metric: Metric,
    /// The value, in the unit of the metric.
    pub(crate) value: f64,
    /// The course or distribution behind the value.
    pub(crate) curve: Option<Curve>,
}

impl Reading {
    /// Creates a reading without a curve.
    pub(crate) fn new(case: &'static str, metric: Metric, value: f64) -> Self {
        Self { case, metric, value, curve: None }
    }

    /// Adds a curve, if there is one.
    pub(crate) fn with_curve(self, curve: Option<Curve>) -> Self {
        Self { curve, ..self }
    }
}
