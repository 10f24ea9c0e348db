//! The real trie under the model checker: one reader against one writer.
//!
//! Each scenario is explored twice over: to the end with every step of the protocol in place,
//! and, with one step left out, until the answer is wrong. A scenario that can't fail proves
//! nothing.
//!
//! Two threads, with a bound on preemptions of 3 or none. What loom does not explore: load
//! buffering, more than the last seven stores of a word, spurious failures of a weak exchange.

#![cfg(loom)]

mod harness;
mod scenarios;

use harness::{THREE, breaks, explore};
use memalloc::{AfterRcuGp, Immediate};
use qptrie::Fault;
use scenarios::{Scenario, reader_against_writer};

#[test]
fn f1_the_wild_pointer_appears_when_a_twig_is_not_validated() {
    breaks("F1 wild pointer, twig not validated", || {
        reader_against_writer::<Immediate>(Scenario::Reused, Some(Fault::UnvalidatedTwig));
    });
}

#[test]
fn f2_the_false_negative_appears_when_absence_is_not_validated() {
    breaks("F2 false negative, absence not validated", || {
        reader_against_writer::<Immediate>(Scenario::Reused, Some(Fault::UnvalidatedAbsence));
    });
}

#[test]
fn f3_the_frozen_parent_appears_when_counts_change_on_reuse_only() {
    breaks("F3 frozen parent, count changes on reuse only", || {
        reader_against_writer::<Immediate>(Scenario::Frozen, Some(Fault::CountsOnReuseOnly));
    });
}

#[test]
fn a_key_goes_missing_without_counts() {
    breaks("no counts at all", || {
        reader_against_writer::<Immediate>(Scenario::Reused, Some(Fault::WithoutCounts));
    });
}

#[test]
fn a_key_goes_missing_when_the_slot_is_not_read_again() {
    breaks("slot not read again", || {
        reader_against_writer::<Immediate>(Scenario::ChildMoves, Some(Fault::SlotNotReread));
    });
}

#[test]
fn a_key_goes_missing_when_the_parents_count_is_not_read_again() {
    breaks("parent's count not read again", || {
        reader_against_writer::<Immediate>(Scenario::Frozen, Some(Fault::ParentNotReread));
    });
}

#[test]
fn f1_and_f2_a_reader_never_misses_a_key_whose_branch_is_reused() {
    explore("F1, F2: the branch is reused", None, 10_000, || {
        reader_against_writer::<Immediate>(Scenario::Reused, None)
    });
}

#[test]
fn f3_a_reader_never_misses_a_key_below_a_frozen_parent() {
    explore("F3: the parent is frozen, the child reused", THREE, 1000, || {
        reader_against_writer::<Immediate>(Scenario::Frozen, None)
    });
}

#[test]
fn a_reader_never_misses_a_key_whose_branch_moves() {
    explore("the child is reused below a parent that stays", THREE, 500, || {
        reader_against_writer::<Immediate>(Scenario::ChildMoves, None)
    });
}

#[test]
fn a_key_survives_the_removal_of_its_sibling() {
    explore("the sibling is removed, the branch merged and reused", THREE, 500, || {
        reader_against_writer::<Immediate>(Scenario::Merged, None)
    });
}

#[test]
fn replacing_never_hides_a_key() {
    explore("the value is replaced", THREE, 100, || {
        reader_against_writer::<Immediate>(Scenario::Replaced, None)
    });
}

#[test]
fn a_plain_reader_finds_a_key_that_is_always_there() {
    explore("plain reader, deferred branches", THREE, 1000, || {
        reader_against_writer::<AfterRcuGp>(Scenario::Frozen, None)
    });
}

#[test]
fn a_lone_leaf_arrives_whole() {
    explore("a leaf at the root", None, 100, scenarios::lone_leaf);
}
