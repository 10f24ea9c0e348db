//! The classes of which a call that may not wait found too few objects ready, and the workers to
//! wake for them. Knows numbers only.

use crate::class::MAX_CLASSES;
use crate::sync::AtomicU64;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
#[cfg(not(loom))]
use crate::sys::bell::Bell;
use crate::sys::bell::Bells;
use std::sync::Arc;

const _: () = assert!(MAX_CLASSES <= u64::BITS as usize);

/// The classes that workers are to refill.
#[derive(Debug)]
pub(super) struct Wanted {
    /// A bit for each class.
    classes: AtomicU64,
    /// The bells of the workers that serve the allocator.
    bells: Arc<Bells>,
}

impl Wanted {
    pub(super) fn new(bells: &Arc<Bells>) -> Self {
        Self { classes: AtomicU64::new(0), bells: bells.clone() }
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

    /// Returns true if a worker serves the allocator.
    pub(super) fn is_served(&self) -> bool {
        !self.bells.is_empty()
    }

    /// Adds a class, and wakes the workers if it is new. Async-signal-safe.
    pub(super) fn add(&self, class: usize) {
        if self.note(class) {
            self.bells.ring();
        }
    }

    /// Adds a class. Returns true if it is new. If not, the worker that takes it sees how few
    /// objects the caller has left. (A load that finds the class there may be too old to say so.)
    fn note(&self, class: usize) -> bool {
        // ORDERING: Release pairs with the Acquire of `take`. Falls to `loom` "noted relaxed".
        self.classes.fetch_or(1 << class, Release) & 1 << class == 0
    }

    /// Adds a class for the next round of the workers.
    pub(super) fn put_off(&self, class: usize) {
        self.classes.fetch_or(1 << class, Relaxed);
    }

    /// Takes all classes.
    pub(super) fn take(&self) -> impl Iterator<Item = usize> + use<> {
        // ORDERING: Acquire pairs with the Release of `note`. Falls to `loom` "taken relaxed".
        let classes = self.classes.swap(0, Acquire);
        (0..MAX_CLASSES).filter(move |class| classes >> class & 1 != 0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn workers_are_woken_once_for_a_class_until_they_have_taken_it() {
        let (wanted, bell) = (Wanted::new(&Arc::default()), Bell::next());
        assert!(!wanted.is_served());
        wanted.served_by(bell);
        let rings = || bell.rings();
        let before = rings();
        assert!(wanted.is_served());
        [3, 63, 3].iter().for_each(|&class| wanted.add(class));
        assert_eq!(rings(), before + 2);
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

/// A thread leaves few objects ready and adds their class, which another one has added before,
/// while a worker takes the classes and looks.
#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::breaks::breaks;
    use crate::explore::{Model, Seen};
    use crate::sync::thread;
    use std::rc::Rc;

    const CLASS: usize = 3;

    /// The steps of adding and of taking; [`SOUND`] is that of the code.
    #[derive(Clone, Copy)]
    struct Steps {
        note: fn(&Wanted) -> bool,
        take: fn(&Wanted) -> bool,
    }

    const SOUND: Steps =
        Steps { note: |wanted| wanted.note(CLASS), take: |wanted| wanted.take().eq([CLASS]) };

    fn run(steps: Steps, seen: &Seen) {
        let shared = Rc::new((Wanted::new(&Arc::default()), AtomicU64::new(1)));
        let (wanted, ready) = &*shared;
        assert!(wanted.note(CLASS), "claim: it is new");
        let worker = thread::spawn({
            let shared = shared.clone();
            move || {
                let (wanted, ready) = &*shared;
                assert!((steps.take)(wanted), "claim: it was there");
                ready.load(Relaxed) == 0
            }
        });
        ready.store(0, Relaxed);
        let rings = (steps.note)(wanted);
        let saw = worker.join().unwrap();
        assert!(rings || saw, "claim: the worker sees it or is woken");
        seen.note("woken", rings);
        seen.note("seen without", !rings);
    }

    #[test]
    fn a_worker_sees_how_few_are_ready_or_is_woken() {
        let happens = &["woken", "seen without"];
        let name = "a class is wanted while a worker takes it";
        let model = Model { name, bound: None, least: 4, happens };
        model.explore(|seen| run(SOUND, seen));
    }

    fn is_needed(mutation: &str, steps: Steps) {
        breaks(mutation, "the worker sees it or is woken", move || run(steps, &Seen::default()));
    }

    #[test]
    fn a_wish_is_lost_if_it_is_noted_relaxed() {
        let note = |wanted: &Wanted| wanted.classes.fetch_or(1 << CLASS, Relaxed) == 0;
        is_needed("noted relaxed", Steps { note, ..SOUND });
    }

    #[test]
    fn a_wish_is_lost_if_it_is_taken_relaxed() {
        let take = |wanted: &Wanted| wanted.classes.swap(0, Relaxed) == 1 << CLASS;
        is_needed("taken relaxed", Steps { take, ..SOUND });
    }

    #[test]
    fn a_wish_is_lost_if_a_load_finds_it_noted() {
        let note = |wanted: &Wanted| wanted.classes.load(Relaxed) == 0 && wanted.note(CLASS);
        is_needed("a load finds it noted", Steps { note, ..SOUND });
    }
}
