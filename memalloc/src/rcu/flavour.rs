//! The grace periods of one flavour: cookies, waiting, callbacks.

use super::backoff::Backoff;
use super::barrier::Barrier;
use super::callback::{Callback, Callbacks};
use super::epoch::Epochs;
use super::slots::Slots;
use super::stall::{Reader, StallReport, StallWatch};
use super::{reader, sleepable};
use crate::sync::{Ordering, Tally};
use crate::sys::fork::Forking;
use crate::sys::membarrier::BarrierKind;
use crate::sys::thread;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

/// Readers that must not sleep, and that cost two stores: see [`Domain::pin`](super::Domain::pin).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rcu {}

/// Readers that may sleep and move to another thread: see
/// [`Domain::pin_trace`](super::Domain::pin_trace).
#[doc(alias = "rcu_tasks_trace")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TasksTrace {}

/// A flavour as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlavourKind {
    /// See [`Rcu`].
    Rcu,
    /// See [`TasksTrace`].
    TasksTrace,
}

impl fmt::Display for FlavourKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rcu => "RCU",
            Self::TasksTrace => "RCU tasks trace",
        })
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Rcu {}
    impl Sealed for super::TasksTrace {}
}

/// Which readers a grace period waits for.
pub trait Flavour:
    sealed::Sealed + Copy + Ord + std::hash::Hash + fmt::Debug + Send + Sync + 'static
{
    /// The flavour as a value.
    const KIND: FlavourKind;
}

impl Flavour for Rcu {
    const KIND: FlavourKind = FlavourKind::Rcu;
}

impl Flavour for TasksTrace {
    const KIND: FlavourKind = FlavourKind::TasksTrace;
}

/// Stands for "everything unlinked until now"; [`GracePeriods::poll`] says whether its grace
/// period has passed. A cookie is meant for the domain that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "a cookie is to be polled"]
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
/// Nothing needs a background thread: whoever asks moves a grace period along.
pub struct GracePeriods<F: Flavour> {
    barrier: Barrier,
    stall: StallWatch,
    epochs: Epochs,
    slots: Slots,
    callbacks: Callbacks,
    /// What had passed when a stall was reported by the way.
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

