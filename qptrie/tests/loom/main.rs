//! The real trie under the model checker: one reader against one writer, and two writers.
//!
//! Each scenario is explored twice: completely with every step of the protocol, and, with one step
//! omitted, until the answer is wrong. A scenario that can't fail proves nothing.
//!
//! Each model has two threads and a bound of 2 or 3 preemptions, or none (`loom_protocol` explores
//! the protocol alone further). loom does not explore load buffering, more than the last seven
//! stores of a word, or spurious failures of a weak exchange. After a reader has to retry, or a
//! scan has lost its place, the rest of the execution is run once but not explored: the retry is
//! the same as a first attempt that begins then. At the end of an execution the nodes are freed and
//! the branches are checked; the ends of the allocators are left to the models of `memalloc`, and
//! that each node is freed once to the tests without loom, in which a second free fails.

#![cfg(loom)]

#[path = "../../../memalloc/tests/loom/breaks.rs"]
mod breaks;
mod by_parent;
#[path = "../../../memalloc/tests/loom/explore.rs"]
mod explore;
mod hints;
mod leaves;
mod scans;
mod scenarios;
mod writers;

use breaks::breaks;
use explore::{Model, Seen};
use memalloc::{AfterRcuGp, Immediate, ReusePolicy};
use qptrie::Fault;
use scenarios::{FOUND, Look, NEWER, Scenario, TURNED_AWAY, WRONG_ANSWER, reader_against_writer};

fn breaks_without(step: &'static str, scenario: Scenario, fault: Fault) {
    breaks(step, WRONG_ANSWER, move || {
        reader_against_writer::<Immediate>(scenario, Look::Up, Some(fault), &Seen::default());
    });
}

fn holds<B: ReusePolicy>(model: Model, scenario: Scenario) {
    model.explore(move |seen| reader_against_writer::<B>(scenario, Look::Up, None, seen));
}

#[test]
fn f1_the_wild_pointer_appears_when_a_twig_is_not_validated() {
    let step = "F1 wild pointer, twig not validated";
    breaks_without(step, Scenario::Reused, Fault::UnvalidatedTwig);
}

#[test]
fn f2_the_false_negative_appears_when_absence_is_not_validated() {
    let step = "F2 false negative, absence not validated";
    breaks_without(step, Scenario::Reused, Fault::UnvalidatedAbsence);
}

#[test]
fn f3_the_frozen_parent_appears_when_counts_change_on_reuse_only() {
    let step = "F3 frozen parent, count changes on reuse only";
    breaks_without(step, Scenario::Frozen, Fault::CountsOnReuseOnly);
}

#[test]
fn a_key_goes_missing_without_counts() {
    breaks_without("no counts at all", Scenario::Reused, Fault::WithoutCounts);
}

#[test]
fn a_key_goes_missing_when_the_slot_is_not_read_again() {
    breaks_without("slot not read again", Scenario::ChildMoves, Fault::SlotNotReread);
}

#[test]
fn a_key_goes_missing_when_the_parents_count_is_not_read_again() {
    let step = "parent's count not read again";
    breaks_without(step, Scenario::Frozen, Fault::ParentNotReread);
}

#[test]
fn a_key_goes_missing_when_a_replaced_leaf_gets_another_tag() {
    breaks_without("tag of another key", Scenario::Replaced, Fault::TagOfAnotherKey);
}

#[test]
fn f1_and_f2_a_reader_never_misses_a_key_whose_branch_is_reused() {
    let name = "F1, F2: the branch is reused";
    let model = Model { name, bound: Some(3), least: 1000, happens: &[TURNED_AWAY] };
    holds::<Immediate>(model, Scenario::Reused);
}

#[test]
fn f3_a_reader_never_misses_a_key_below_a_frozen_parent() {
    let name = "F3: the parent is frozen, the child reused";
    let model = Model { name, bound: Some(2), least: 1000, happens: &[TURNED_AWAY] };
    holds::<Immediate>(model, Scenario::Frozen);
}

#[test]
fn a_reader_never_misses_a_key_whose_branch_moves() {
    let name = "the child is reused below a parent that stays";
    let model = Model { name, bound: Some(2), least: 500, happens: &[TURNED_AWAY] };
    holds::<Immediate>(model, Scenario::ChildMoves);
}

#[test]
fn a_key_survives_the_removal_of_its_sibling() {
    let name = "the sibling is removed, the branch merged and reused";
    let model = Model { name, bound: Some(2), least: 500, happens: &[TURNED_AWAY] };
    holds::<Immediate>(model, Scenario::Merged);
}

#[test]
fn replacing_never_hides_a_key() {
    let name = "the value is replaced";
    let model = Model { name, bound: Some(2), least: 100, happens: &[FOUND, NEWER] };
    holds::<Immediate>(model, Scenario::Replaced);
}

#[test]
fn a_plain_reader_finds_a_key_that_is_always_there() {
    let name = "plain reader, deferred branches";
    let model = Model { name, bound: Some(3), least: 1000, happens: &[FOUND] };
    holds::<AfterRcuGp>(model, Scenario::Frozen);
}

#[test]
fn a_lone_leaf_arrives_whole() {
    let name = "a leaf at the root";
    let model = Model { name, bound: None, least: 100, happens: &[FOUND] };
    model.explore(|seen| scenarios::lone_leaf(Look::Up, seen));
}
