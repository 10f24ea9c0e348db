//! Whole programs on an allocator under random schedules: 4 to 8 threads with some hundred
//! operations each, on the code and the sizes that ship.
//!
//! shuttle runs one thread at a time and may pass the turn on before every access to shared memory.
//! Every access is sequentially consistent and a fence does nothing, so the schedules test the
//! protocols over long runs, and no memory orders: the models under loom test those. In place of
//! restartable sequences run those of the counting build, each in one piece.
#![cfg(shuttle)]

mod breaks;
mod broken;
#[path = "../common/mod.rs"]
mod common;
mod explore;
mod ledger;
mod machine;
mod program;

use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate};

/// The number of executions by each scheduler.
const EXECUTIONS: usize = 40;

#[test]
fn objects_stay_whole_under_immediate_reuse() {
    explore::explore(EXECUTIONS, program::run::<Immediate>);
}

#[test]
fn objects_stay_whole_until_an_rcu_grace_period() {
    explore::explore(EXECUTIONS, program::run::<AfterRcuGp>);
}

#[test]
fn objects_stay_whole_until_they_return_to_their_slabs() {
    explore::explore(EXECUTIONS, program::run::<FreeAfterRcuGp>);
}

#[test]
fn objects_stay_whole_until_a_grace_period_of_either_flavour() {
    explore::explore(EXECUTIONS, program::run::<AfterTasksTraceGp>);
}

#[test]
fn an_execution_is_the_same_when_it_is_replayed() {
    explore::replay_each(5, program::run::<Immediate>);
    explore::replay_each(5, program::run::<FreeAfterRcuGp>);
}
