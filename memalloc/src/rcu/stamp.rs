//! What freed objects wait for: grace periods of both flavours.

use super::domain::{Domain, Inner};
use super::flavour::{Cookie, Rcu, SynchronizeError, TasksTrace};
use crate::broken::{self, Fault};
use crate::sync::{Ordering, fence};
use crate::sys::thread;
use std::sync::Arc;
use std::time::Duration;

/// Which grace periods an object waits for after it was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// Readers of RCU.
    Rcu,
    /// Readers of both flavours.
    Both,
}

/// A cookie of each flavour; for a flavour that is not waited for, one that always has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    rcu: Cookie<Rcu>,
    trace: Cookie<TasksTrace>,
}

impl Stamp {
    /// Waits for nothing.
    pub(crate) const PASSED: Self = Self { rcu: Cookie::of(0), trace: Cookie::of(0) };
    /// What has passed when no reader is left: more than was ever waited for, and the more the
    /// later `round` is.
    pub(crate) const fn after_everything(round: u64) -> Self {
        let far = u64::MAX / 4 + round;
        Self { rcu: Cookie::of(far), trace: Cookie::of(far) }
    }

    /// Whether all that `self` waits for has passed when `completed` has.
    pub(crate) fn has_passed(&self, completed: &Self) -> bool {
        self.rcu <= completed.rcu && self.trace <= completed.trace
    }

    /// The stamp in half words; [`PASSED`](Self::PASSED) is all zero.
    pub(crate) const fn to_words(self) -> [u32; 4] {
        let (rcu, trace) = (self.rcu.epoch(), self.trace.epoch());
        [rcu as u32, (rcu >> 32) as u32, trace as u32, (trace >> 32) as u32]
    }

    pub(crate) fn from_words([rcu, rcu_high, trace, trace_high]: [u32; 4]) -> Self {
        let whole = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        Self { rcu: Cookie::of(whole(rcu, rcu_high)), trace: Cookie::of(whole(trace, trace_high)) }
    }

    /// A number that grows whenever a grace period of either flavour passes.
    pub(crate) fn age(&self) -> u64 {
        self.rcu.epoch().saturating_add(self.trace.epoch())
    }

    /// A stamp that passes when both numbers have, for tests of what stamps are used for.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn of(rcu: u64, trace: u64) -> Self {
        Self { rcu: Cookie::of(rcu), trace: Cookie::of(trace) }
    }
}

impl Domain {
    /// A stamp for what was unlinked before this call. Async-signal-safe.
    pub(crate) fn stamp(&self, wait_for: WaitFor) -> Stamp {
        let trace = match wait_for {
            WaitFor::Rcu => Cookie::of(0),
            WaitFor::Both => self.trace().start_poll(),
        };
        Stamp { rcu: self.rcu().start_poll(), trace }
    }

    /// Whether no reader holds what was unlinked before this call: nobody is inside a section, as
    /// far as that can be told without a barrier. Async-signal-safe; one fence and a look at every
    /// slot, which stores nothing.
    pub(crate) fn nobody_is_inside(&self, what: WaitFor) -> bool {
        // ORDERING: pairs with the fence of a reader (`Barrier::light`), and of a thread that
        // becomes one (`Slots::claim`). If that comes first, its slot is seen; if this one does,
        // the reader sees all that was unlinked before. Falls to `loom` `free_rcu_is_not_reused_inside_a_read_section`.
        fence(Ordering::SeqCst);
        broken::leaves_out(Fault::GracePeriod)
            || self.rcu().nobody_is_inside()
                && (what == WaitFor::Rcu || self.trace().nobody_is_inside())
    }

    /// The newest of what was waited for that have passed.
    pub(crate) fn completed(&self, what: WaitFor) -> Stamp {
        let trace = match what {
            WaitFor::Rcu => Cookie::of(0),
            WaitFor::Both => self.trace().completed(),
        };
        Stamp { rcu: self.rcu().completed(), trace }
    }

    /// See [`Inner::completed_epochs`].
    pub(crate) fn completed_epochs(&self, what: WaitFor) -> [u64; 2] {
        self.inner().completed_epochs(what)
    }

    /// See [`Inner::advance_once`].
    pub(crate) fn advance_once(&self, what: WaitFor) {
        self.inner().advance_once(what);
    }

    /// Moves the grace periods of a stamp along, with up to so many looks at readers that are
    /// inside, and says whether they have passed. Does not wait. Async-signal-safe.
    pub(crate) fn pass(&self, what: WaitFor, stamp: Stamp, looks: u32) -> bool {
        (0..looks).any(|look| {
            if look > 0 {
                crate::sync::pause();
            }
            self.rcu().advance(stamp.rcu)
                && (what == WaitFor::Rcu || self.trace().advance(stamp.trace))
        })
    }

