//! RCU readers: a guard that is bound to its thread, and costs two stores.
//!
//! The thread has one slot in the domain; the outermost section announces, the sections inside
//! it are counted.

use super::domain::Domain;
use super::local::{self, Kind};
use super::slots::{Announcement, Slot};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Set in `nested` when the thread's storage is gone before its last guard of the slot.
const ABANDONED: u32 = 1 << 31;

/// Marks a read section: what was found in it stays, as the policy of its allocator promises,
/// until the guard is dropped.
///
/// Sections nest, and may end in any order. A guard stays on its thread and should not be held
/// for long: nothing that was freed meanwhile under a deferring policy can be reused. What has to
/// sleep, or to move to another thread, takes [`Domain::pin_trace`].
#[must_use = "the read section ends when the guard is dropped"]
pub struct Guard<'d> {
    slot: NonNull<Slot>,
    /// Set when the slot is this guard's alone, because the thread's storage is gone.
    own_slot: bool,
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
        let (slot, own_slot) = match local::cached(Kind::Rcu, inner) {
            Some(slot) => (slot, false),
            None => local::find(Kind::Rcu, inner),
        };
        // SAFETY: INV-R3: the slot lives as long as the domain that `'d` borrows.
        let place = unsafe { slot.as_ref() };
        // SAFETY: INV-R5: the slot is this thread's.
        if unsafe { place.announced_here() } == 0 {
            place.announce(inner.rcu().grace(), inner.barrier());
        } else {
            nest(place);
        }
        Self { slot, own_slot, _domain: PhantomData, _not_send: PhantomData }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: INV-R3: `self` borrows the domain, so the slot lives.
        let slot = unsafe { self.slot.as_ref() };
        // SAFETY: INV-R5: only the owning thread touches `nested`.
        let inner = slot.nested.with(|nested| unsafe { *nested });
        if inner == 0 {
            slot.clear();
        } else {
            leave_inner(slot, inner);
        }
        if self.own_slot {
            slot.give_back();
        }
    }
}

#[cold]
fn nest(slot: &Announcement) {
    // SAFETY: INV-R5: only the owning thread touches `nested`.
    slot.nested.with_mut(|nested| unsafe { *nested += 1 });
}

#[cold]
fn leave_inner(slot: &Announcement, inner: u32) {
    let last = inner == ABANDONED;
    // SAFETY: INV-R5: only the owning thread touches `nested`.
    slot.nested.with_mut(|nested| unsafe { *nested = if last { 0 } else { inner - 1 } });
    if last {
        slot.clear();
        slot.give_back();
    }
}

/// Gives the slot of a thread that ends back, or leaves that to its last guard where there is
/// one. Called by the owner.
pub(super) fn abandon(slot: &Announcement) {
    if slot.is_inside() {
        // SAFETY: INV-R5: only the owning thread touches `nested`.
        slot.nested.with_mut(|nested| unsafe { *nested |= ABANDONED });
    } else {
        slot.give_back();
    }
}
