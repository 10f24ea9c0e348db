//! Readers that may sleep (the kernel's RCU tasks trace): a guard that can be held across blocking
//! calls and `.await`, and dropped on another thread.
//!
//! A thread announces its first open section in its own slot, and claims a slot for each further
//! open section. The thread that drops the guard ends the section.

use super::domain::{Domain, Inner};
use super::flavour::FlavourKind;
use super::handover;
use super::slots::{Announcement, Slot};
use super::stamp::WaitFor;
use super::thread_slots;
use crate::recording::{Flavour, Section};
use crate::sync::Ordering;
use crate::sys::thread;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// An open read section that may sleep (`rcu_read_lock_trace`). Under
/// [`AfterTasksTraceGp`](crate::AfterTasksTraceGp), objects that were found inside it stay until
/// the guard is dropped.
///
/// The guard may be held across blocking calls and `.await`, and dropped on any thread. Under
/// [`Immediate`](crate::Immediate) and [`AfterRcuGp`](crate::AfterRcuGp) it protects memory and
/// type, not identity: objects freed meanwhile may be reused, but do not go back to their slabs.
/// Under [`FreeAfterRcuGp`](crate::FreeAfterRcuGp) it protects nothing.
#[doc(alias = "rcu_read_lock_trace")]
#[must_use = "the read section ends when the guard is dropped"]
pub struct TraceGuard<'d> {
    slot: NonNull<Slot>,
    /// True if the slot was claimed for this guard alone.
    own_slot: bool,
    /// For a recording: the duration of the section.
    section: Section,
    _domain: PhantomData<&'d Domain>,
}

// SAFETY: the section is a number in a slot, which any thread may reset (MEM-R5), and the slot
// lives as long as the domain (MEM-R3).
unsafe impl Send for TraceGuard<'_> {}
// SAFETY: a shared guard allows no operation.
unsafe impl Sync for TraceGuard<'_> {}

impl fmt::Debug for TraceGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceGuard").finish_non_exhaustive()
    }
}

impl<'d> TraceGuard<'d> {
    #[inline]
    pub(super) fn enter(domain: &'d Domain) -> Self {
        let inner = domain.inner();
        let (mut slot, mut own_slot) = match thread_slots::cached(FlavourKind::TasksTrace, inner) {
            Some(slot) => (slot, false),
            None => thread_slots::find(FlavourKind::TasksTrace, inner),
        };
        // SAFETY: MEM-R3: the slot lives as long as the domain that `'d` borrows.
        let mut place = unsafe { slot.as_ref() };
        // ORDERING: Acquire pairs with the Release of `clear` or of `end_elsewhere` on another
        // thread: our announcement of a newer epoch is proof that that section has ended too. Falls
        // to `loom` `a_section_that_ended_elsewhere_is_vouched_for`.
        if place.epoch.load(Ordering::Acquire) != 0 {
            (slot, own_slot) = (inner.claim_slot(FlavourKind::TasksTrace), true);
            // SAFETY: as above.
            place = unsafe { slot.as_ref() };
        }
        inner.trace().announce(place);
        Self { slot, own_slot, section: Section::begin(), _domain: PhantomData }
    }

    /// Returns true if this guard is of `domain`.
    ///
    /// Costs one comparison if the calling thread used the domain last and the section is in its
    /// own slot; else a scan of the domain's slots.
    ///
    /// ```
    /// use memalloc::rcu::Domain;
    ///
    /// let (domain, other) = (Domain::new(), Domain::new());
    /// let guard = domain.pin_trace();
    /// assert!(guard.is_of(&domain) && !guard.is_of(&other));
    /// ```
    #[must_use]
    #[inline]
    pub fn is_of(&self, domain: &Domain) -> bool {
        let inner = domain.inner();
        thread_slots::cached(FlavourKind::TasksTrace, inner) == Some(self.slot)
            || inner.trace().slots().have(self.slot)
    }
}

