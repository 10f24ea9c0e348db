//! The classes of which a call that may not wait has found too few objects ready, and the workers
//! that make more ready (the kernel's `irq_work`).

use super::raw::Raw;
use crate::class::MAX_CLASSES;
use crate::sync::Ordering::Relaxed;
use crate::sync::Tally;
#[cfg(not(loom))]
use crate::sys::bell::Bell;
use crate::sys::bell::Bells;

const _: () = assert!(MAX_CLASSES <= u64::BITS as usize);

/// The classes that workers are to refill.
#[derive(Debug)]
pub(super) struct Wanted {
    /// A bit for each class.
    classes: Tally,
    /// The bells of the workers that serve the allocator, or have served it.
    bells: Bells,
}

impl Wanted {
    pub(super) const fn new() -> Self {
        Self { classes: Tally::new(0), bells: Bells::new() }
    }
}

impl Raw {
    /// Wakes the worker whose bell this is whenever a call that may not wait finds too little.
    #[cfg(not(loom))]
    pub(super) fn served_by(&self, bell: Bell) {
        self.wanted.bells.add(bell);
    }

    /// Wakes the workers if too few objects of a class are ready, once until they have made more
    /// ready. Without a worker, does nothing. Async-signal-safe.
    pub(super) fn want(&self, class: usize) {
        let (wanted, bit) = (&self.wanted, 1 << class);
        if wanted.bells.is_empty() || wanted.classes.load(Relaxed) & bit != 0 {
            return;
        }
        let is_low = self.depot.caches.is_live().then(|| self.missing(class)) != Some(0);
        if is_low && wanted.classes.fetch_or(bit, Relaxed) & bit == 0 {
            wanted.bells.ring();
        }
    }

    /// Makes objects ready of the classes that are wanted. Not for signal handlers.
    pub(super) fn answer(&self) {
        let mut left = self.wanted.classes.swap(0, Relaxed);
        let mut refused = 0;
        while left != 0 {
            let class = left.trailing_zeros() as usize;
            left &= left - 1;
            if !self.refill_depot(class) {
                refused |= 1 << class;
            }
        }
        if refused != 0 {
            // No further ring for these: the next round tries again.
            self.wanted.classes.fetch_or(refused, Relaxed);
        }
    }

    /// Makes a batch of objects ready, or as many as are reserved. Returns false if memory has run
    /// out.
    fn refill_depot(&self, class: usize) -> bool {
        if self.depot.wake().is_err() {
            return false;
        }
        self.end_shared(class);
        loop {
            match self.missing(class) {
                0 => return true,
                missing if self.carve_ready(class, missing as usize).is_err() => return false,
                _ => (),
            }
        }
    }

    /// Returns how many more objects have to be ready so that a call that may not wait finds some
    /// on any CPU.
    fn missing(&self, class: usize) -> u64 {
        let depot = self.depot.of(class);
        depot.least_ready().saturating_sub(depot.free_by_rcu_ttrace.objects())
    }
}
