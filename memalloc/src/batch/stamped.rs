//! A list of batches that wait for one stamp: the newest of theirs. A chain of any length joins in
//! one step, and no batch is looked at before it is taken.

use super::list::BatchList;
use super::pool::{Batch, Pool};
use super::queue::Queue;
use crate::rcu::Stamp;
use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct StampedList {
    batches: BatchList,
    /// The newest epoch that a batch has waited for, of each flavour. It never falls.
    newest: [AtomicU64; 2],
}

impl StampedList {
    pub(crate) fn new() -> Self {
        Self { batches: BatchList::new(), newest: [AtomicU64::new(0), AtomicU64::new(0)] }
    }

    /// Returns true if the list looks empty at the moment.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns a stamp that covers those of all batches.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::of_epochs([0, 1].map(|flavour| self.newest[flavour].load(Ordering::Relaxed)))
    }

    /// Adds batches that wait for `stamp`.
    pub(crate) fn push_all(&self, pool: &Pool, batches: Queue, stamp: Stamp) {
        self.raise(stamp);
        self.batches.push_all(pool, batches);
    }

    /// Makes the stamp cover another one. Relaxed: the batches are linked afterwards, with a
    /// Release (MEM-B4).
    fn raise(&self, stamp: Stamp) {
        for (newest, epoch) in self.newest.iter().zip(stamp.epochs()) {
            if newest.load(Ordering::Relaxed) < epoch {
                newest.fetch_max(epoch, Ordering::Relaxed);
            }
        }
    }

    /// Takes a batch, which may be pending.
    pub(crate) fn pop(&self, pool: &Pool) -> Option<Batch> {
        self.batches.pop(pool)
    }

    /// Takes a batch if the grace periods of the list have passed.
    pub(crate) fn pop_passed(&self, pool: &Pool, completed: &Stamp) -> Option<Batch> {
        // MEM-B4: loaded after the head.
        self.batches.pop_if(pool, || self.stamp().has_passed(completed))
    }

    /// Takes all batches, including those that are pending.
    pub(crate) fn take_all(&self, pool: &Pool) -> Queue {
        self.batches.take_all(pool)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn batches_pass_with_the_newest_stamp_of_their_list() {
        let (pool, list) = (Pool::reserved(1 << 24), StampedList::new());
        for (number, epochs) in [(1, [3, 1]), (2, [2, 4])] {
            let mut one = Queue::new();
            one.push_back(&pool, pool.numbered(number));
            list.push_all(&pool, one, Stamp::of_epochs(epochs));
        }
        let take = |epochs| list.pop_passed(&pool, &Stamp::of_epochs(epochs));
        assert!(take([9, 3]).is_none() && take([2, 9]).is_none());
        let mut taken = Queue::new();
        while let Some(batch) = take([3, 4]) {
            taken.push_back(&pool, batch);
        }
        assert_eq!(taken.into_numbers(&pool), [2, 1]);
        assert!(list.is_empty());
    }
}

/// A thread takes a batch that has passed, while another takes the one in front and adds one that
/// has not.
#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::breaks::breaks;
    use crate::explore::{Model, Seen};
    use crate::sync::{AtomicBool, thread};
    use std::rc::Rc;

    const PENDING: u32 = 7;

    /// The steps of adding and of taking; [`SOUND`] is that of the code.
    #[derive(Clone, Copy)]
    struct Steps {
        push: fn(&StampedList, &Pool, Queue, Stamp),
        pop: fn(&StampedList, &Pool, &Stamp) -> Option<Batch>,
    }

    const SOUND: Steps = Steps { push: StampedList::push_all, pop: StampedList::pop_passed };

    fn one(pool: &Pool, number: u32) -> Queue {
        let mut one = Queue::new();
        one.push_back(pool, pool.numbered(number));
        one
    }

    fn run(steps: Steps, seen: &Seen) {
        let pool = Pool::for_range(&crate::backing::usual(), 1 << 24).expect("a range");
        let shared = Rc::new((pool, StampedList::new()));
        let (pool, list) = &*shared;
        (1..=2).for_each(|number| list.push_all(pool, one(pool, number), Stamp::of_epochs([1, 0])));
        let added = Rc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let (shared, added) = (shared.clone(), added.clone());
            move || {
                let (pool, list) = &*shared;
                let first = list.pop(pool);
                (steps.push)(list, pool, one(pool, PENDING), Stamp::of_epochs([3, 0]));
                added.store(true, Ordering::Relaxed);
                first.is_some()
            }
        });
        // Loom does not see that a load may come after another thread's exchange of a word that the
        // thread has just loaded. It sees this.
        let _ = added.load(Ordering::Relaxed);
        let taken = (steps.pop)(list, pool, &Stamp::of_epochs([2, 0]));
        let taken =
            taken.map(|mut batch| pool.with(&mut batch, |body| body.objects.as_slice()[0].get()));
        assert_ne!(taken, Some(PENDING), "claim: a pending batch stays");
        assert!(other.join().unwrap(), "claim: each popper finds one");
        seen.note("took one that had passed", taken.is_some());
        seen.note("saw the later stamp", taken.is_none());
    }

    #[test]
    fn a_pending_batch_is_not_taken_with_those_that_have_passed() {
        let happens = &["took one that had passed", "saw the later stamp"];
        let name = "a batch is taken beside one that arrives";
        let model = Model { name, bound: None, least: 20, happens };
        model.explore(|seen| run(SOUND, seen));
    }

    fn is_needed(mutation: &str, steps: Steps) {
        breaks(mutation, "a pending batch stays", move || run(steps, &Seen::default()));
    }

    #[test]
    fn a_pending_batch_is_taken_if_its_stamp_comes_after_it() {
        let push = |list: &StampedList, pool: &Pool, batches, stamp| {
            list.batches.push_all(pool, batches);
            list.raise(stamp);
        };
        is_needed("stamp raised after the batch is linked", Steps { push, ..SOUND });
    }

    #[test]
    fn a_pending_batch_is_taken_if_the_stamp_is_loaded_before_the_head() {
        let pop = |list: &StampedList, pool: &Pool, completed: &Stamp| {
            list.stamp().has_passed(completed).then(|| list.batches.pop(pool))?
        };
        is_needed("stamp loaded before the head", Steps { pop, ..SOUND });
    }
}
