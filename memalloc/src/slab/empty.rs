//! Decides which empty slabs keep their memory for the next class that needs one, and which return
//! it to the system.
//!
//! The number of slabs that may keep their memory is the sum of two limits:
//!
//! - `most_spare` is 2 at first. When a slab is taken that has returned its memory, the limit
//!   doubles and grows by at least 4, up to 64 slabs (4 MiB). So slabs of up to 4 MiB in all that
//!   are emptied and filled repeatedly soon keep their memory.
//! - `kept` goes beyond 4 MiB, for a class that repeatedly falls and rises by more slabs than that.
//!   It grows by one when the class takes a slab again within [`RECENT`] after that slab returned
//!   its memory. It falls by the number of slabs that were not needed for [`RECENT`].
//!
//! No thread does this in the background: the time is checked when objects are carved from slabs or
//! return to them, and by `tend`.

use super::arena::Arena;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// The number of empty slabs that keep their memory however seldom they are needed.
const LEAST_SPARE: usize = 2;

/// The most slabs that keep their memory: 4 MiB, the default of the most memory that may be
/// pending; not counting those that are kept because they were needed again.
const MOST_SPARE: usize = 64;

/// The fewest slabs that additionally keep their memory after one was missing.
const MORE_SPARE: usize = 4;

/// A slab that is needed again within this time should have kept its memory; a slab that is not
/// needed for this time returns it.
pub(super) const RECENT: Duration = Duration::from_secs(1);

/// The most slabs to return beside a free: one more than were emptied since the last one, but no
/// more than this while few are late.
pub(super) const MOST_AT_FREE: usize = 4;

/// The number of slabs that may be late: 1 MiB. One batch may empty a slab with each object, and if
/// no free follows, those that are late stay.
const MOST_LATE: usize = 16;

/// The most slabs to return while the lock of the slabs is held: 1 MiB.
pub(super) const MOST_AT_ONCE: usize = 16;

/// The most slabs to return beside an allocation.
pub(super) const MOST_AT_ALLOC: usize = 1;

#[derive(Clone, Debug)]
pub(super) struct EmptySlabs {
    /// Slabs that still have their memory, if it was ever touched, in the order in which they
    /// became empty.
    spare: VecDeque<u32>,
    /// Slabs that have returned their memory.
    released: Vec<u32>,
    /// The most slabs that may be spare, beside those that are kept.
    most_spare: usize,
    /// The number of slabs that may be spare because they were needed again.
    kept: usize,
    /// The number of slabs that were taken from here, less those that have become empty since; at
    /// least 0. (Slabs that were never here become empty too.)
    risen: usize,
    /// The number of slabs that have become empty since memory was last returned beside a free, and
    /// of those before, if they are late.
    emptied: usize,
    /// The fewest spare slabs since the last call of `idle`.
    fewest: usize,
    /// The fewest spare slabs since `checked_at`.
    fewest_recently: usize,
    /// The time of the last decision about `kept`.
    checked_at: Duration,
    /// The number of slabs that may be added here.
    known: usize,
}

impl Default for EmptySlabs {
    fn default() -> Self {
        Self {
            spare: VecDeque::new(),
            released: Vec::new(),
            most_spare: LEAST_SPARE,
            kept: 0,
            risen: 0,
            emptied: 0,
            fewest: 0,
            fewest_recently: 0,
            checked_at: Duration::ZERO,
            known: 0,
        }
    }
}

impl EmptySlabs {
    /// Makes room for one more slab. Returns false if there is no memory.
    pub(super) fn make_room(&mut self) -> bool {
        let slabs = self.known + 1;
        let room = self.spare.try_reserve(slabs.saturating_sub(self.spare.len())).is_ok()
            && self.released.try_reserve(slabs.saturating_sub(self.released.len())).is_ok();
        self.known += usize::from(room);
        room
    }

    /// Takes an empty slab, preferably one that has its memory. `was_needed` tells of one that has
    /// not whether the same class has given it back recently.
    pub(super) fn take(&mut self, was_needed: impl FnOnce(u32) -> bool) -> Option<u32> {
        if let Some(number) = self.spare.pop_back() {
            self.note_fewest();
            self.risen += 1;
            return Some(number);
        }
        let number = self.released.pop()?;
        self.risen += 1;
        if self.most_spare < MOST_SPARE {
            self.most_spare = (self.most_spare + self.most_spare.max(MORE_SPARE)).min(MOST_SPARE);
        } else if self.risen > self.most_spare + self.kept && was_needed(number) {
            self.kept += 1;
        }
        Some(number)
    }

