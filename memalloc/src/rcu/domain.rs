//! The public face: a domain of readers of both flavours.

use super::flavour::{Cookie, FlavourStats, GracePeriods, Rcu, SynchronizeError, TasksTrace};
use super::reader::{Guard, LocalReader};
use super::sleepable::{OwnedTraceGuard, TraceGuard};
use super::stall::{StallReport, StallWatch};
use crate::first_panic::FirstPanic;
use crate::sys::fork::{AtFork, Forking, Registration};
use crate::sys::membarrier::BarrierKind;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A set of readers and the grace periods that wait for them. Cheap to clone: clones are the
/// same domain, and any number of allocators and structures may share it.
///
/// The methods here are those of its RCU flavour; [`trace`](Self::trace) has the other's.
#[derive(Clone)]
pub struct Domain {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// Never used again for another domain of this process.
    id: u64,
    rcu: GracePeriods<Rcu>,
    trace: GracePeriods<TasksTrace>,
    registration: OnceLock<Registration>,
}

impl AtFork for Inner {
    fn before(&self, fork: &Forking) {
        self.rcu.before_fork(fork);
        self.trace.before_fork(fork);
    }

    fn after(&self, fork: &Forking) {
        self.trace.after_fork(fork);
        self.rcu.after_fork(fork);
    }
}

impl Inner {
    #[inline(always)]
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    #[inline(always)]
    pub(super) fn rcu(&self) -> &GracePeriods<Rcu> {
        &self.rcu
    }

    #[inline(always)]
    pub(super) fn trace(&self) -> &GracePeriods<TasksTrace> {
        &self.trace
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        _ = self.registration.take();
        // Guards borrow the domain, so there is no reader left to wait for.
        let mut panics = FirstPanic::default();
        // A callback of one flavour may have queued one of the other.
        while self.rcu.stats().callbacks + self.trace.stats().callbacks > 0 {
            panics.catch(|| self.rcu.end());
            panics.catch(|| self.trace.end());
        }
        panics.go_on();
    }
}

impl Drop for Domain {
    /// Callbacks may have the only clones that are left: then nobody would run them any more.
    fn drop(&mut self) {
        let callbacks = self.rcu().callbacks_about() + self.trace().callbacks_about();
        let others = Arc::strong_count(&self.inner) as u64 - 1;
        if (1..=callbacks).contains(&others) && !std::thread::panicking() {
            self.run_all_callbacks();
        }
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("barrier", &self.barrier_kind()).finish_non_exhaustive()
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self::new()
    }
}

impl Domain {
    /// A domain of its own, with the barrier that [`BarrierKind::best`] says.
    pub fn new() -> Self {
        Self::configured(BarrierKind::best(), StallWatch::default())
    }

