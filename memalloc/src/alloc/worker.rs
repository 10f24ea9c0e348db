//! A background thread that does the allocators' and domains' work while the program is idle.

use super::{Cache, MemAlloc};
use crate::policy::ReusePolicy;
use crate::rcu::Domain;
use crate::sys::bell::Bell;
use crate::sys::fork;
use crate::sys::thread::{clock, without_signals};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The reason for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// The interval is over.
    Interval,
    /// A call that may not wait has found too few objects ready.
    Rung,
}

/// Does one round for an allocator, cache or domain. Returns false once it is gone.
type Round = Box<dyn FnMut(Occasion) -> bool + Send>;

/// Begins to serve an allocator, cache or domain when a worker with this bell starts.
type Begin = Box<dyn FnOnce(Bell) -> Round + Send>;

/// An allocator whose calls wake a worker, until this is dropped.
struct Served<T, P: ReusePolicy> {
    owner: Weak<T>,
    alloc_of: fn(&T) -> &MemAlloc<P>,
    bell: Bell,
}

impl<T, P: ReusePolicy> Served<T, P> {
    fn by(bell: Bell, owner: Weak<T>, alloc_of: fn(&T) -> &MemAlloc<P>) -> Self {
        if let Some(owner) = owner.upgrade() {
            alloc_of(&owner).raw().served_by(bell);
        }
        Self { owner, alloc_of, bell }
    }

    fn round(&self, occasion: Occasion) -> bool {
        let Some(owner) = self.owner.upgrade() else {
            return false;
        };
        let alloc = (self.alloc_of)(&owner);
        match occasion {
            Occasion::Interval => alloc.tend(),
            Occasion::Rung => alloc.raw().answer(),
        }
        true
    }
}

impl<T, P: ReusePolicy> Drop for Served<T, P> {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.upgrade() {
            (self.alloc_of)(&owner).raw().no_longer_served_by(self.bell);
        }
    }
}

/// A thread that regularly does the background work of allocators and domains (the kernel's
/// `irq_work`): it ends grace periods, runs callbacks, returns surplus memory to the slabs and to
/// the system, and reports stalled readers. It ends when this is dropped, or when everything that
/// was added to it is gone.
///
/// Between its rounds it is woken by an `alloc_nowait` of an allocator or cache that leaves too few
/// objects ready, and makes more ready. Linux wakes it at once. Elsewhere it looks by itself: after
/// a millisecond, or after an eighth of the time without such a call, but at most 0.1 s.
///
/// A worker is optional: without it, the calls that allocate, free or wait do the same work. It
/// does not exist in the child of a fork; dropping a `Worker` there does nothing.
///
/// Callbacks, finalizers and stall handlers may run on its thread, to which no signals are
/// delivered. If one panics, the message is printed as for any thread, and the worker continues.
/// One of them may drop the worker, which then ends after the round.
///
/// When another thread drops it, the drop waits for the current round, but not for readers.
///
/// ```
/// use memalloc::{MemAlloc, Worker};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let alloc = Arc::new(MemAlloc::<memalloc::AfterRcuGp>::new()?);
/// let worker = Worker::every(Duration::from_millis(10))
///     .alloc(&alloc)
///     .domain(alloc.domain())
///     .start()?;
/// # drop(worker);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "irq_work")]
#[must_use = "the worker ends when this is dropped"]
pub struct Worker {
    stop: Arc<AtomicBool>,
    bell: Bell,
    thread: Option<JoinHandle<()>>,
    /// The process that it was started in, by number of forks.
    generation: u32,
}

/// Tells the thread of a worker when its rounds are due.
struct Schedule {
    interval: Duration,
    due: Duration,
    bell: Bell,
    /// The rings of the bell that have been answered.
    rings: u32,
    /// The time of the last of them.
    rung_at: Duration,
    stop: Arc<AtomicBool>,
}

