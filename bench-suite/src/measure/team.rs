//! Threads that start to work together, once or in several turns.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::cpus;
use super::throughput::WorkerRun;
use super::turn::wait_for_turn;
use super::{CutOff, NoReadings, Slice, Throughput, WrongAnswer};

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
    /// down a little. If the slice takes turns, the workers sleep before each of them.
    ///
    /// # Errors
    ///
    /// The system can't start all threads: then no worker has run. Or there are no further turns.
    pub(crate) fn run_for(
        &mut self,
        slice: Slice,
        watch: impl FnMut(),
    ) -> Result<Throughput, NoReadings> {
        self.run_turns(slice, watch, wait_for_turn)
    }

    /// As `run_for`; `wait` waits for a turn, if there are several.
    fn run_turns(
        &mut self,
        slice: Slice,
        mut watch: impl FnMut(),
        mut wait: impl FnMut() -> Result<(), WrongAnswer>,
    ) -> Result<Throughput, NoReadings> {
        let (turns, time) = slice.turns();
        let mut spent = Duration::ZERO;
        self.run(Some(slice.warm_up), turns, |span| {
            // An operation may take longer than a turn; then there are fewer turns.
            if spent + time / 2 > slice.measured {
                return Ok(false);
            }
            if turns > 1 {
                wait()?;
            }
            let begun = Instant::now();
            if !span.open() {
                return Ok(false);
            }
            loop {
                thread::sleep(time.saturating_sub(begun.elapsed()).min(TICK));
                watch();
                if begun.elapsed() >= time {
                    break;
                }
            }
            span.close();
            spent += begun.elapsed();
            Ok(true)
        })
    }

    /// Runs the workers until each of them has finished.
    ///
    /// # Errors
    ///
    /// As [`Team::run_for`].
    pub(crate) fn run_to_completion(&mut self) -> Result<Throughput, NoReadings> {
        self.run(None, 1, |span| Ok(span.open()))
    }

    /// Starts a thread for each worker, on separate CPUs if there are enough, runs the warm-up if
    /// there is one, and then up to `most` measured spans, for each of which `measure` is called
    /// until it returns false.
    fn run(
        &mut self,
        warm_up: Option<Duration>,
        most: u32,
        mut measure: impl FnMut(&Span) -> Result<bool, WrongAnswer>,
    ) -> Result<Throughput, NoReadings> {
        let count = self.workers.len();
        let warming = &warm_up.map(|_| Span::new(count));
        let measured: &Vec<Span> = &(0..most).map(|_| Span::new(count)).collect();
        let call_off = || warming.iter().chain(measured).for_each(Span::call_off);
        thread::scope(|scope| {
            // The others would wait for a thread that panics.
            let _guard = OnPanic(call_off);
            let mut threads = Vec::new();
            for (number, worker) in self.iter_mut().enumerate() {
                let work = move || {
                    let _guard = OnPanic(call_off);
                    cpus::pin(number);
                    if let Some(span) = warming {
                        span.run(worker)?;
                        worker.forget_warm_up();
                    }
                    Some(measured.iter().map_while(|span| span.run(worker)).collect())
                };
                match thread::Builder::new().spawn_scoped(scope, work) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        call_off();
                        let started = threads.len();
                        let what = format!(
                            "the system started only {started} of {count} threads: {error}"
                        );
                        return Err(CutOff::Refused(what).into());
                    }
                }
            }
            if let (Some(span), Some(time)) = (warming, warm_up) {
                span.open();
                thread::sleep(time);
                span.close();
            }
            let mut left = measured.iter();
            let end = loop {
                match left.next().map(&mut measure) {
                    None => break Ok(()),
                    Some(Ok(true)) => {}
                    Some(end) => {
                        call_off();
                        break end.map(drop);
                    }
                }
            };
            let joined = threads.into_iter().map(|thread| thread.join());
            let runs: Vec<Vec<WorkerRun>> =
                joined.filter_map(|end| end.unwrap_or_else(|panic| resume_unwind(panic))).collect();
            end?;
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
    at_work: Mutex<usize>,
    ended: Condvar,
}

impl Span {
    fn new(workers: usize) -> Self {
        Self {
            is_open: Mutex::new(false),
            opened: Condvar::new(),
            start: StartingLine::new(workers + 1),
            gate: Gate::default(),
            at_work: Mutex::new(workers),
            ended: Condvar::new(),
        }
    }

    /// Works in the span. Returns `None` if the span was called off.
    fn run<W: Worker>(&self, worker: &mut W) -> Option<WorkerRun> {
        let _ended = Ended(self);
        drop(self.opened.wait_while(locked(&self.is_open), |is_open| !*is_open));
        self.start.wait().then(|| worker_run(worker, &self.gate))
    }

    fn wake(&self) {
        *locked(&self.is_open) = true;
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
        drop(self.ended.wait_while(locked(&self.at_work), |at_work| *at_work > 0));
    }

    /// Ends the workers that work in the span, wait for it, or will.
    fn call_off(&self) {
        self.start.call_off();
        self.gate.close();
        self.wake();
    }
}

/// Locks a value that is valid at any moment, so that a panic elsewhere does no harm.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a worker out, also when it panics.
struct Ended<'s>(&'s Span);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        *locked(&self.0.at_work) -= 1;
        self.0.ended.notify_one();
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

    fn slice_of_turns(turns: u64) -> Slice {
        let turn = Duration::from_millis(1);
        Slice { turn: Some(turn), ..Slice::new(turn * turns as u32, Some(turn)) }
    }

    #[test]
    fn every_turn_is_waited_for_and_counted() {
        let mut team: Team<_> =
            [0, 0].map(|done| Counter { limit: u64::MAX, done }).into_iter().collect();
        let mut waits = 0;
        let wait = || {
            waits += 1;
            Ok(())
        };
        let throughput = team.run_turns(slice_of_turns(5), || (), wait).unwrap();
        // On a busy machine turns are longer, and fewer.
        assert!((1..=5).contains(&waits), "{waits}");
        let done = team.iter().map(|worker| worker.done).sum();
        assert!(throughput.total() > 0 && throughput.total() < done);
    }

    #[test]
    fn the_workers_end_when_there_is_no_further_turn() {
        let mut team: Team<_> = [Counter { limit: u64::MAX, done: 0 }].into_iter().collect();
        let mut waits = 0;
        let refuse = || {
            waits += 1;
            if waits == 2 { Err(WrongAnswer("no more".into())) } else { Ok(()) }
        };
        // Long enough that one turn, however late, is not all.
        let slice = Slice { turn: Some(Duration::from_millis(1)), ..slice_of_turns(1 << 20) };
        let end = team.run_turns(slice, || (), refuse);
        assert_eq!(end.unwrap_err(), WrongAnswer("no more".into()).into());
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
