//! Packs objects from arrays and lists into batches.

use crate::batch::{Batch, Pool};
use crate::cpu::SpillList;
use crate::slab::{Arena, Handle};

/// Fills batches one after the other, and delivers each one when it is full or when this is
/// dropped.
pub(super) struct Filler<'a, D: FnMut(Batch)> {
    pool: &'a Pool,
    /// The most objects in a batch.
    most: usize,
    open: Option<Batch>,
    deliver: D,
}

impl<'a, D: FnMut(Batch)> Filler<'a, D> {
    pub(super) fn new(pool: &'a Pool, most: usize, deliver: D) -> Self {
        Self { pool, most, open: None, deliver }
    }

    /// Adds an object. Returns false if there is no memory for a batch.
    fn add(&mut self, object: Handle) -> bool {
        let Some(mut batch) = self.open.take().or_else(|| self.pool.take(true)) else {
            return false;
        };
        let full = self.pool.with(&mut batch, |body| {
            body.objects.push(object);
            body.objects.len() >= self.most
        });
        if full {
            (self.deliver)(batch)
        } else {
            self.open = Some(batch)
        }
        true
    }

    /// Adds objects. Returns how many there was memory for.
    pub(super) fn add_all(&mut self, objects: &[Handle]) -> usize {
        objects.iter().position(|&object| !self.add(object)).unwrap_or(objects.len())
    }

    /// Moves at most `most` objects of a list. If memory runs out, the others stay there.
    pub(super) fn add_list(&mut self, list: &SpillList, arena: &Arena, most: usize) -> Moved {
        let mut objects = 0;
        while objects < most as u64
            && let Some(object) = list.pop(arena)
        {
            if !self.add(object) {
                list.push(arena, object);
                return Moved { objects, complete: false };
            }
            objects += 1;
        }
        Moved { objects, complete: true }
    }
}

/// The result of moving a list.
pub(super) struct Moved {
    pub(super) objects: u64,
    /// False if memory ran out.
    pub(super) complete: bool,
}

impl<D: FnMut(Batch)> Drop for Filler<'_, D> {
    fn drop(&mut self) {
        if let Some(batch) = self.open.take() {
            (self.deliver)(batch);
        }
    }
}
