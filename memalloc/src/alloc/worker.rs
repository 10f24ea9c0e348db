//! A thread that keeps things moving while the program is idle.

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

/// Does one round for something, and says whether it is still there.
type Round = Box<dyn FnMut() -> bool + Send>;

/// A thread that does regularly, for allocators and domains, what their calls do by the way
/// (the kernel's `irq_work`): ends grace periods, runs callbacks, returns what is more than
/// enough to the slabs and to the system, and reports readers that stall. It ends when this is
/// dropped, or when all that it looks after is gone.
///
/// Nothing needs it: without it, the same is done by whoever allocates, frees or waits. It does
/// not follow into the child of a fork; one that is dropped there does nothing.
///
/// Callbacks, finalizers and stall handlers run on its thread too, which signals are not delivered
/// to. Where one panics, the message is printed as that of any thread, and the worker goes on. One
/// of them may drop the worker, which then ends after the round.
///
/// Dropped by another thread, it waits for the round that is under way, but not for readers.
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
    /// In which process it was started.
    generation: u32,
}

#[derive(Default)]
struct Stop {
    wanted: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits for so long, or until the end is wanted, and says whether it is.
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

/// What a [`Worker`] is to look after.
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
    /// A worker that makes a round after each `interval`.
    pub fn every(interval: Duration) -> WorkerBuilder {
        WorkerBuilder { interval, rounds: Vec::new() }
    }
}

impl WorkerBuilder {
    /// Looks after an allocator, for as long as somebody else keeps it.
    pub fn alloc<P: ReusePolicy>(self, alloc: &Arc<MemAlloc<P>>) -> Self {
        self.tend(Arc::downgrade(alloc), MemAlloc::tend)
    }

    /// Looks after a cache, for as long as somebody else keeps it.
    pub fn cache<T: Send + Sync + 'static, P: ReusePolicy>(self, cache: &Arc<Cache<T, P>>) -> Self {
        self.tend(Arc::downgrade(cache), |cache| cache.mem_alloc().tend())
    }

    /// Looks after a domain; keeps it alive.
    pub fn domain(mut self, domain: &Domain) -> Self {
        let domain = domain.clone();
        self.rounds.push(Box::new(move || {
            domain.rcu().tend();
            domain.trace().tend();
            true
        }));
        self
    }

    /// Looks after a structure of another type, by calling `tend` for it in each round, for as long as
    /// somebody else keeps it. `tend` must not wait for readers.
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
    /// When the system has no thread to give.
    pub fn start(self) -> io::Result<Worker> {
        let Self { interval, mut rounds } = self;
        let stop = Arc::new(Stop::default());
        let told = stop.clone();
        // What is looked after may change hands or be dropped in a round, and what runs in one may
        // panic: nothing is locked, and the others are looked after as before.
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
            // The thread is the parent's: it is not there to be joined, nor to open its lock.
            return std::mem::forget(self.thread.take());
        }
        *self.stop.wanted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_one();
        // Something that runs on the worker's own thread would wait for itself.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = self.thread.take().filter(other) {
            // What panicked there has said so already.
            let _ = thread.join();
        }
    }
}
