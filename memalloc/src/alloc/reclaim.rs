//! The path from the depot back to the slabs: when grace periods for it begin, and which objects
//! are returned during other calls or on request.

use super::finish::Finished;
use super::hook_frame;
use super::owed::Due;
use super::raw::Raw;
use super::turn::Begun;
use crate::batch::Queue;
use crate::class::MAX_CLASSES;
use crate::rcu::{Backoff, Stamp, SynchronizeError, WaitFor};
use crate::sync::Ordering::Relaxed;
use crate::sys::thread;
use std::time::Duration;

/// The most batches that one free or allocation moves along each part of the path, and the most
/// bytes, which may each empty a slab whose memory the system takes back. They bound the longest
/// call after a stall. The next frees, `tend`, `trim` or `quiesce` move the rest.
const BATCHES_PER_CALL: usize = 8;
const BYTES_PER_CALL: u64 = 256 << 10;

/// As `BYTES_PER_CALL`, under a policy that returns every object to its slab. In smaller steps more
/// slabs stay partly filled, and slabs are then opened and released over and over.
const BYTES_PER_CALL_THROUGH_SLAB: u64 = 384 << 10;

/// Once this many bytes have left for the slabs, the unneeded objects of each class do so too.
const IDLE_STEP: u64 = 2 << 20;

/// Once this many bytes have left for slabs that are sparse, the objects of CPUs that have not used
/// theirs since the previous time do so too.
const SPARSE_STEP: u64 = 256 << 10;

/// The amount of memory that a call returned to the slabs and to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Number of objects that returned to their slabs.
    pub objects: u64,
    /// Size of those objects, in bytes.
    pub bytes: u64,
    /// Bytes of empty slabs that were returned to the system.
    pub released_bytes: u64,
}

impl Reclaimed {
    fn add(&mut self, finished: &Finished) {
        self.objects += finished.returned;
        self.bytes += finished.returned_bytes;
    }
}

impl Raw {
    /// Returns the readers that an object may have to wait for before it returns to its slab.
    fn readers(&self) -> WaitFor {
        self.depot.route.returned
    }

    /// Returns the bytes of a batch of deferred objects.
    pub(super) fn batch_bytes(&self, class: usize) -> u64 {
        self.depot.classes.class(class).deferred_batch() as u64 * self.size(class)
    }

    /// Returns the most batches of a class that one free or allocation moves along each part of the
    /// path: more than it adds.
    pub(super) fn batches_per_call(&self, class: usize) -> usize {
        let through_slab = self.depot.route.through_slab;
        let bytes = if through_slab { BYTES_PER_CALL_THROUGH_SLAB } else { BYTES_PER_CALL };
        BATCHES_PER_CALL.min((bytes / self.batch_bytes(class)) as usize).max(2)
    }

    /// Returns a stamp for objects that have been deferred until now.
    pub(super) fn stamp_deferred(&self) -> Stamp {
        self.domain.stamp(self.depot.route.deferred)
    }

    /// Returns a stamp for objects that are on their way to the slabs.
    fn stamp_returned(&self) -> Stamp {
        self.domain.stamp(self.readers())
    }

    /// Ends the grace period that is under way, or begins one if that is worth its cost. Returns
    /// true if it has begun one.
    fn look_after(&self, wait_for: WaitFor, due: &Due) -> bool {
        self.domain.advance_begun(wait_for);
        if self.domain.is_under_way(wait_for) {
            return false;
        }
        let worth_while = due.is_worth_a_grace_period(
            || self.domain.costs_a_barrier(wait_for),
            || self.domain.begun_ago(wait_for),
        ) || self.depot.pending_bytes() > self.max_pending / 2;
        if worth_while {
            self.domain.advance_once(wait_for);
        }
        worth_while
    }

    /// Moves at most `most` batches that have passed their grace period out of `waiting_for_gp`,
    /// and finishes at most as many.
    pub(super) fn end_waiting(&self, class: usize, most: Option<usize>) -> Finished {
        let completed = self.domain.completed(self.depot.route.deferred);
        self.depot.end_waiting(class, &completed, most)
    }

    /// Puts at most `most` batches of `waiting_for_gp_ttrace` that have passed their grace period
    /// into the slabs. Returns how many objects.
    fn end_returning(&self, class: usize, most: usize, may_wait: bool) -> u64 {
        let completed = self.domain.completed(self.depot.route.returned);
        self.depot.end_returning(class, &completed, most, may_wait)
    }

    /// Lets pending objects be allocated again, for a caller that needs one and finds no other.
    /// Begins a grace period if that is worth its cost.
    pub(super) fn expedite(&self, class: usize) {
        let waiting = &self.depot.of(class).waiting_for_gp;
        if waiting.is_empty() || self.depot.runs_hooks_when_passed() {
            return;
        }
        let due = Due::for_allocation(waiting.objects() * self.size(class));
        self.look_after(self.depot.route.deferred, &due);
        self.end_waiting(class, Some(self.batches_per_call(class)));
    }

