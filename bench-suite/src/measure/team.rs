//! Threads that start to work together.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::cpus;
use super::throughput::WorkerRun;
use super::turn::wait_for_turn;
use super::{Slice, Throughput, WrongAnswer};

/// The interval between two calls of `watch`.
const TICK: Duration = Duration::from_millis(5);

/// The work of one thread.
pub(crate) trait Worker: Send {
    /// Works until the gate is closed or the work is done, but at least one batch, unless it has to
    /// wait for another worker all the time. Returns the number of operations. A further call
    /// continues the work, on the same thread, possibly after a pause.
    fn work(&mut self, gate: &Gate) -> u64;

    /// Forgets what it has recorded about the warm-up, which is over. The result of `work` has no
    /// part in this.
    fn forget_warm_up(&mut self) {}
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
    /// down a little. If the slice takes turns, the workers sleep between its turns.
    ///
    /// # Errors
    ///
    /// The system can't start all threads: then no worker has run. Or there are no further turns.
    pub(crate) fn run_for(
        &mut self,
        slice: Slice,
        mut watch: impl FnMut(),
    ) -> Result<Throughput, WrongAnswer> {
        let (turns, time) = slice.turns();
        let measure = || {
            let begun = Instant::now();
            loop {
                thread::sleep(time.saturating_sub(begun.elapsed()).min(TICK));
                watch();
                if begun.elapsed() >= time {
                    break;
                }
            }
        };
        self.run(Some(slice.warm_up), slice.turn.is_some(), turns, measure)
    }

    /// Runs the workers until each of them has finished.
    ///
    /// # Errors
    ///
    /// As [`Team::run_for`].
    pub(crate) fn run_to_completion(&mut self) -> Result<Throughput, WrongAnswer> {
        self.run(None, false, 1, || {})
    }

    /// Starts a thread for each worker, on separate CPUs if there are enough, runs the warm-up if
    /// there is one, and then `turns` turns; waits for each if `waits`. Calls `measure` after a turn
    /// has begun. With a warm-up, the turn ends when `measure` returns, else when the work is done.
    fn run(
        &mut self,
        warm_up: Option<Duration>,
        waits: bool,
        turns: u32,
        mut measure: impl FnMut(),
    ) -> Result<Throughput, WrongAnswer> {
        let count = self.workers.len();
        let warming = &warm_up.map(|_| Span::new(count));
        let measured: &Vec<Span> = &(0..turns).map(|_| Span::new(count)).collect();
        let spans = || warming.iter().chain(measured);
        let call_off = || spans().for_each(Span::call_off);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, worker) in self.iter_mut().enumerate() {
                let work = move || {
                    // The others would wait for a worker that panics.
                    let _guard = OnPanic(call_off);
                    cpus::pin(number);
                    if let Some(span) = warming {
                        span.run(worker)?;
                        worker.forget_warm_up();
                    }
                    measured.iter().map(|span| span.run(worker)).collect::<Option<Vec<_>>>()
                };
                match thread::Builder::new().spawn_scoped(scope, work) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        call_off();
                        return Err(WrongAnswer(format!(
                            "the system started only {} of {count} threads: {error}",
                            threads.len()
                        )));
                    }
                }
            }
            if let (Some(span), Some(time)) = (warming, warm_up) {
                span.open();
                thread::sleep(time);
                span.close();
            }
            for span in measured {
                if waits && let Err(wrong) = wait_for_turn() {
                    call_off();
                    return Err(wrong);
                }
                if !span.open() {
                    break;
                }
                measure();
                if warm_up.is_some() {
                    span.close();
                }
            }
            let joined = threads.into_iter().map(|thread| thread.join());
            let runs: Vec<Vec<WorkerRun>> =
                joined.filter_map(|end| end.unwrap_or_else(|panic| resume_unwind(panic))).collect();
            let mut throughput = Throughput::default();
            for turn in 0..measured.len() {
                throughput += Throughput::of(runs.iter().filter_map(|runs| runs.get(turn)));
            }
            Ok(throughput)
        })
    }
}

/// A span of time in which all workers work.
struct Span {
    /// Locked while the workers sleep.
    is_open: Mutex<bool>,
    opened: Condvar,
    start: StartingLine,
    gate: Gate,
    /// The number of workers that have not ended their work.
    at_work: AtomicUsize,
}

impl Span {
    fn new(workers: usize) -> Self {
        Self {
            is_open: Mutex::new(false),
            opened: Condvar::new(),
            start: StartingLine::new(workers + 1),
            gate: Gate::default(),
            at_work: AtomicUsize::new(workers),
        }
    }

    /// Works in the span. Returns `None` if the span was called off.
    fn run<W: Worker>(&self, worker: &mut W) -> Option<WorkerRun> {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        // The lock protects nothing else, so a panic elsewhere leaves it as it should be.
        drop(self.opened.wait_while(is_open, |is_open| !*is_open));
        if !self.start.wait() {
            return None;
        }
        let _ended = Ended(&self.at_work);
        Some(worker_run(worker, &self.gate))
    }

    fn wake(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Wakes the workers, and returns when they begin to work. Returns false if the span was called
    /// off.
    fn open(&self) -> bool {
        self.wake();
        self.start.wait()
    }

    /// Closes the gate, and returns when no worker works any longer.
    fn close(&self) {
        self.gate.close();
        while self.at_work.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
    }

    /// Ends the workers that wait for the span, or will.
    fn call_off(&self) {
        self.start.call_off();
        self.wake();
    }
}

/// Counts a worker out, also when it panics.
struct Ended<'s>(&'s AtomicUsize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Calls its function if the thread panics.
struct OnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
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

    /// Panics in its second call.
    struct Clumsy(u32);

    impl Worker for Clumsy {
        fn work(&mut self, _gate: &Gate) -> u64 {
            self.0 += 1;
            if self.0 == 2 {
                std::panic::panic_any("clumsy");
            }
            1
        }
    }

    #[test]
    fn a_worker_that_panics_ends_the_run_and_not_the_others() {
        let slice = Slice::new(Duration::from_millis(2), None);
        let run = || [Clumsy(0), Clumsy(9)].into_iter().collect::<Team<_>>().run_for(slice, || ());
        let end = std::panic::catch_unwind(run);
        assert_eq!(end.unwrap_err().downcast_ref(), Some(&"clumsy"));
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
