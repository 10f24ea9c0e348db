//! Epochs: they tell when a grace period begins, and when it has passed.
//!
//! The epoch is a counter. Readers announce the epoch that they loaded. A grace period raises the
//! epoch, makes sure that every earlier announcement can be seen, and waits until no slot shows an
//! older epoch. That takes one scan, by one driver at a time. If no other thread reads, no other
//! processor needs a barrier, and a grace period costs no more than the scan.

use super::barrier::Barrier;
use super::slots::Slots;
use crate::broken::{self, Fault};
use crate::sync::{AtomicU32, AtomicU64, Ordering, Tally, UnsafeCell, owner_load_u64};
use crate::sys::fork::Survivor;
use crate::sys::thread;
use crossbeam_utils::CachePadded;
use std::time::Duration;

/// The phase of a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No grace period is under way.
    Idle,
    /// The epoch is raised; readers of the previous epoch may not be visible yet.
    Raised,
    /// Readers of the previous epoch are visible, and are waited for.
    Waiting,
}

#[derive(Debug)]
pub(super) struct Epochs {
    /// The epoch that readers announce: `completed + 1` if no grace period is under way,
    /// `completed + 2` while one waits for the readers of `completed + 1`.
    epoch: CachePadded<AtomicU64>,
    /// The newest cookie whose grace period has passed.
    completed: CachePadded<AtomicU64>,
    /// The number of the thread that drives the grace period, or 0. No thread waits for it.
    driver: AtomicU32,
    /// The phase of the grace period under way. Touched by the driver only.
    phase: UnsafeCell<Phase>,
    /// When the epoch was last raised, in nanoseconds of `thread::clock`.
    begun_at: Tally,
}

impl std::panic::RefUnwindSafe for Epochs {}

// SAFETY: MEM-R4: only the driver touches `phase`, and drivers follow one another.
unsafe impl Sync for Epochs {}

impl Epochs {
    pub(super) fn new() -> Self {
        Self {
            epoch: CachePadded::new(AtomicU64::new(1)),
            completed: CachePadded::new(AtomicU64::new(0)),
            driver: AtomicU32::new(0),
            phase: UnsafeCell::new(Phase::Idle),
            begun_at: Tally::new(0),
        }
    }

