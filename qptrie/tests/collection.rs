//! The traits of std's collections: construction from entries, extension, cloning, comparison.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::{Model, same_entries, same_memory};
use common::{Setup, in_every_setup};
use memalloc::ReusePolicy;
use memalloc::rcu::Domain;
use qptrie::{InsertErrorKind, QpTrie};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn entries(seed: u64) -> Vec<(Vec<u8>, u64)> {
    let mut dice = Dice::new(seed);
    (0..2_000).map(|number| (dice.key(), number)).collect()
}

/// If a key occurs twice, the later value wins, as in a `BTreeMap`.
fn entries_in_any_order_build_the_same_map_as_a_btree_map<B: ReusePolicy>(setup: Setup) {
    let mut trie = setup.trie::<u64, B>();
    let mut model = Model::new();
    for seed in 0..3 {
        if seed == 1 {
            (&trie).extend(entries(seed));
        } else {
            trie.extend(entries(seed));
        }
        model.extend(entries(seed));
    }
    same_entries(&trie, &model);
    same_memory(&trie, &model);
    let collected: QpTrie<u64, B> = entries(3).into_iter().collect();
    same_entries(&collected, &entries(3).into_iter().collect());
}

/// A clone has separate nodes and values, and the settings of the original.
fn a_clone_is_independent_of_the_original<B: ReusePolicy>(setup: Setup) {
    let trie = setup.builder::<String, B>().max_entries(3).max_key_len(5).build().expect("a trie");
    trie.try_extend([("a", "1".to_owned()), ("ab", "2".to_owned())]).expect("room");
    let clone = trie.clone();
    assert_eq!(clone, trie);
    assert!(trie.domain().pin().is_of(clone.domain()));
    let _ = clone.pin().insert(b"a", "other".to_owned()).expect("memory");
    let _ = trie.pin().remove(b"ab");
    assert_eq!(clone.pin().get(b"ab").map(String::as_str), Some("2"));
    assert_eq!(trie.pin().get(b"a").map(String::as_str), Some("1"));
    clone.try_extend([("c", String::new())]).expect("room for three");
    let full = clone.try_extend([("d", String::new())]).unwrap_err();
    assert_eq!(full.kind(), InsertErrorKind::Full { max_entries: 3 });
    let long = clone.try_extend([("longer", String::new())]).unwrap_err();
    assert_eq!(long.kind(), InsertErrorKind::KeyTooLong { key: 6, limit: 5 });
    drop(trie);
    assert_eq!(clone.len(), 3);
    let model = clone.pin().iter().map(|(key, value)| (key.to_vec(), value.clone())).collect();
    same_memory(&clone, &model);
}

/// While another thread writes, a clone has every key that is present throughout; a full trie can
/// be cloned too.
fn a_clone_beside_a_writer_has_every_key_that_is_always_there<B: ReusePolicy>(setup: Setup) {
    let trie = setup.builder::<u64, B>().max_entries(101).build().expect("a trie");
    trie.try_extend((0..100_u64).map(|number| (number.to_be_bytes(), number))).expect("room");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in (100..200_u64).cycle() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let key = [&(number / 2).to_be_bytes()[..], b"?"].concat();
                let _ = trie.pin().insert(&key, number).expect("room for one");
                let _ = trie.pin().remove(&key);
            }
        });
        for _ in 0..50 {
            let clone = trie.clone();
            let view = clone.pin();
            assert!((0..100_u64).all(|number| view.get(&number.to_be_bytes()) == Some(&number)));
        }
        done.store(true, Ordering::Relaxed);
    });
}

in_every_setup![
    entries_in_any_order_build_the_same_map_as_a_btree_map,
    a_clone_is_independent_of_the_original,
    a_clone_beside_a_writer_has_every_key_that_is_always_there,
];

#[test]
fn tries_with_equal_entries_are_equal() {
    let trie: QpTrie<u64> = [("a", 1), ("b", 2)].into();
    let same = QpTrie::from([("b", 3), ("c", 0), ("a", 1)]);
    same.pin().insert(b"b", 2).expect("memory");
    assert_ne!(trie, same);
    same.pin().remove(b"c");
    assert_eq!(trie, same);
    same.pin().insert(b"b", 3).expect("memory");
    assert_ne!(trie, same, "another value");
    same.pin().remove(b"b");
    same.pin().insert(b"B", 2).expect("memory");
    assert_ne!(trie, same, "another key");
    assert_eq!(QpTrie::<u64>::default(), QpTrie::default());
}

/// An entry that can't be inserted stops `try_extend`, and makes `extend` panic with the reason.
#[test]
fn try_extend_stops_at_the_first_entry_that_does_not_fit() {
    let domain = Domain::new();
    let mut trie = QpTrie::<u64>::builder().domain(domain).max_entries(2).build().expect("a trie");
    let error = trie.try_extend([("a", 1), ("b", 2), ("c", 3), ("a", 4)]).unwrap_err();
    assert_eq!((error.kind(), error.into_value()), (InsertErrorKind::Full { max_entries: 2 }, 3));
    assert_eq!(trie.pin().get(b"a"), Some(&1));
    let panic = catch_unwind(AssertUnwindSafe(|| trie.extend([("d", 4)]))).unwrap_err();
    let message = panic.downcast_ref::<String>().expect("a text");
    assert_eq!(message, "an entry can't be inserted: the trie is full: it allows 2 entries");
}
