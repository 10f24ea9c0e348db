//! A domain of readers of both flavours: the public interface, except for the constructors in
//! `builder`, and for the read sections, which stand beside their guards in `reader` and
//! `sleepable`.

use super::flavour::{FlavourKind, Rcu, TasksTrace};
use super::grace_period::{Cookie, FlavourStats, GracePeriods, SynchronizeError};
use super::slots::{Announcement, Slot};
use super::stall::StallWatch;
use crate::first_panic::FirstPanic;
use crate::sys::fork::{AtFork, Forking, Registration};
use crate::sys::membarrier::BarrierKind;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

/// A set of readers and the grace periods that wait for them. Cheap to clone: clones are the same
/// domain, and any number of allocators and data structures may share it.
///
/// ```
/// use memalloc::rcu::Domain;
///
/// let domain = Domain::new();
/// let guard = domain.pin();
/// let cookie = domain.start_poll();
/// assert!(!domain.advance(cookie), "a reader is inside");
/// drop(guard);
/// domain.synchronize()?;
/// assert!(domain.poll(cookie), "every reader of that time has left");
/// # Ok::<(), memalloc::rcu::SynchronizeError>(())
/// ```
///
/// The methods here use the RCU flavour; [`trace`](Self::trace) returns the tasks-trace flavour.
#[derive(Clone)]
pub struct Domain {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// Unique among all domains that the process has had.
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

    /// Claims a slot of a flavour for the calling thread alone.
    pub(super) fn claim_slot(&self, flavour: FlavourKind) -> NonNull<Slot> {
        let slots = match flavour {
            FlavourKind::Rcu => self.rcu.slots(),
            FlavourKind::TasksTrace => self.trace.slots(),
        };
        slots.claim(NonNull::from(self).cast())
    }

