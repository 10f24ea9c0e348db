//! RCU readers: a guard that is bound to its thread, and costs two stores.
//!
//! The thread has one slot in the domain; the outermost section announces, the sections inside
//! it are counted.

use super::domain::Domain;
use super::slots::{Announcement, Slot};
use super::stamp::WaitFor;
use super::thread_slots::{self, Kind};
use crate::recording::{Flavour, Section};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Set in `nested` when the thread's storage is gone before its last guard of the slot.
const ABANDONED: u32 = 1 << 31;

/// Set in `nested` when the thread freed more inside the section than may be pending: it waits for
/// readers of RCU when the outermost section has ended, or
const OWES_RCU: u32 = 1 << 30;

/// for readers of both flavours.
const OWES_BOTH: u32 = 1 << 29;

/// The most sections inside the outermost one: what is left of `nested` beside the flags.
const MOST_NESTED: u32 = OWES_BOTH - 1;

/// Marks a read section: what was found in it stays, as the policy of its allocator promises,
/// until the guard is dropped.
///
/// Sections nest, and may end in any order. A guard stays on its thread and should not be held
/// for long: nothing that was freed meanwhile under a deferring policy can be reused. What has to
/// sleep, or to move to another thread, takes [`Domain::pin_trace`].
#[must_use = "the read section ends when the guard is dropped"]
pub struct Guard<'d> {
    slot: NonNull<Slot>,
    /// For a recording: how long the guard lasted that began the outermost section.
    section: Section,
    _domain: PhantomData<&'d Domain>,
    /// Slots are thread-bound.
    _not_send: PhantomData<*mut ()>,
}

impl fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl<'d> Guard<'d> {
    #[inline]
    pub(super) fn enter(domain: &'d Domain) -> Self {
        let inner = domain.inner();
        match thread_slots::cached_rcu(inner) {
            Some(slot) => Self::enter_slot(domain, slot),
            None => Self::enter_slow(domain),
        }
    }

    #[inline(never)]
    fn enter_slow(domain: &'d Domain) -> Self {
        let inner = domain.inner();
        let slot = thread_slots::cached(Kind::Rcu, inner).unwrap_or_else(|| {
            let (slot, own_slot) = thread_slots::find(Kind::Rcu, inner);
            if own_slot {
                // The thread's storage is gone: its last guard gives the slot back.
                // SAFETY: INV-R3, and INV-R5: the slot was just claimed for this thread.
                unsafe { slot.as_ref() }.nested.with_mut(|nested| unsafe { *nested = ABANDONED });
            }
            slot
        });
        Self::enter_slot(domain, slot)
    }

    #[inline(always)]
    fn enter_slot(domain: &'d Domain, slot: NonNull<Slot>) -> Self {
        // SAFETY: INV-R3: the slot lives as long as the domain that `'d` borrows.
        let place = unsafe { slot.as_ref() };
        // SAFETY: INV-R5: the slot is this thread's.
        let section = if unsafe { place.announced_here() } == 0 {
            let flavour = domain.inner().rcu();
            place.announce(flavour.epochs(), flavour.readers_barrier());
            Section::begin()
        } else {
            nest(place);
            Section::inner()
        };
        Self { slot, section, _domain: PhantomData, _not_send: PhantomData }
    }

    /// Whether this marks a section of `domain`: for structures that work under a guard of their
    /// caller's, and have to know that it is the right one.
    ///
    /// A comparison where the thread used the domain last; else a look at the domain's slots, one
    /// for each thread that reads.
    ///
    /// ```
    /// use memalloc::rcu::Domain;
    ///
    /// let (domain, other) = (Domain::new(), Domain::new());
    /// let guard = domain.pin();
    /// assert!(guard.is_of(&domain) && guard.is_of(&domain.clone()));
    /// assert!(!guard.is_of(&other));
    /// ```
    #[must_use]
    #[inline]
    pub fn is_of(&self, domain: &Domain) -> bool {
        let inner = domain.inner();
        thread_slots::cached(Kind::Rcu, inner) == Some(self.slot)
            || inner.rcu().slots().have(self.slot)
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.section.end(Flavour::Rcu);
        // SAFETY: INV-R3: `self` borrows the domain, so the slot lives.
        let slot = unsafe { self.slot.as_ref() };
        // SAFETY: INV-R5: only the owning thread touches `nested`.
        let inner = slot.nested.with(|nested| unsafe { *nested });
        if inner == 0 {
            slot.clear();
        } else {
            leave_inner(slot, inner);
        }
    }
}

/// A slot in the hands of one owner on one thread, for code that enters and leaves sections all
/// the time: [`pin`](Self::pin) has nothing to look up.
///
/// ```
/// use memalloc::rcu::Domain;
///
/// let domain = Domain::new();
/// let reader = domain.local();
/// for _ in 0..3 {
///     let guard = reader.pin();
///     // Read.
///     drop(guard);
/// }
/// ```
#[must_use = "the slot is given back when the reader is dropped"]
pub struct LocalReader<'d> {
    slot: NonNull<Slot>,
    domain: &'d Domain,
    /// Slots are thread-bound.
    _not_send: PhantomData<*mut ()>,
}

