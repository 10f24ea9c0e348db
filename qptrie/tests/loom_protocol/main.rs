//! The trie's validation protocol as a model with switches.
//!
//! Branches are reused at once, while readers without locks may still stand in them. A protocol of
//! a dozen small steps keeps these readers correct: counts, fences, orderings, repeated loads. This
//! model reduces the trie to that protocol, and each step can be switched off. loom explores small
//! scenarios completely: with every step on, no scenario fails, and `every_step_is_needed` shows
//! for each step a scenario that fails without it.
//!
//! - [`protocol`]: the pool of branches, readers, writers, and the switches.
//! - [`scenarios`]: small worlds, each a trie, a reader, and writers that follow a script.
//! - [`locks`]: the writers' half, a separate model.
//! - [`mutations`]: the steps that are switched off, and the scenario that has to fail.
//! - [`events`] and [`explore`]: what was seen, and how far the exploration went.
//! - [`table`]: what became of each mutation.
//!
//! The claims: a key that is always there is found, a key that is never there is not, and no leaf
//! is accessed before its writer's plain stores to it are visible. Readers compare the key in the
//! leaf, so reaching the leaf of another key counts as missing the key.
//!
//! loom (0.7) imposes these rules on the model, so that "complete" is meaningful:
//!
//! - It keeps the last seven stores of an atomic: no scenario makes more than six.
//! - A thread's own load right before its own store hides what other threads loaded earlier.
//!   Writers follow their script and keep their counts in memory that loom does not see.
//! - Atomics belong to one execution: the pool is built once for each execution, and reuse only
//!   stores.
//! - Attempts without the lock are bounded; a reader that has used them up takes the lock.
//!
//! The model can't show load buffering, or more preemptions than the bound.

#![cfg(loom)]

mod events;
#[path = "../../../memalloc/tests/loom_protocol/explore.rs"]
mod explore;
mod locks;
mod mutations;
mod protocol;
mod scenarios;
#[path = "../../../memalloc/tests/loom_protocol/table.rs"]
mod table;

use scenarios::Scenario;

/// Makes each scenario a test.
macro_rules! claims {
    ($($claim:ident: $scenario:ident,)*) => {$(
        #[test]
        fn $claim() {
            scenarios::$scenario.holds();
        }
    )*

        /// Every scenario that is a test.
        static SCENARIOS: &[&Scenario] = &[$(&scenarios::$scenario),*];
    };
}

claims! {
    a_key_is_found_while_its_branch_takes_another_shape: OTHER_SHAPE,
    an_absent_key_is_not_found_while_branches_are_reused: ABSENT_KEY,
    a_key_is_found_while_its_branch_returns_to_the_same_slot: SAME_SLOT,
    a_leaf_overwritten_in_the_root_slot_is_read_whole: LEAF_AT_ROOT,
    a_leaf_overwritten_in_a_branch_is_read_whole: LEAF_IN_BRANCH,
    a_key_is_found_while_its_branch_is_replaced_in_place: SLOT_OVERWRITTEN,
    a_key_is_found_while_the_parent_is_reused: PARENT_REUSED,
    a_key_is_found_below_a_frozen_parent: FROZEN_PARENT,
    a_key_is_found_while_child_and_parent_move_away: BOTH_MOVE,
    a_key_is_found_in_a_branch_that_arrives_from_elsewhere: ARRIVAL,
    a_key_is_found_in_a_branch_that_another_writer_moves_up: MOVED_UP,
    a_key_is_found_while_two_writers_pass_its_branch_on: TWO_WRITERS,
}

/// Replaces counts by emptying branches: a reader that finds a branch empty starts again. A reader
/// that finds it filled, for another life, can't tell: this is the false negative (F2). It is not
/// the wild pointer (F1), because this reader also starts again if it reaches another key's leaf:
/// it misses a key only if it finds no way.
#[test]
fn emptying_a_branch_in_place_of_a_count_leaves_the_false_negative() {
    let mut protocol = protocol::Protocol::SOUND;
    (protocol.count, protocol.emptied) = (protocol::Count::Never, true);
    let (exploration, events) = scenarios::OTHER_SHAPE.explore(protocol);
    println!("loom trie, emptied in place of a count: {exploration} ({events})");
    let mutation = Some("emptied in place of a count");
    exploration.record(scenarios::OTHER_SHAPE.name, mutation, None);
    let violation = exploration.violation.expect("the key is missed");
    assert_eq!(violation, "claim: a key that is always there is found");
}

#[test]
fn every_step_is_needed() {
    mutations::check();
}
