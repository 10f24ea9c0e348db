//! Stamps: the grace periods, of one or both flavours, that a freed object waits for.

use super::backoff::Backoff;
use super::domain::{Domain, Inner};
use super::flavour::{Rcu, TasksTrace};
use super::grace_period::{Cookie, SynchronizeError};
use super::stall::Reader;
use crate::broken::{self, Fault};
use crate::sync::{Ordering, fence};
use crate::sys::thread;
use std::sync::Arc;
use std::time::Duration;

/// The flavours whose grace periods an object waits for after it was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// RCU.
    Rcu,
    /// RCU and RCU tasks trace.
    Both,
}

/// A cookie of each flavour. For a flavour that is not waited for, it is 0, which has always
/// passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    rcu: Cookie<Rcu>,
    trace: Cookie<TasksTrace>,
}

impl Stamp {
    /// The stamp that has always passed.
    pub(crate) const PASSED: Self = Self::of_epochs([0; 2]);
    /// A `completed` stamp for a domain that has no reader left: every stamp that was taken has
    /// passed.
    pub(crate) const AFTER_EVERYTHING: Self = Self::of_epochs([u64::MAX / 4; 2]);

    /// Returns whether every grace period of `self` has passed, if those of `completed` have.
    pub(crate) fn has_passed(&self, completed: &Self) -> bool {
        self.rcu <= completed.rcu && self.trace <= completed.trace
    }

    /// The stamp as four 32-bit words; [`PASSED`](Self::PASSED) is all zero.
    pub(crate) const fn to_words(self) -> [u32; 4] {
        let [rcu, trace] = self.epochs();
        [rcu as u32, (rcu >> 32) as u32, trace as u32, (trace >> 32) as u32]
    }

    pub(crate) fn from_words([rcu, rcu_high, trace, trace_high]: [u32; 4]) -> Self {
        let whole = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        Self::of_epochs([whole(rcu, rcu_high), whole(trace, trace_high)])
    }

    /// A number that grows whenever a grace period of either flavour passes.
    pub(crate) fn age(&self) -> u64 {
        self.rcu.epoch().saturating_add(self.trace.epoch())
    }

    /// The epochs of the two cookies: RCU, then tasks trace.
    pub(crate) const fn epochs(self) -> [u64; 2] {
        [self.rcu.epoch(), self.trace.epoch()]
    }

    pub(crate) const fn of_epochs([rcu, trace]: [u64; 2]) -> Self {
        Self { rcu: Cookie::of(rcu), trace: Cookie::of(trace) }
    }
}

impl Domain {
    /// Returns a stamp for everything that was unlinked before this call. Async-signal-safe.
    pub(crate) fn stamp(&self, wait_for: WaitFor) -> Stamp {
        let trace = match wait_for {
            WaitFor::Rcu => Cookie::of(0),
            WaitFor::Both => self.trace().start_poll(),
        };
        Stamp { rcu: self.rcu().start_poll(), trace }
    }

    /// Returns whether no reader holds an object that was unlinked before this call. Returns
    /// `false` if that cannot be told without a barrier. Async-signal-safe; one fence and a load of
    /// every claimed slot, and no store to a slot.
    pub(crate) fn nobody_is_inside(&self, what: WaitFor) -> bool {
        // ORDERING: pairs with the fence of a reader (`Barrier::light`), and of a thread that
        // becomes one (`Slots::claim`). If the reader's fence comes first, this thread sees its
        // slot; if this fence comes first, the reader sees everything that was unlinked before.
        // Falls to `loom` `free_rcu_is_not_reused_inside_a_read_section`.
        fence(Ordering::SeqCst);
        broken::leaves_out(Fault::GracePeriod)
            || self.rcu().nobody_is_inside()
                && (what == WaitFor::Rcu || self.trace().nobody_is_inside())
    }

    /// Returns a stamp of the newest grace periods that have passed.
    pub(crate) fn completed(&self, what: WaitFor) -> Stamp {
        let trace = match what {
            WaitFor::Rcu => Cookie::of(0),
            WaitFor::Both => self.trace().completed(),
        };
        Stamp { rcu: self.rcu().completed(), trace }
    }

    /// Returns the newest epochs that have passed. See [`Inner::completed_epochs`].
    pub(crate) fn completed_epochs(&self, what: WaitFor) -> [u64; 2] {
        self.inner().completed_epochs(what)
    }

    /// Begins a grace period if none is under way, and ends it if readers allow. See
    /// [`Inner::advance_once`].
    pub(crate) fn advance_once(&self, what: WaitFor) {
        self.inner().advance_once(what);
    }

    /// Drives the grace periods of `stamp`, with up to `looks` scans of the readers, and returns
    /// whether they have passed. Does not wait. Async-signal-safe.
    pub(crate) fn pass(&self, what: WaitFor, stamp: Stamp, looks: u32) -> bool {
        (0..looks).any(|look| {
            if look > 0 {
                crate::sync::pause();
            }
            self.rcu().advance(stamp.rcu)
                && (what == WaitFor::Rcu || self.trace().advance(stamp.trace))
        })
    }