    /// A domain that is configured step by step.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The domain of the process: what allocators and structures use that were given no other.
    #[cfg(not(loom))]
    pub fn global() -> &'static Self {
        // None waits for another thread's, which may have vanished in a fork.
        static GLOBAL: once_cell::race::OnceBox<Domain> = once_cell::race::OnceBox::new();
        GLOBAL.get_or_init(|| Box::new(Self::new()))
    }

    fn configured(barrier: BarrierKind, stall: StallWatch) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        // Names a domain; orders nothing, so loom need not see it.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let inner = Arc::new(Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            rcu: GracePeriods::new(barrier, stall.clone()),
            // Readers that may sleep gain nothing from `membarrier`: their guards cost more than a
            // fence anyway.
            trace: GracePeriods::new(BarrierKind::Fence, stall),
            registration: OnceLock::new(),
        });
        // SAFETY: the place is the `Arc`'s, and the registration ends when the drop of what is
        // there begins.
        inner.registration.get_or_init(|| unsafe { Registration::new(&inner) });
        Self { inner }
    }

    #[inline(always)]
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The kind of barrier between RCU readers and grace periods that the domain was built with.
    /// [`stats`](Self::stats) tells which one is in force. The tasks-trace flavour always takes
    /// [`BarrierKind::Fence`].
    pub fn barrier_kind(&self) -> BarrierKind {
        self.inner.rcu.barrier_kind()
    }

    /// The grace periods that wait for the readers of [`pin`](Self::pin).
    #[inline]
    pub fn rcu(&self) -> &GracePeriods<Rcu> {
        &self.inner.rcu
    }

    /// The grace periods that wait for the readers of [`pin_trace`](Self::pin_trace).
    #[inline]
    pub fn trace(&self) -> &GracePeriods<TasksTrace> {
        &self.inner.trace
    }

    /// Begins a read section (`rcu_read_lock`); it ends when the guard is dropped.
    ///
    /// Two stores to memory of this thread, and a compiler fence (or a SeqCst fence, as
    /// [`BarrierKind`] says). The first use of a domain by a thread allocates a slot (see
    /// [`register`](Self::register)); after it, while the thread uses no other domain, it is
    /// async-signal-safe.
    ///
    /// The drop of the guard waits where the thread has freed more inside the section than
    /// [`max_pending`](crate::Builder::max_pending) allows.
    ///
    /// # Panics
    ///
    /// When 2^29 guards of the thread exist already: so many have been forgotten.
    #[doc(alias = "rcu_read_lock")]
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        Guard::enter(self)
    }

    /// A slot of its own for a loop that reads all the time; see [`LocalReader`].
    pub fn local(&self) -> LocalReader<'_> {
        LocalReader::new(self)
    }

    /// Begins a read section that may sleep, and end on another thread
    /// (`rcu_read_lock_trace`).
    ///
    /// Costs what [`pin`](Self::pin) does, for the one section that a thread began and that is
    /// open; each further one claims a slot of its own, with an atomic exchange. Not
    /// async-signal-safe.
    ///
    /// A section counts as that of the thread that began it, wherever its guard is: that thread is
    /// told when it would wait for it ([`SynchronizeError::InsideReadSection`]). A thread that
    /// holds a guard that was made elsewhere is not told, and waits for itself for good: a task
    /// must not hold one across a call that waits for this flavour (`synchronize`, `barrier`, or
    /// the `quiesce` and `destroy` of an allocator whose policy waits for it), whatever
    /// thread it is resumed on. Where that can't be ruled out, there are
    /// [`synchronize_timeout`](GracePeriods::synchronize_timeout) and its likes.
    ///
    /// ```
    /// use memalloc::rcu::{Domain, SynchronizeError};
    /// use std::time::Duration;
    ///
    /// let domain = Domain::new();
    /// let guard = domain.pin_trace();
    /// std::thread::scope(|scope| {
    ///     // Another thread waits for it,
    ///     let waiting = scope.spawn(|| domain.trace().synchronize_timeout(Duration::from_millis(1)));
    ///     assert!(matches!(waiting.join(), Ok(Err(SynchronizeError::TimedOut { .. }))));
    ///     // and another may end it.
    ///     scope.spawn(move || drop(guard));
    /// });
    /// domain.trace().synchronize()?;
    /// # Ok::<(), SynchronizeError>(())
    /// ```
    #[doc(alias = "rcu_read_lock_trace")]
    #[inline]
    pub fn pin_trace(&self) -> TraceGuard<'_> {
        TraceGuard::enter(self)
    }

    /// As [`pin_trace`](Self::pin_trace), with a guard that keeps the domain alive: for tasks that
    /// have to be `'static`. One atomic increment more.
    pub fn pin_trace_owned(&self) -> OwnedTraceGuard {
        OwnedTraceGuard::enter(self)
    }

    /// Gives the calling thread its slot for [`pin`](Self::pin), so that a signal handler on this
    /// thread may pin this domain too, if the thread uses no other: a handler that pins one domain
    /// while the thread is about to pin another could lead it to the wrong slot. Also done by the
    /// first section. A grace period of a domain in which no other thread has a slot needs no
    /// barrier: do not register threads that never read.
    pub fn register(&self) {
        drop(self.pin());
    }

    /// See [`GracePeriods::start_poll`].
    pub fn start_poll(&self) -> Cookie {
        self.rcu().start_poll()
    }

    /// See [`GracePeriods::poll`].
    #[must_use]
    pub fn poll(&self, cookie: Cookie) -> bool {
        self.rcu().poll(cookie)
    }

    /// See [`GracePeriods::advance`].
    pub fn advance(&self, cookie: Cookie) -> bool {
        self.rcu().advance(cookie)
    }

    /// See [`GracePeriods::synchronize`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn synchronize(&self) -> Result<(), SynchronizeError> {
        self.rcu().synchronize()
    }

    /// See [`GracePeriods::call`].
    pub fn call(&self, callback: impl FnOnce() + Send + 'static) {
        self.rcu().call(callback);
    }

    /// See [`GracePeriods::retire`].
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn retire(&self, object: NonNull<u8>, free: unsafe fn(NonNull<u8>)) {
        // SAFETY: the caller's promise.
        unsafe { self.rcu().retire(object, free) };
    }

    /// See [`GracePeriods::run_callbacks`].
    pub fn run_callbacks(&self) -> usize {
        self.rcu().run_callbacks()
    }

    /// See [`GracePeriods::barrier`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn barrier(&self) -> Result<(), SynchronizeError> {
        self.rcu().barrier()
    }

    /// See [`GracePeriods::stats`].
    pub fn stats(&self) -> FlavourStats {
        self.rcu().stats()
    }
}

/// Configures a [`Domain`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    barrier: Option<BarrierKind>,
    stall: StallWatch,
}

impl Builder {
    /// The kind of barrier of RCU readers; without it [`BarrierKind::best`].
    pub fn barrier(mut self, kind: BarrierKind) -> Self {
        self.barrier = Some(kind);
        self
    }

    /// After how long a grace period counts as stalled; without it one second. So long, at most,
    /// a free waits for room behind a reader (see `max_pending` of the allocator's builder).
    pub fn stall_after(mut self, time: Duration) -> Self {
        self.stall.after = time;
        self
    }

    /// Who is told about a stalled grace period, by the thread that waits for it, with nothing
    /// locked. Without it nobody is. Where signal handlers free deferred objects it may run in one,
    /// and has to be async-signal-safe.
    pub fn stall_handler(mut self, handler: impl Fn(&StallReport) + Send + Sync + 'static) -> Self {
        self.stall.handler = Some(Arc::new(handler));
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
            Ok(Domain::configured(kind, self.stall))
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

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Domain>();
    shared::<TraceGuard<'static>>();
    shared::<OwnedTraceGuard>();
};
