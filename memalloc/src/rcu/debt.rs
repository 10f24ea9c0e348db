//! Waits that a thread owes: it has freed more inside a read section of its own than may be pending, and
//! could not wait there.
//!
//! The mark is in the thread's slot, in a word that the end of a section looks at anyway. Where a
//! section ends on another thread than began it, that one does not wait, and the mark stays.

use super::domain::Inner;
use super::stamp::WaitFor;
use super::{reader, sleepable};

impl Inner {
    /// Has the calling thread wait for readers once the sections that it is in have ended.
    /// Async-signal-safe.
    pub(super) fn owe(&self, wait_for: WaitFor) {
        self.rcu().slots().each_inside_here(|slot| reader::mark_indebted(slot, wait_for));
        if wait_for == WaitFor::Both {
            self.trace().slots().each_inside_here(sleepable::mark_indebted);
        }
    }

    /// Waits until a grace period has passed, no longer than a stall takes, and reports a stall. A
    /// thread that is still in a section goes on owing.
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
