//! Scans and seeks beside one writer.

use crate::breaks::breaks;
use crate::explore::{Model, Seen};
use crate::scenarios::{
    FOUND, Look, Scenario, TURNED_AWAY, WRONG_ANSWER, lone_leaf, lone_prefix,
    reader_against_writer, scan_beside_two_writers, seek_against_writer,
};
use memalloc::{AfterRcuGp, Immediate, ReusePolicy};
use qptrie::Fault;

fn holds<B: ReusePolicy>(model: Model, scenario: Scenario, look: Look) {
    model.explore(move |seen| reader_against_writer::<B>(scenario, look, None, seen));
}

#[test]
fn a_scan_misses_a_key_when_it_does_not_confirm_its_branch() {
    breaks("scan does not confirm", WRONG_ANSWER, || {
        let (scenario, fault) = (Scenario::Reused, Some(Fault::ScanUnconfirmed));
        reader_against_writer::<Immediate>(scenario, Look::Forwards, fault, &Seen::default());
    });
}

#[test]
fn a_seek_gives_a_key_before_its_bound_when_it_does_not_compare() {
    breaks("seek does not compare", WRONG_ANSWER, || {
        seek_against_writer::<Immediate>(Some(Fault::SeekUnchecked), &Seen::default());
    });
}

#[test]
fn a_seek_misses_no_key_whose_branch_is_reused() {
    for (name, scenario) in [
        ("seek: the branch is reused", Scenario::Reused),
        ("seek: the sibling is removed, the branch reused", Scenario::Merged),
        ("seek: the parent is frozen, the child reused", Scenario::Frozen),
    ] {
        let model = Model { name, bound: Some(2), least: 500, happens: &[TURNED_AWAY] };
        holds::<Immediate>(model, scenario, Look::Ahead);
    }
}

#[test]
fn a_scan_misses_no_key_whose_branch_is_reused() {
    let name = "forwards: the branch is reused";
    let model = Model { name, bound: Some(2), least: 500, happens: &[TURNED_AWAY] };
    holds::<Immediate>(model, Scenario::Reused, Look::Forwards);
}

#[test]
fn a_scan_backwards_misses_no_key_whose_branch_is_reused() {
    let name = "backwards: the branch is reused";
    let model = Model { name, bound: Some(2), least: 500, happens: &[TURNED_AWAY] };
    holds::<Immediate>(model, Scenario::Reused, Look::Backwards);
}

#[test]
fn a_copy_that_is_not_locked_leaves_a_frozen_parent() {
    breaks("copy not locked", WRONG_ANSWER, || {
        let fault = Some(Fault::CopyNotLocked);
        scan_beside_two_writers::<Immediate>(fault, &Seen::default());
    });
}

#[test]
fn a_scan_misses_no_key_below_a_parent_that_another_writer_copies() {
    let name = "forwards: one writer copies the parent, one moves and reuses the child";
    let model = Model { name, bound: Some(2), least: 500, happens: &[TURNED_AWAY] };
    model.explore(|seen| scan_beside_two_writers::<Immediate>(None, seen));
}

#[test]
fn a_plain_scan_misses_no_key() {
    let name = "plain scan, deferred branches";
    let model = Model { name, bound: Some(2), least: 100, happens: &[FOUND] };
    holds::<AfterRcuGp>(model, Scenario::Frozen, Look::Forwards);
}

#[test]
fn a_seek_gives_no_key_before_its_bound() {
    let name = "a lesser key comes to where the next one hangs";
    let model = Model { name, bound: None, least: 10, happens: &[TURNED_AWAY] };
    model.explore(|seen| seek_against_writer::<Immediate>(None, seen));
    let name = "the same, plain";
    let model = Model { name, bound: None, least: 10, happens: &[TURNED_AWAY] };
    model.explore(|seen| seek_against_writer::<AfterRcuGp>(None, seen));
}

#[test]
fn a_lone_leaf_is_scanned_whole() {
    let name = "scan of a leaf at the root";
    let model = Model { name, bound: None, least: 100, happens: &[FOUND] };
    model.explore(|seen| lone_leaf(Look::Forwards, seen));
}

#[test]
fn a_lone_leaf_is_sought_whole() {
    let name = "seek to a leaf at the root";
    let model = Model { name, bound: None, least: 100, happens: &[FOUND] };
    model.explore(|seen| lone_leaf(Look::Ahead, seen));
}

#[test]
fn a_lone_leaf_is_a_whole_prefix() {
    let name = "prefix in a leaf at the root";
    let model = Model { name, bound: None, least: 10, happens: &[FOUND] };
    model.explore(lone_prefix);
}