impl fmt::Debug for LocalReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalReader").finish_non_exhaustive()
    }
}

impl<'d> LocalReader<'d> {
    pub(super) fn new(domain: &'d Domain) -> Self {
        let slot = domain.inner().rcu().slots().claim(domain.inner());
        Self { slot, domain, _not_send: PhantomData }
    }

    /// Begins a read section, as [`Domain::pin`] does. Two stores, and the barrier of the domain.
    /// Async-signal-safe.
    ///
    /// # Panics
    ///
    /// As there.
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        Guard::enter_slot(self.domain, self.slot)
    }
}

impl Drop for LocalReader<'_> {
    fn drop(&mut self) {
        // SAFETY: INV-R3: `self` borrows the domain.
        let slot = unsafe { self.slot.as_ref() };
        // Guards borrow the reader, so there is none; one that was forgotten is left to the end.
        abandon(slot);
    }
}

#[cold]
fn nest(slot: &Announcement) {
    // SAFETY: INV-R5: only the owning thread touches `nested`.
    let inner = slot.nested.with(|nested| unsafe { *nested });
    // INV-R1: one more would be the flag, and the first guard to go would end the section of all.
    // So many guards can't be held, only forgotten.
    assert!(inner & MOST_NESTED < MOST_NESTED, "{MOST_NESTED} read sections are nested already");
    // SAFETY: as above.
    slot.nested.with_mut(|nested| unsafe { *nested = inner + 1 });
}

/// Ends a section inside another, or an outermost one whose thread's storage is gone or that owes a
/// wait.
#[cold]
fn leave_inner(slot: &Announcement, inner: u32) {
    // SAFETY: INV-R5: only the owning thread touches `nested`.
    let set_nested = |now| slot.nested.with_mut(|nested| unsafe { *nested = now });
    if inner & MOST_NESTED != 0 {
        return set_nested(inner - 1);
    }
    let owes = match inner & (OWES_RCU | OWES_BOTH) {
        0 => None,
        OWES_RCU => Some(WaitFor::Rcu),
        _ => Some(WaitFor::Both),
    };
    // A thread that unwinds has more urgent things to do: its next section pays.
    let puts_off = std::thread::panicking();
    set_nested(if puts_off { inner & !ABANDONED } else { 0 });
    slot.clear();
    // SAFETY: the caller is the drop of a guard, which borrows the domain.
    let domain = unsafe { slot.domain() };
    if inner & ABANDONED != 0 {
        set_nested(0);
        slot.give_back();
    }
    if let Some(wait_for) = owes.filter(|_| !puts_off) {
        domain.pay(wait_for);
    }
}

/// Has the thread wait when the section in its slot has ended. Called by the owner; async-signal-safe.
pub(super) fn mark_indebted(slot: &Announcement, wait_for: WaitFor) {
    let debt = if wait_for == WaitFor::Rcu { OWES_RCU } else { OWES_BOTH };
    // SAFETY: INV-R5: only the owning thread touches `nested`. A handler that interrupts a change of it
    // may find its mark gone: then the free that goes beyond the limit next sets it again.
    slot.nested.with_mut(|nested| unsafe { *nested |= debt });
}

/// Gives the slot of a thread that ends back, or leaves that to its last guard where there is
/// one. Called by the owner.
pub(super) fn abandon(slot: &Announcement) {
    if slot.is_inside() {
        // SAFETY: INV-R5: only the owning thread touches `nested`.
        slot.nested.with_mut(|nested| unsafe { *nested |= ABANDONED });
    } else {
        // SAFETY: as above. A debt that is left goes with the thread.
        slot.nested.with_mut(|nested| unsafe { *nested = 0 });
        slot.give_back();
    }
}

/// Takes a slot back from a thread that vanished in a fork, with its guards. Called in the child.
pub(super) fn clear_of_dead_thread(slot: &Announcement) {
    // SAFETY: INV-R5: the owner is no more, and the child has no other thread yet.
    slot.nested.with_mut(|nested| unsafe { *nested = 0 });
    slot.clear();
    slot.give_back();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn set_nested(guard: &Guard<'_>, nested: u32) {
        // SAFETY: INV-R3, and INV-R5: the guard is this thread's.
        unsafe { guard.slot.as_ref().nested.with_mut(|place| *place = nested) };
    }

    #[test]
    fn a_section_lasts_however_many_guards_inside_it_were_forgotten() {
        for flag in [0, ABANDONED] {
            let domain = Domain::new();
            let outermost = domain.pin();
            set_nested(&outermost, flag | (MOST_NESTED - 1));
            let last = domain.pin();
            let pin = AssertUnwindSafe(|| std::mem::forget(domain.pin()));
            catch_unwind(pin).expect_err("one too many");
            drop(last);
            let cookie = domain.start_poll();
            assert!(!domain.advance(cookie), "the section goes on");
            set_nested(&outermost, 0);
            drop(outermost);
            assert!(domain.advance(cookie));
        }
    }
}