impl Schedule {
    fn new(interval: Duration, bell: Bell) -> Self {
        let now = clock();
        // A worker that ended may have left a class that was wanted: this one looks once at first.
        let rings = bell.rings().wrapping_sub(1);
        let due = now.saturating_add(interval);
        Self { interval, due, bell, rings, rung_at: now, stop: Arc::default() }
    }

    /// Waits for the next round. Returns `None` if the worker has to stop.
    fn next(&mut self) -> Option<Occasion> {
        loop {
            let rings = self.bell.rings();
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let now = clock();
            let left = self.due.saturating_sub(now);
            if left.is_zero() {
                return Some(Occasion::Interval);
            }
            if self.rings != rings {
                (self.rings, self.rung_at) = (rings, now);
                return Some(Occasion::Rung);
            }
            self.bell.wait(rings, left, now.saturating_sub(self.rung_at));
        }
    }

    /// Records the end of a round.
    fn done(&mut self, occasion: Occasion) {
        if occasion == Occasion::Interval {
            self.due = clock().saturating_add(self.interval);
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

/// Configures a [`Worker`].
#[must_use = "nothing is done before `start`"]
pub struct WorkerBuilder {
    interval: Duration,
    begin: Vec<Begin>,
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl Worker {
    /// Returns a builder of a worker that does a round after each `interval`.
    pub fn every(interval: Duration) -> WorkerBuilder {
        WorkerBuilder { interval, begin: Vec::new() }
    }
}

impl WorkerBuilder {
    /// Adds an allocator, for as long as it has another owner.
    pub fn alloc<P: ReusePolicy>(self, alloc: &Arc<MemAlloc<P>>) -> Self {
        self.serve(alloc, |alloc| alloc)
    }

    /// Adds a cache, for as long as it has another owner.
    pub fn cache<T: Send + Sync + 'static, P: ReusePolicy>(self, cache: &Arc<Cache<T, P>>) -> Self {
        self.serve(cache, Cache::mem_alloc)
    }

    /// Adds a domain and keeps it alive.
    pub fn domain(self, domain: &Domain) -> Self {
        let domain = domain.clone();
        self.add(move |_| {
            Box::new(move |occasion| {
                if occasion == Occasion::Interval {
                    domain.rcu().tend();
                    domain.trace().tend();
                }
                true
            })
        })
    }

    /// Adds a structure of another type, for as long as it has another owner: each round calls
    /// `tend` with it. `tend` must not wait for readers. (The worker is not woken for it between
    /// rounds.)
    ///
    /// ```
    /// use memalloc::{AfterRcuGp, MemAlloc, Worker};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// struct Index {
    ///     nodes: MemAlloc<AfterRcuGp>,
    /// }
    ///
    /// let index = Arc::new(Index { nodes: MemAlloc::<AfterRcuGp>::builder().build()? });
    /// let worker = Worker::every(Duration::from_millis(10))
    ///     .tend_with(&index, |index| index.nodes.tend())
    ///     .start()?;
    /// # drop(worker);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tend_with<T: Send + Sync + 'static>(
        self,
        object: &Arc<T>,
        tend: impl Fn(&T) + Send + 'static,
    ) -> Self {
        let object = Arc::downgrade(object);
        self.add(move |_| {
            Box::new(move |occasion| {
                let object = object.upgrade();
                if let (Some(object), Occasion::Interval) = (&object, occasion) {
                    tend(object);
                }
                object.is_some()
            })
        })
    }

    fn serve<T: Send + Sync + 'static, P: ReusePolicy>(
        self,
        owner: &Arc<T>,
        alloc_of: fn(&T) -> &MemAlloc<P>,
    ) -> Self {
        let owner = Arc::downgrade(owner);
        self.add(move |bell| {
            let served = Served::by(bell, owner, alloc_of);
            Box::new(move |occasion| served.round(occasion))
        })
    }

    fn add(mut self, begin: impl FnOnce(Bell) -> Round + Send + 'static) -> Self {
        self.begin.push(Box::new(begin));
        self
    }

    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system cannot create a thread.
    pub fn start(self) -> io::Result<Worker> {
        let thread = thread::Builder::new().name("memalloc-worker".to_owned());
        self.start_with(Bell::next(), thread)
    }

    fn start_with(self, bell: Bell, thread: thread::Builder) -> io::Result<Worker> {
        let mut schedule = Schedule::new(self.interval, bell);
        let stop = schedule.stop.clone();
        // They end with the thread, or here if it is not created.
        let mut rounds: Vec<_> = self.begin.into_iter().map(|begin| begin(bell)).collect();
        // An allocator may be dropped in a round, and a hook may panic in one: no lock is held, and
        // the rounds of the others go on.
        let is_there = |round: &mut Round, occasion| {
            catch_unwind(AssertUnwindSafe(|| round(occasion))).unwrap_or(true)
        };
        let work = move || {
            while !rounds.is_empty()
                && let Some(occasion) = schedule.next()
            {
                rounds.retain_mut(|round| is_there(round, occasion));
                schedule.done(occasion);
            }
        };
        let thread = without_signals(|| thread.spawn(work))?;
        Ok(Worker { stop, bell, thread: Some(thread), generation: fork::generation() })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            // The thread exists only in the parent: it cannot be joined.
            return std::mem::forget(self.thread.take());
        }
        self.stop.store(true, Ordering::Relaxed);
        self.bell.ring();
        // Code on the worker's own thread would wait for itself.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = self.thread.take().filter(other) {
            // Where a ring does not wake it.
            thread.thread().unpark();
            // A panic of the thread has already been reported.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AfterRcuGp;
    use std::alloc::Layout;

    const LONG: Duration = Duration::from_secs(1 << 30);

    type Alloc = Arc<MemAlloc<AfterRcuGp>>;

    fn allocator() -> Alloc {
        Arc::new(MemAlloc::new().expect("an allocator"))
    }

    /// Returns true if an allocation that finds nothing may ring.
    fn rings(alloc: &Alloc) -> bool {
        alloc.raw().wanted.is_served()
    }

    #[test]
    fn an_allocator_whose_worker_never_started_rings_no_bell() {
        let alloc = allocator();
        let builder = Worker::every(LONG).alloc(&alloc);
        assert!(!rings(&alloc), "it has not started");
        drop(builder);
        let more_than_any_system_has = thread::Builder::new().stack_size(1 << 50);
        let failed =
            Worker::every(LONG).alloc(&alloc).start_with(Bell::next(), more_than_any_system_has);
        assert!(failed.is_err() && !rings(&alloc));
    }

    #[test]
    fn an_allocator_whose_worker_has_ended_rings_no_bell() {
        let alloc = allocator();
        let worker = Worker::every(LONG).alloc(&alloc).start().expect("a thread");
        assert!(rings(&alloc));
        drop(worker);
        assert!(!rings(&alloc));
    }

    #[test]
    #[cfg(all(unix, not(miri)))]
    fn an_allocator_rings_no_bell_in_the_child_of_a_fork() {
        let alloc = allocator();
        let worker = Worker::every(LONG).alloc(&alloc).start().expect("a thread");
        assert!(rings(&alloc));
        // SAFETY: the child looks at the allocator and calls `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(rings(&alloc))) };
        }
        let mut status = -1;
        // SAFETY: a place for the answer.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "it rings");
        drop(worker);
    }

    /// Also if the two share a bell.
    #[test]
    fn one_of_two_workers_ends_and_the_other_still_answers() {
        let bell = Bell::next();
        for other_bell in [bell, Bell::next()] {
            let alloc = allocator();
            let [first, second] = [bell, other_bell].map(|bell| {
                let builder = Worker::every(LONG).alloc(&alloc);
                builder.start_with(bell, thread::Builder::new()).expect("a thread")
            });
            drop(first);
            let start = clock();
            while alloc.alloc_nowait(Layout::new::<u64>()).is_err() {
                assert!(clock() - start < Duration::from_secs(60), "not after a minute");
                thread::sleep(Duration::from_millis(1));
            }
            drop(second);
            assert!(!rings(&alloc));
        }
    }
}
