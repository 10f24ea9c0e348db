//! The public face: a domain of readers and grace periods.

use super::callback::Callbacks;
use super::grace::{Cookie, Grace};
use super::reader::{Guard, Slots};
use crate::sync::pause;
use crate::sys::membarrier::BarrierKind;
use std::fmt;
use std::sync::Arc;

/// A set of readers and the grace periods that wait for them. Cheap to clone: clones are the
/// same domain, and any number of allocators and structures may share it.
#[derive(Clone)]
pub struct Domain {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// Never used again for another domain of this process.
    id: u64,
    barrier: BarrierKind,
    grace: Grace,
    slots: Slots,
    callbacks: Callbacks,
}

impl Inner {
    #[inline(always)]
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    #[inline(always)]
    pub(super) fn grace(&self) -> &Grace {
        &self.grace
    }

    #[inline(always)]
    pub(super) fn barrier(&self) -> BarrierKind {
        self.barrier
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.slots
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Guards borrow the domain, so there is no reader left to wait for.
        self.callbacks.run(Cookie(u64::MAX));
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("barrier", &self.inner.barrier).finish_non_exhaustive()
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self::new()
    }
}

impl Domain {
    /// A domain of its own, with the cheapest barrier that this system has.
    pub fn new() -> Self {
        Self::with_barrier(BarrierKind::best())
    }

    /// A domain that is configured step by step.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The domain of the process: what allocators and structures use that were given no other.
    #[cfg(not(loom))]
    pub fn global() -> &'static Self {
        static GLOBAL: std::sync::LazyLock<Domain> = std::sync::LazyLock::new(Domain::new);
        &GLOBAL
    }

    fn with_barrier(barrier: BarrierKind) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        // Names a domain; orders nothing, so loom need not see it.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            inner: Arc::new(Inner {
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                barrier,
                grace: Grace::new(),
                slots: Slots::new(),
                callbacks: Callbacks::default(),
            }),
        }
    }

    #[inline(always)]
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The kind of barrier between readers and grace periods.
    pub fn barrier_kind(&self) -> BarrierKind {
        self.inner.barrier
    }

    /// Begins a read section (`rcu_read_lock`); it ends when the guard is dropped.
    ///
    /// Two stores to memory of this thread, and a compiler fence (or a SeqCst fence, as
    /// [`BarrierKind`] says). The first use of a domain by a thread allocates a slot; after it, while
    /// the thread uses no other domain, it is async-signal-safe.
    #[doc(alias = "rcu_read_lock")]
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        Guard::enter(self)
    }

    /// A cookie for everything that was unlinked before this call
    /// (`start_poll_synchronize_rcu`). One atomic read-modify-write; async-signal-safe.
    #[doc(alias = "start_poll_synchronize_rcu")]
    pub fn start_poll(&self) -> Cookie {
        self.inner.grace.start_poll()
    }

    /// Whether the grace period of `cookie` has passed (`poll_state_synchronize_rcu`). One load;
    /// moves nothing along; async-signal-safe.
    #[doc(alias = "poll_state_synchronize_rcu")]
    pub fn poll(&self, cookie: Cookie) -> bool {
        self.inner.grace.poll(cookie)
    }

    /// The newest cookie whose grace period has passed.
    pub(crate) fn completed(&self) -> Cookie {
        self.inner.grace.completed()
    }

    /// Moves grace periods along as far as `cookie` needs and readers allow, without waiting,
    /// and says whether the cookie's has passed. Async-signal-safe.
    ///
    /// A cookie that can't be this domain's never passes.
    ///
    /// Costs a barrier of the domain's kind when a grace period has to begin, and a look at the
    /// slot of every thread that ever read.
    pub fn advance(&self, cookie: Cookie) -> bool {
        self.inner.grace.is_known(cookie) && self.drive(cookie)
    }

    fn drive(&self, cookie: Cookie) -> bool {
        self.inner.grace.drive(cookie, &self.inner.slots, self.inner.barrier)
    }

    /// Begins a grace period if none is under way, and ends it if readers allow.
    pub(crate) fn advance_once(&self) {
        self.drive(Cookie(self.completed().0 + 1));
    }

    /// Ends the grace period that is under way, if there is one and readers allow. Costs no
    /// barrier.
    pub(crate) fn advance_begun(&self) {
        if self.inner.grace.is_under_way() {
            self.advance_once();
        }
    }

    /// Waits until every read section that is open now has ended (`synchronize_rcu`), then runs
    /// the callbacks that are due.
    ///
    /// # Errors
    ///
    /// [`SynchronizeError::InsideReadSection`] when the calling thread is inside one: it would
    /// wait for itself.
    #[doc(alias = "synchronize_rcu")]
    pub fn synchronize(&self) -> Result<(), SynchronizeError> {
        self.check_outside()?;
        self.wait_for(self.start_poll());
        self.run_callbacks();
        Ok(())
    }

    /// Whether this thread may wait for a grace period.
    pub(crate) fn check_outside(&self) -> Result<(), SynchronizeError> {
        if self.inner.slots.reading_here() {
            return Err(SynchronizeError::InsideReadSection);
        }
        Ok(())
    }

    fn wait_for(&self, cookie: Cookie) {
        let mut patience = Patience::default();
        while !self.drive(cookie) {
            patience.wait();
        }
    }

    /// Runs `callback` after a grace period (`call_rcu`), on whichever thread notices: one that
    /// calls [`synchronize`](Self::synchronize), [`barrier`](Self::barrier) or
    /// [`run_callbacks`](Self::run_callbacks), or that drops the last clone of the domain.
    #[doc(alias = "call_rcu")]
    pub fn call(&self, callback: impl FnOnce() + Send + 'static) {
        self.inner.callbacks.push(self.start_poll(), Box::new(callback));
    }

    /// Runs the callbacks whose grace period has passed, and says how many that were. Moves the
    /// grace period along, but does not wait.
    pub fn run_callbacks(&self) -> usize {
        if let Some(newest) = self.inner.callbacks.newest() {
            self.advance(newest);
        }
        self.inner.callbacks.run(self.completed())
    }

    /// Waits until every callback that was queued before this call has run (`rcu_barrier`).
    /// Callbacks that another thread is running at the moment count as run.
    ///
    /// # Errors
    ///
    /// As [`synchronize`](Self::synchronize).
    #[doc(alias = "rcu_barrier")]
    pub fn barrier(&self) -> Result<(), SynchronizeError> {
        self.synchronize()
    }

    /// Numbers about the domain, of this moment.
    pub fn stats(&self) -> DomainStats {
        let (threads, reading) = self.inner.slots.count();
        DomainStats {
            barrier: self.inner.barrier,
            grace_periods: self.completed().0,
            threads,
            reading,
            callbacks: self.inner.callbacks.len(),
        }
    }
}