    #[inline(always)]
    pub(super) fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    #[inline(always)]
    pub(super) fn readers_barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// The kind that was asked for.
    pub(super) fn barrier_kind(&self) -> BarrierKind {
        self.barrier.kind()
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Brings to rest what a fork may not find half done.
    pub(super) fn before_fork(&self, fork: &Forking) {
        self.callbacks.before_fork(fork);
    }

    /// Lets it go on; in the child, without the threads that vanished.
    pub(super) fn after_fork(&self, fork: &Forking) {
        if let Some(survivor) = fork.survivor() {
            self.epochs.repair_after_fork(survivor);
            self.barrier.repair_after_fork();
            self.slots.repair_after_fork(
                survivor,
                match F::KIND {
                    FlavourKind::Rcu => reader::clear_of_dead_thread,
                    // The guard may have moved to the survivor.
                    FlavourKind::TasksTrace => sleepable::abandon,
                },
            );
        }
        self.callbacks.after_fork(fork);
    }

    /// A cookie for everything that was unlinked before this call
    /// (`start_poll_synchronize_rcu`). One atomic read-modify-write; async-signal-safe.
    #[doc(alias = "start_poll_synchronize_rcu")]
    pub fn start_poll(&self) -> Cookie<F> {
        Cookie::of(self.epochs.start_poll())
    }

    /// Whether the grace period of `cookie` has passed (`poll_state_synchronize_rcu`). One load;
    /// moves nothing along; async-signal-safe.
    #[doc(alias = "poll_state_synchronize_rcu")]
    #[must_use]
    pub fn poll(&self, cookie: Cookie<F>) -> bool {
        self.completed() >= cookie
    }

    /// The newest cookie whose grace period has passed.
    pub fn completed(&self) -> Cookie<F> {
        Cookie::of(self.epochs.completed())
    }

    /// Moves grace periods along as far as `cookie` needs and readers allow, without waiting,
    /// and says whether the cookie's has passed. Async-signal-safe.
    ///
    /// A cookie that can't be this domain's never passes.
    ///
    /// Costs a look at the slot of every reader that there is, and, where a grace period has to
    /// begin and other threads read, a barrier of the domain's kind.
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

    /// Ends the grace period that is under way, if there is one and readers allow. Costs no
    /// barrier.
    pub(crate) fn advance_begun(&self) {
        if self.epochs.is_under_way() {
            self.advance_once();
        }
    }

    /// Whether no reader holds what was unlinked before a SeqCst fence that the caller has executed:
    /// nobody is inside a section, as far as that can be told without a barrier.
    pub(super) fn nobody_is_inside(&self) -> bool {
        // The mode before the slots: a look that trusts a mode which has changed since would miss a
        // reader that does not fence. Falls to `loom_protocol` "slot before the mode".
        let fenced = self.barrier.is_fenced();
        let nobody = self.slots.nobody_is_inside(fenced);
        if nobody && self.barrier.note_look() {
            self.advance_once();
        }
        nobody
    }

    /// Whether a grace period would interrupt the other processors. A hint.
    pub(crate) fn costs_a_barrier(&self) -> bool {
        !self.barrier.is_fenced() && self.slots.others_may_read()
    }

    /// Whether the calling thread can't wait for a grace period: it is a reader itself, or was
    /// interrupted while it moved one along.
    pub(crate) fn would_wait_for_itself(&self) -> bool {
        self.slots.reading_here() || self.epochs.is_driven_here()
    }

    /// Whether a grace period waits for readers. A hint.
    pub(crate) fn is_under_way(&self) -> bool {
        self.epochs.is_under_way()
    }

    /// How long ago the newest grace period was begun.
    pub(crate) fn begun_ago(&self) -> Duration {
        self.epochs.begun_ago()
    }

    /// Waits until every read section that is open now has ended (`synchronize_rcu`,
    /// `synchronize_rcu_tasks_trace`), then runs the callbacks that are due. Sleeps while it
    /// waits for long.
    ///
    /// # Errors
    ///
    /// [`SynchronizeError::InsideReadSection`] when a section is open that the calling thread
    /// began: it might wait for itself. So it does, unnoticed, where it holds a guard that another
    /// thread made: see [`pin_trace`](super::Domain::pin_trace).
    #[doc(alias = "synchronize_rcu")]
    #[doc(alias = "synchronize_rcu_tasks_trace")]
    pub fn synchronize(&self) -> Result<(), SynchronizeError> {
        self.synchronize_within(None)
    }

    /// As [`synchronize`](Self::synchronize), but never sleeps: for those who would rather burn a
    /// processor than lose microseconds (`synchronize_rcu_expedited`).
    ///
    /// # Errors
    ///
    /// As [`synchronize`](Self::synchronize).
    #[doc(alias = "synchronize_rcu_expedited")]
    pub fn synchronize_expedited(&self) -> Result<(), SynchronizeError> {
        self.wait(Backoff::restless(), None)
    }

    /// As [`synchronize`](Self::synchronize), but gives up after `limit`.
    ///
    /// # Errors
    ///
    /// As [`synchronize`](Self::synchronize), and [`SynchronizeError::TimedOut`], which names a
    /// reader that is in the way.
    pub fn synchronize_timeout(&self, limit: Duration) -> Result<(), SynchronizeError> {
        self.synchronize_within(Some(limit))
    }

    /// The same, where there is a limit.
    pub(super) fn synchronize_within(
        &self,
        limit: Option<Duration>,
    ) -> Result<(), SynchronizeError> {
        self.wait(Backoff::default(), limit)
    }

    fn wait(&self, backoff: Backoff, limit: Option<Duration>) -> Result<(), SynchronizeError> {
        self.check_outside()?;
        self.wait_for(self.start_poll(), backoff, limit)?;
        self.callbacks.run(|| self.epochs.completed());
        Ok(())
    }

    /// Whether this thread may wait for a grace period.
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

    /// Waits until a grace period has passed, or as long as a stall takes, and runs no callbacks. For a
    /// thread that is outside of sections.
    pub(super) fn wait_no_longer_than_a_stall(&self) {
        let limit = Some(self.stall.after);
        // A reader that is still in the way is reported by the caller.
        let _ = self.wait_for(self.start_poll(), Backoff::default(), limit);
    }

    /// A reader that the grace period under way waits for, if there is one.
    pub fn held_up_by(&self) -> Option<Reader> {
        let thread = self.epochs.held_up_by(&self.slots)?;
        Some(Reader { thread, inside_for: self.epochs.begun_ago() })
    }

    /// Tells the stall handler who holds the grace period up.
    pub(crate) fn report_stall(&self) {
        if let (Some(handler), Some(reader)) = (&self.stall.handler, self.held_up_by()) {
            handler(&StallReport { flavour: F::KIND, reader });
        }
    }

    /// Ends what can be ended without waiting, runs the callbacks that are due, and reports a
    /// reader that stalls the grace period under way, once.
    #[cfg(not(loom))]
    pub(crate) fn tend(&self) {
        self.advance_begun();
        self.run_callbacks();
        self.report_new_stall();
    }

    /// How many times the length of a stall the grace period under way has taken, if one is.
    pub(super) fn stalls(&self) -> u64 {
        // Time stands still in a model, where no reader stalls.
        if cfg!(loom) || !self.epochs.is_under_way() {
            return 0;
        }
        let (taken, one) = (self.epochs.begun_ago().as_nanos(), self.stall.after.as_nanos());
        taken.checked_div(one).unwrap_or(taken).try_into().unwrap_or(u64::MAX)
    }

    /// Reports a reader that stalls the grace period under way, once for each of these.
    pub(super) fn report_new_stall(&self) {
        let age = self.epochs.completed();
        if self.stalls() > 0 && self.stall_reported.swap(age, Ordering::Relaxed) != age {
            self.report_stall();
        }
    }

    /// After how long a grace period counts as stalled.
    pub(crate) fn stalls_after(&self) -> Duration {
        self.stall.after
    }

    /// Runs `callback` after a grace period (`call_rcu`), on whichever thread notices: one that
    /// waits for a grace period or for callbacks, or that drops the last clone of the domain.
    ///
    /// Every 64th call moves grace periods along and runs what is due, so the caller must not hold
    /// a lock that an earlier callback needs. A callback may call this: what it queues runs behind it, not
    /// inside. It may own a clone of its domain: where callbacks have all clones that are left, the drop of
    /// the last other one runs those that are due then.
    #[doc(alias = "call_rcu")]
    #[doc(alias = "call_rcu_tasks_trace")]
    pub fn call(&self, callback: impl FnOnce() + Send + 'static) {
        self.queue(Callback::function(callback));
    }

    /// Calls `free` with `object` after a grace period, as [`call`](Self::call) does. Unlike it,
    /// allocates nothing but room in a queue.
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
        // SAFETY: the caller's promise; callbacks run after their grace period (INV-R2).
        self.queue(unsafe { Callback::object(object, free) });
    }

