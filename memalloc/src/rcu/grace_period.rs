//! The grace periods of one flavour: cookies, waiting, callbacks.

use super::backoff::Backoff;
use super::barrier::Barrier;
use super::callback::{Callback, Callbacks};
use super::epoch::Epochs;
use super::flavour::{Flavour, Rcu};
use super::slots::{Announcement, Slots};
use super::stall::{Reader, StallReport, StallWatch};
use crate::sync::{Ordering, Tally};
use crate::sys::fork::Forking;
use crate::sys::membarrier::BarrierKind;
use crate::sys::thread;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

/// Stands for everything that was unlinked before it was taken. [`GracePeriods::poll`] tells
/// whether its grace period has passed. A cookie is valid for the domain that returned it only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "a cookie does nothing unless it is polled"]
pub struct Cookie<F: Flavour = Rcu> {
    epoch: u64,
    flavour: PhantomData<fn() -> F>,
}

impl<F: Flavour> Cookie<F> {
    pub(super) const fn of(epoch: u64) -> Self {
        Self { epoch, flavour: PhantomData }
    }

    pub(super) const fn epoch(self) -> u64 {
        self.epoch
    }
}

/// The grace periods of one flavour of a [`Domain`](super::Domain).
///
/// No background thread is needed: the threads that ask for a grace period drive it.
pub struct GracePeriods<F: Flavour> {
    barrier: Barrier,
    stall: StallWatch,
    epochs: Epochs,
    slots: Slots,
    callbacks: Callbacks,
    /// The newest cookie that had passed when `report_new_stall` last reported.
    stall_reported: Tally,
    flavour: PhantomData<fn() -> F>,
}

impl<F: Flavour> fmt::Debug for GracePeriods<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GracePeriods").field("flavour", &F::KIND).finish_non_exhaustive()
    }
}

impl<F: Flavour> GracePeriods<F> {
    pub(super) fn new(barrier: BarrierKind, stall: StallWatch) -> Self {
        Self {
            barrier: Barrier::new(barrier),
            stall,
            epochs: Epochs::new(),
            slots: Slots::new(),
            callbacks: Callbacks::default(),
            stall_reported: Tally::new(u64::MAX),
            flavour: PhantomData,
        }
    }

    /// Announces a section in a slot that shows none. Only the owner calls it.
    #[inline(always)]
    pub(super) fn announce(&self, slot: &Announcement) {
        slot.announce(self.epochs.current(), &self.barrier);
    }

