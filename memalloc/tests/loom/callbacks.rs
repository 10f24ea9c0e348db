//! Callbacks: what `barrier` promises.

use crate::explore::Model;
use crate::pair::{Plain, beside};
use memalloc::rcu::Domain;

/// A callback that another thread has begun is waited for as one that has not been run.
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
