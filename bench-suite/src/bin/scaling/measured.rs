//! What an experiment gives: counts for each operation, on machines of different sizes.

use super::machine::{Counts, Outcome};
use super::place::Place;

/// The sizes of the machines.
pub(crate) const SIZES: [usize; 3] = [2, 16, 128];

/// What one machine counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Operations of all workers.
    pub(crate) operations: u64,
    /// What the workers did for them.
    pub(crate) counts: Counts,
    /// The places whose lines moved most, on the workers.
    pub(crate) places: Vec<(Place, u64)>,
}

impl Measured {
    /// Of the first `workers` CPUs, which did so many operations each.
    pub(crate) fn of(outcome: Outcome, workers: usize, each: usize) -> Self {
        let mut counts = Counts::default();
        outcome.counts[..workers].iter().for_each(|&of_cpu| counts += of_cpu);
        let operations = (workers * each) as u64;
        Self { operations, counts, places: outcome.places.0 }
    }

    /// For each operation.
    pub(crate) fn each(&self, count: u64) -> f64 {
        count as f64 / self.operations as f64
    }

    /// Lines that moved for each operation.
    pub(crate) fn moved(&self) -> f64 {
        self.each(self.counts.moved())
    }
}

/// One path on machines of every size.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was done, and under which conditions.
    pub(crate) name: Vec<String>,
    /// In the order of `SIZES`.
    pub(crate) by_size: Vec<Measured>,
}

impl Row {
    /// Runs an experiment on machines of every size.
    pub(crate) fn measure<const N: usize>(
        name: [String; N],
        experiment: impl Fn(usize) -> Measured,
    ) -> Self {
        Self { name: name.into(), by_size: SIZES.into_iter().map(experiment).collect() }
    }

    /// Whether about as many lines move with many CPUs as with few.
    pub(crate) fn is_constant(&self) -> bool {
        self.by_size.iter().all(|size| scales(self.by_size[0].moved(), size.moved()))
    }
}

/// Whether a path that moves so many lines with few CPUs, and so many with more, counts as one
/// that moves the same: a quarter more, or a line for twenty operations.
pub(crate) fn scales(few: f64, more: f64) -> bool {
    more <= few * 1.25 + 0.05
}