    /// Moves every object that no user holds to the slabs, as far as readers allow at once.
    #[cold]
    pub(super) fn reclaim(&self) {
        // The reader that held the grace period up may have left.
        self.domain.advance_begun(self.readers());
        let age = self.domain.completed(self.readers()).age();
        let is_stalled = self.reclaimed_at.load(Relaxed) == age;
        if is_stalled && (self.depot.is_in_hook() || !self.anything_is_unfinished()) {
            // No grace period has passed since the last call, not even those that this one would
            // begin: a reader holds them up. (A call in a hook finishes nothing.)
            return;
        }
        self.depot.empty_caches(self.all_classes(), || self.stamp_deferred());
        self.trim();
        self.reclaimed_at.store(age, Relaxed);
    }

    fn anything_is_unfinished(&self) -> bool {
        self.all_classes().any(|class| !self.depot.of(class).unfinished.is_empty())
    }

    /// Moves surplus batches towards the slabs, and puts those into the slabs that have passed
    /// their grace period.
    pub(super) fn return_surplus(&self, class: usize) {
        let depot = self.depot();
        let (mut begun, mut batches, sparse) = (0, 0, depot.slabs.is_sparse(class));
        while depot.of(class).has_surplus(self.size(class), sparse)
            && batches < self.batches_per_call(class)
        {
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
            let due = self.owed.add(begun, self.size(class), thread::coarse_clock);
            let due = due.or_else(|| sparse.then(|| self.owed.at_once()));
            if due.is_some_and(|due| self.look_after(self.readers(), &due)) {
                self.owed.begun();
            }
            self.end_returning(class, self.batches_per_call(class), false);
        }
        if begun > 0 {
            let bytes = begun * self.size(class);
            let before = self.surplus.fetch_add(bytes, Relaxed);
            let completes = |step| before / step != (before + bytes) / step;
            if completes(IDLE_STEP / self.all_classes().len() as u64) {
                self.return_idle_of_next(class);
            }
            if sparse && completes(SPARSE_STEP) {
                // An idle CPU keeps its objects, of which each may keep a slab.
                depot.share_idle(class, || self.stamp_deferred());
            }
        }
    }

    /// Moves objects of the next class in turn, if it is another one, towards the slabs that were
    /// ready and not needed since its last turn, a few batches.
    #[cold]
    fn return_idle_of_next(&self, class: usize) {
        let other = self.next_idle.fetch_add(1, Relaxed) as usize % self.all_classes().len();
        if other != class {
            let most = self.batches_per_call(other);
            let idle = self.depot.of(other).free_by_rcu_ttrace.idle();
            self.begin_returning_idle(other, idle, most);
            self.end_returning(other, most, false);
        }
    }

    /// Moves `idle` objects of a class towards the slabs, in at most `most` batches.
    fn begin_returning_idle(&self, class: usize, mut idle: u64, most: usize) {
        if idle > 0 {
            self.depot.of(class).keeps_least();
        }
        for _ in 0..most {
            if idle == 0 {
                return;
            }
            match self.depot.begin_returning(class, || self.stamp_returned()) {
                0 => return,
                count => idle = idle.saturating_sub(count),
            }
        }
    }

    /// Returns all unneeded and unreserved objects to the slabs, without waiting for readers.
    pub(super) fn trim(&self) -> Reclaimed {
        self.depot.share_all_idle(|| self.stamp_deferred());
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

    /// Moves all objects of a class towards the slabs that are neither held by a user nor reserved
    /// nor pending.
    fn begin_returning_all(&self, class: usize, reclaimed: &mut Reclaimed) {
        reclaimed.add(&self.end_waiting(class, None));
        self.depot.of(class).keeps_least();
        while self.depot.begin_returning(class, || self.stamp_returned()) > 0 {}
    }

    /// Ends the grace period of every existing cookie, if no reader holds it up. It takes two
    /// rounds, because a grace period that is already under way does not count for the newest
    /// cookies.
    fn advance_twice(&self) {
        self.domain.advance_once(self.readers());
        self.domain.advance_once(self.readers());
    }

    /// Does the background work that needs no waiting, as frees and allocations do too, for times
    /// without such calls. Objects that were ready and not needed since the previous call return to
    /// the slabs.
    pub(super) fn tend(&self) {
        self.answer();
        self.depot.share_all_idle(|| self.stamp_deferred());
        self.domain.advance_once(self.readers());
        for class in self.all_classes() {
            self.end_waiting(class, None);
            let idle = self.depot.of(class).free_by_rcu_ttrace.idle();
            self.begin_returning_idle(class, idle, usize::MAX);
        }
        self.domain.advance_once(self.readers());
        self.put_back_passed(&mut Reclaimed::default());
        self.depot.slabs.release_idle();
        self.domain.run_all_callbacks();
    }

    /// Returns every object that no user holds, after waiting for readers, for about `limit` if
    /// there is one. An allocator that was never used waits for no reader.
    pub(super) fn quiesce(&self, limit: Option<Duration>) -> Result<Reclaimed, SynchronizeError> {
        self.domain.check_outside(self.readers())?;
        self.all_classes().for_each(|class| self.depot.of(class).unreserve());
        if !self.depot.slabs.were_used() {
            return Ok(Reclaimed::default());
        }
        let until = limit.map(|limit| thread::clock().saturating_add(limit));
        let turn = self.wait_for_turn(until)?;
        let reclaimed = self.return_all(until)?;
        drop(turn);
        // Outside of the turn, because a callback may wait for other threads.
        self.domain.run_passed_callbacks();
        Ok(reclaimed)
    }

    /// Begins a turn of `quiesce`: what another thread has taken out of the lists is back then. A
    /// hook does not wait: another thread may wait for the call that runs it.
    fn wait_for_turn(
        &self,
        until: Option<Duration>,
    ) -> Result<Option<Begun<'_>>, SynchronizeError> {
        let mut backoff = Backoff::default();
        loop {
            let turn = self.depot.quiescing.try_begin();
            if turn.is_some() || hook_frame::is_inside_any() {
                return Ok(turn);
            }
            self.check_time(until)?;
            backoff.wait();
        }
    }

