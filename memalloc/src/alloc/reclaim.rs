//! From where any CPU refills back to the slabs: when grace periods begin for that, what is given back
//! by the way, and what on request.

use super::hook_frame;
use super::raw::Raw;
use crate::rcu::{Stamp, SynchronizeError, WaitFor};
use crate::sync::Ordering::Relaxed;
use crate::sync::Tally;
use crate::sys::thread;
use std::time::Duration;

/// Grace periods are looked after when this many bytes more have begun to wait. One that needs no
/// barrier begins then.
const LOOK_BYTES: u64 = if cfg!(loom) { 1 } else { 64 << 10 };

/// A grace period that interrupts the other processors begins for this many bytes, and
const BARRIER_BYTES: u64 = if cfg!(loom) { 1 } else { 1 << 20 };

/// not sooner than this after the one before (an interruption takes as long as thousands of
/// allocations, and one serves all that was freed before it), unless
const BARRIER_INTERVAL: Duration = Duration::from_micros(if cfg!(loom) { 0 } else { 150 });

/// so many bytes wait.
const URGENT_BYTES: u64 = 2 << 20;

/// However little waits: so long after the last look the next is late, comes when something is
/// added, and begins a grace period. One interruption in this time costs nobody anything.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The most batches that a free or an allocation sends to the slabs, takes from those whose grace
/// period has ended, and puts back into slabs. It bounds the longest call after a stall; calls of
/// `tend`, `trim` and `quiesce` do the rest, or the next frees do.
pub(super) const BATCHES_PER_CALL: usize = 8;

/// The clock is looked at for so many objects, about: it takes as long as several of them.
const OBJECTS_PER_CLOCK: u64 = 64;

/// Bytes that have begun to wait, for a grace period that has not begun.
#[derive(Debug)]
pub(super) struct Owed {
    /// Since it was looked last.
    recent: Tally,
    /// Before that, since a grace period was begun last.
    earlier: Tally,
    /// When it was looked last, in nanoseconds of `thread::coarse_clock`.
    looked_at: Tally,
}

/// It is time to look.
struct Due {
    /// So many bytes are owed.
    bytes: u64,
    /// It is long ago that it was looked.
    late: bool,
}

impl Owed {
    pub(super) fn new() -> Self {
        Self { recent: Tally::new(0), earlier: Tally::new(0), looked_at: Tally::new(0) }
    }

    /// Adds objects of a size, and says whether it is time to look.
    fn add(&self, objects: u64, size: u64) -> Option<Due> {
        let bytes = objects * size;
        let before = self.recent.fetch_add(bytes, Relaxed);
        let recent = before + bytes;
        let step = (size * OBJECTS_PER_CLOCK).next_power_of_two();
        if recent < LOOK_BYTES && recent & !(step - 1) == before & !(step - 1) {
            return None;
        }
        let now = thread::coarse_clock().as_nanos() as u64;
        let looked_ago = Duration::from_nanos(now.saturating_sub(self.looked_at.load(Relaxed)));
        let late = looked_ago >= LOOK_INTERVAL;
        (late || recent >= LOOK_BYTES).then(|| {
            // What others add meanwhile may be lost: this is about when to look, not about what
            // is there.
            self.recent.store(0, Relaxed);
            self.looked_at.store(now, Relaxed);
            Due { bytes: recent + self.earlier.fetch_add(recent, Relaxed), late }
        })
    }

    fn begun(&self) {
        self.earlier.store(0, Relaxed);
    }
}

/// What went back, and what that gave the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Objects that returned to their slabs.
    pub objects: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// Bytes of empty slabs that went back to the system.
    pub released_bytes: u64,
}

impl Reclaimed {
    fn add(&mut self, objects: u64, size: u64) {
        self.objects += objects;
        self.bytes += objects * size;
    }
}

impl Raw {
    /// Whom objects may have to wait for, in the end.
    fn readers(&self) -> WaitFor {
        self.depot.route.returned
    }

    /// A stamp for objects that were deferred until now.
    pub(super) fn stamp_deferred(&self) -> Stamp {
        self.domain.stamp(self.depot.route.deferred)
    }

