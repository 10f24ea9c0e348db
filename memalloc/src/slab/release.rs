//! Returns the memory of empty slabs to the system. `empty` chooses the slabs.

use super::empty::{EmptySlabs, MOST_AT_ONCE};
use super::lists::{State, pages};
use super::slabs::Slabs;
use crate::sys::thread::coarse_clock;

impl Slabs {
    /// Returns the memory of all empty slabs, as far as the backing supports that.
    pub(crate) fn release_spare(&self) {
        self.release_each(EmptySlabs::all);
    }

    /// Returns the memory of the empty slabs that have not been needed since the last call, or
    /// recently, if they are kept for that long.
    pub(crate) fn release_idle(&self) {
        self.release_each(|empty| empty.idle(coarse_clock()));
    }

    /// Returns the memory of the oldest empty slabs, as many of each list as `surplus` says. Lets
    /// other threads have the lock after every [`MOST_AT_ONCE`].
    fn release_each(&self, surplus: impl Fn(&mut EmptySlabs) -> usize) {
        let mut state = self.state.lock();
        let mut at_once = MOST_AT_ONCE;
        for of in 0..state.empty.len() {
            let mut left = surplus(&mut state.empty[of]);
            while left > 0 {
                if at_once == 0 {
                    drop(state);
                    state = self.state.lock();
                    at_once = MOST_AT_ONCE;
                }
                let most = left.min(at_once);
                if self.release(&mut state, of, most) < most {
                    break;
                }
                (left, at_once) = (left - most, at_once - most);
            }
        }
    }

    /// Returns how many bytes of empty slabs have ever been returned to the system.
    pub(crate) fn released_bytes(&self) -> u64 {
        self.state.lock().released_bytes
    }

    /// Returns the memory of the `most` oldest empty slabs of a list, as far as the backing
    /// supports that. Adjacent ones take one system call. Returns how many have returned theirs.
    pub(super) fn release(&self, state: &mut State, of: usize, most: usize) -> usize {
        let mut count = 0;
        while count < most {
            let left = most - count;
            let released = state.empty[of].release_oldest(left, |run| self.arena.release(run));
            if released.is_empty() {
                break;
            }
            count += released.len();
            for number in released {
                let slab = &mut state.slabs[number as usize];
                state.released += 1;
                state.backing_bytes -= pages(slab.touched);
                state.released_bytes += pages(slab.touched);
                slab.touched = 0;
                slab.released_at = coarse_clock();
            }
        }
        count
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::slab::arena::{SLAB_BYTES, SLAB_UNITS};
    use crate::slab::slabs::tests::{carve, slabs};

    #[test]
    fn an_empty_slab_serves_another_class_or_goes_back_to_the_system() {
        let (slabs, classes) = slabs(u64::MAX);
        let small = carve(&slabs, &classes, 0, 4 * 4096);
        assert_eq!(slabs.usage().slabs, 4);
        assert_eq!(slabs.usage().backing_bytes, 4 * SLAB_BYTES as u64);
        assert!(slabs.put_back(&classes, &small, true, false));
        assert_eq!(slabs.usage().slabs, 0);
        assert_eq!(slabs.usage().taken[0], 0);
        let large = carve(&slabs, &classes, 10, 64);
        assert!(large.iter().all(|object| object.get() < 5 * SLAB_UNITS), "slabs are used again");
        assert!(slabs.put_back(&classes, &large, true, false));
        let (held, spare) = (slabs.usage().backing_bytes, slabs.state.lock().empty[0].all());
        slabs.release_spare();
        let kept = slabs.state.lock().empty[0].all();
        assert_eq!(slabs.usage().backing_bytes, if kept > 0 { held } else { 0 });
        assert!(kept == 0 || kept == spare, "the backing takes memory back, or does not");
    }

    /// Each takes a system call, unless they are adjacent. One that had to keep its memory a moment
    /// ago counts as any other.
    #[test]
    fn batches_return_a_few_slabs_however_many_they_empty_unless_many_are_late() {
        let (slabs, classes) = slabs(u64::MAX);
        let objects = carve(&slabs, &classes, 10, 300 * 16);
        let mut left = objects.chunks(16);
        // Empties slabs one by one, in one call. Returns how many have given their memory back.
        let mut empty = |count: usize| {
            let before = slabs.usage().released;
            for (number, batch) in left.by_ref().take(count).enumerate() {
                assert!(slabs.put_back(&classes, batch, true, number + 1 < count));
            }
            slabs.usage().released - before
        };
        assert_eq!([empty(2), empty(1), empty(3)], [0, 1, 3], "two stay");
        assert_eq!([empty(12), empty(1), empty(1)], [4, 4, 4], "the others later");
        assert_eq!(empty(100), 100 - 16 + 2, "few are late");
        assert_eq!([empty(1), empty(1)], [4, 4]);
    }
}
