//! Turns: one thread at a time does something that takes long. Others may look again later.

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU32, Ordering};
use crate::sys::fork::Survivor;
use crate::sys::thread;

/// The number of the thread whose turn it is, or 0.
#[derive(Debug)]
pub(super) struct Turn(AtomicU32);

impl Turn {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Begins a turn of the calling thread, unless another thread has one. A turn inside a turn of
    /// the same thread ends nothing.
    pub(super) fn try_begin(&self) -> Option<Begun<'_>> {
        self.try_begin_with(Acquire)
    }

    fn try_begin_with(&self, acquire: Ordering) -> Option<Begun<'_>> {
        let own = thread::current();
        // ORDERING: Acquire pairs with the Release of `end`: a turn sees everything that was done
        // in those before it. Falls to `loom` "turn begun relaxed".
        match self.0.compare_exchange(0, own, acquire, Relaxed) {
            Ok(_) => Some(Begun(Some(self))),
            Err(other) => (other == own).then_some(Begun(None)),
        }
    }

    fn end(&self) {
        // ORDERING: Release pairs with the Acquire of `try_begin`. Falls to `loom` "turn ended
        // relaxed".
        self.0.store(0, Release);
    }

    /// In the child of a fork: ends the turn of a thread that vanished.
    pub(super) fn repair_after_fork(&self, survivor: Survivor) {
        let is_own = self.0.load(Relaxed) == survivor.was;
        self.0.store(if is_own { survivor.is } else { 0 }, Relaxed);
    }
}

/// A turn, which ends when this is dropped.
pub(super) struct Begun<'a>(Option<&'a Turn>);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.0 {
            turn.end();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_waits_for_the_turns_of_others_and_not_for_its_own() {
        let turn = Turn::new();
        let begins_elsewhere = || {
            std::thread::scope(|scope| scope.spawn(|| turn.try_begin().is_some()).join().unwrap())
        };
        let outer = turn.try_begin().expect("it is free");
        drop(turn.try_begin().expect("it is this thread's"));
        assert!(!begins_elsewhere(), "the inner one ends nothing");
        drop(outer);
        assert!(begins_elsewhere());
    }

    #[test]
    fn the_child_of_a_fork_ends_the_turns_of_threads_that_vanished() {
        for (was, after) in [(7, 9), (8, 0)] {
            let turn = Turn(AtomicU32::new(7));
            turn.repair_after_fork(Survivor { was, is: 9 });
            assert_eq!(turn.0.load(Relaxed), after);
        }
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::breaks::breaks;
    use crate::explore::{Model, Seen};
    use crate::sync::UnsafeCell;
    use std::rc::Rc;

    /// The steps of a turn; [`SOUND`] is that of the code.
    #[derive(Clone, Copy)]
    struct Steps {
        begin: fn(&Turn) -> bool,
        end: fn(&Turn),
    }

    const SOUND: Steps =
        Steps { begin: |turn| turn.try_begin().map(std::mem::forget).is_some(), end: Turn::end };

    fn run(steps: Steps, seen: &Seen) {
        let shared = Rc::new((Turn::new(), UnsafeCell::new(0)));
        let work = move |shared: &(Turn, UnsafeCell<u32>)| {
            let (turn, done) = shared;
            let begun = (steps.begin)(turn);
            if begun {
                // SAFETY: loom reports the access if another thread's may be under way.
                done.with_mut(|done| unsafe { *done += 1 });
                (steps.end)(turn);
            }
            begun
        };
        let other = crate::sync::thread::spawn({
            let shared = shared.clone();
            move || work(&shared)
        });
        let both = [work(&shared), other.join().unwrap()];
        seen.note("one after the other", both == [true; 2]);
        seen.note("only one", both != [true; 2]);
        assert_ne!(both, [false; 2], "claim: one of them begins");
    }

    #[test]
    fn turns_follow_one_another() {
        let happens = &["one after the other", "only one"];
        let name = "two threads take turns";
        let model = Model { name, bound: None, least: 3, happens };
        model.explore(|seen| run(SOUND, seen));
    }

    fn is_needed(mutation: &str, steps: Steps) {
        breaks(mutation, "ausality violation", move || run(steps, &Seen::default()));
    }

    #[test]
    fn turns_overlap_if_one_begins_relaxed() {
        let begin = |turn: &Turn| turn.try_begin_with(Relaxed).map(std::mem::forget).is_some();
        is_needed("turn begun relaxed", Steps { begin, ..SOUND });
    }

    #[test]
    fn turns_overlap_if_one_ends_relaxed() {
        is_needed("turn ended relaxed", Steps { end: |turn| turn.0.store(0, Relaxed), ..SOUND });
    }
}
