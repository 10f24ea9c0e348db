//! A chain of batches with one owner: no atomic instructions, no allocation.

use super::pool::{Batch, Pool};
use crate::sync::Ordering;

/// A chain of batches, with the number of their objects. All zero, it is empty.
#[must_use = "a queue that is dropped takes its batches with it"]
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Queue {
    first: u32,
    last: u32,
    batches: u32,
    objects: u32,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self { first: 0, last: 0, batches: 0, objects: 0 }
    }

    /// Returns the batches of a chain, in their order.
    ///
    /// # Safety
    ///
    /// The caller took the chain that begins at this link off a list, and so no other thread has
    /// its batches (MEM-B1).
    pub(super) unsafe fn of_chain(pool: &Pool, first: u32) -> Self {
        let (mut all, mut link) = (Self::new(), first);
        // SAFETY: the caller's promise (MEM-B1); each link is taken once.
        while let Some(batch) = unsafe { Batch::from_link(link) } {
            link = pool.node(link).next.load(Ordering::Relaxed);
            all.push_back(pool, batch);
        }
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0
    }

    pub(crate) fn batches(&self) -> u32 {
        self.batches
    }

    pub(crate) fn objects(&self) -> u64 {
        self.objects.into()
    }

    /// Takes all batches.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(crate) fn push_back(&mut self, pool: &Pool, mut batch: Batch) {
        let objects = pool.with(&mut batch, |body| body.objects.len()) as u32;
        let link = batch.into_link();
        pool.node(link).next.store(0, Ordering::Relaxed);
        let mut one = Self { first: link, last: link, batches: 1, objects };
        self.append(pool, &mut one);
    }

    pub(crate) fn push_front(&mut self, pool: &Pool, batch: Batch) {
        let mut rest = self.take();
        self.push_back(pool, batch);
        self.append(pool, &mut rest);
    }

    pub(crate) fn pop_front(&mut self, pool: &Pool) -> Option<Batch> {
        let link = self.first;
        // SAFETY: MEM-B1: the queue is the only holder of its batches, and the link is taken off.
        let mut batch = unsafe { Batch::from_link(link)? };
        self.first = pool.node(link).next.load(Ordering::Relaxed);
        self.batches -= 1;
        self.objects -= pool.with(&mut batch, |body| body.objects.len()) as u32;
        if self.first == 0 {
            self.last = 0;
        }
        Some(batch)
    }

    /// Moves all batches of `other` behind those of this queue.
    pub(crate) fn append(&mut self, pool: &Pool, other: &mut Self) {
        let other = other.take();
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other;
            return;
        }
        pool.node(self.last).next.store(other.first, Ordering::Relaxed);
        self.last = other.last;
        self.batches += other.batches;
        self.objects += other.objects;
    }

    /// Gives all batches back. Returns the numbers of their objects, in order.
    #[cfg(test)]
    pub(crate) fn into_numbers(mut self, pool: &Pool) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Some(mut batch) = self.pop_front(pool) {
            let number = |object: &crate::slab::Handle| object.get();
            pool.with(&mut batch, |body| {
                numbers.extend(body.objects.as_slice().iter().map(number))
            });
            pool.give(batch);
        }
        numbers
    }

    /// Gives up the batches. Returns the links of the first and the last.
    pub(super) fn into_links(self) -> Option<(u32, u32)> {
        (!self.is_empty()).then_some((self.first, self.last))
    }
}
