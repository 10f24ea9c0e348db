//! Leaves that are reused at once, and overwritten in place.
//!
//! A reader needs the count of the leaf, its slot, and the count of the branch that has the slot.
//! For each of them a scenario fails if it is omitted.

use crate::breaks::breaks;
use crate::explore::{Model, Seen};
use loom::thread;
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, Immediate, ReusePolicy};
use qptrie::{Fault, QpTrie};
use std::ops::Bound::Excluded;
use std::sync::Arc;

/// The panic message for a copy that its key never had, or no longer had.
const WRONG_COPY: &str = "a copy that is not its key's";
/// The panic message when the results of two writers contradict each other.
const LOST_VALUE: &str = "a value that came back twice, or never";
/// The panic message when a key that was inserted can't be found.
const LOST_KEY: &str = "a key that was put is not there";

/// The panic message when a scan returned a key twice, or a smaller one after a greater one.
const OUT_OF_ORDER: &str = "entries that are not in the order of their keys";

/// A reader found the first value.
const FOUND: &str = "found";
/// A reader found the second value.
const NEWER: &str = "found the newer value";
/// A reader found no value.
const NOTHING: &str = "found nothing";

// All keys have the same length, so their leaves have the same size class.
const KEY: &[u8] = b"11";
const SIBLING: &[u8] = b"12";

/// Values of two words that differ.
const FIRST: u64 = 0x1_0000_0002;
const SECOND: u64 = 0x3_0000_0004;

type Trie<B> = Arc<QpTrie<u64, B, Immediate>>;

fn built<B: ReusePolicy>(fault: Option<Fault>, keys: &[&[u8]]) -> Trie<B> {
    // One attempt without insisting: a further attempt is the same as a first one that begins
    // later.
    let builder = QpTrie::builder().domain(Domain::new()).reader_retries(0);
    let builder = match fault {
        Some(fault) => builder.fault(fault),
        None => builder,
    };
    let trie = Arc::new(builder.build().expect("a model needs no system"));
    for key in keys {
        put(&trie, key, FIRST);
    }
    trie
}

fn put<B: ReusePolicy>(trie: &Trie<B>, key: &[u8], value: u64) -> Option<u64> {
    trie.pin().insert_copied(key, value).expect("the model has memory for it")
}

fn remove<B: ReusePolicy>(trie: &Trie<B>, key: &[u8]) -> Option<u64> {
    trie.pin().remove_copied(key)
}

/// Panics with `wrong` unless `is_so`. Leaks the trie first: dropping it needs a running model,
/// which a panic ends.
fn check<B: ReusePolicy>(trie: &Trie<B>, is_so: bool, wrong: &str) {
    if !is_so {
        std::mem::forget(Arc::clone(trie));
        panic!("{wrong}");
    }
}

fn in_background<B: ReusePolicy, R: 'static>(
    trie: &Trie<B>,
    run: impl FnOnce(&Trie<B>) -> R + 'static,
) -> thread::JoinHandle<R> {
    let trie = Arc::clone(trie);
    thread::spawn(move || run(&trie))
}

fn note(seen: &Seen, found: Option<u64>) {
    seen.note(FOUND, found == Some(FIRST));
    seen.note(NEWER, found == Some(SECOND));
    seen.note(NOTHING, found.is_none());
}

/// The value of a key is overwritten.
fn overwritten(fault: Option<Fault>, seen: &Seen) {
    let trie = built::<Immediate>(fault, &[KEY]);
    let reader = in_background(&trie, |trie| trie.pin().get_copied(KEY));
    let old = put(&trie, KEY, SECOND);
    let found = reader.join().expect("the reader does not panic");
    check(&trie, matches!(found, Some(FIRST | SECOND)) && old == Some(FIRST), WRONG_COPY);
    note(seen, found);
}

/// A key is removed, and its leaf comes back to the same slot with another key.
fn comes_back_as_another(fault: Option<Fault>, seen: &Seen) {
    let trie = built::<Immediate>(fault, &[KEY]);
    let reader = in_background(&trie, |trie| trie.pin().get_copied(KEY));
    remove(&trie, KEY);
    put(&trie, SIBLING, SECOND);
    let found = reader.join().expect("the reader does not panic");
    check(&trie, matches!(found, None | Some(FIRST)), WRONG_COPY);
    note(seen, found);
}