/// Waits longer the longer it takes: spins, then yields, then sleeps.
#[derive(Debug, Default)]
struct Patience {
    rounds: u32,
}

impl Patience {
    const SPINS: u32 = 64;
    #[cfg(not(loom))]
    const YIELDS: u32 = 256;

    fn wait(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds < Self::SPINS {
            pause();
            return;
        }
        #[cfg(not(loom))]
        if self.rounds >= Self::YIELDS {
            std::thread::sleep(std::time::Duration::from_micros(50));
            return;
        }
        crate::sync::thread::yield_now();
    }
}

/// Configures a [`Domain`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Builder {
    barrier: Option<BarrierKind>,
}

impl Builder {
    /// The kind of barrier; without it the cheapest that this system has.
    pub fn barrier(mut self, kind: BarrierKind) -> Self {
        self.barrier = Some(kind);
        self
    }

    /// The domain.
    ///
    /// # Errors
    ///
    /// [`UnsupportedBarrier`] when this system does not have the kind of barrier asked for.
    pub fn build(self) -> Result<Domain, UnsupportedBarrier> {
        let kind = self.barrier.unwrap_or_else(BarrierKind::best);
        if kind.is_supported() {
            Ok(Domain::with_barrier(kind))
        } else {
            Err(UnsupportedBarrier(kind))
        }
    }
}

/// This system does not have the kind of barrier that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedBarrier(pub BarrierKind);

impl fmt::Display for UnsupportedBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "barrier kind {} is not available on this system; {} is",
            self.0,
            BarrierKind::best()
        )
    }
}

impl std::error::Error for UnsupportedBarrier {}

/// Why a grace period can't be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SynchronizeError {
    /// The calling thread is inside a read section of the domain: it would wait for itself.
    InsideReadSection,
}

impl fmt::Display for SynchronizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsideReadSection => f.write_str(
                "waiting for a grace period inside a read section would never end: drop the \
                 guards of this thread first",
            ),
        }
    }
}

impl std::error::Error for SynchronizeError {}

/// What [`Domain::stats`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainStats {
    /// The barrier in force.
    pub barrier: BarrierKind,
    /// Grace periods that have passed.
    pub grace_periods: u64,
    /// Threads that have a slot.
    pub threads: usize,
    /// Threads inside a read section.
    pub reading: usize,
    /// Callbacks that have not run yet.
    pub callbacks: usize,
}
