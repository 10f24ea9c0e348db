//! The replacement of tables, one step after the other.

use super::*;

const HASH: u64 = 1;

/// The number of entries that one bucket of a table is not meant for.
const MANY: u64 = CROWDED + 1;

fn hash() -> KeyHash {
    KeyHash { hash: HASH, look: Look::Yes }
}

fn leaf(number: u32) -> Handle {
    Handle::new(number).expect("not 0")
}

/// Creates a table that has replaced one of one bucket with one hint.
fn moving() -> (Hints, Domain) {
    let (hints, domain) = (Hints::new(true), Domain::new());
    hints.fit(&domain, || 1, false);
    assert!(!hints.put(hash(), leaf(1), None), "there is room");
    hints.fit(&domain, || MANY, false);
    assert!(hints.are_moving());
    (hints, domain)
}

#[test]
fn a_call_that_stops_while_it_moves_hints_keeps_no_table_from_being_taken_out() {
    let (hints, domain) = moving();
    let section = domain.pin();
    let hash_of = |_| {
        // Meanwhile, another call.
        assert!(!hints.move_some(|_| (), |_| None), "no bucket is left");
        hints.fit(&domain, || MANY, false);
        assert!(!hints.are_moving(), "the table is taken out");
        Some(HASH)
    };
    assert!(hints.move_some(|_| (), hash_of));
    assert_eq!(hints.find(hash(), Some), Some(leaf(1)), "the hint has moved");
    drop(section);
}

#[test]
fn a_leaf_whose_handle_does_not_fit_waits_until_hints_have_moved_and_then_gets_a_wider_table() {
    let (hints, domain) = moving();
    let section = domain.pin();
    let wide = leaf(1 << LEAST_HANDLE_BITS);
    assert!(!hints.put(hash(), wide, None), "no reason to replace a table");
    hints.fit(&domain, || MANY, false);
    assert!(hints.move_some(|_| (), |_| Some(HASH)), "the former table is still there");
    assert_eq!(hints.find(hash(), Some), Some(leaf(1)));
    assert!(!hints.move_some(|_| (), |_| Some(HASH)), "no bucket is left");
    hints.fit(&domain, || MANY, false);
    while hints.move_some(|_| (), |_| Some(HASH)) {}
    hints.fit(&domain, || MANY, false);
    assert!(!hints.are_moving());
    assert!(!hints.put(hash(), wide, Some(leaf(1))), "there is room");
    assert_eq!(hints.find(hash(), Some), Some(wide));
    drop(section);
}

#[test]
fn hints_are_dropped_although_a_thread_that_a_fork_left_behind_holds_their_lock() {
    let (hints, _) = moving();
    std::mem::forget(hints.replaced.try_lock());
    drop(hints);
}
