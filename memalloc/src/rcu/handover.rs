//! Passes a slot on: at the end of its thread, at the end of a section on another thread, and in
//! the child of a fork.
//!
//! - A thread that ends outside of sections gives its slots back.
//! - A thread that ends inside an RCU section marks its slot [`ABANDONED`], and the last guard
//!   gives the slot back.
//! - A thread that ends while a tasks-trace section is open in its slot marks the slot
//!   [`ORPHANED`], and the thread that ends the section gives the slot back.
//! - The child of a fork gives back the RCU slots of threads that vanished: their guards vanished
//!   too. A tasks-trace section of such a thread may go on, because the survivor may have its
//!   guard; its slot is marked [`ORPHANED`].
//! - A slot that was claimed for a single guard is given back when that guard is dropped.

use super::flavour::FlavourKind;
use super::slots::{ABANDONED, Announcement, ORPHANED, Slots};
use crate::sync::Ordering;
use crate::sys::fork::Survivor;

/// Gives back the RCU slot of a thread that ends. If a section is open, leaves that to its last
/// guard. Called by the owner.
pub(super) fn abandon_rcu(slot: &Announcement) {
    if slot.is_inside() {
        leave_to_last_guard(slot);
    } else {
        // SAFETY: MEM-R5: only the owning thread touches `nested`. A remaining debt ends with the
        // thread.
        slot.nested.with_mut(|nested| unsafe { *nested = 0 });
        slot.give_back();
    }
}

/// Makes the last guard of an RCU slot give the slot back. Called by the owner.
pub(super) fn leave_to_last_guard(slot: &Announcement) {
    // SAFETY: MEM-R5: only the owning thread touches `nested`.
    slot.nested.with_mut(|nested| unsafe { *nested |= ABANDONED });
}

/// Gives back the RCU slot of a thread that vanished in a fork with its guards. Called in the
/// child.
fn clear_of_dead_thread(slot: &Announcement) {
    // SAFETY: MEM-R5: the owner is gone, and the child has no other thread yet.
    slot.nested.with_mut(|nested| unsafe { *nested = 0 });
    slot.clear();
    slot.give_back();
}

/// Gives back the tasks-trace slot of a thread that ends. If a section is open, leaves that to the
/// thread that ends it. Called by the owner, or in the child of a fork in its place.
fn abandon_trace(slot: &Announcement) {
    // ORDERING: Acquire, here and where the exchange fails, pairs with the Release of the thread
    // that ended the section elsewhere: a thread that finds the slot free finds that section over.
    // Falls to `loom` `a_reuse_at_once_is_after_a_section_that_outlived_its_thread`.
    let mut seen = slot.epoch.load(Ordering::Acquire);
    if seen != 0 {
        slot.disown();
    }
    while seen != 0 {
        let orphaned = seen | ORPHANED;
        // ORDERING: Release pairs with the Acquire in `end_elsewhere`. Falls to nothing: it orders
        // the stores to `owner`, which loom orders as they are executed.
        match slot.epoch.compare_exchange(seen, orphaned, Ordering::Release, Ordering::Acquire) {
            Ok(_) => return,
            Err(changed) => seen = changed,
        }
    }
    slot.give_back();
}

/// Ends a tasks-trace section on any thread. Gives the slot back if it was claimed for a single
/// guard (`own_slot`), or if its thread has ended.
pub(super) fn end_elsewhere(slot: &Announcement, own_slot: bool) {
    // ORDERING: Release as in `clear`. It is a read-modify-write, so that it and the mark of an
    // owner that ends see one another. Acquire pairs with the Release of that mark: what the owner
    // did with the slot happens before what its next owner does. Falls to `loom`
    // `a_reuse_at_once_is_after_a_section_that_outlived_its_thread` without Release; without
    // Acquire to nothing, for the reason given there.
    let announced = slot.epoch.swap(0, Ordering::AcqRel);
    if own_slot || announced & ORPHANED != 0 {
        slot.give_back();
    }
}

impl Slots {
    /// Gives back the tasks-trace slots of a thread that ends: `slot` is its first, and it may have
    /// claimed others for single guards. Called by that thread.
    pub(super) fn end_of_thread(&self, slot: &Announcement) {
        let me = slot.owner();
        abandon_trace(slot);
        // The guards of the other slots may be on other threads: `me` may become the number of
        // another thread before they are dropped. A slot stays as it is if the end of its section
        // has given it back meanwhile: another thread may have claimed it since.
        self.iter().filter(|slot| slot.owner() == me).for_each(|slot| slot.disown_if_of(me));
    }

    /// In the child of a fork: renumbers the survivor's slots, and ends the claims of threads that
    /// vanished.
    pub(super) fn repair_after_fork(&self, flavour: FlavourKind, survivor: Survivor) {
        for slot in self.iter() {
            match flavour {
                _ if slot.owner() == survivor.was => slot.renumber_owner(survivor.is),
                FlavourKind::Rcu => clear_of_dead_thread(slot),
                FlavourKind::TasksTrace => abandon_trace(slot),
            }
        }
    }
}