    /// The epoch for a reader to announce.
    #[inline(always)]
    pub(super) fn current(&self) -> u64 {
        // ORDERING: Acquire pairs with the raise in `step`: a reader that announces the newer epoch
        // is not waited for, so it has to see what was unlinked before the raise. Falls to
        // `loom_protocol` "epoch load relaxed".
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn start_poll(&self) -> u64 {
        // ORDERING: the unlinking stores come before this Release. The raise that ends this epoch
        // is a later link of the same chain of read-modify-writes, so it hands those stores to
        // every reader that announces the newer epoch (see `current`). With a plain load the raise
        // could pass in between. Falls to `loom_protocol` "cookie by plain load".
        self.epoch.fetch_add(0, Ordering::Release)
    }

    /// The newest cookie whose grace period has passed.
    pub(super) fn completed(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release in `step`: the sections that the scan saw ended
        // happened before anything that the caller does to the object. Falls to `loom`
        // `a_poll_sees_what_the_driver_saw`.
        self.completed.load(Ordering::Acquire)
    }

    /// Returns whether a grace period waits for readers. For threads other than the driver this is
    /// a hint.
    pub(super) fn is_under_way(&self) -> bool {
        let completed = self.completed.load(Ordering::Relaxed);
        self.epoch.load(Ordering::Relaxed) > completed + 1
    }

    /// The time since the newest grace period began; since the start of the clock if there was
    /// none.
    pub(super) fn begun_ago(&self) -> Duration {
        let begun = Duration::from_nanos(self.begun_at.load(Ordering::Relaxed));
        thread::clock().saturating_sub(begun)
    }

    /// Returns whether the calling thread was interrupted while it drove a grace period.
    pub(super) fn is_driven_here(&self) -> bool {
        self.driver.load(Ordering::Relaxed) == thread::current()
    }

    /// In the child of a fork: replaces a driver that vanished, at whatever step it was. A barrier
    /// or a scan that it may have done already is done again.
    pub(super) fn repair_after_fork(&self, survivor: Survivor) {
        match self.driver.load(Ordering::Relaxed) {
            0 => return,
            driver if driver == survivor.was => {
                return self.driver.store(survivor.is, Ordering::Relaxed);
            }
            _ => (),
        }
        let phase = if self.is_under_way() { Phase::Raised } else { Phase::Idle };
        // SAFETY: MEM-R4: the driver is gone, and no other thread can follow it yet.
        self.phase.with_mut(|place| unsafe { *place = phase });
        self.driver.store(0, Ordering::Relaxed);
    }

    /// The thread of a reader that the grace period under way waits for, if there is one.
    pub(super) fn held_up_by(&self, slots: &Slots) -> Option<u32> {
        let completed = self.completed.load(Ordering::Relaxed);
        if self.is_under_way() { slots.reader_before(completed + 2) } else { None }
    }

    /// Drives grace periods until that of `target` has passed, without waiting, and returns whether
    /// it has. Async-signal-safe.
    pub(super) fn drive(&self, target: u64, slots: &Slots, barrier: &Barrier) -> bool {
        while self.completed() < target {
            // ORDERING: Acquire pairs with the Release below: drivers follow one another, and the
            // barrier of an earlier driver happens before the scan of a later one. Falls to
            // `loom_protocol` "driver's flag taken relaxed".
            let (free, me) = (0, thread::current());
            let taken =
                self.driver.compare_exchange(free, me, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_err() {
                return self.completed() >= target;
            }
            let progress = self.step(target, slots, barrier);
            // ORDERING: Release pairs with the Acquire of the exchange. Falls to `loom_protocol`
            // "driver's flag given up relaxed".
            self.driver.store(0, Ordering::Release);
            if !progress {
                return false;
            }
        }
        true
    }

    /// Returns whether `cookie` can be one of this domain.
    pub(super) fn is_known(&self, cookie: u64) -> bool {
        cookie <= self.epoch.load(Ordering::Relaxed)
    }

    /// Advances one grace period as far as it can go now, and returns whether it has passed. Only
    /// the driver calls it.
    fn step(&self, target: u64, slots: &Slots, barrier: &Barrier) -> bool {
        // SAFETY: MEM-R4: only the driver stores to `completed`.
        let completed = unsafe { owner_load_u64(&self.completed) };
        if completed >= target {
            return true;
        }
        // SAFETY: MEM-R4: only the driver touches `phase`.
        let mut phase = self.phase.with(|phase| unsafe { *phase });
        if phase == Phase::Idle {
            // Relaxed: a link of the chain that `start_poll` began.
            self.epoch.fetch_add(1, Ordering::Relaxed);
            self.begun_at.store(thread::clock().as_nanos() as u64, Ordering::Relaxed);
            phase = Phase::Raised;
        }
        // After the raise and before the scan: `Barrier::light` describes the two cases. One
        // barrier serves every cookie of the epoch.
        if phase == Phase::Raised && barrier.heavy(|| slots.others_may_read()) {
            phase = Phase::Waiting;
        }
        let ended = phase == Phase::Waiting
            && (broken::leaves_out(Fault::LookAgain)
                || slots.reader_before(completed + 2).is_none());
        if ended {
            phase = Phase::Idle;
        }
        // SAFETY: as above.
        self.phase.with_mut(|place| unsafe { *place = phase });
        if ended {
            // ORDERING: Release pairs with the Acquire in `completed`. Falls to `loom_protocol`
            // "completed relaxed".
            self.completed.store(completed + 1, Ordering::Release);
        }
        ended
    }
}
