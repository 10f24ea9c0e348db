//! Threads that start to work together.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::cpus;
use super::throughput::WorkerRun;
use super::{Slice, Throughput, WrongAnswer};

/// The interval between two calls of `watch`.
const TICK: Duration = Duration::from_millis(5);

/// The work of one thread.
pub(crate) trait Worker: Send {
    /// Works until the gate is closed or the work is done, but at least one batch, unless it has to
    /// wait for another worker all the time. Returns the number of operations. A further call
    /// continues the work, on the same thread.
    fn work(&mut self, gate: &Gate) -> u64;
}

/// Closed when the time is up. Workers check it between batches, not between operations.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: AtomicBool,
}

impl Gate {
    /// Returns whether there is time left.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// Tells all workers to stop.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// Workers, each for a separate thread.
#[derive(Debug)]
pub(crate) struct Team<W> {
    /// Each on separate cache lines: a worker's writes must not slow down another worker.
    workers: Vec<CachePadded<W>>,
}

impl<W> FromIterator<W> for Team<W> {
    fn from_iter<I: IntoIterator<Item = W>>(workers: I) -> Self {
        Self { workers: workers.into_iter().map(CachePadded::new).collect() }
    }
}

impl<W: Worker> Team<W> {
    /// Returns the workers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &W> {
        self.workers.iter().map(|worker| &**worker)
    }

    /// Returns the workers, mutably.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut W> {
        self.workers.iter_mut().map(|worker| &mut **worker)
    }

    /// Runs the workers for `slice`, its warm-up first and on the same threads. Calls `watch` every
    /// few milliseconds during the measurement, at least once; without a spare CPU that slows them
    /// down a little.
    ///
    /// # Errors
    ///
    /// The system can't start all threads: then no worker has run.
    pub(crate) fn run_for(
        &mut self,
        slice: Slice,
        mut watch: impl FnMut(),
    ) -> Result<Throughput, WrongAnswer> {
        self.run(Some(slice.warm_up), |gate| {
            let begun = Instant::now();
            loop {
                thread::sleep(slice.measured.saturating_sub(begun.elapsed()).min(TICK));
                watch();
                if begun.elapsed() >= slice.measured {
                    break;
                }
            }
            gate.close();
        })
    }

    /// Runs the workers until each of them has finished.
    ///
    /// # Errors
    ///
    /// As [`Team::run_for`].
    pub(crate) fn run_to_completion(&mut self) -> Result<Throughput, WrongAnswer> {
        self.run(None, |_| {})
    }

    /// Starts a thread for each worker, on separate CPUs if there are enough, runs the warm-up, and
    /// calls `coordinate` after the measurement has begun.
    fn run(
        &mut self,
        warm_up: Option<Duration>,
        coordinate: impl FnOnce(&Gate),
    ) -> Result<Throughput, WrongAnswer> {
        let count = self.workers.len();
        let warming = &warm_up.map(|time| (Gate::default(), StartingLine::new(count + 1), time));
        let (gate, start) = (&Gate::default(), &StartingLine::new(count + 1));
        let runs: Vec<WorkerRun> = thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, worker) in self.iter_mut().enumerate() {
                let work = move || {
                    cpus::pin(number);
                    if let Some((gate, start, _)) = warming {
                        if !start.wait() {
                            return None;
                        }
                        worker.work(gate);
                    }
                    start.wait().then(|| worker_run(worker, gate))
                };
                match thread::Builder::new().spawn_scoped(scope, work) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        let first = warming.as_ref().map_or(start, |(_, start, _)| start);
                        first.call_off();
                        return Err(WrongAnswer(format!(
                            "the system started only {} of {count} threads: {error}",
                            threads.len()
                        )));
                    }
                }
            }
            if let Some((gate, start, time)) = warming {
                start.wait();
                thread::sleep(*time);
                gate.close();
            }
            start.wait();
            coordinate(gate);
            let joined = threads.into_iter().map(|thread| thread.join());
            Ok(joined.filter_map(|end| end.unwrap_or_else(|panic| resume_unwind(panic))).collect())
        })?;
        Ok(Throughput::of(&runs))
    }
}

fn worker_run<W: Worker>(worker: &mut W, gate: &Gate) -> WorkerRun {
    let (begun, used) = (Instant::now(), cpus::time_used());
    let operations = worker.work(gate);
    let (ended, used_after) = (Instant::now(), cpus::time_used());
    let ran = used_after.zip(used).map(|(after, before)| after - before);
    WorkerRun { operations, begun, ended, ran }
}

/// A barrier for the start. It spins: waking a sleeping thread takes as long as thousands of
/// operations, and the last thread to wake would begin late.
struct StartingLine {
    missing: AtomicUsize,
}

impl StartingLine {
    /// Too large a number to be missing: the start is cancelled.
    const CALLED_OFF: usize = usize::MAX / 2;

    fn new(members: usize) -> Self {
        Self { missing: AtomicUsize::new(members) }
    }

    /// Waits for all members. Returns false if the start was cancelled.
    fn wait(&self) -> bool {
        // ORDERING: AcqRel here pairs with the Acquire below: the actions of every member before
        // the line happen before those of all members after it. No measurement depends on it.
        self.missing.fetch_sub(1, Ordering::AcqRel);
        loop {
            match self.missing.load(Ordering::Acquire) {
                0 => return true,
                missing if missing >= Self::CALLED_OFF / 2 => return false,
                _ => thread::yield_now(),
            }
        }
    }

    /// Cancels the start, for members that wait and those that will come.
    fn call_off(&self) {
        self.missing.store(Self::CALLED_OFF, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter {
        limit: u64,
        done: u64,
    }

    impl Worker for Counter {
        fn work(&mut self, gate: &Gate) -> u64 {
            let before = self.done;
            loop {
                self.done += 1;
                if self.done == self.limit || !gate.is_open() {
                    return self.done - before;
                }
            }
        }
    }

    #[test]
    fn work_to_completion_is_counted_by_worker() {
        let workers = [10, 20, 30].map(|limit| Counter { limit, done: 0 });
        let mut team: Team<_> = workers.into_iter().collect();
        assert_eq!(team.run_to_completion().unwrap().operations(), [10, 20, 30]);
    }

    #[test]
    fn the_warm_up_is_not_counted_and_a_closed_gate_ends_the_work() {
        let mut team: Team<_> = [Counter { limit: u64::MAX, done: 0 }].into_iter().collect();
        let mut looks = 0;
        let throughput =
            team.run_for(Slice::new(Duration::from_millis(20), None), || looks += 1).unwrap();
        let done = team.iter().map(|worker| worker.done).sum();
        assert!(throughput.total() > 0 && throughput.total() < done);
        assert!(looks > 0);
    }

    #[test]
    fn a_cancelled_start_releases_every_member() {
        let start = StartingLine::new(3);
        thread::scope(|scope| {
            let early = scope.spawn(|| start.wait());
            start.call_off();
            let late = scope.spawn(|| start.wait());
            assert_eq!((early.join().unwrap(), late.join().unwrap()), (false, false));
        });
    }
}