    /// Returns the domain of a slot.
    ///
    /// # Safety
    ///
    /// The slot was claimed with [`claim_slot`](Self::claim_slot), and its domain outlives the
    /// returned reference.
    pub(super) unsafe fn of_slot<'d>(slot: &Announcement) -> &'d Self {
        // SAFETY: MEM-R7, and the caller's promise: the address is that of the domain.
        unsafe { &*slot.domain().cast::<Self>() }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        _ = self.registration.take();
        // Guards borrow the domain, so no reader is left to wait for.
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
    /// Runs the callbacks that are due if callbacks may own all other clones: later no thread could
    /// run them.
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

impl Domain {
    /// Waits until every RCU section that is open now has ended (`synchronize_rcu`), then runs the
    /// callbacks that are due. See [`GracePeriods::synchronize`].
    ///
    /// ```
    /// use memalloc::rcu::Domain;
    /// use std::sync::atomic::{AtomicPtr, Ordering};
    ///
    /// let (domain, shared) = (Domain::new(), AtomicPtr::new(Box::into_raw(Box::new(1))));
    /// let old = shared.swap(Box::into_raw(Box::new(2)), Ordering::AcqRel);
    /// domain.synchronize()?;
    /// // SAFETY: it was unlinked above, and every reader that may have found it has left.
    /// assert_eq!(*unsafe { Box::from_raw(old) }, 1);
    /// # // SAFETY: no other thread has it.
    /// # drop(unsafe { Box::from_raw(shared.into_inner()) });
    /// # Ok::<(), memalloc::rcu::SynchronizeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`GracePeriods::synchronize`].
    pub fn synchronize(&self) -> Result<(), SynchronizeError> {
        self.rcu().synchronize()
    }

    /// Runs `callback` after a grace period, on any thread that finds it due (`call_rcu`). See
    /// [`GracePeriods::call`].
    ///
    /// ```
    /// use memalloc::rcu::Domain;
    ///
    /// let (domain, unlinked) = (Domain::new(), "a value that readers may still read".to_owned());
    /// domain.call(move || drop(unlinked)); // Once their sections have ended.
    /// assert_eq!(domain.stats().callbacks, 1);
    /// domain.barrier()?; // Waits until it has run.
    /// assert_eq!(domain.stats().callbacks, 0);
    /// # Ok::<(), memalloc::rcu::SynchronizeError>(())
    /// ```
    pub fn call(&self, callback: impl FnOnce() + Send + 'static) {
        self.rcu().call(callback);
    }

    /// Calls `free` with `object` after a grace period. See [`GracePeriods::retire`].
    ///
    /// # Safety
    ///
    /// As [`GracePeriods::retire`].
    pub unsafe fn retire(&self, object: NonNull<u8>, free: unsafe fn(NonNull<u8>)) {
        // SAFETY: the caller's promise.
        unsafe { self.rcu().retire(object, free) };
    }

    /// Waits until every callback that was queued before this call has run (`rcu_barrier`). See
    /// [`GracePeriods::barrier`].
    ///
    /// ```
    /// use memalloc::rcu::Domain;
    /// use std::sync::Arc;
    ///
    /// let (domain, shared) = (Domain::new(), Arc::new(7));
    /// let unlinked = shared.clone();
    /// domain.call(move || drop(unlinked));
    /// domain.barrier()?;
    /// assert_eq!(Arc::into_inner(shared), Some(7), "the callback has dropped its clone");
    /// # Ok::<(), memalloc::rcu::SynchronizeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`GracePeriods::barrier`].
    pub fn barrier(&self) -> Result<(), SynchronizeError> {
        self.rcu().barrier()
    }

    /// Drives the grace period without waiting, runs the callbacks that are due, and returns their
    /// number. See [`GracePeriods::run_callbacks`].
    #[expect(clippy::must_use_candidate, reason = "called for its effect")]
    pub fn run_callbacks(&self) -> usize {
        self.rcu().run_callbacks()
    }

    /// Returns a cookie for everything that was unlinked before this call
    /// (`start_poll_synchronize_rcu`). See [`GracePeriods::start_poll`].
    pub fn start_poll(&self) -> Cookie {
        self.rcu().start_poll()
    }

    /// Returns whether the grace period of `cookie` has passed (`poll_state_synchronize_rcu`). See
    /// [`GracePeriods::poll`].
    #[must_use]
    pub fn poll(&self, cookie: Cookie) -> bool {
        self.rcu().poll(cookie)
    }

    /// Drives grace periods towards `cookie` without waiting, and returns whether its grace period
    /// has passed. See [`GracePeriods::advance`].
    #[expect(clippy::must_use_candidate, reason = "called for its effect")]
    pub fn advance(&self, cookie: Cookie) -> bool {
        self.rcu().advance(cookie)
    }

    /// The grace periods that wait for the readers of [`pin`](Self::pin).
    #[must_use]
    #[inline]
    pub fn rcu(&self) -> &GracePeriods<Rcu> {
        &self.inner.rcu
    }

    /// The grace periods that wait for the readers of [`pin_trace`](Self::pin_trace).
    #[must_use]
    #[inline]
    pub fn trace(&self) -> &GracePeriods<TasksTrace> {
        &self.inner.trace
    }

    /// The kind of barrier between RCU readers and grace periods that the domain was built with.
    /// [`stats`](Self::stats) reports the kind in force. The tasks-trace flavour always uses
    /// [`BarrierKind::Fence`].
    #[must_use]
    pub fn barrier_kind(&self) -> BarrierKind {
        self.inner.rcu.barrier_kind()
    }

    /// Returns the statistics of the RCU flavour. See [`GracePeriods::stats`].
    #[must_use]
    pub fn stats(&self) -> FlavourStats {
        self.rcu().stats()
    }
}

impl Domain {
    pub(super) fn configured(barrier: BarrierKind, stall: StallWatch) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        // Names a domain. Orders nothing, so loom need not see it.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let inner = Arc::new(Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            rcu: GracePeriods::new(barrier, stall.clone()),
            // Readers that may sleep gain nothing from `membarrier`: their guards cost more than a
            // fence anyway.
            trace: GracePeriods::new(BarrierKind::Fence, stall),
            registration: OnceLock::new(),
        });
        // SAFETY: the `Arc` keeps the value at its place, and the registration ends when the drop
        // of the value begins.
        inner.registration.get_or_init(|| unsafe { Registration::new(&inner) });
        Self { inner }
    }

    #[inline(always)]
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Drives the grace periods of both flavours as far as readers allow, and runs the callbacks
    /// that are due.
    pub(crate) fn run_all_callbacks(&self) {
        self.rcu().run_callbacks();
        self.trace().run_callbacks();
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Domain>();
};
