//! The classes of which a call that may not wait found too few objects ready, and the workers to
//! wake for them. Knows numbers only.

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
    /// The bells of the workers that serve the allocator.
    bells: Bells,
}

impl Wanted {
    pub(super) const fn new() -> Self {
        Self { classes: Tally::new(0), bells: Bells::new() }
    }

    /// Adds the bell of a worker that refills the classes from now on.
    #[cfg(not(loom))]
    pub(super) fn served_by(&self, bell: Bell) {
        self.bells.add(bell);
    }

    /// Takes back one [`served_by`](Self::served_by).
    #[cfg(not(loom))]
    pub(super) fn no_longer_served_by(&self, bell: Bell) {
        self.bells.remove(bell);
    }

    /// Returns true if a worker would be woken for a class.
    pub(super) fn wakes_for(&self, class: usize) -> bool {
        !self.bells.is_empty() && self.classes.load(Relaxed) & 1 << class == 0
    }

    /// Adds a class, and wakes the workers if it is new. Async-signal-safe.
    pub(super) fn add(&self, class: usize) {
        if self.classes.fetch_or(1 << class, Relaxed) & 1 << class == 0 {
            self.bells.ring();
        }
    }

    /// Adds a class for the next round of the workers.
    pub(super) fn put_off(&self, class: usize) {
        self.classes.fetch_or(1 << class, Relaxed);
    }

    /// Takes all classes.
    pub(super) fn take(&self) -> impl Iterator<Item = usize> + use<> {
        let classes = self.classes.swap(0, Relaxed);
        (0..MAX_CLASSES).filter(move |class| classes >> class & 1 != 0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn workers_are_woken_once_for_a_class_until_they_have_taken_it() {
        let (wanted, bell) = (Wanted::new(), Bell::next());
        assert!(!wanted.wakes_for(3), "there is no worker");
        wanted.served_by(bell);
        let rings = || bell.rings();
        let before = rings();
        assert!(wanted.wakes_for(3));
        [3, 63, 3].iter().for_each(|&class| wanted.add(class));
        assert_eq!(rings(), before + 2);
        assert!(!wanted.wakes_for(3) && wanted.wakes_for(4));
        assert_eq!(wanted.take().collect::<Vec<_>>(), [3, 63]);
        wanted.put_off(3);
        wanted.add(3);
        assert_eq!(
            (rings(), wanted.take().count()),
            (before + 2, 1),
            "it waits for the next round"
        );
    }
}