    /// The requested kind of barrier.
    pub(super) fn barrier_kind(&self) -> BarrierKind {
        self.barrier.kind()
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Locks what a fork must not find half changed.
    pub(super) fn before_fork(&self, fork: &Forking) {
        self.callbacks.before_fork(fork);
    }

    /// Unlocks it. In the child, first repairs what vanished threads left behind.
    pub(super) fn after_fork(&self, fork: &Forking) {
        if let Some(survivor) = fork.survivor() {
            self.epochs.repair_after_fork(survivor);
            self.barrier.repair_after_fork();
            self.slots.repair_after_fork(F::KIND, survivor);
        }
        self.callbacks.after_fork(fork);
    }

    /// Returns a cookie for everything that was unlinked before this call
    /// (`start_poll_synchronize_rcu`). One atomic read-modify-write; async-signal-safe.
    #[doc(alias = "start_poll_synchronize_rcu")]
    pub fn start_poll(&self) -> Cookie<F> {
        Cookie::of(self.epochs.start_poll())
    }

    /// Returns whether the grace period of `cookie` has passed (`poll_state_synchronize_rcu`). One
    /// load, which drives no grace period; async-signal-safe.
    #[doc(alias = "poll_state_synchronize_rcu")]
    #[must_use]
    pub fn poll(&self, cookie: Cookie<F>) -> bool {
        self.completed() >= cookie
    }

    /// Returns the newest cookie whose grace period has passed.
    pub fn completed(&self) -> Cookie<F> {
        Cookie::of(self.epochs.completed())
    }

    /// Drives grace periods as far as `cookie` needs and readers allow, without waiting. Returns
    /// whether the grace period of `cookie` has passed. Async-signal-safe.
    ///
    /// A cookie that cannot be of this domain never passes.
    ///
    /// Costs a load of every claimed slot and, if a grace period has to begin and other threads
    /// read, a barrier of the domain's kind.
    pub fn advance(&self, cookie: Cookie<F>) -> bool {
        self.epochs.is_known(cookie.epoch()) && self.drive(cookie)
    }

    fn drive(&self, cookie: Cookie<F>) -> bool {
        self.epochs.drive(cookie.epoch(), &self.slots, &self.barrier)
    }

    /// Begins a grace period if none is under way, and ends it if readers allow.
    pub(crate) fn advance_once(&self) {
        self.drive(Cookie::of(self.epochs.completed() + 1));
    }

    /// Ends the grace period under way, if there is one and readers allow. Normally begins none,
    /// and so needs no barrier.
    pub(crate) fn advance_begun(&self) {
        if self.epochs.is_under_way() {
            self.advance_once();
        }
    }

    /// Returns whether no reader holds an object that was unlinked before a SeqCst fence that the
    /// caller has executed. Returns `false` if that cannot be told without a barrier.
    pub(super) fn nobody_is_inside(&self) -> bool {
        // The mode before the slots: if the mode became `FENCED` after a look at the slots, that
        // look could have missed a reader that did not fence. Falls to `loom_protocol`
        // "slot before the mode".
        let fenced = self.barrier.is_fenced();
        let nobody = self.slots.nobody_is_inside(fenced);
        if nobody && self.barrier.note_look() {
            self.advance_once();
        }
        nobody
    }

    /// Returns whether the start of a grace period would interrupt other processors. A hint.
    pub(crate) fn costs_a_barrier(&self) -> bool {
        !self.barrier.is_fenced() && self.slots.others_may_read()
    }

    /// Returns whether the calling thread cannot wait for a grace period: it is inside a section,
    /// or was interrupted while it drove a grace period.
    pub(crate) fn would_wait_for_itself(&self) -> bool {
        self.slots.reading_here() || self.epochs.is_driven_here()
    }

    /// Returns whether a grace period waits for readers. A hint.
    pub(crate) fn is_under_way(&self) -> bool {
        self.epochs.is_under_way()
    }

    /// The time since the newest grace period began.
    pub(crate) fn begun_ago(&self) -> Duration {
        self.epochs.begun_ago()
    }

    /// Waits until every read section that is open now has ended (`synchronize_rcu`,
    /// `synchronize_rcu_tasks_trace`), then runs the callbacks that are due. Spins at first, then
    /// sleeps.
    ///
    /// # Errors
    ///
    /// [`SynchronizeError::InsideReadSection`] if the calling thread began a section that is still
    /// open: it might wait for itself. A thread that holds a guard from another thread gets no
    /// error and waits for itself forever: see [`pin_trace`](super::Domain::pin_trace).
    #[doc(alias = "synchronize_rcu")]
    #[doc(alias = "synchronize_rcu_tasks_trace")]
    pub fn synchronize(&self) -> Result<(), SynchronizeError> {
        self.synchronize_within(None)
    }

    /// Waits until every read section that is open now has ended, and sleeps only after a thousand
    /// checks: it keeps a processor busy to save microseconds (`synchronize_rcu_expedited`).
    /// Otherwise like [`synchronize`](Self::synchronize).
    ///
    /// # Errors
    ///
    /// As [`synchronize`](Self::synchronize).
    #[doc(alias = "synchronize_rcu_expedited")]
    pub fn synchronize_expedited(&self) -> Result<(), SynchronizeError> {
        self.wait(Backoff::restless(), None)
    }

    /// Waits until every read section that is open now has ended, and gives up after `limit`.
    /// Otherwise like [`synchronize`](Self::synchronize).
    ///
    /// # Errors
    ///
    /// As [`synchronize`](Self::synchronize), and [`SynchronizeError::TimedOut`], which names a
    /// reader that holds the grace period up.
    pub fn synchronize_timeout(&self, limit: Duration) -> Result<(), SynchronizeError> {
        self.synchronize_within(Some(limit))
    }

    /// Waits until every read section that is open now has ended, for at most `limit`, if there is
    /// one.
    pub(super) fn synchronize_within(
        &self,
        limit: Option<Duration>,
    ) -> Result<(), SynchronizeError> {
        self.wait(Backoff::default(), limit)
    }

    fn wait(&self, backoff: Backoff, limit: Option<Duration>) -> Result<(), SynchronizeError> {
        self.wait_quietly(backoff, limit)?;
        self.run_passed_callbacks();
        Ok(())
    }

    /// Waits as [`synchronize`](Self::synchronize), and runs no callbacks.
    pub(super) fn wait_quietly(
        &self,
        backoff: Backoff,
        limit: Option<Duration>,
    ) -> Result<(), SynchronizeError> {
        self.check_outside()?;
        self.wait_for(self.start_poll(), backoff, limit)
    }

    /// Runs the callbacks whose grace period has passed.
    pub(super) fn run_passed_callbacks(&self) {
        self.callbacks.run(|| self.epochs.completed());
    }

    /// Returns an error if the calling thread is inside a section, and so must not wait for a grace
    /// period.
    pub(crate) fn check_outside(&self) -> Result<(), SynchronizeError> {
        if self.slots.reading_here() {
            return Err(SynchronizeError::InsideReadSection);
        }
        Ok(())
    }

    fn wait_for(
        &self,
        cookie: Cookie<F>,
        mut backoff: Backoff,
        limit: Option<Duration>,
    ) -> Result<(), SynchronizeError> {
        let start = thread::clock();
        let mut next_report = self.stall.after;
        while !self.drive(cookie) {
            let waited = thread::clock().saturating_sub(start);
            if limit.is_some_and(|limit| waited >= limit) {
                return Err(SynchronizeError::TimedOut { reader: self.held_up_by() });
            }
            if waited >= next_report {
                next_report = waited + self.stall.after;
                self.report_stall();
            }
            backoff.wait();
        }
        Ok(())
    }

    /// Waits until a grace period has passed, for at most the stall time (`stall_after`), and runs
    /// no callbacks. The calling thread must be outside of sections.
    pub(super) fn wait_no_longer_than_a_stall(&self) {
        let limit = Some(self.stall.after);
        // The caller reports a reader that still holds the grace period up.
        let _ = self.wait_for(self.start_poll(), Backoff::default(), limit);
    }

    /// Returns a reader that the grace period under way waits for, if there is one.
    #[must_use]
    pub fn held_up_by(&self) -> Option<Reader> {
        let thread = self.epochs.held_up_by(&self.slots)?;
        Some(Reader { thread, inside_for: self.epochs.begun_ago() })
    }

    /// Tells the stall handler about a reader that holds the grace period up.
    pub(crate) fn report_stall(&self) {
        if let (Some(handler), Some(reader)) = (&self.stall.handler, self.held_up_by()) {
            handler(&StallReport { flavour: F::KIND, reader });
        }
    }

    /// Ends the grace period under way if readers allow, runs the callbacks that are due, and
    /// reports a reader that stalls the grace period, once for each grace period.
    #[cfg(not(loom))]
    pub(crate) fn tend(&self) {
        self.advance_begun();
        self.run_callbacks();
        self.report_new_stall();
    }

    /// The time that the grace period under way has taken, in whole stall times (`stall_after`); 0
    /// if none is under way.
    pub(super) fn stalls(&self) -> u64 {
        // The clock stands still in a model, where no reader stalls.
        if cfg!(loom) || !self.epochs.is_under_way() {
            return 0;
        }
        let (taken, one) = (self.epochs.begun_ago().as_nanos(), self.stall.after.as_nanos());
        taken.checked_div(one).unwrap_or(taken).try_into().unwrap_or(u64::MAX)
    }

    /// Reports a reader that stalls the grace period under way, once for each grace period.
    pub(super) fn report_new_stall(&self) {
        let age = self.epochs.completed();
        if self.stalls() > 0 && self.stall_reported.swap(age, Ordering::Relaxed) != age {
            self.report_stall();
        }
    }

    /// The time after which a grace period counts as stalled.
    pub(crate) fn stalls_after(&self) -> Duration {
        self.stall.after
    }

    /// Runs `callback` after a grace period (`call_rcu`). It runs on any thread that finds it due:
    /// one that waits for a grace period or for callbacks, or that drops the last clone of the
    /// domain.
    ///
    /// Every 64th call drives the grace period and runs the callbacks that are due, so the caller
    /// must not hold a lock that an earlier callback needs. A callback may call this: the callback
    /// that it queues runs after it, not inside it. A callback may own a clone of its domain: if
    /// callbacks own all clones that are left, the drop of the last other clone runs the callbacks
    /// that are due then.
    #[doc(alias = "call_rcu")]
    #[doc(alias = "call_rcu_tasks_trace")]
    pub fn call(&self, callback: impl FnOnce() + Send + 'static) {
        self.queue(Callback::function(callback));
    }

    /// Calls `free` with `object` after a grace period, as [`call`](Self::call) does, but allocates
    /// nothing except room in a queue.
    ///
    /// ```
    /// use memalloc::rcu::{Domain, drop_box};
    /// use std::ptr::NonNull;
    ///
    /// let domain = Domain::new();
    /// let unlinked = NonNull::from(Box::leak(Box::new(7)));
    /// // SAFETY: no reader can find it any more, and it came from a box.
    /// unsafe { domain.rcu().retire(unlinked.cast(), drop_box::<i32>) };
    /// domain.rcu().barrier()?;
    /// # Ok::<(), memalloc::rcu::SynchronizeError>(())
    /// ```
    ///
    /// # Safety
    ///
    /// Once every section that is open now has ended, `free(object)` must be sound on any thread.
    pub unsafe fn retire(&self, object: NonNull<u8>, free: unsafe fn(NonNull<u8>)) {
        // SAFETY: the caller's promise; callbacks run after their grace period (MEM-R2).
        self.queue(unsafe { Callback::object(object, free) });
    }

    fn queue(&self, callback: Callback) {
        if self.callbacks.push(|| self.epochs.start_poll(), callback) {
            self.advance_once();
            self.callbacks.run(|| self.epochs.completed());
        }
    }

    /// Drives the grace period without waiting, runs the callbacks whose grace period has passed,
    /// and returns their number. A callback that panics does not keep the others from running; the
    /// panic goes on after the last. Called by a callback, this runs none: the callbacks that are
    /// due run when that one has returned.
    pub fn run_callbacks(&self) -> usize {
        if let Some(newest) = self.callbacks.newest() {
            self.advance(Cookie::of(newest));
        }
        self.callbacks.run(|| self.epochs.completed())
    }

    /// Waits until every callback that was queued before this call has run, on whichever thread
    /// (`rcu_barrier`). Called by a callback, it does not wait for that callback. Two callbacks
    /// that call it on two threads wait for each other forever.
    ///
    /// # Errors
    ///
    /// As [`synchronize`](Self::synchronize).
    #[doc(alias = "rcu_barrier")]
    #[doc(alias = "rcu_barrier_tasks_trace")]
    pub fn barrier(&self) -> Result<(), SynchronizeError> {
        let queued = self.callbacks.queued();
        self.synchronize()?;
        let mut backoff = Backoff::default();
        while self.callbacks.runs_elsewhere(queued) {
            // Inside a callback, `synchronize` has run none.
            self.callbacks.run_nested(|| self.epochs.completed());
            backoff.wait();
        }
        Ok(())
    }

    /// The approximate number of pending callbacks.
    pub(super) fn callbacks_about(&self) -> u64 {
        self.callbacks.about_len()
    }

    /// Runs every pending callback. No reader is left.
    pub(super) fn end(&self) {
        self.callbacks.run(|| u64::MAX);
    }

    /// Returns statistics about the flavour, as of now.
    #[must_use]
    pub fn stats(&self) -> FlavourStats {
        let (slots, reading) = self.slots.count();
        FlavourStats {
            barrier: self.barrier.in_force(),
            barrier_switches: self.barrier.switches(),
            grace_periods: self.epochs.completed(),
            slots,
            reading,
            callbacks: self.callbacks.len(),
        }
    }
}

/// Frees a pointer from `Box::into_raw`, for [`GracePeriods::retire`].
///
/// # Safety
///
/// `object` must come from a `Box<T>`. This call takes ownership of it.
pub unsafe fn drop_box<T>(object: NonNull<u8>) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(object.cast::<T>().as_ptr()) });
}