/// A key is removed, and its leaf comes back with the same key: a reader that saw the new value
/// once must see it from then on. With `under_a_branch` the leaf's slot is in a branch that is
/// replaced.
fn comes_back_itself<B: ReusePolicy>(under_a_branch: bool, fault: Option<Fault>, seen: &Seen) {
    let keys: &[&[u8]] = if under_a_branch { &[KEY, SIBLING] } else { &[KEY] };
    let trie = built::<B>(fault, keys);
    let reader = in_background(&trie, |trie| {
        let view = trie.pin();
        let found = view.get_copied(KEY);
        let again = if found == Some(SECOND) { view.get_copied(KEY) } else { found };
        [found, again]
    });
    if under_a_branch {
        put(&trie, b"13", FIRST);
    }
    remove(&trie, KEY);
    put(&trie, KEY, SECOND);
    let [found, again] = reader.join().expect("the reader does not panic");
    let whole = [found, again].iter().all(|found| matches!(found, None | Some(FIRST | SECOND)));
    check(&trie, whole && (found != Some(SECOND) || again == found), WRONG_COPY);
    note(seen, found);
}

/// The leaf of a prefix comes back to the same slot with another key of the same length.
fn prefix_comes_back_as_another(fault: Option<Fault>, seen: &Seen) {
    let trie = built::<Immediate>(fault, &[KEY]);
    let reader = in_background(&trie, |trie| {
        let found = trie.pin().longest_prefix_copied(b"113");
        found.map(|(prefix, value)| (prefix.len(), value))
    });
    remove(&trie, KEY);
    put(&trie, SIBLING, SECOND);
    let found = reader.join().expect("the reader does not panic");
    check(&trie, matches!(found, None | Some((2, FIRST))), WRONG_COPY);
    note(seen, found.map(|(_, value)| value));
}

/// A key that a seek is about to return is removed, and its leaf comes back to the same slot with a
/// key before the bound.
fn sought(seen: &Seen) {
    const BEFORE: &[u8] = b"10";
    let trie = built::<Immediate>(None, &[KEY]);
    let reader = in_background(&trie, |trie| {
        let mut key = Vec::new();
        let found = trie.pin().lower_bound_copied(Excluded(BEFORE), &mut key);
        (found, key)
    });
    remove(&trie, KEY);
    put(&trie, BEFORE, SECOND);
    let (found, key) = reader.join().expect("the reader does not panic");
    check(&trie, found.is_none() || (found == Some(FIRST) && key == KEY), WRONG_COPY);
    note(seen, found);
}

/// Like `sought`, with a key of another length, for which the leaf also has room.
fn sought_with_another_length(fault: Option<Fault>, seen: &Seen) {
    const SHORTER: &[u8] = b"1";
    let trie = built::<Immediate>(fault, &[KEY]);
    let reader = in_background(&trie, |trie| {
        let mut key = Vec::new();
        let found = trie.pin().lower_bound_copied(Excluded(b"0"), &mut key);
        (found, key)
    });
    remove(&trie, KEY);
    put(&trie, SHORTER, SECOND);
    let (found, key) = reader.join().expect("the reader does not panic");
    let right = match found {
        None => true,
        Some(FIRST) => key == KEY,
        Some(value) => value == SECOND && key == SHORTER,
    };
    check(&trie, right, WRONG_COPY);
    note(seen, found);
}

/// A scan visits a key that is removed, and whose leaf comes back with a later key. With
/// `backwards` the scan visits that key first.
fn scanned(backwards: bool, fault: Option<Fault>, seen: &Seen) {
    const FURTHER_ON: &[u8] = b"13";
    let trie = built::<Immediate>(fault, &[KEY, SIBLING]);
    let reader = in_background(&trie, move |trie| {
        let view = trie.pin();
        let mut scan = view.iter_copied();
        let mut next = move || if backwards { scan.next_back() } else { scan.next() };
        let mut entries: Vec<_> = std::iter::from_fn(&mut next).collect();
        if backwards {
            entries.reverse();
        }
        entries
    });
    remove(&trie, KEY);
    put(&trie, FURTHER_ON, SECOND);
    let entries = reader.join().expect("the reader does not panic");
    let value_of = |key: &[u8]| entries.iter().find(|(found, _)| found == key).map(|entry| entry.1);
    let all = [(KEY, FIRST), (SIBLING, FIRST), (FURTHER_ON, SECOND)];
    let right = |(key, value): &(Vec<u8>, u64)| all.contains(&(&key[..], *value));
    check(&trie, entries.iter().all(right), WRONG_COPY);
    check(&trie, entries.is_sorted_by(|one, next| one.0 < next.0), OUT_OF_ORDER);
    check(&trie, value_of(SIBLING).is_some(), LOST_KEY);
    seen.note(FOUND, value_of(KEY).is_some());
    seen.note(NEWER, value_of(FURTHER_ON).is_some());
    seen.note(NOTHING, value_of(KEY).is_none());
}

