//! Readers that may sleep (the kernel's RCU tasks trace): a guard that can be held across
//! blocking calls and `.await`, and dropped on another thread than it was made on.
//!
//! A thread announces a first section in its own slot, and has a slot more for each section
//! beyond it. Whoever drops the guard ends the section.

use super::domain::Domain;
use super::slots::{Announcement, ORPHANED, Slot};
use super::stamp::WaitFor;
use super::thread_slots::{self, Kind};
use crate::recording::{Flavour, Section};
use crate::sync::Ordering;
use crate::sys::thread;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Marks a read section that may sleep (`rcu_read_lock_trace`): what was found in it stays, where
/// the policy is [`AfterTasksTraceGp`](crate::AfterTasksTraceGp), until the guard is dropped.
///
/// It may be held across blocking calls and `.await`, and dropped on any thread. Under
/// [`Immediate`](crate::Immediate) and [`AfterRcuGp`](crate::AfterRcuGp) it keeps memory and type,
/// not identity: what was freed meanwhile may be reused, but does not go back to its slab. Under
/// [`FreeAfterRcuGp`](crate::FreeAfterRcuGp) it keeps nothing.
#[doc(alias = "rcu_read_lock_trace")]
#[must_use = "the read section ends when the guard is dropped"]
pub struct TraceGuard<'d> {
    slot: NonNull<Slot>,
    /// Set when the slot was claimed for this guard alone.
    own_slot: bool,
    /// For a recording.
    section: Section,
    _domain: PhantomData<&'d Domain>,
}

// SAFETY: the section is a number in a slot, which any thread may set back (INV-R5), and the
// slot lives as long as the domain (INV-R3).
unsafe impl Send for TraceGuard<'_> {}
// SAFETY: a shared guard can do nothing.
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
        let (mut slot, mut own_slot) = match thread_slots::cached(Kind::Trace, inner) {
            Some(slot) => (slot, false),
            None => thread_slots::find(Kind::Trace, inner),
        };
        // SAFETY: INV-R3: the slot lives as long as the domain that `'d` borrows.
        let mut place = unsafe { slot.as_ref() };
        // ORDERING: Acquire pairs with the Release of `clear` or of `end_elsewhere` on another
        // thread: our announcement of a newer epoch vouches for that section too. Falls to `loom`
        // `a_section_that_ended_elsewhere_is_vouched_for`.
        if place.epoch.load(Ordering::Acquire) != 0 {
            (slot, own_slot) = (inner.trace().slots().claim(inner), true);
            // SAFETY: as above.
            place = unsafe { slot.as_ref() };
        }
        let flavour = inner.trace();
        place.announce(flavour.epochs(), flavour.readers_barrier());
        Self { slot, own_slot, section: Section::begin(), _domain: PhantomData }
    }

    /// Whether this marks a section of `domain`, as [`Guard::is_of`](super::Guard::is_of) tells of
    /// the other flavour.
    ///
    /// A comparison where the calling thread used the domain last and keeps the section in its own
    /// slot; else a look at the domain's slots.
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
        thread_slots::cached(Kind::Trace, inner) == Some(self.slot)
            || inner.trace().slots().have(self.slot)
    }
}

impl Drop for TraceGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.section.end(Flavour::Trace);
        // SAFETY: INV-R3: `self` borrows the domain, so the slot lives.
        let slot = unsafe { self.slot.as_ref() };
        if slot.is_plainly_of(thread::current()) && !self.own_slot {
            slot.clear();
        } else {
            end_elsewhere(slot, self.own_slot);
        }
    }
}

/// Ends a section whose slot is not the calling thread's to keep, or whose thread owes a wait: it waits
/// where it ends the section itself.
#[cold]
fn end_elsewhere(slot: &Announcement, own_slot: bool) {
    let owes = !std::thread::panicking() && slot.take_debt_of(thread::current());
    // SAFETY: the caller is the drop of a guard, which borrows the domain.
    let domain = unsafe { slot.domain() };
    // ORDERING: Release as in `clear`; a read-modify-write, so that it and the mark of an owner
    // that ends are seen by one another. Acquire pairs with the Release of that mark: what the
    // owner did with the slot is before what its next owner does.
    let announced = slot.epoch.swap(0, Ordering::AcqRel);
    if own_slot || announced & ORPHANED != 0 {
        slot.give_back();
    }
    if owes {
        domain.pay(WaitFor::Both);
    }
}

/// Has the thread wait when it ends the section in its slot. Called by the owner; async-signal-safe.
pub(super) fn mark_indebted(slot: &Announcement) {
    slot.mark_owner_indebted();
}

/// Gives the slot of a thread that ends back, or leaves that to whoever ends its section. Called
/// by the owner.
pub(super) fn abandon(slot: &Announcement) {
    // ORDERING: Acquire, here and where the exchange fails, pairs with the Release of whoever ended
    // the section on another thread: who finds the slot free finds that section over. Falls to
    // `loom` `a_reuse_at_once_is_after_a_section_that_outlived_its_thread`.
    let mut seen = slot.epoch.load(Ordering::Acquire);
    if seen != 0 {
        slot.disown();
    }
    while seen != 0 {
        let orphaned = seen | ORPHANED;
        // ORDERING: Release pairs with the Acquire in `end_elsewhere`.
        match slot.epoch.compare_exchange(seen, orphaned, Ordering::Release, Ordering::Acquire) {
            Ok(_) => return,
            Err(changed) => seen = changed,
        }
    }
    slot.give_back();
}

/// A [`TraceGuard`] that keeps its domain alive, for tasks that have to be `'static`.
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
        // The slot lives as long as the domain (INV-R3), which goes with the guard.
        let guard = TraceGuard { slot, own_slot, section, _domain: PhantomData };
        Self { guard, _domain: domain.clone() }
    }

    /// The guard, for what asks for one.
    pub fn guard(&self) -> &TraceGuard<'_> {
        &self.guard
    }
}
