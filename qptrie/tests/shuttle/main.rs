//! Whole programs on a trie under random schedules: 4 to 8 threads with some hundred operations, on
//! the code and the sizes that ship.
//!
//! `memalloc/tests/shuttle/main.rs` says what such schedules test, and what they do not.
#![cfg(shuttle)]

mod breaks;
#[path = "../../../memalloc/tests/shuttle/broken.rs"]
mod broken;
#[path = "../../../memalloc/tests/common/mod.rs"]
mod common;
#[path = "../../../memalloc/tests/shuttle/explore.rs"]
mod explore;
#[path = "../../../memalloc/tests/shuttle/machine.rs"]
mod machine;
mod program;
#[allow(dead_code, reason = "the program uses a part of it")]
#[path = "../common/reference.rs"]
mod reference;

use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate};

/// The number of executions by each scheduler.
const EXECUTIONS: usize = 60;

#[test]
fn answers_are_right_with_leaves_that_are_reused_at_once() {
    explore::explore(EXECUTIONS, program::run::<Immediate>);
}

#[test]
fn answers_are_right_with_leaves_that_are_kept_until_an_rcu_grace_period() {
    explore::explore(EXECUTIONS, program::run::<AfterRcuGp>);
}

#[test]
fn answers_are_right_with_leaves_that_return_to_their_slabs() {
    explore::explore(EXECUTIONS, program::run::<FreeAfterRcuGp>);
}

#[test]
fn answers_are_right_with_leaves_that_are_kept_for_sleepers() {
    explore::explore(EXECUTIONS, program::run::<AfterTasksTraceGp>);
}

#[test]
fn an_execution_is_the_same_when_it_is_replayed() {
    explore::replay_each(5, program::run::<Immediate>);
    explore::replay_each(5, program::run::<AfterRcuGp>);
}
