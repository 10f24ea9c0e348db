//! Lookups beside threads that replace a table of hints, and move its hints.

use super::*;
use crate::breaks::breaks;
use crate::explore::{Model, Seen};
use loom::thread;
use std::sync::Arc;

const IN_CURRENT: &str = "found in the current table";
const IN_FORMER: &str = "found in the former table";
const MISSED: &str = "not found";
const FREED: &str = "the first table is freed";

const HASH: u64 = 1;

/// The number of entries that one bucket of a table is not meant for.
const MANY: u64 = CROWDED + 1;

fn hash() -> KeyHash {
    KeyHash { hash: HASH, look: Look::Yes }
}

fn leaf() -> Handle {
    Handle::new(1).expect("not 0")
}

/// Creates a table of one bucket with one hint.
fn hinted() -> (Arc<Hints>, Domain) {
    let hints = Arc::new(Hints::new(true));
    assert!(!hints.put(hash(), leaf(), None), "there is room");
    (hints, Domain::new())
}

fn move_some(hints: &Hints) -> bool {
    hints.move_some(|_| (), |_| Some(HASH))
}

/// A lookup beside a thread that replaces the table.
fn replaced(replace: fn(&Hints, &Domain), seen: &Seen) {
    let (hints, domain) = hinted();
    let other = thread::spawn({
        let (hints, domain) = (Arc::clone(&hints), domain.clone());
        move || replace(&hints, &domain)
    });
    let section = domain.pin();
    let in_current = hints.find(hash(), Some);
    let in_former = hints.find_in_former(hash(), Some);
    drop(section);
    other.join().unwrap();
    let found = in_current.or(in_former);
    assert!(found == Some(leaf()), "claim: the hint is in one of the tables: {found:?}");
    seen.note(IN_CURRENT, in_current.is_some());
    seen.note(IN_FORMER, in_current.is_none());
}

/// A lookup that helps to move the only hint, beside a thread that moves it, too, and then
/// frees the former table.
fn moved(take_out: fn(&Hints, &Domain), seen: &Seen) {
    let (hints, domain) = hinted();
    hints.fit(&domain, || MANY, false);
    let other = thread::spawn({
        let (hints, domain) = (Arc::clone(&hints), domain.clone());
        move || {
            let section = domain.pin();
            move_some(&hints);
            drop(section);
            take_out(&hints, &domain);
        }
    });
    let section = domain.pin();
    let in_current = hints.find(hash(), Some);
    let in_former = hints.find_in_former(hash(), Some);
    move_some(&hints);
    drop(section);
    other.join().unwrap();
    let found = in_current.or(in_former);
    assert!(found.is_none_or(|found| found == leaf()), "claim: {found:?}");
    hints.fit(&domain, || MANY, false);
    assert!(!hints.are_moving(), "claim: the former table is taken out");
    assert!(hints.find(hash(), Some) == Some(leaf()), "claim: the hint has moved");
    seen.note(IN_CURRENT, in_current.is_some());
    seen.note(IN_FORMER, in_current.is_none() && in_former.is_some());
    seen.note(MISSED, found.is_none());
}

/// A lookup in a table and its former one, beside a thread that replaces the table by a third one
/// before any hint has moved, and then frees the first one.
fn replaced_twice(seen: &Seen) {
    let (hints, domain) = hinted();
    hints.fit(&domain, || MANY, false);
    let other = thread::spawn({
        let (hints, domain) = (Arc::clone(&hints), domain.clone());
        move || {
            for _ in 0..4 {
                hints.fit(&domain, || 3 * MANY, false);
            }
            hints.replaced.lock().is_empty()
        }
    });
    let section = domain.pin();
    let in_current = hints.find(hash(), Some);
    let in_former = hints.find_in_former(hash(), Some);
    drop(section);
    let freed = other.join().unwrap();
    assert!(in_current.is_none(), "claim: no hint has moved");
    assert!(in_former.is_none_or(|found| found == leaf()), "claim: {in_former:?}");
    assert!(hints.are_moving(), "claim: the second table has become the former one");
    seen.note(IN_FORMER, in_former.is_some());
    seen.note(MISSED, in_former.is_none());
    seen.note(FREED, freed);
}

fn fit(hints: &Hints, domain: &Domain) {
    hints.fit(domain, || MANY, false);
}

/// Takes the former table out, and frees it if its grace period has passed.
fn take_out(hints: &Hints, domain: &Domain) {
    hints.fit(domain, || MANY, false);
    hints.fit(domain, || MANY, false);
}

#[test]
fn a_hint_is_found_while_its_table_is_replaced() {
    let name = "hints: a table is replaced beside a lookup";
    let model = Model { name, bound: None, least: 10, happens: &[IN_CURRENT, IN_FORMER] };
    model.explore(|seen| replaced(fit, seen));
}

#[test]
fn no_lookup_reads_a_table_that_was_freed_because_its_replacement_was_replaced() {
    let name = "hints: a table is replaced before it has the hints of its former one";
    let happens = &[IN_FORMER, MISSED, FREED];
    let model = Model { name, bound: Some(3), least: 10, happens };
    model.explore(replaced_twice);
}

#[test]
fn a_hint_that_moves_is_one_of_its_key_and_ends_in_the_next_table() {
    let name = "hints: the hints of a table move beside a lookup";
    let happens = &[IN_CURRENT, IN_FORMER, MISSED];
    let model = Model { name, bound: Some(3), least: 10, happens };
    model.explore(|seen| moved(take_out, seen));
}

#[test]
fn a_hint_is_missed_when_the_former_table_is_named_too_late() {
    let name = "hints: the former table named after its replacement was published";
    breaks(name, "is in one of the tables", || {
        let replace = |hints: &Hints, _: &Domain| {
            let null = std::ptr::null_mut();
            let table = HintTable::new(2, LEAST_HANDLE_BITS, null).expect("memory");
            let old = hints.current.swap(table.as_ptr(), Ordering::Release);
            // SAFETY: only the drop of the hints frees it.
            unsafe { table.as_ref() }.former.store(old, Ordering::Release);
        };
        replaced(replace, &Seen::default());
    });
}

#[test]
fn a_lookup_reads_freed_memory_when_the_former_table_has_no_grace_period() {
    breaks("hints: the former table freed at once", "Causality", || {
        let take_out = |hints: &Hints, _: &Domain| {
            let table = hints.table().expect("a table");
            if hints.former(table).is_some_and(|former| table.has_begun_all(former)) {
                let former = table.former.swap(std::ptr::null_mut(), Ordering::Relaxed);
                // SAFETY: none: a lookup may use it. The memory itself stays.
                unsafe { (*former).alive.with_mut(|_| ()) };
            }
        };
        moved(take_out, &Seen::default());
    });
}