    /// Ends what is under way, if readers allow. Costs no barrier.
    pub(crate) fn advance_begun(&self, what: WaitFor) {
        self.rcu().advance_begun();
        if what == WaitFor::Both {
            self.trace().advance_begun();
        }
    }

    /// Whether a grace period waits for readers already. A hint.
    pub(crate) fn is_under_way(&self, what: WaitFor) -> bool {
        self.rcu().is_under_way() || (what == WaitFor::Both && self.trace().is_under_way())
    }

    /// Whether a grace period would interrupt the other processors. A hint.
    pub(crate) fn costs_a_barrier(&self, what: WaitFor) -> bool {
        self.rcu().costs_a_barrier() || (what == WaitFor::Both && self.trace().costs_a_barrier())
    }

    /// How long ago the newest grace period was begun.
    pub(crate) fn begun_ago(&self, what: WaitFor) -> Duration {
        match what {
            WaitFor::Rcu => self.rcu().begun_ago(),
            WaitFor::Both => self.rcu().begun_ago().min(self.trace().begun_ago()),
        }
    }

    /// How many times the length of a stall readers have held up a grace period that is under way: 0
    /// where none is stalled.
    pub(crate) fn stalls(&self, what: WaitFor) -> u64 {
        let rcu = self.rcu().stalls();
        if what == WaitFor::Rcu { rcu } else { rcu.max(self.trace().stalls()) }
    }

    /// See [`Inner::report_new_stall`].
    pub(crate) fn report_new_stall(&self, what: WaitFor) {
        self.inner().report_new_stall(what);
    }

    /// See [`Inner::would_wait_for_itself`].
    pub(crate) fn would_wait_for_itself(&self, what: WaitFor) -> bool {
        self.inner().would_wait_for_itself(what)
    }

    /// See [`Inner::owe`].
    pub(crate) fn owe(&self, what: WaitFor) {
        self.inner().owe(what);
    }

    /// Runs `callback` after a grace period of each, as a callback of RCU.
    pub(crate) fn call_after(&self, what: WaitFor, callback: impl FnOnce() + Send + 'static) {
        if what == WaitFor::Rcu {
            return self.rcu().call(callback);
        }
        let domain = Arc::downgrade(self.inner());
        self.rcu().call(move || match domain.upgrade() {
            Some(domain) => {
                domain.trace().call(callback);
                domain.trace().run_callbacks();
            }
            // The domain ends, so there is no reader left.
            None => callback(),
        });
    }

    /// Runs the callbacks of both flavours that are due, moving grace periods along as far as readers
    /// allow.
    pub(crate) fn run_all_callbacks(&self) {
        self.rcu().run_callbacks();
        self.trace().run_callbacks();
    }

    /// Waits for readers, for so long where there is a limit.
    pub(crate) fn synchronize_with(
        &self,
        what: WaitFor,
        limit: Option<Duration>,
    ) -> Result<(), SynchronizeError> {
        self.check_outside(what)?;
        let start = thread::clock();
        self.rcu().synchronize_within(limit)?;
        match what {
            WaitFor::Rcu => Ok(()),
            WaitFor::Both => {
                let taken = thread::clock().saturating_sub(start);
                self.trace().synchronize_within(limit.map(|limit| limit.saturating_sub(taken)))
            }
        }
    }

    /// Whether the calling thread may wait for them.
    pub(crate) fn check_outside(&self, what: WaitFor) -> Result<(), SynchronizeError> {
        self.rcu().check_outside()?;
        match what {
            WaitFor::Rcu => Ok(()),
            WaitFor::Both => self.trace().check_outside(),
        }
    }
}

impl Inner {
    /// The newest epoch that has passed for each; for a flavour that is not waited for, that of
    /// the other again. One that stays the same is held up, whatever the other does.
    pub(super) fn completed_epochs(&self, what: WaitFor) -> [u64; 2] {
        let rcu = self.rcu().completed().epoch();
        match what {
            WaitFor::Rcu => [rcu, rcu],
            WaitFor::Both => [rcu, self.trace().completed().epoch()],
        }
    }

    /// Begins a grace period of each, or ends what is under way, as readers allow.
    pub(super) fn advance_once(&self, what: WaitFor) {
        self.rcu().advance_once();
        if what == WaitFor::Both {
            self.trace().advance_once();
        }
    }

    /// Tells the stall handler which readers stall grace periods, once for each of these.
    pub(super) fn report_new_stall(&self, what: WaitFor) {
        self.rcu().report_new_stall();
        if what == WaitFor::Both {
            self.trace().report_new_stall();
        }
    }

    /// Whether the calling thread can't wait: it is in its own way.
    pub(super) fn would_wait_for_itself(&self, what: WaitFor) -> bool {
        self.rcu().would_wait_for_itself()
            || (what == WaitFor::Both && self.trace().would_wait_for_itself())
    }
}
