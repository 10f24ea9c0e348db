//! Callbacks: the guarantees of `barrier`.

use crate::explore::Model;
use crate::pair::{Plain, beside};
use memalloc::rcu::Domain;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// `barrier` waits for a callback that another thread has begun, as for one that has not run yet.
#[test]
fn barrier_waits_for_a_callback_that_another_thread_runs() {
    let model = Model {
        name: "barrier_waits_for_a_callback_that_another_thread_runs",
        bound: Some(3),
        least: 10,
        happens: &["run by the other thread", "run here"],
    };
    model.explore(|seen| {
        let domain = Domain::new();
        let memory = Plain::default();
        let (there, cell) = (domain.clone(), memory.clone());
        domain.call(move || cell.increment());

        let run = move || there.run_callbacks();
        let wait = || {
            domain.barrier().expect("this thread does not read");
            assert_eq!(memory.read(), 1, "the callback has run");
        };
        let (ran, ()) = beside(1, run, wait);
        seen.note("run by the other thread", ran == 1);
        seen.note("run here", ran == 0);
    });
}

/// A grace period passes between two callbacks that are queued at the same time. In either order,
/// both are due once the newest cookie has passed.
#[test]
fn callbacks_that_are_queued_at_the_same_time_are_all_due_with_the_newest() {
    let model = Model {
        name: "callbacks_that_are_queued_at_the_same_time_are_all_due_with_the_newest",
        bound: Some(3),
        least: 10,
        happens: &["ours is in front", "theirs is in front"],
    };
    model.explore(|seen| {
        // A single clone: dropping another thread's clone would run the callbacks.
        let domain = Arc::new(Domain::new());
        let first = Arc::new(AtomicU32::new(0));
        let note = |number| {
            let first = first.clone();
            move || _ = first.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed)
        };
        let (there, theirs, ours) = (domain.clone(), note(1), note(2));
        let call_later = move || {
            there.advance(there.start_poll());
            there.call(theirs);
        };
        beside(1, call_later, || domain.call(ours));
        assert_eq!(domain.run_callbacks(), 2, "a look moves far enough for all");
        let first = first.load(Ordering::Relaxed);
        seen.note("theirs is in front", first == 1);
        seen.note("ours is in front", first == 2);
    });
}