    fn queue(&self, callback: Callback) {
        if self.callbacks.push(|| self.epochs.start_poll(), callback) {
            self.advance_once();
            self.callbacks.run(|| self.epochs.completed());
        }
    }

    /// Runs the callbacks whose grace period has passed, and says how many that were. Moves the
    /// grace period along, but does not wait. A callback that panics keeps no other from being run; the
    /// panic goes on behind the last. Called by a callback it runs none: those that are due are run when
    /// that one has returned.
    pub fn run_callbacks(&self) -> usize {
        if let Some(newest) = self.callbacks.newest() {
            self.advance(Cookie::of(newest));
        }
        self.callbacks.run(|| self.epochs.completed())
    }

    /// Waits until every callback that was queued before this call has run, on whichever thread
    /// (`rcu_barrier`). Called by a callback, it does not wait for that one; two callbacks that
    /// call it on two threads wait for each other, for good.
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
            // Inside a callback nothing has been run yet.
            self.callbacks.run_nested(|| self.epochs.completed());
            backoff.wait();
        }
        Ok(())
    }

    /// How many callbacks wait, about.
    pub(super) fn callbacks_about(&self) -> u64 {
        self.callbacks.about_len()
    }

    /// Runs everything that was ever queued: no reader is left.
    pub(super) fn end(&self) {
        self.callbacks.run(|| u64::MAX);
    }

    /// Numbers about the flavour, of this moment.
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

/// Frees what `Box::into_raw` gave, for [`GracePeriods::retire`].
///
/// # Safety
///
/// `object` came from a `Box<T>`, which is given up here.
pub unsafe fn drop_box<T>(object: NonNull<u8>) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(object.cast::<T>().as_ptr()) });
}

/// Why a grace period can't be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SynchronizeError {
    /// A section is open that the calling thread began: it might wait for itself.
    InsideReadSection,
    /// The time given was not enough.
    TimedOut {
        /// A reader that is in the way.
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
                f.write_str("the grace period did not end in time: it is being moved along")
            }
        }
    }
}

impl std::error::Error for SynchronizeError {}

/// What [`GracePeriods::stats`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlavourStats {
    /// The barrier in force: [`BarrierKind::Membarrier`] or [`BarrierKind::Fence`].
    pub barrier: BarrierKind,
    /// How often an adaptive barrier has changed the kind in force.
    pub barrier_switches: u64,
    /// Grace periods that have passed.
    pub grace_periods: u64,
    /// Slots that belong to a thread or a guard.
    pub slots: usize,
    /// Slots that announce a read section.
    pub reading: usize,
    /// Callbacks that have not run yet.
    pub callbacks: usize,
}
