//! The results of an experiment: counts per operation, on machines of different sizes.

use super::machine::{Counts, Outcome};
use super::place::Place;

/// The numbers of CPUs of the machines.
pub(crate) const SIZES: [usize; 3] = [2, 16, 128];

/// The counts of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// The operations of all workers.
    pub(crate) operations: u64,
    /// The sum of the workers' counts.
    pub(crate) counts: Counts,
    /// The lines that moved to workers, by place in the source; the most first.
    pub(crate) places: Vec<(Place, u64)>,
}

impl Measured {
    /// Sums the counts of the workers, the first CPUs, of which each did `each` operations.
    pub(crate) fn of(outcome: Outcome, workers: usize, each: usize) -> Self {
        let mut counts = Counts::default();
        outcome.counts[..workers].iter().for_each(|&of_cpu| counts += of_cpu);
        let operations = (workers * each) as u64;
        Self { operations, counts, places: outcome.places.0 }
    }

    /// Returns a count per operation.
    pub(crate) fn per_operation(&self, count: u64) -> f64 {
        count as f64 / self.operations as f64
    }

    /// Returns the number of lines moved per operation.
    pub(crate) fn moved(&self) -> f64 {
        self.per_operation(self.counts.moved())
    }
}

/// The results of one path on machines of every size: a row of a table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The first cells of the row: the work and its conditions.
    pub(crate) name: Vec<String>,
    /// One result for each machine, in the order of [`SIZES`].
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

    /// Returns true if no machine moves notably more lines per operation than the smallest.
    pub(crate) fn is_constant(&self) -> bool {
        self.by_size.iter().all(|size| scales(self.by_size[0].moved(), size.moved()))
    }
}

/// Returns true if a path that moves `few` lines with few CPUs and `more` lines with more CPUs
/// counts as constant: the increase is at most a quarter plus one line in twenty operations.
pub(crate) fn scales(few: f64, more: f64) -> bool {
    more <= few * 1.25 + 0.05
}