/// Two threads overwrite the value of one key.
fn overwritten_twice(fault: Option<Fault>, seen: &Seen) {
    const THIRD: u64 = 0x5_0000_0006;
    let trie = built::<Immediate>(fault, &[KEY]);
    let other = in_background(&trie, |trie| put(trie, KEY, SECOND));
    let old = put(&trie, KEY, THIRD);
    let other = other.join().expect("the writer does not panic");
    let last = trie.pin().get_copied(KEY);
    let mut all = [old, other, last];
    all.sort_unstable();
    check(&trie, all == [Some(FIRST), Some(SECOND), Some(THIRD)], LOST_VALUE);
    note(seen, last);
}

/// The value of a key is overwritten while the key is removed.
fn overwritten_and_removed(seen: &Seen) {
    let trie = built::<Immediate>(None, &[KEY]);
    let other = in_background(&trie, |trie| remove(trie, KEY));
    let old = put(&trie, KEY, SECOND);
    let removed = other.join().expect("the writer does not panic");
    let last = trie.pin().get_copied(KEY);
    let overwritten_first = old == Some(FIRST) && removed == Some(SECOND) && last.is_none();
    let removed_first = old.is_none() && removed == Some(FIRST) && last == Some(SECOND);
    check(&trie, overwritten_first || removed_first, LOST_VALUE);
    note(seen, last);
}

/// A key is inserted next to a leaf that becomes the leaf of another key, which differs from it in
/// another symbol.
fn forked_beside(fault: Option<Fault>, seen: &Seen) {
    const NEW: &[u8] = b"21";
    const NEIGHBOUR: &[u8] = b"22";
    let trie = built::<Immediate>(fault, &[KEY]);
    let other = in_background(&trie, |trie| {
        remove(trie, KEY);
        put(trie, NEIGHBOUR, SECOND);
    });
    put(&trie, NEW, FIRST);
    other.join().expect("the writer does not panic");
    let found = trie.pin().get_copied(NEIGHBOUR);
    check(&trie, found == Some(SECOND) && trie.pin().get_copied(NEW) == Some(FIRST), LOST_KEY);
    note(seen, found);
}

#[test]
fn a_copy_is_torn_when_the_count_of_its_leaf_is_not_read_again() {
    breaks("leaf's count not read again, overwritten", WRONG_COPY, || {
        overwritten(Some(Fault::LeafUnconfirmed), &Seen::default());
    });
    breaks("leaf's count not read again, reused", WRONG_COPY, || {
        comes_back_as_another(Some(Fault::LeafUnconfirmed), &Seen::default());
    });
}

#[test]
fn a_copy_is_torn_when_the_count_of_its_leaf_orders_nothing() {
    breaks("leaf's count read relaxed", WRONG_COPY, || {
        overwritten(Some(Fault::LeafCountRelaxed), &Seen::default());
    });
    breaks("no fence behind the odd count", WRONG_COPY, || {
        overwritten(Some(Fault::LeafFenceMissing), &Seen::default());
    });
}

#[test]
fn a_copy_is_early_when_the_slot_of_its_leaf_is_not_read_again() {
    breaks("leaf's slot not read again", WRONG_COPY, || {
        comes_back_itself::<Immediate>(false, Some(Fault::LeafSlotNotReread), &Seen::default());
    });
}

#[test]
fn a_copy_is_early_when_the_branch_of_its_leaf_is_not_looked_at_again() {
    breaks("leaf's branch not looked at again", WRONG_COPY, || {
        let fault = Some(Fault::LeafParentNotReread);
        comes_back_itself::<Immediate>(true, fault, &Seen::default());
    });
    breaks("leaf's branch not looked at again, deferred", WRONG_COPY, || {
        let fault = Some(Fault::LeafParentNotReread);
        comes_back_itself::<AfterRcuGp>(true, fault, &Seen::default());
    });
}

#[test]
fn a_value_comes_back_twice_when_its_writers_do_not_exclude_each_other() {
    breaks("leaf written without its lock", LOST_VALUE, || {
        overwritten_twice(Some(Fault::WithoutLocks), &Seen::default());
    });
}

#[test]
fn a_key_is_lost_when_the_leaf_beside_it_is_not_looked_at_under_the_lock() {
    breaks("leaf not looked at under the lock", LOST_KEY, || {
        forked_beside(Some(Fault::LeafNotCheckedUnderLock), &Seen::default());
    });
}