    fn check_time(&self, until: Option<Duration>) -> Result<(), SynchronizeError> {
        if until.is_some_and(|until| thread::clock() >= until) {
            let reader = self.domain.held_up_by(self.readers());
            return Err(SynchronizeError::TimedOut { reader });
        }
        Ok(())
    }

    /// Returns every object that no user holds, after waiting for readers, but no longer than
    /// `until`.
    fn return_all(&self, until: Option<Duration>) -> Result<Reclaimed, SynchronizeError> {
        let mut reclaimed = Reclaimed::default();
        let released_before = self.depot.slabs.released_bytes();
        loop {
            let runs_before = hook_frame::runs();
            while !self.depot.empty_caches(self.all_classes(), || self.stamp_deferred()) {
                // If memory for batches runs out, use the batches under way again.
                let before = reclaimed.objects;
                self.return_batches(&mut reclaimed, until)?;
                if reclaimed.objects == before {
                    break;
                }
            }
            self.return_batches(&mut reclaimed, until)?;
            // Hooks may have freed more objects.
            if hook_frame::runs() == runs_before || self.depot.is_empty() {
                break;
            }
            self.check_time(until)?;
        }
        reclaimed.released_bytes = self.depot.slabs.released_bytes() - released_before;
        Ok(reclaimed)
    }

    /// Returns every object that is in a batch to its slab, after waiting for readers, but no
    /// longer than `until`.
    fn return_batches(
        &self,
        reclaimed: &mut Reclaimed,
        until: Option<Duration>,
    ) -> Result<(), SynchronizeError> {
        let left = || until.map(|until| until.saturating_sub(thread::clock()));
        // What has passed keeps its stamp, however often the time of such calls is over.
        self.all_classes().for_each(|class| {
            reclaimed.add(&self.end_waiting(class, None));
        });
        let mut held = Held::all(self);
        self.domain.wait_for_readers(self.readers(), left())?;
        for class in self.all_classes() {
            reclaimed.add(&held.finish(class));
            self.begin_returning_all(class, reclaimed);
        }
        self.domain.wait_for_readers(self.readers(), left())?;
        self.put_back_passed(reclaimed);
        self.depot.slabs.release_spare();
        Ok(())
    }

    fn put_back_passed(&self, reclaimed: &mut Reclaimed) {
        for class in self.all_classes() {
            let returned = self.end_returning(class, usize::MAX, true);
            let returned_bytes = returned * self.size(class);
            reclaimed.add(&Finished { returned, returned_bytes, ..Finished::default() });
        }
    }
}

/// The batches of all classes that waited when a call began to wait for readers. Outside their
/// lists, no stamp of a batch that is added meanwhile holds them up. They still count as pending.
/// Those that the call does not finish, since its time was over or a hook panicked, go back with a
/// new stamp.
struct Held<'a> {
    raw: &'a Raw,
    by_class: [Queue; MAX_CLASSES],
}

impl<'a> Held<'a> {
    fn all(raw: &'a Raw) -> Self {
        let mut held = Self { raw, by_class: [const { Queue::new() }; MAX_CLASSES] };
        for class in raw.all_classes() {
            held.by_class[class] = raw.depot.hold_waiting(class);
        }
        held
    }

    /// Finishes the batches of a class, which have passed.
    fn finish(&mut self, class: usize) -> Finished {
        self.raw.depot.finish_held(class, self.by_class[class].take())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for class in self.raw.all_classes() {
            let batches = self.by_class[class].take();
            if !batches.is_empty() {
                self.raw.depot.release_held(class, batches, self.raw.stamp_deferred());
            }
        }
    }
}