/// The reason why a grace period cannot be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SynchronizeError {
    /// The calling thread began a section that is still open: it might wait for itself.
    InsideReadSection,
    /// The time limit has passed.
    TimedOut {
        /// A reader that holds the grace period up, if there is one.
        reader: Option<Reader>,
    },
}

impl fmt::Display for SynchronizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsideReadSection => f.write_str(
                "waiting for a grace period inside a read section would never end: drop the \
                 guards of this thread first",
            ),
            Self::TimedOut { reader: Some(reader) } => {
                write!(f, "the grace period did not end in time: {reader}")
            }
            Self::TimedOut { reader: None } => {
                f.write_str("the grace period did not end in time, but no reader holds it up now")
            }
        }
    }
}

impl std::error::Error for SynchronizeError {}

/// Statistics from [`GracePeriods::stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlavourStats {
    /// The barrier in force: [`BarrierKind::Membarrier`] or [`BarrierKind::Fence`].
    pub barrier: BarrierKind,
    /// The number of times an adaptive barrier changed the kind in force.
    pub barrier_switches: u64,
    /// The number of grace periods that have passed.
    pub grace_periods: u64,
    /// The number of slots that belong to a thread or a guard.
    pub slots: usize,
    /// The number of slots that announce a read section.
    pub reading: usize,
    /// The number of callbacks that have not run yet.
    pub callbacks: usize,
}

/// One line: `barrier membarrier (0 switches), 3 grace periods passed, 2 slots (1 in a section), 0
/// callbacks pending`.
impl fmt::Display for FlavourStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { barrier, barrier_switches, grace_periods, slots, reading, callbacks } = self;
        write!(
            f,
            "barrier {barrier} ({barrier_switches} switches), {grace_periods} grace periods passed, \
             {slots} slots ({reading} in a section), {callbacks} callbacks pending"
        )
    }
}