    /// Ends the grace periods under way if readers allow. See
    /// [`GracePeriods::advance_begun`](super::GracePeriods::advance_begun).
    pub(crate) fn advance_begun(&self, what: WaitFor) {
        self.rcu().advance_begun();
        if what == WaitFor::Both {
            self.trace().advance_begun();
        }
    }

    /// Returns whether a grace period is waiting for readers. A hint.
    pub(crate) fn is_under_way(&self, what: WaitFor) -> bool {
        self.rcu().is_under_way() || (what == WaitFor::Both && self.trace().is_under_way())
    }

    /// Returns whether the start of a grace period would interrupt other processors. A hint.
    pub(crate) fn costs_a_barrier(&self, what: WaitFor) -> bool {
        self.rcu().costs_a_barrier() || (what == WaitFor::Both && self.trace().costs_a_barrier())
    }

    /// The time since the newest grace period began.
    pub(crate) fn begun_ago(&self, what: WaitFor) -> Duration {
        match what {
            WaitFor::Rcu => self.rcu().begun_ago(),
            WaitFor::Both => self.rcu().begun_ago().min(self.trace().begun_ago()),
        }
    }

    /// The time for which readers have held up the grace period under way, in whole stall times
    /// (`stall_after`); 0 if none is stalled.
    pub(crate) fn stalls(&self, what: WaitFor) -> u64 {
        let rcu = self.rcu().stalls();
        if what == WaitFor::Rcu { rcu } else { rcu.max(self.trace().stalls()) }
    }

    /// Reports a reader that stalls a grace period, once for each. See
    /// [`Inner::report_new_stall`].
    pub(crate) fn report_new_stall(&self, what: WaitFor) {
        self.inner().report_new_stall(what);
    }

    /// Returns whether the calling thread cannot wait for a grace period. See
    /// [`Inner::would_wait_for_itself`].
    pub(crate) fn would_wait_for_itself(&self, what: WaitFor) -> bool {
        self.inner().would_wait_for_itself(what)
    }

    /// Runs `callback` after a grace period of each flavour. For both flavours, an RCU callback
    /// queues the tasks-trace callback.
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
            // The domain is being dropped, so no reader is left.
            None => callback(),
        });
    }

    /// Waits for readers, for at most `limit`. Runs no callbacks.
    pub(crate) fn wait_for_readers(
        &self,
        what: WaitFor,
        limit: Option<Duration>,
    ) -> Result<(), SynchronizeError> {
        self.check_outside(what)?;
        let start = thread::clock();
        self.rcu().wait_quietly(Backoff::default(), limit)?;
        match what {
            WaitFor::Rcu => Ok(()),
            WaitFor::Both => {
                let taken = thread::clock().saturating_sub(start);
                let left = limit.map(|limit| limit.saturating_sub(taken));
                self.trace().wait_quietly(Backoff::default(), left)
            }
        }
    }

    /// Runs the callbacks whose grace period has passed.
    pub(crate) fn run_passed_callbacks(&self) {
        self.rcu().run_passed_callbacks();
        self.trace().run_passed_callbacks();
    }

    /// Returns a reader that the grace period under way waits for, if there is one.
    pub(crate) fn held_up_by(&self, what: WaitFor) -> Option<Reader> {
        let trace = || (what == WaitFor::Both).then(|| self.trace().held_up_by()).flatten();
        self.rcu().held_up_by().or_else(trace)
    }

    /// Returns an error if the calling thread is inside a section, and so would wait for itself.
    pub(crate) fn check_outside(&self, what: WaitFor) -> Result<(), SynchronizeError> {
        self.rcu().check_outside()?;
        match what {
            WaitFor::Rcu => Ok(()),
            WaitFor::Both => self.trace().check_outside(),
        }
    }
}

impl Inner {
    /// The newest epoch that has passed, for each flavour. If tasks trace is not waited for, both
    /// are the RCU epoch. An epoch that stays the same means that its flavour is held up, whatever
    /// the other does.
    pub(super) fn completed_epochs(&self, what: WaitFor) -> [u64; 2] {
        let rcu = self.rcu().completed().epoch();
        match what {
            WaitFor::Rcu => [rcu, rcu],
            WaitFor::Both => [rcu, self.trace().completed().epoch()],
        }
    }

    /// Begins a grace period of each flavour if none is under way, and ends it if readers allow.
    pub(super) fn advance_once(&self, what: WaitFor) {
        self.rcu().advance_once();
        if what == WaitFor::Both {
            self.trace().advance_once();
        }
    }

    /// Tells the stall handler about readers that stall a grace period, once for each grace period.
    pub(super) fn report_new_stall(&self, what: WaitFor) {
        self.rcu().report_new_stall();
        if what == WaitFor::Both {
            self.trace().report_new_stall();
        }
    }

    /// Returns whether the calling thread cannot wait, because it would wait for itself.
    pub(super) fn would_wait_for_itself(&self, what: WaitFor) -> bool {
        self.rcu().would_wait_for_itself()
            || (what == WaitFor::Both && self.trace().would_wait_for_itself())
    }
}
