//! A lock-free list of batches, last in first out.
//!
//! The head is the link of the first batch and a tag that changes with every exchange. The tag has
//! 32 bits: for an ABA error, a popper would have to sleep through exactly 2^32 changes and then
//! find the same batch in front.

use super::pool::{Batch, Pool};
use super::queue::Queue;
use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct BatchList {
    head: AtomicU64,
}

const fn head(link: u32, tag: u32) -> u64 {
    (tag as u64) << 32 | link as u64
}

const fn link_of(head: u64) -> u32 {
    head as u32
}

const fn next_tag(head: u64) -> u32 {
    ((head >> 32) as u32).wrapping_add(1)
}

impl BatchList {
    pub(crate) fn new() -> Self {
        Self { head: AtomicU64::new(0) }
    }

    /// Returns true if the list looks empty at the moment.
    pub(crate) fn is_empty(&self) -> bool {
        link_of(self.head.load(Ordering::Relaxed)) == 0
    }

    pub(crate) fn push(&self, pool: &Pool, batch: Batch) {
        let link = batch.into_link();
        self.splice(pool, link, link);
    }

    /// Puts all batches of a queue in front, in their order.
    pub(crate) fn push_all(&self, pool: &Pool, queue: Queue) {
        if let Some((first, last)) = queue.into_links() {
            self.splice(pool, first, last);
        }
    }

    /// Puts the chain that begins at `first` and ends at `last` in front.
    fn splice(&self, pool: &Pool, first: u32, last: u32) {
        let mut seen = self.head.load(Ordering::Relaxed);
        loop {
            pool.node(last).next.store(link_of(seen), Ordering::Relaxed);
            let new = head(first, next_tag(seen));
            // ORDERING: Release pairs with the Acquire of `pop` and `take_all`: a thread that takes
            // the batch sees its body. Falls to `loom` `a_batch_arrives_whole`.
            match self.head.compare_exchange_weak(seen, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    pub(crate) fn pop(&self, pool: &Pool) -> Option<Batch> {
        self.pop_if(pool, || true)
    }

    /// Takes the first batch, if `may_take` is true of every batch that the list had at one moment,
    /// the moment at which this one was first.
    pub(super) fn pop_if(&self, pool: &Pool, may_take: impl Fn() -> bool) -> Option<Batch> {
        // ORDERING: Acquire pairs with the Release in `splice`, directly or through the chain of
        // exchanges that follows it. Falls to `loom` `a_batch_arrives_whole`.
        let mut seen = self.head.load(Ordering::Acquire);
        // MEM-B4: if a batch arrives after `may_take`, the exchange fails.
        while link_of(seen) != 0 && may_take() {
            // MEM-B2: if another thread has taken the batch meanwhile, the exchange fails.
            let next = pool.node(link_of(seen)).next.load(Ordering::Relaxed);
            let new = head(next, next_tag(seen));
            // ORDERING: on failure Acquire, as the first load. Falls to `loom`
            // `batches_cross_without_loss`.
            match self.head.compare_exchange_weak(seen, new, Ordering::Relaxed, Ordering::Acquire) {
                // SAFETY: the exchange took the link off the list, so only this thread has the
                // batch.
                Ok(_) => return unsafe { Batch::from_link(link_of(seen)) },
                Err(changed) => seen = changed,
            }
        }
        None
    }

    /// Takes all batches at once. Those that are not consumed must go back with
    /// [`push_all`](Self::push_all).
    pub(crate) fn take_all(&self, pool: &Pool) -> Queue {
        // ORDERING: Acquire as in `pop`. Falls to `a_chain_that_is_taken_at_once_arrives_whole`.
        let mut seen = self.head.load(Ordering::Acquire);
        while link_of(seen) != 0 {
            let new = head(0, next_tag(seen));
            // ORDERING: on failure Acquire, as the first load. Falls to
            // `a_chain_that_is_taken_at_once_arrives_whole`.
            match self.head.compare_exchange_weak(seen, new, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) => break,
                Err(changed) => seen = changed,
            }
        }
        // SAFETY: MEM-B1: the exchange took the whole chain off the list.
        unsafe { Queue::of_chain(pool, link_of(seen)) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn batches_are_used_again() {
        let pool = Pool::reserved(1 << 24);
        let first = pool.numbered(7);
        let number = format!("{first:?}");
        pool.give(first);
        let mut again = pool.take(true).unwrap();
        assert_eq!(format!("{again:?}"), number);
        assert_eq!(pool.with(&mut again, |body| body.objects.len()), 0);
        pool.give(again);
    }

    #[test]
    fn threads_that_push_and_pop_lose_no_batch() {
        let (pool, list) = (Pool::reserved(1 << 24), BatchList::new());
        for cookie in 1..=8 {
            list.push(&pool, pool.numbered(cookie));
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..20_000 {
                        if round % 64 == 0 {
                            list.push_all(&pool, list.take_all(&pool));
                        } else if let Some(batch) = list.pop(&pool) {
                            list.push(&pool, batch);
                        }
                    }
                });
            }
        });
        let mut cookies = list.take_all(&pool).into_numbers(&pool);
        cookies.sort_unstable();
        assert_eq!(cookies, (1..=8).collect::<Vec<_>>());
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::explore::Model;
    use crate::sync::{AtomicBool, thread};
    use std::rc::Rc;

    #[test]
    fn a_chain_that_is_taken_at_once_arrives_whole() {
        let happens = &["both batches", "the second later"];
        let name = "a chain is taken beside a push";
        let model = Model { name, bound: None, least: 10, happens };
        model.explore(|seen| {
            let pool = Pool::for_range(&crate::backing::usual(), 1 << 24).expect("a range");
            let shared = Rc::new((pool, BatchList::new()));
            let (pool, list) = &*shared;
            list.push(pool, pool.numbered(1));
            let pushed = Rc::new(AtomicBool::new(false));
            let other = thread::spawn({
                let (shared, pushed) = (shared.clone(), pushed.clone());
                move || {
                    let (pool, list) = &*shared;
                    list.push(pool, pool.numbered(2));
                    pushed.store(true, Ordering::Relaxed);
                }
            });
            // Loom does not see that a load may come after another thread's exchange of a word that
            // the thread has just loaded. It sees this.
            let _ = pushed.load(Ordering::Relaxed);
            let ages = list.take_all(pool).into_numbers(pool);
            other.join().unwrap();
            let later = list.take_all(pool).into_numbers(pool);
            let both = ages.len() == 2;
            assert_eq!([ages, later].concat().len(), 2, "claim: each is taken once");
            seen.note(happens[0], both);
            seen.note(happens[1], !both);
        });
    }
}
