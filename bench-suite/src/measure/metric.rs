//! What is measured, in which unit, and which way is better. The names are fixed, so that
//! records of different versions can be compared.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Curve;

/// A quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Operations of all threads together.
    OpsPerS,
    /// What the readers of a mixed workload did.
    LookupsPerS,
    /// What the writers of a mixed workload did.
    UpdatesPerS,
    /// Signals that were handled, of all threads.
    SignalsPerS,
    /// Time that one thread spends on one operation.
    NsPerOp,
    /// The part of the time that the workers were running, of the time that they wanted to run.
    /// Well below 1, something else used their CPUs, or there were too few.
    CpuShare,
    /// Keys that are always there and were not found. Anything but 0 fails the run.
    FalseNegatives,
    /// Objects that went in and never came out. Anything but 0 fails the run.
    Lost,
    /// The part of the allocations in signal handlers for which nothing was ready.
    WouldBlockShare,
    /// Objects that two had at once. Anything but 0 fails the run.
    Duplicated,
    /// That what others have made gave a wrong answer, and therefore has no values: always 1.
    WrongAnswers,
    /// How often a lookup had to begin again, on average.
    RetriesPerLookup,
    /// From the call that waits for a grace period to its return.
    GpLatencyNs,
    /// The part of the time of an operation that a table takes, without its memory.
    TableShare,
    /// The part that allocating and freeing takes.
    AllocatorShare,
    /// The part that waiting for grace periods, or having objects wait, takes.
    GracePeriodShare,
    /// An allocation, at the percentile that the parameters name.
    AllocLatencyNs,
    /// A free, at that percentile.
    FreeLatencyNs,
    /// An update as a whole, at that percentile: an allocation, a swap and a free.
    UpdateLatencyNs,
    /// The part of the updates for which there was no memory.
    RefusedShare,
    /// Memory held from the system, averaged over a workload.
    MemAvgBytes,
    /// The most memory held from the system during a workload.
    MemPeakBytes,
    /// Memory held from the system by a resting structure, by its entries.
    BytesPerEntry,
    /// The same without the bytes of keys and values.
    OverheadBytesPerEntry,
}

impl fmt::Display for Metric {
    /// The name, as records have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl Metric {
    /// The unit, as records name it.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::OpsPerS | Self::LookupsPerS | Self::UpdatesPerS | Self::SignalsPerS => "1/s",
            Self::NsPerOp
            | Self::GpLatencyNs
            | Self::AllocLatencyNs
            | Self::FreeLatencyNs
            | Self::UpdateLatencyNs => "ns",
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

    /// Whether it is a speed, of which more is better; of all else less is.
    pub(crate) fn is_speed(self) -> bool {
        self.unit() == "1/s"
    }
}

/// One value that one sample of a workload gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// The case that it belongs to: a workload may serve several at once.
    pub(crate) case: &'static str,
    /// The quantity.
    pub(crate) metric: Metric,
    /// How much, in the unit of the metric.
    pub(crate) value: f64,
    /// The same in more than one number.
    pub(crate) curve: Option<Curve>,
}

impl Reading {
    /// A reading.
    pub(crate) fn new(case: &'static str, metric: Metric, value: f64) -> Self {
        Self { case, metric, value, curve: None }
    }

    /// The same with a curve beside it, if there is one.
    pub(crate) fn with_curve(self, curve: Option<Curve>) -> Self {
        Self { curve, ..self }
    }
}
