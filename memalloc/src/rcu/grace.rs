//! The epochs: when a grace period begins, and when it has passed.
//!
//! One number counts up. Readers announce the epoch that they saw; a grace period raises the
//! epoch, makes sure that every announcement before that can be seen, and waits until no slot
//! shows an older epoch. That is one scan, by one driver at a time.

use super::reader::Slots;
use crate::sync::{AtomicBool, AtomicU64, Ordering, UnsafeCell, owner_load_u64};
use crate::sys::membarrier::BarrierKind;
use crossbeam_utils::CachePadded;

/// Stands for "everything unlinked until now"; [`Domain::poll`](super::Domain::poll) says whether
/// its grace period has passed. A cookie is meant for the domain that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "a cookie is to be polled"]
pub struct Cookie(pub(crate) u64);

/// Where a grace period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// None is under way.
    Idle,
    /// The epoch is raised; readers of the one before may not be seen yet.
    Raised,
    /// They are, and are waited for.
    Waiting,
}

#[derive(Debug)]
pub(super) struct Grace {
    /// The epoch that readers announce. Always `completed + 1` (idle) or `completed + 2` (a
    /// grace period waits for the readers of `completed + 1`).
    epoch: CachePadded<AtomicU64>,
    /// The newest cookie whose grace period has passed.
    completed: CachePadded<AtomicU64>,
    /// Held by the thread that moves the grace period along; nobody waits for it.
    driven: AtomicBool,
    /// Where the grace period under way is. The driver's alone.
    phase: UnsafeCell<Phase>,
}

impl std::panic::RefUnwindSafe for Grace {}

// SAFETY: INV-R4: `phase` is touched by the driver only, and drivers follow one another.
unsafe impl Sync for Grace {}

impl Grace {
    pub(super) fn new() -> Self {
        Self {
            epoch: CachePadded::new(AtomicU64::new(1)),
            completed: CachePadded::new(AtomicU64::new(0)),
            driven: AtomicBool::new(false),
            phase: UnsafeCell::new(Phase::Idle),
        }
    }

    /// The epoch for a reader to announce.
    #[inline(always)]
    pub(super) fn current(&self) -> u64 {
        // ORDERING: Acquire pairs with the raise in `drive`: a reader that announces the newer
        // epoch is not waited for, so it has to see what was unlinked before the raise. Falls to
        // `loom_protocol` "epoch load relaxed".
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn start_poll(&self) -> Cookie {
        // ORDERING: the stores that unlinked come before this Release. The raise that ends this
        // epoch is a later link of the same chain of read-modify-writes, so it hands them to
        // every reader that announces the newer epoch (see `current`). A plain load would let
        // the raise pass in between. Falls to `loom_protocol` "cookie by plain load".
        Cookie(self.epoch.fetch_add(0, Ordering::Release))
    }

    pub(super) fn poll(&self, cookie: Cookie) -> bool {
        self.completed() >= cookie
    }

    pub(super) fn completed(&self) -> Cookie {
        // ORDERING: Acquire pairs with the Release in `step`: the sections that the scan saw
        // ended happened before whatever the caller does to the object. Falls to `loom`
        // `a_poll_sees_what_the_driver_saw`.
        Cookie(self.completed.load(Ordering::Acquire))
    }

    /// Whether a grace period waits for readers. A hint, for those who do not drive.
    pub(super) fn is_under_way(&self) -> bool {
        let completed = self.completed.load(Ordering::Relaxed);
        self.epoch.load(Ordering::Relaxed) > completed + 1
    }

    /// Moves towards the end of the grace period of `target`, without waiting for anybody, and
    /// says whether it has passed. Async-signal-safe.
    pub(super) fn drive(&self, target: Cookie, slots: &Slots, barrier: BarrierKind) -> bool {
        while !self.poll(target) {
            // ORDERING: Acquire pairs with the Release below: drivers follow one another, and the
            // barrier of an earlier one is before the scan of a later one.
            // A failed exchange stores nothing, which also keeps the line where it is.
            let taken =
                self.driven.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_err() {
                return self.poll(target);
            }
            let progress = self.step(target, slots, barrier);
            // ORDERING: see the exchange.
            self.driven.store(false, Ordering::Release);
            if !progress {
                return false;
            }
        }
        true
    }

    /// Whether a cookie can be one of this domain's.
    pub(super) fn is_known(&self, cookie: Cookie) -> bool {
        cookie.0 <= self.epoch.load(Ordering::Relaxed)
    }

    /// One grace period, as far as it goes now. Only the driver calls it.
    fn step(&self, target: Cookie, slots: &Slots, barrier: BarrierKind) -> bool {
        // SAFETY: INV-R4: only the driver stores to `completed`.
        let completed = unsafe { owner_load_u64(&self.completed) };
        if completed >= target.0 {
            return true;
        }
        // SAFETY: INV-R4: only the driver touches `phase`.
        let mut phase = self.phase.with(|phase| unsafe { *phase });
        if phase == Phase::Idle {
            // Relaxed: it is a link of the chain that `start_poll` began.
            self.epoch.fetch_add(1, Ordering::Relaxed);
            phase = Phase::Raised;
        }
        // After the raise and before the scan: see `BarrierKind::light` for the two cases. One
        // barrier serves every cookie of the epoch.
        if phase == Phase::Raised && barrier.heavy() {
            phase = Phase::Waiting;
        }
        let ended = phase == Phase::Waiting && slots.none_before(completed + 2);
        if ended {
            phase = Phase::Idle;
        }
        // SAFETY: as above.
        self.phase.with_mut(|place| unsafe { *place = phase });
        if ended {
            // ORDERING: Release pairs with the Acquire in `completed`.
            self.completed.store(completed + 1, Ordering::Release);
        }
        ended
    }
}
