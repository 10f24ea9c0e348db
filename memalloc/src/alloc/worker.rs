//! A background thread that does the allocators' and domains' work while the program is idle.

use super::{Cache, MemAlloc};
use crate::policy::ReusePolicy;
use crate::rcu::Domain;
use crate::sys::fork;
use crate::sys::thread::without_signals;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Does one round for an allocator, cache or domain. Returns false once it is gone.
type Round = Box<dyn FnMut() -> bool + Send>;

/// A thread that regularly does the background work of allocators and domains (the kernel's
/// `irq_work`): it ends grace periods, runs callbacks, returns surplus memory to the slabs and to
/// the system, and reports stalled readers. It ends when this is dropped, or when everything that
/// was added to it is gone.
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
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
    /// The process that it was started in, by number of forks.
    generation: u32,
}

#[derive(Default)]
struct Stop {
    wanted: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits for `interval`, or until the worker has to stop. Returns true if it has to stop.
    fn wait(&self, interval: Duration) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(wanted, interval, |wanted| !*wanted);
        *waited.unwrap_or_else(PoisonError::into_inner).0
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
    rounds: Vec<Round>,
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl Worker {
    /// Returns a builder of a worker that does a round after each `interval`.
    pub fn every(interval: Duration) -> WorkerBuilder {
        WorkerBuilder { interval, rounds: Vec::new() }
    }
}

impl WorkerBuilder {
    /// Adds an allocator, for as long as it has another owner.
    pub fn alloc<P: ReusePolicy>(self, alloc: &Arc<MemAlloc<P>>) -> Self {
        self.tend(Arc::downgrade(alloc), MemAlloc::tend)
    }

    /// Adds a cache, for as long as it has another owner.
    pub fn cache<T: Send + Sync + 'static, P: ReusePolicy>(self, cache: &Arc<Cache<T, P>>) -> Self {
        self.tend(Arc::downgrade(cache), |cache| cache.mem_alloc().tend())
    }

    /// Adds a domain and keeps it alive.
    pub fn domain(mut self, domain: &Domain) -> Self {
        let domain = domain.clone();
        self.rounds.push(Box::new(move || {
            domain.rcu().tend();
            domain.trace().tend();
            true
        }));
        self
    }

    /// Adds a structure of another type, for as long as it has another owner: each round calls
    /// `tend` with it. `tend` must not wait for readers.
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
        self.tend(Arc::downgrade(object), tend)
    }

    fn tend<T: Send + Sync + 'static>(
        mut self,
        object: Weak<T>,
        tend: impl Fn(&T) + Send + 'static,
    ) -> Self {
        self.rounds
            .push(Box::new(move || object.upgrade().inspect(|object| tend(object)).is_some()));
        self
    }

    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system cannot create a thread.
    pub fn start(self) -> io::Result<Worker> {
        let Self { interval, mut rounds } = self;
        let stop = Arc::new(Stop::default());
        let told = stop.clone();
        // An allocator may be dropped in a round, and a hook may panic in one: no lock is held, and
        // the rounds of the others go on.
        let is_there = |round: &mut Round| catch_unwind(AssertUnwindSafe(round)).unwrap_or(true);
        let work = move || {
            while !rounds.is_empty() && !told.wait(interval) {
                rounds.retain_mut(is_there);
            }
        };
        let builder = thread::Builder::new().name("memalloc-worker".to_owned());
        let thread = without_signals(|| builder.spawn(work))?;
        Ok(Worker { stop, thread: Some(thread), generation: fork::generation() })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            // The thread exists only in the parent: it cannot be joined, nor unlock its mutex.
            return std::mem::forget(self.thread.take());
        }
        *self.stop.wanted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_one();
        // Code on the worker's own thread would wait for itself.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = self.thread.take().filter(other) {
            // A panic of the thread has already been reported.
            let _ = thread.join();
        }
    }
}
