//! Owed waits. A thread that frees more inside its own read section than may be pending cannot wait
//! there; it waits once the section has ended.
//!
//! The mark is in the thread's slot, in a word that the end of a section reads anyway. If a section
//! ends on another thread than the one that began it, that thread does not wait, and the mark
//! stays.

use super::domain::{Domain, Inner};
use super::slots::{Announcement, OWES_BOTH, OWES_RCU};
use super::stamp::WaitFor;

/// Makes the thread wait when the section in its slot has ended. Called by the owner;
/// async-signal-safe.
fn mark_indebted(slot: &Announcement, wait_for: WaitFor) {
    let debt = if wait_for == WaitFor::Rcu { OWES_RCU } else { OWES_BOTH };
    // SAFETY: MEM-R5: only the owning thread touches `nested`. A signal handler that interrupts a
    // change of it may lose its mark; the next free beyond the limit sets it again.
    slot.nested.with_mut(|nested| unsafe { *nested |= debt });
}

/// Returns the readers that the owner of an RCU slot has to wait for, given the slot's `nested`.
pub(super) fn owed_by(nested: u32) -> Option<WaitFor> {
    match nested & (OWES_RCU | OWES_BOTH) {
        0 => None,
        OWES_RCU => Some(WaitFor::Rcu),
        _ => Some(WaitFor::Both),
    }
}

impl Domain {
    /// Notes that the calling thread has to wait at the end of its section. See [`Inner::owe`].
    pub(crate) fn owe(&self, what: WaitFor) {
        self.inner().owe(what);
    }
}

impl Inner {
    /// Makes the calling thread wait for readers once its open sections have ended.
    /// Async-signal-safe.
    pub(super) fn owe(&self, wait_for: WaitFor) {
        self.rcu().slots().each_inside_here(|slot| mark_indebted(slot, wait_for));
        if wait_for == WaitFor::Both {
            self.trace().slots().each_inside_here(Announcement::mark_owner_indebted);
        }
    }

    /// Waits until a grace period has passed, for at most the stall time (`stall_after`) per
    /// flavour, and reports a stall. If the thread is still inside a section, it does not wait and
    /// keeps its debt.
    pub(super) fn pay(&self, wait_for: WaitFor) {
        if self.would_wait_for_itself(wait_for) {
            return self.owe(wait_for);
        }
        self.rcu().wait_no_longer_than_a_stall();
        if wait_for == WaitFor::Both {
            self.trace().wait_no_longer_than_a_stall();
        }
        self.report_new_stall(wait_for);
    }
}
