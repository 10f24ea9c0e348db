//! How a slot changes hands when its thread has ended or vanished.

use super::slots::{ABANDONED, Announcement, ORPHANED};
use crate::sync::Ordering;

/// Gives back the slot of a thread that ends. If a section is open, leaves that to its last guard.
/// Called by the owner.
pub(super) fn abandon_rcu(slot: &Announcement) {
    if slot.is_inside() {
        // SAFETY: INV-R5: only the owning thread touches `nested`.
        slot.nested.with_mut(|nested| unsafe { *nested |= ABANDONED });
    } else {
        // SAFETY: as above. A remaining debt ends with the thread.
        slot.nested.with_mut(|nested| unsafe { *nested = 0 });
        slot.give_back();
    }
}

/// Takes back the slot of a thread that vanished in a fork with its guards. Called in the child.
pub(super) fn clear_of_dead_thread(slot: &Announcement) {
    // SAFETY: INV-R5: the owner is gone, and the child has no other thread yet.
    slot.nested.with_mut(|nested| unsafe { *nested = 0 });
    slot.clear();
    slot.give_back();
}

/// Gives back the slot of a thread that ends. If a section is open, leaves that to the thread that
/// ends it. Called by the owner.
pub(super) fn abandon_trace(slot: &Announcement) {
    // ORDERING: Acquire, here and where the exchange fails, pairs with the Release of the thread
    // that ended the section elsewhere: a thread that finds the slot free finds that section over.
    // Falls to `loom` `a_reuse_at_once_is_after_a_section_that_outlived_its_thread`.
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
