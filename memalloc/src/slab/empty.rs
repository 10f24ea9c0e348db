//! Decides which empty slabs keep their memory for the next class that needs one, and which return
//! it to the system.
//!
//! At first, two keep it. Whenever a slab that has returned its memory is taken, four more may keep
//! theirs. So if slabs, up to 4 MiB of them, are emptied and filled over and over, none of them
//! returns its memory after a while.

/// The number of empty slabs that keep their memory however seldom they are needed.
const LEAST_SPARE: usize = 2;

/// The most slabs that keep their memory: 4 MiB, the default of the most memory that may be
/// pending.
const MOST_SPARE: usize = 64;

/// The number of slabs that additionally keep their memory after one was missing.
const MORE_SPARE: usize = 4;

#[derive(Clone, Debug)]
pub(super) struct EmptySlabs {
    /// Slabs that still have their memory, if it was ever touched, in the order in which they
    /// became empty.
    spare: Vec<u32>,
    /// Slabs that have returned their memory.
    released: Vec<u32>,
    /// The most slabs that may be spare.
    most_spare: usize,
    /// The fewest spare slabs since the last call of `idle`.
    fewest: usize,
    /// The number of slabs that may be added here.
    known: usize,
}

impl Default for EmptySlabs {
    fn default() -> Self {
        let (spare, released) = (Vec::new(), Vec::new());
        Self { spare, released, most_spare: LEAST_SPARE, fewest: 0, known: 0 }
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

    /// Takes an empty slab, preferably one that has its memory.
    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(number) = self.spare.pop() {
            self.fewest = self.fewest.min(self.spare.len());
            return Some(number);
        }
        let number = self.released.pop()?;
        self.most_spare = (self.most_spare + MORE_SPARE).min(MOST_SPARE);
        Some(number)
    }

    /// Returns the slab that became empty last and has its memory.
    pub(super) fn newest(&self) -> Option<u32> {
        self.spare.last().copied()
    }

    /// Adds a slab that has its memory, or gets it when it is touched.
    pub(super) fn add(&mut self, number: u32) {
        self.spare.push(number);
    }

    /// Returns how many more slabs are spare than may stay.
    pub(super) fn surplus(&self) -> usize {
        self.spare.len().saturating_sub(self.most_spare)
    }

    /// Returns how many slabs have not been needed since the last call, and lowers the number that
    /// may stay by that.
    pub(super) fn idle(&mut self) -> usize {
        let idle = self.fewest.min(self.spare.len());
        self.most_spare = self.most_spare.saturating_sub(idle).max(LEAST_SPARE);
        self.fewest = self.spare.len() - idle;
        idle
    }

    /// Returns the number of spare slabs, and resets the number that may stay to the initial one.
    pub(super) fn all(&mut self) -> usize {
        self.most_spare = LEAST_SPARE;
        self.spare.len()
    }

    /// Returns the oldest spare slab, if `release` returns its memory.
    pub(super) fn release_oldest(&mut self, release: impl FnOnce(u32) -> bool) -> Option<u32> {
        let number = *self.spare.first()?;
        if !release(number) {
            return None;
        }
        self.spare.remove(0);
        self.released.push(number);
        self.fewest = self.fewest.min(self.spare.len());
        Some(number)
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
    fn empty(slabs: &mut EmptySlabs, numbers: &[u32]) -> Vec<u32> {
        let mut gone = Vec::new();
        for &number in numbers {
            slabs.add(number);
            if slabs.surplus() > 0 {
                gone.extend(slabs.release_oldest(|_| true));
            }
        }
        gone
    }

    #[test]
    fn slabs_that_are_emptied_and_filled_again_keep_their_memory_after_a_while() {
        let mut slabs = EmptySlabs::default();
        assert_eq!(empty(&mut slabs, &[1, 2, 3, 4, 5]), [1, 2, 3], "two stay at first");
        for _ in 0..3 {
            let taken: Vec<_> = (0..5).map_while(|_| slabs.take()).collect();
            assert_eq!(empty(&mut slabs, &taken), [], "three were missed once");
        }
        assert_eq!(slabs.idle(), 0, "all were needed");
        assert_eq!(slabs.release_oldest(|_| false), None, "the system does not take it");
        assert_eq!(slabs.idle(), 5, "none was");
        assert!((0..5).all(|_| slabs.release_oldest(|_| true).is_some()));
        let taken: Vec<_> = (0..5).map_while(|_| slabs.take()).collect();
        assert_eq!(empty(&mut slabs, &taken), [], "they were missed again");
    }

    #[test]
    fn no_more_than_four_mib_are_spare_however_many_are_missed() {
        let mut slabs = EmptySlabs::default();
        let numbers: Vec<_> = (1..=200).collect();
        empty(&mut slabs, &numbers);
        for _ in 0..3 {
            let taken: Vec<_> = (0..200).map_while(|_| slabs.take()).collect();
            assert_eq!(empty(&mut slabs, &taken).len(), 200 - MOST_SPARE);
        }
        assert_eq!(slabs.all(), MOST_SPARE);
    }
}
