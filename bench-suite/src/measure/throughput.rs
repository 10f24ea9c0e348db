//! The throughput of a team of threads.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use super::{Metric, Reading};

/// The run of one worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerRun {
    pub(super) operations: u64,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    /// The CPU time of the worker, if the system reports it.
    pub(super) ran: Option<Duration>,
}

/// The work of all workers, in one run or in several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throughput {
    operations: Vec<u64>,
    /// From the start of the first worker to the end of the last one.
    elapsed: Duration,
    /// The sum of the times from start to end of each worker.
    wanted: Duration,
    /// The sum of the CPU times of the workers; zero if unknown.
    ran: Duration,
}

impl Throughput {
    pub(super) fn of<'r>(runs: impl Iterator<Item = &'r WorkerRun> + Clone) -> Self {
        let begun = runs.clone().map(|worker_run| worker_run.begun).min();
        let ended = runs.clone().map(|worker_run| worker_run.ended).max();
        Self {
            operations: runs.clone().map(|worker_run| worker_run.operations).collect(),
            elapsed: begun.zip(ended).map_or(Duration::ZERO, |(begun, ended)| ended - begun),
            wanted: runs.clone().map(|worker_run| worker_run.ended - worker_run.begun).sum(),
            ran: runs.filter_map(|worker_run| worker_run.ran).sum(),
        }
    }

    /// Returns the operations of all workers.
    pub(crate) fn total(&self) -> u64 {
        self.operations.iter().sum()
    }

    /// Returns the operations of each worker.
    pub(crate) fn operations(&self) -> &[u64] {
        &self.operations
    }

    /// Divides a number of operations by the elapsed time.
    pub(crate) fn per_second(&self, operations: u64) -> f64 {
        operations as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Returns the CPU time of the workers relative to the time in which they wanted to run.
    pub(crate) fn cpu_share(&self, case: &'static str) -> Option<Reading> {
        let known = self.ran > Duration::ZERO && self.wanted > Duration::ZERO;
        let share = || self.ran.as_secs_f64() / self.wanted.as_secs_f64();
        known.then(|| Reading::new(case, Metric::CpuShare, share().min(1.0)))
    }
}

/// Adds another run by the same number of workers.
impl AddAssign for Throughput {
    fn add_assign(&mut self, other: Self) {
        self.operations.resize(self.operations.len().max(other.operations.len()), 0);
        for (sum, operations) in self.operations.iter_mut().zip(other.operations) {
            *sum += operations;
        }
        self.elapsed += other.elapsed;
        self.wanted += other.wanted;
        self.ran += other.ran;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throughput(runs: &[(u64, u64, u64, Option<u64>)]) -> Throughput {
        let zero = Instant::now();
        let after = |milliseconds| zero + Duration::from_millis(milliseconds);
        let worker_run =
            |&(operations, begun, ended, ran): &(u64, u64, u64, Option<u64>)| WorkerRun {
                operations,
                begun: after(begun),
                ended: after(ended),
                ran: ran.map(Duration::from_millis),
            };
        Throughput::of(runs.iter().map(worker_run).collect::<Vec<_>>().iter())
    }

    #[test]
    fn a_speed_counts_all_workers_from_the_first_start_to_the_last_end() {
        let throughput = throughput(&[(100, 0, 300, None), (300, 100, 400, None)]);
        assert_eq!((throughput.total(), throughput.operations()), (400, &[100, 300][..]));
        assert!((throughput.per_second(throughput.total()) - 1000.0).abs() < 1e-6);
    }

    #[test]
    fn runs_add_up() {
        let mut sum = Throughput::default();
        sum += throughput(&[(10, 0, 100, None), (20, 0, 100, None)]);
        sum += throughput(&[(10, 50, 150, None), (20, 50, 150, None)]);
        assert_eq!(sum.operations(), [20, 40]);
        assert!((sum.per_second(sum.total()) - 300.0).abs() < 1e-6);
    }

    #[test]
    fn the_cpu_share_is_known_only_if_the_system_reports_cpu_time() {
        let share =
            |throughput: Throughput| throughput.cpu_share("case").map(|reading| reading.value);
        assert_eq!(share(throughput(&[(1, 0, 100, Some(25)), (1, 0, 100, Some(75))])), Some(0.5));
        assert_eq!(share(throughput(&[(1, 0, 100, None)])), None);
    }
}
