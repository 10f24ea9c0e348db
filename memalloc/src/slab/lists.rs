//! Lists all slabs, by class and shard, and counts them and their objects: what the lock of the
//! slabs protects.

use super::arena::SLAB_UNITS;
use super::descriptor::{Slab, reciprocal};
use super::empty::EmptySlabs;

const PAGE_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct State {
    /// By slab number; slab 0 is never used, so that no handle is 0. This and the lists are empty
    /// until an object is carved.
    pub(super) slabs: Vec<Slab>,
    /// Slabs without objects outside: one list per class if slabs keep their class, else one list.
    pub(super) empty: Vec<EmptySlabs>,
    pub(super) shards: usize,
    pub(super) classes: usize,
    /// The number of lists of empty slabs to create.
    pub(super) empty_lists: usize,
    /// For each shard of each class, the slabs that have objects in them.
    pub(super) partial: Vec<Vec<u32>>,
    pub(super) taken: Vec<u64>,
    /// For each shard of each class, the number of its slabs.
    pub(super) owned: Vec<usize>,
    /// Number of slabs that have a class.
    pub(super) in_use: u64,
    /// The number of times that a slab was given a class.
    pub(super) opened: u64,
    /// The number of times that a slab returned its memory.
    pub(super) released: u64,
    pub(super) backing_bytes: u64,
    /// Bytes that have ever been returned to the system.
    pub(super) released_bytes: u64,
}

pub(super) fn pages(bytes: usize) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES) as u64
}

impl State {
    /// Creates the lists. Returns false if there is no memory.
    pub(super) fn begin(&mut self) -> bool {
        fn filled<T: Clone>(list: &mut Vec<T>, count: usize, value: T) -> bool {
            let room = list.try_reserve_exact(count - list.len()).is_ok();
            if room {
                list.resize(count, value);
            }
            room
        }
        let lists = self.classes * self.shards;
        let begun = filled(&mut self.partial, lists, Vec::new())
            && filled(&mut self.owned, lists, 0)
            && filled(&mut self.taken, self.classes, 0)
            && filled(&mut self.empty, self.empty_lists, EmptySlabs::default())
            && self.slabs.try_reserve(1).is_ok();
        if begun {
            self.slabs.push(Slab::default());
        }
        begun
    }

    /// Returns the index of the list of empty slabs that may get the class `class`.
    pub(super) fn empty_of(&self, class: usize) -> usize {
        if self.empty.len() == 1 { 0 } else { class }
    }

    /// Makes room to list every slab of a shard and one more, so that an object can be put back
    /// without allocating memory: that may happen in a signal handler.
    pub(super) fn has_room_to_list(&mut self, list: usize) -> bool {
        let (most, listed) = (self.owned[list] + 1, &mut self.partial[list]);
        listed.try_reserve(most.saturating_sub(listed.len())).is_ok()
    }

    /// Gives an empty slab a class and lists it. The caller has made room for the bitmap and the
    /// list.
    pub(super) fn give_class(&mut self, number: u32, class: usize, shard: usize, units: u32) {
        let (objects, list) = (SLAB_UNITS / units, class * self.shards + shard);
        let mut inside = std::mem::take(&mut self.slabs[number as usize].inside);
        inside.clear();
        for first in (0..objects).step_by(64) {
            inside.push(u64::MAX >> (64 - (objects - first).min(64)));
        }
        let slab = &mut self.slabs[number as usize];
        *slab = Slab {
            class,
            shard,
            reciprocal: reciprocal(units),
            inside,
            count: objects,
            listed_at: self.partial[list].len(),
            touched: slab.touched,
            released_at: slab.released_at,
        };
        self.partial[list].push(number);
        self.in_use += 1;
        self.opened += 1;
        self.owned[list] += 1;
    }

    /// Takes a slab off its list.
    pub(super) fn unlist(&mut self, number: u32) {
        let slab = &self.slabs[number as usize];
        let (list, at) = (slab.class * self.shards + slab.shard, slab.listed_at);
        self.partial[list].swap_remove(at);
        if let Some(&moved) = self.partial[list].get(at) {
            self.slabs[moved as usize].listed_at = at;
        }
    }

    /// Moves a slab from another shard's list to a shard. Returns its number, or `None` if there is
    /// no memory to list it.
    pub(super) fn take_over(&mut self, from: usize, class: usize, shard: usize) -> Option<u32> {
        let to = class * self.shards + shard;
        let number = self.partial[from].first().copied().filter(|_| self.has_room_to_list(to))?;
        self.unlist(number);
        self.owned[from] -= 1;
        self.owned[to] += 1;
        let slab = &mut self.slabs[number as usize];
        (slab.shard, slab.listed_at) = (shard, self.partial[to].len());
        self.partial[to].push(number);
        Some(number)
    }

    pub(super) fn touch(&mut self, slab: u32, end: usize) {
        let slab = &mut self.slabs[slab as usize];
        if end > slab.touched {
            self.backing_bytes += pages(end) - pages(slab.touched);
            slab.touched = end;
        }
    }
}