    /// Returns the slab that became empty last and has its memory.
    pub(super) fn newest(&self) -> Option<u32> {
        self.spare.back().copied()
    }

    /// Adds a slab that has its memory, or gets it when it is touched.
    pub(super) fn add(&mut self, number: u32) {
        self.spare.push_back(number);
        self.risen = self.risen.saturating_sub(1);
        self.emptied += 1;
    }

    /// Returns how many more slabs are spare than may stay.
    fn surplus(&self) -> usize {
        self.spare.len().saturating_sub(self.most_spare + self.kept)
    }

    /// Returns how many slabs to return beside a free.
    pub(super) fn surplus_at_free(&mut self, now: impl FnOnce() -> Duration) -> usize {
        let late = self.surplus_at(now, usize::MAX);
        let most = (self.emptied + 1).min(MOST_AT_FREE.max(late.saturating_sub(MOST_LATE)));
        self.emptied = self.emptied.saturating_sub(most).min(late);
        late.min(most)
    }

    /// Returns how many slabs to return, `most` at most. `now` is called only if slabs are kept
    /// because they were needed again.
    pub(super) fn surplus_at(&mut self, now: impl FnOnce() -> Duration, most: usize) -> usize {
        if self.kept > 0 {
            self.forget_unneeded(now());
        }
        self.surplus().min(most)
    }

    /// Stops keeping the slabs that were not needed in the last [`RECENT`].
    fn forget_unneeded(&mut self, now: Duration) {
        if now.saturating_sub(self.checked_at) >= RECENT {
            self.kept = self.kept.saturating_sub(self.fewest_recently);
            self.fewest_recently = self.spare.len();
            self.checked_at = now;
        }
    }

    /// Returns how many slabs to return that have not been needed since the last call, and lowers
    /// the number that may stay by that.
    pub(super) fn idle(&mut self, now: Duration) -> usize {
        self.forget_unneeded(now);
        let idle = self.fewest.min(self.spare.len()).saturating_sub(self.kept);
        self.most_spare = self.most_spare.saturating_sub(idle).max(LEAST_SPARE);
        self.fewest = self.spare.len() - idle;
        idle.max(self.surplus())
    }

    /// Returns the number of spare slabs, and resets the number that may stay to the initial one.
    pub(super) fn all(&mut self) -> usize {
        (self.most_spare, self.kept) = (LEAST_SPARE, 0);
        self.spare.len()
    }

    /// Returns the numbers of at most `most` of the oldest spare slabs, if `release` returns their
    /// memory. They are adjacent and were committed together, so that one call serves all of them.
    pub(super) fn release_oldest(
        &mut self,
        most: usize,
        release: impl FnOnce(&Range<u32>) -> bool,
    ) -> Range<u32> {
        let mut run = 0..0;
        for &number in self.spare.iter().take(most) {
            match number {
                _ if run.is_empty() => run = number..number + 1,
                _ if number == run.end && !Arena::opens_chunk(number) => run.end += 1,
                _ if number + 1 == run.start && !Arena::opens_chunk(run.start) => run.start -= 1,
                _ => break,
            }
        }
        if run.is_empty() || !release(&run) {
            return 0..0;
        }
        self.spare.drain(..run.len());
        self.released.extend(run.clone());
        self.note_fewest();
        run
    }

    fn note_fewest(&mut self) {
        self.fewest = self.fewest.min(self.spare.len());
        self.fewest_recently = self.fewest_recently.min(self.spare.len());
    }