#[test]
fn a_copy_is_whole_beside_an_overwrite() {
    let name = "a value is overwritten in place";
    let model = Model { name, bound: None, least: 20, happens: &[FOUND, NEWER] };
    model.explore(|seen| overwritten(None, seen));
}

#[test]
fn a_copy_is_its_keys_though_the_leaf_comes_back() {
    let name = "the leaf comes back with another key";
    let model = Model { name, bound: Some(3), least: 100, happens: &[FOUND, NOTHING] };
    model.explore(|seen| comes_back_as_another(None, seen));
    let name = "the leaf comes back with the same key";
    let model = Model { name, bound: Some(2), least: 100, happens: &[FOUND, NEWER, NOTHING] };
    model.explore(|seen| comes_back_itself::<Immediate>(false, None, seen));
}

#[test]
fn a_copy_is_its_keys_though_the_branch_of_the_leaf_was_replaced() {
    let name = "the leaf comes back, its branch is replaced";
    let model = Model { name, bound: Some(2), least: 100, happens: &[FOUND, NEWER, NOTHING] };
    model.explore(|seen| comes_back_itself::<Immediate>(true, None, seen));
    let name = "the same, branches deferred";
    let model = Model { name, bound: Some(2), least: 100, happens: &[FOUND, NEWER, NOTHING] };
    model.explore(|seen| comes_back_itself::<AfterRcuGp>(true, None, seen));
}

#[test]
fn a_copy_is_of_two_keys_when_the_count_of_its_leaf_is_not_read_again() {
    breaks("leaf's count not read again, another length", WRONG_COPY, || {
        sought_with_another_length(Some(Fault::LeafUnconfirmed), &Seen::default());
    });
}

#[test]
fn a_seek_copies_the_key_that_it_found_with_its_value() {
    let name = "a leaf that is sought comes back with a key before the bound";
    let model = Model { name, bound: Some(3), least: 100, happens: &[FOUND, NOTHING] };
    model.explore(sought);
    let name = "a leaf that is sought comes back with a key of another length";
    let model = Model { name, bound: Some(3), least: 100, happens: &[FOUND, NEWER, NOTHING] };
    model.explore(|seen| sought_with_another_length(None, seen));
}

#[test]
fn a_prefix_has_the_value_of_another_key_when_the_count_of_its_leaf_is_not_read_again() {
    breaks("prefix: leaf's count not read again", WRONG_COPY, || {
        prefix_comes_back_as_another(Some(Fault::LeafUnconfirmed), &Seen::default());
    });
}

#[test]
fn a_prefix_is_copied_with_its_own_value() {
    let name = "the leaf of a prefix comes back with another key";
    let model = Model { name, bound: Some(3), least: 100, happens: &[FOUND, NOTHING] };
    model.explore(|seen| prefix_comes_back_as_another(None, seen));
}

#[test]
fn a_scan_copies_what_no_key_had_when_the_count_of_a_leaf_is_not_read_again() {
    breaks("scan: leaf's count not read again", WRONG_COPY, || {
        scanned(false, Some(Fault::LeafUnconfirmed), &Seen::default());
    });
}

#[test]
fn a_scan_of_copies_misses_a_key_when_the_branch_of_its_leaf_is_not_looked_at_again() {
    breaks("scan: leaf's branch not looked at again", LOST_KEY, || {
        scanned(false, Some(Fault::LeafParentNotReread), &Seen::default());
    });
}

#[test]
fn a_scan_of_copies_gives_every_key_with_its_value_in_order() {
    for (name, backwards) in [("copies, forwards", false), ("copies, backwards", true)] {
        let model = Model { name, bound: Some(2), least: 500, happens: &[FOUND, NEWER, NOTHING] };
        model.explore(move |seen| scanned(backwards, None, seen));
    }
}

#[test]
fn two_overwrites_of_one_leaf_follow_each_other() {
    let name = "two overwrites of one leaf";
    let model = Model { name, bound: Some(3), least: 20, happens: &[NEWER] };
    model.explore(|seen| overwritten_twice(None, seen));
}

#[test]
fn an_overwrite_and_a_removal_follow_each_other() {
    let name = "an overwrite and a removal";
    let model = Model { name, bound: Some(3), least: 20, happens: &[NEWER, NOTHING] };
    model.explore(overwritten_and_removed);
}

#[test]
fn a_key_is_put_beside_a_leaf_that_becomes_another_keys() {
    let name = "a key is put beside a leaf that becomes another key's";
    let model = Model { name, bound: Some(2), least: 50, happens: &[NEWER] };
    model.explore(|seen| forked_beside(None, seen));
}