    /// A stamp for objects that are on the way to their slabs.
    fn stamp_returned(&self) -> Stamp {
        self.domain.stamp(self.readers())
    }

    /// Ends the grace period that is under way, or begins one if it is worth its price; and says
    /// whether it has begun one.
    fn look_after(&self, wait_for: WaitFor, due: &Due) -> bool {
        self.domain.advance_begun(wait_for);
        if self.domain.is_under_way(wait_for) {
            return false;
        }
        let worth_while = due.late
            || !self.domain.costs_a_barrier(wait_for)
            || due.bytes >= URGENT_BYTES
            || (due.bytes >= BARRIER_BYTES && self.domain.begun_ago(wait_for) >= BARRIER_INTERVAL)
            || self.depot.pending_bytes() > self.max_pending / 2;
        if worth_while {
            self.domain.advance_once(wait_for);
        }
        worth_while
    }

    /// Ends the waiting of what has waited long enough. Returns how many objects went to the slabs.
    pub(super) fn end_waiting(&self, class: usize, most: usize, may_wait: bool) -> u64 {
        let completed = self.domain.completed(self.depot.route.deferred);
        self.depot.end_waiting(class, &completed, most, may_wait)
    }

    /// Puts back what has waited long enough on the way. Returns how many objects.
    fn end_returning(&self, class: usize, most: usize, may_wait: bool) -> u64 {
        let completed = self.domain.completed(self.depot.route.returned);
        self.depot.end_returning(class, &completed, most, may_wait)
    }

    /// Lets objects that wait be allocated again, where the caller needs one and there is no
    /// other: begins a grace period if there is something to gain.
    pub(super) fn expedite(&self, class: usize) {
        let waiting = &self.depot.of(class).waiting_for_gp;
        if waiting.is_empty() || self.depot.runs_hooks_when_passed() {
            return;
        }
        let bytes = waiting.objects() * self.size(class);
        // As if a good part of the way had been gone already: new memory costs as well.
        let bytes = if bytes > BARRIER_BYTES / 4 { bytes.max(BARRIER_BYTES) } else { bytes };
        let due = Due { bytes, late: false };
        self.look_after(self.depot.route.deferred, &due);
        self.end_waiting(class, BATCHES_PER_CALL, false);
    }

    /// Sends everything that nobody holds to the slabs, as far as readers allow at once.
    #[cold]
    pub(super) fn reclaim(&self) {
        // The reader that held everything up may have left.
        self.domain.advance_begun(self.readers());
        let age = self.domain.completed(self.readers()).age();
        if self.reclaimed_at.load(Relaxed) == age {
            // No grace period has passed since, not even those that this would begin: a reader
            // holds everything up.
            return;
        }
        self.depot.empty_caches(self.all_classes(), || self.stamp_deferred());
        self.trim();
        self.reclaimed_at.store(age, Relaxed);
    }

    /// Sends batches that are more than enough towards the slabs, and puts those back whose
    /// grace period has passed.
    pub(super) fn return_surplus(&self, class: usize) {
        let depot = self.depot();
        let (mut begun, mut batches) = (0, 0);
        while batches < BATCHES_PER_CALL && depot.of(class).has_surplus(self.size(class)) {
            match depot.begin_returning(class, || self.stamp_returned()) {
                0 => break,
                count => begun += count,
            }
            batches += 1;
        }
        if begun > 0 {
            depot.of(class).gave_back();
        }
        if begun > 0 || !depot.of(class).waiting_for_gp_ttrace.is_empty() {
            let due = self.owed.add(begun, self.size(class));
            if due.is_some_and(|due| self.look_after(self.readers(), &due)) {
                self.owed.begun();
            }
            self.end_returning(class, BATCHES_PER_CALL, false);
        }
    }

    /// Returns what nobody needs and nobody reserved, without waiting for readers.
    pub(super) fn trim(&self) -> Reclaimed {
        self.depot.share_all_deferred(true, || self.stamp_deferred());
        self.advance_twice();
        let released_before = self.depot.slabs.released_bytes();
        let mut reclaimed = Reclaimed::default();
        self.all_classes().for_each(|class| self.begin_returning_all(class, &mut reclaimed));
        self.advance_twice();
        self.put_back_passed(&mut reclaimed);
        self.depot.slabs.release_spare();
        reclaimed.released_bytes = self.depot.slabs.released_bytes() - released_before;
        reclaimed
    }