    /// Returns the bytes of the lists.
    pub(super) fn table_bytes(&self) -> usize {
        (self.spare.capacity() + self.released.capacity()) * size_of::<u32>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Empties these slabs, and returns those that returned their memory.
    fn empty(slabs: &mut EmptySlabs, now: Duration, numbers: &[u32]) -> Vec<u32> {
        let mut gone = Vec::new();
        for &number in numbers {
            slabs.add(number);
            for _ in 0..slabs.surplus_at_free(|| now) {
                gone.extend(slabs.release_oldest(1, |_| true));
            }
        }
        gone
    }

    /// Takes `count` slabs for the class that has given them back `recently` or not.
    fn take(slabs: &mut EmptySlabs, count: usize, recently: bool) -> Vec<u32> {
        (0..count).map_while(|_| slabs.take(|_| recently)).collect()
    }

    #[test]
    fn slabs_that_are_emptied_and_filled_again_keep_their_memory_after_a_while() {
        let (mut slabs, now) = (EmptySlabs::default(), Duration::ZERO);
        assert_eq!(empty(&mut slabs, now, &[1, 2, 3, 4, 5]), [1, 2, 3], "two stay at first");
        for _ in 0..3 {
            let taken = take(&mut slabs, 5, false);
            assert_eq!(empty(&mut slabs, now, &taken), [], "three were missed once");
        }
        assert_eq!(slabs.idle(now), 0, "all were needed");
        assert_eq!(slabs.release_oldest(1, |_| false), 0..0, "the system does not take it");
        assert_eq!(slabs.idle(now), 5, "none was");
        assert!((0..5).all(|_| slabs.release_oldest(1, |_| true).len() == 1));
        let taken = take(&mut slabs, 5, false);
        assert_eq!(empty(&mut slabs, now, &taken), [], "they were missed again");
    }

    #[test]
    fn no_more_than_four_mib_are_spare_however_many_others_have_given_back() {
        let (mut slabs, now) = (EmptySlabs::default(), Duration::ZERO);
        let numbers: Vec<_> = (1..=200).collect();
        empty(&mut slabs, now, &numbers);
        for _ in 0..3 {
            let taken = take(&mut slabs, 200, false);
            assert_eq!(empty(&mut slabs, now, &taken).len(), 200 - MOST_SPARE);
        }
        assert_eq!(slabs.all(), MOST_SPARE);
    }

    #[test]
    fn slabs_that_one_class_needs_over_and_over_keep_their_memory_until_it_does_not() {
        let (mut slabs, mut now) = (EmptySlabs::default(), Duration::from_secs(9));
        let numbers: Vec<_> = (1..=200).collect();
        assert_eq!(empty(&mut slabs, now, &numbers).len(), 198, "at first");
        for _ in 0..5 {
            let taken = take(&mut slabs, 200, true);
            assert_eq!(empty(&mut slabs, now, &taken), [], "all were missed once");
            assert_eq!(slabs.idle(now), 0);
            now += RECENT;
        }
        // Half of them, from now on.
        let mut gone = 0;
        for _ in 0..2 {
            let half = take(&mut slabs, 100, true);
            gone += empty(&mut slabs, now, &half).len();
            now += RECENT;
        }
        assert!((90..110).contains(&gone), "{gone} of 100 that were not needed have gone");
        // None.
        for _ in 0..3 {
            now += RECENT;
            let idle = slabs.idle(now);
            gone += (0..idle).map(|_| slabs.release_oldest(1, |_| true).len()).sum::<usize>();
        }
        assert_eq!(gone, 200);
    }

    /// While they are kept, frees empty more of them than they return.
    #[test]
    fn a_free_returns_a_few_slabs_however_many_were_emptied_while_they_were_kept() {
        let (mut slabs, mut now) = (EmptySlabs::default(), Duration::from_secs(9));
        empty(&mut slabs, now, &(1..=1_000).collect::<Vec<_>>());
        for _ in 0..3 {
            for batch in take(&mut slabs, 1_000, true).chunks(100) {
                batch.iter().for_each(|&number| slabs.add(number));
                assert_eq!(slabs.surplus_at_free(|| now), 0, "all are kept");
            }
        }
        for _ in 0..2 {
            now += RECENT;
            assert!(slabs.surplus_at_free(|| now) <= MOST_AT_FREE);
        }
        assert!(slabs.surplus() > 900, "they are no longer kept");
    }

    #[test]
    fn an_operation_returns_a_few_slabs_at_once_however_many_are_no_longer_kept() {
        let (mut slabs, mut now) = (EmptySlabs::default(), Duration::from_secs(9));
        let numbers: Vec<_> = (1..=200).collect();
        empty(&mut slabs, now, &numbers);
        let taken = take(&mut slabs, 200, true);
        assert_eq!(empty(&mut slabs, now, &taken), [], "all were missed once");
        let mut gone = 0;
        for _ in 0..200 {
            now += RECENT;
            let most = slabs.surplus_at_free(|| now);
            assert!(most <= MOST_AT_FREE);
            gone += (0..most).map(|_| slabs.release_oldest(1, |_| true).len()).sum::<usize>();
        }
        assert_eq!(gone, 200 - MOST_SPARE);
    }
}
