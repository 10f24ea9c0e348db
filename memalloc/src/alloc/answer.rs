//! Makes objects ready for calls that may not wait (the kernel's `irq_work`): such a call wakes a
//! worker, which refills the lists that all CPUs share.

use super::raw::Raw;
#[cfg(not(loom))]
use crate::sys::bell::Bell;

impl Raw {
    /// Wakes the worker that sleeps on a bell whenever a call that may not wait finds too little.
    #[cfg(not(loom))]
    pub(super) fn served_by(&self, bell: Bell) {
        self.wanted.served_by(bell);
    }

    /// Takes back one [`served_by`](Self::served_by).
    #[cfg(not(loom))]
    pub(super) fn no_longer_served_by(&self, bell: Bell) {
        self.wanted.no_longer_served_by(bell);
    }

    /// Wakes the workers if too few objects of a class are ready, once until one of them has begun
    /// to make more ready. Without a worker, does nothing. Async-signal-safe.
    pub(super) fn want(&self, class: usize) {
        let is_low = || !self.depot.caches.is_live() || self.missing(class) > 0;
        if self.wanted.is_served() && is_low() {
            self.wanted.add(class);
        }
    }

    /// Makes objects ready of the classes that are wanted. Not for signal handlers.
    pub(super) fn answer(&self) {
        for class in self.wanted.take() {
            if !self.refill_depot(class) {
                self.wanted.put_off(class);
            }
        }
    }

    /// Makes a batch of objects ready, or as many as are reserved. Returns false if memory has run
    /// out.
    fn refill_depot(&self, class: usize) -> bool {
        if self.depot.wake().is_err() {
            return false;
        }
        self.end_shared(class);
        // Once: what others take meanwhile makes them wake a worker again.
        let missing = self.missing(class) as usize;
        let at_once = self.depot.classes.class(class).most_at_once();
        (0..missing).step_by(at_once).all(|made| self.carve_ready(class, missing - made).is_ok())
    }

    /// Returns how many more objects have to be ready so that a call that may not wait finds some
    /// on any CPU.
    fn missing(&self, class: usize) -> u64 {
        let depot = self.depot.of(class);
        depot.least_ready().saturating_sub(depot.free_by_rcu_ttrace.objects())
    }
}