    /// Sends everything of a class that is neither held nor reserved and does not wait on its way
    /// to the slabs.
    fn begin_returning_all(&self, class: usize, reclaimed: &mut Reclaimed) {
        let returned = self.end_waiting(class, usize::MAX, true);
        reclaimed.add(returned, self.size(class));
        self.depot.of(class).keeps_least();
        while self.depot.begin_returning(class, || self.stamp_returned()) > 0 {}
    }

    /// Ends the grace period of every cookie so far, where no reader holds it up: one may be
    /// under way already, which does not count for the newest cookies.
    fn advance_twice(&self) {
        self.domain.advance_once(self.readers());
        self.domain.advance_once(self.readers());
    }

    /// Moves everything along that can move without waiting: what a free or an allocation does by
    /// the way, for the time when there is none. What was ready and not needed since the call
    /// before goes back to the slabs.
    pub(super) fn tend(&self) {
        self.depot.share_all_deferred(true, || self.stamp_deferred());
        self.domain.advance_once(self.readers());
        for class in self.all_classes() {
            self.end_waiting(class, usize::MAX, true);
            let mut idle = self.depot.of(class).free_by_rcu_ttrace.idle();
            if idle > 0 {
                self.depot.of(class).keeps_least();
            }
            while idle > 0 {
                match self.depot.begin_returning(class, || self.stamp_returned()) {
                    0 => break,
                    count => idle = idle.saturating_sub(count),
                }
            }
        }
        self.domain.advance_once(self.readers());
        self.put_back_passed(&mut Reclaimed::default());
        self.depot.slabs.release_idle();
        self.domain.run_all_callbacks();
    }

    /// Returns everything that is not with a user, after waiting for readers, for about so long where
    /// there is a limit. What was never used has nobody to wait for.
    pub(super) fn quiesce(&self, limit: Option<Duration>) -> Result<Reclaimed, SynchronizeError> {
        self.domain.check_outside(self.readers())?;
        self.all_classes().for_each(|class| self.depot.of(class).unreserve());
        let mut reclaimed = Reclaimed::default();
        if !self.depot.slabs.were_used() {
            return Ok(reclaimed);
        }
        let until = limit.map(|limit| thread::clock().saturating_add(limit));
        let released_before = self.depot.slabs.released_bytes();
        loop {
            let runs_before = hook_frame::runs();
            while !self.depot.empty_caches(self.all_classes(), || self.stamp_deferred()) {
                // No memory for batches: use those again that are under way.
                let before = reclaimed.objects;
                self.return_batches(&mut reclaimed, until)?;
                if reclaimed.objects == before {
                    break;
                }
            }
            self.return_batches(&mut reclaimed, until)?;
            if hook_frame::runs() == runs_before {
                break;
            }
            // Hooks may have freed more.
        }
        reclaimed.released_bytes = self.depot.slabs.released_bytes() - released_before;
        Ok(reclaimed)
    }

    /// Returns every object that is in a batch, after waiting for readers, but not longer than `until`.
    fn return_batches(
        &self,
        reclaimed: &mut Reclaimed,
        until: Option<Duration>,
    ) -> Result<(), SynchronizeError> {
        let left = || until.map(|until| until.saturating_sub(thread::clock()));
        self.domain.synchronize_with(self.readers(), left())?;
        self.all_classes().for_each(|class| self.begin_returning_all(class, reclaimed));
        self.domain.synchronize_with(self.readers(), left())?;
        self.put_back_passed(reclaimed);
        self.depot.slabs.release_spare();
        Ok(())
    }

    fn put_back_passed(&self, reclaimed: &mut Reclaimed) {
        for class in self.all_classes() {
            let objects = self.end_returning(class, usize::MAX, true);
            reclaimed.add(objects, self.size(class));
        }
    }
}