impl Drop for TraceGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.section.end(Flavour::Trace);
        // SAFETY: MEM-R3: `self` borrows the domain, so the slot lives.
        let slot = unsafe { self.slot.as_ref() };
        if slot.is_plainly_of(thread::current()) && !self.own_slot {
            slot.clear();
        } else {
            end_and_pay(slot, self.own_slot);
        }
    }
}

/// Ends a section whose slot this thread does not keep, or whose thread owes a wait. The debt is
/// paid here if the section ends on the thread that began it.
#[cold]
fn end_and_pay(slot: &Announcement, own_slot: bool) {
    let owes = !std::thread::panicking() && slot.take_debt_of(thread::current());
    // SAFETY: MEM-R7, and the caller is the drop of a guard, which borrows the domain.
    let domain = unsafe { Inner::of_slot(slot) };
    handover::end_elsewhere(slot, own_slot);
    if owes {
        domain.pay(WaitFor::Both);
    }
}

/// A [`TraceGuard`] that keeps its domain alive, for tasks that must be `'static`.
#[must_use = "the read section ends when the guard is dropped"]
pub struct OwnedTraceGuard {
    /// Dropped before the domain.
    guard: TraceGuard<'static>,
    _domain: Domain,
}

impl fmt::Debug for OwnedTraceGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedTraceGuard").finish_non_exhaustive()
    }
}

impl OwnedTraceGuard {
    pub(super) fn enter(domain: &Domain) -> Self {
        let TraceGuard { slot, own_slot, section, .. } =
            *std::mem::ManuallyDrop::new(domain.pin_trace());
        // The slot lives as long as the domain (MEM-R3), which is dropped after the guard.
        let guard = TraceGuard { slot, own_slot, section, _domain: PhantomData };
        Self { guard, _domain: domain.clone() }
    }

    /// Borrows the guard, for functions that take a [`TraceGuard`].
    pub fn guard(&self) -> &TraceGuard<'_> {
        &self.guard
    }
}

impl Domain {
    /// Begins a read section that may sleep and may end on another thread (`rcu_read_lock_trace`).
    ///
    /// Costs the same as [`pin`](Self::pin) with [`BarrierKind::Fence`](super::BarrierKind::Fence)
    /// for a thread's first open section. Each further open section claims its own slot, with an
    /// atomic read-modify-write. Not async-signal-safe.
    ///
    /// A section counts as a section of the thread that began it, wherever its guard is. That
    /// thread gets [`SynchronizeError::InsideReadSection`] if it would wait for the section. A
    /// thread that holds a guard from another thread gets no error and waits for itself forever. A
    /// task must therefore not hold a guard across a call that waits for this flavour
    /// (`synchronize`, `barrier`, or the `quiesce` and `destroy` of an allocator whose policy waits
    /// for it), whatever thread it is resumed on. If that cannot be ruled out, use
    /// [`synchronize_timeout`], `quiesce_timeout` or `destroy_timeout`.
    ///
    /// Never block on a grace period in an async task: a blocked task holds up a thread of the
    /// executor, and with it perhaps the task whose section is waited for. Wait on a thread for
    /// blocking calls (`spawn_blocking` in tokio and others).
    ///
    /// [`SynchronizeError::InsideReadSection`]: super::SynchronizeError::InsideReadSection
    /// [`synchronize_timeout`]: super::GracePeriods::synchronize_timeout
    ///
    /// ```
    /// use memalloc::rcu::{Domain, SynchronizeError};
    /// use std::time::Duration;
    ///
    /// let domain = Domain::new();
    /// let guard = domain.pin_trace();
    /// std::thread::scope(|scope| {
    ///     // Another thread may wait for the section,
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

    /// Begins a read section that may sleep, with a guard that keeps the domain alive: for tasks
    /// that must be `'static`. Costs one more atomic increment than [`pin_trace`](Self::pin_trace),
    /// and the same rules apply.
    pub fn pin_trace_owned(&self) -> OwnedTraceGuard {
        OwnedTraceGuard::enter(self)
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<TraceGuard<'static>>();
    shared::<OwnedTraceGuard>();
};
