//! Finds the caches that serve a layout, by its size, with everything that the fast paths need.

use super::table::CacheTable;
use crate::class::{BATCH_CAPACITY, CACHE_CAPACITY, ClassTable, MAX_SIZE, UNIT};
use crate::sys::rseq::CacheRow;
use std::alloc::Layout;

/// One entry for each number of units, including zero, and a last one for layouts that are not
/// served.
const ENTRIES: usize = MAX_SIZE / UNIT + 2;

const _: () = assert!(
    CACHE_CAPACITY < u16::MAX as usize
        && BATCH_CAPACITY < u8::MAX as usize
        && MAX_SIZE <= u16::MAX as usize
);

/// The rows of the caches of every class, by size.
#[derive(Debug)]
pub(super) struct BySize {
    by_units: [CacheRow; ENTRIES],
}

impl BySize {
    /// Returns a table that serves no layout. `first` is the address of a cache, or of readable
    /// memory in place of one.
    pub(super) const fn unserved(first: usize) -> Self {
        // No cache holds more than `low` objects: nothing is taken for a layout that is not served,
        // and no check is needed beforehand.
        let row = CacheRow { first, size: 0, low: u16::MAX, limit: 0, by_rcu_limit: 0, class: 0 };
        Self { by_units: [row; ENTRIES] }
    }

    /// Returns the table for these classes and caches.
    pub(super) fn new(classes: &ClassTable, table: &CacheTable) -> Self {
        let mut by_size = Self::unserved(table.first(0));
        for (units, caches) in by_size.by_units.iter_mut().enumerate() {
            let layout = Layout::from_size_align(units * UNIT, 1).ok();
            let Some(number) = layout.and_then(|layout| classes.class_for(layout)) else {
                continue;
            };
            let class = classes.class(number);
            let marks = class.watermarks;
            // All are at most the capacity of a cache (`Watermarks::check`).
            *caches = CacheRow {
                first: table.first(number),
                size: class.size as u16,
                low: marks.low as u16,
                limit: marks.full() as u16,
                // The object that fills the batch takes the slow path.
                by_rcu_limit: class.deferred_batch() as u8 - 1,
                class: number as u8,
            };
        }
        by_size
    }

    /// Returns the row of the smallest class that serves `layout`, or one of size 0 if none does.
    #[inline(always)]
    pub(super) fn of(&self, layout: Layout) -> &CacheRow {
        if layout.align() > UNIT || layout.size() > MAX_SIZE {
            return self.of_aligned(layout);
        }
        // Not `div_ceil`, which also handles sums that overflow.
        &self.by_units[(layout.size() + UNIT - 1) >> UNIT.trailing_zeros()]
    }

    #[cold]
    #[inline(never)]
    fn of_aligned(&self, layout: Layout) -> &CacheRow {
        let serves = |caches: &&CacheRow| {
            let size = usize::from(caches.size);
            size > 0 && size.is_multiple_of(layout.align())
        };
        // From this entry on, all classes are large enough.
        let enough = self.by_units.get(layout.size().div_ceil(UNIT)..).unwrap_or_default();
        enough.iter().find(serves).unwrap_or(&self.by_units[ENTRIES - 1])
    }
}
