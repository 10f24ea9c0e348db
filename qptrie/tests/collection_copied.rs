//! The traits of std's maps and of serde, for a trie whose leaves are reused at once.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::Model;
use common::{Setup, in_every_setup};
use memalloc::{AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use qptrie::{InsertErrorKind, LeafPolicy, QpTrie};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn trie<B: ReusePolicy>(setup: Setup) -> QpTrie<u64, B, Immediate> {
    let builder = QpTrie::builder().cpu_mode(setup.cpu_mode).domain(setup.domain());
    builder.build().expect("a trie")
}

fn entries(seed: u64) -> Vec<(Vec<u8>, u64)> {
    let mut dice = Dice::new(seed);
    (0..2_000).map(|number| (dice.key(), number)).collect()
}

fn is<B: ReusePolicy>(trie: &QpTrie<u64, B, Immediate>, model: &Model<u64>) {
    assert_eq!(trie.len(), model.len());
    assert!(trie.pin().iter_copied().eq(model.iter().map(|(key, value)| (key.clone(), *value))));
}

/// If a key occurs twice, the later value wins, as in a `BTreeMap`.
fn entries_in_any_order_make_the_same_trie_as_a_btree_map<B: ReusePolicy>(setup: Setup) {
    let mut trie = trie::<B>(setup);
    let mut model = Model::new();
    for seed in 0..3 {
        if seed == 1 {
            (&trie).extend(entries(seed));
        } else {
            trie.extend(entries(seed));
        }
        model.extend(entries(seed));
    }
    is(&trie, &model);
    let collected: QpTrie<u64, B, Immediate> = entries(3).into_iter().collect();
    is(&collected, &entries(3).into_iter().collect());
    assert_ne!(collected, trie);
    trie.pin().clear();
    is(&trie, &Model::new());
    trie.extend(entries(3));
    assert_eq!(collected, trie);
}

/// A clone has its own nodes and the settings of the original.
fn a_clone_is_independent_of_its_original<B: ReusePolicy>(setup: Setup) {
    let builder = QpTrie::<u32, B, Immediate>::builder().domain(setup.domain());
    let trie = builder.max_entries(3).max_key_len(5).build().expect("a trie");
    trie.try_extend([("a", 1), ("ab", 2)]).expect("room");
    let clone = trie.clone();
    assert_eq!(clone, trie);
    assert!(trie.domain().pin().is_of(clone.domain()));
    clone.pin().insert_copied("a", 7).expect("memory");
    assert_ne!(clone, trie, "another value");
    trie.pin().remove_copied("ab");
    assert_eq!((clone.pin().get_copied("ab"), trie.pin().get_copied("a")), (Some(2), Some(1)));
    clone.try_extend([("c", 3)]).expect("room for three");
    let full = clone.try_extend([("d", 4)]).unwrap_err();
    assert_eq!((full.kind(), full.into_value()), (InsertErrorKind::Full { max_entries: 3 }, 4));
    let long = clone.try_extend([("longer", 5)]).unwrap_err();
    assert_eq!(long.kind(), InsertErrorKind::KeyTooLong { key: 6, limit: 5 });
    drop(trie);
    assert_eq!(clone.len(), 3);
}

/// While another thread writes, a clone has every entry that is present throughout.
fn a_clone_beside_a_writer_has_every_entry_that_is_always_present<B: ReusePolicy>(setup: Setup) {
    let trie = trie::<B>(setup);
    trie.try_extend((0..100_u64).map(|number| (number.to_be_bytes(), number))).expect("room");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in (100..200_u64).cycle() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let key = [&(number / 2).to_be_bytes()[..], b"?"].concat();
                trie.pin().insert_copied(&key, number).expect("memory");
                trie.pin().remove_copied(&key);
            }
        });
        for _ in 0..50 {
            let clone = trie.clone();
            let view = clone.pin();
            assert!(
                (0..100_u64).all(|number| view.get_copied(&number.to_be_bytes()) == Some(number))
            );
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// A trie that is serialized and deserialized is equal to the original.
fn a_trie_of_copied_values_is_deserialized_as_it_was_serialized<B: ReusePolicy>(setup: Setup) {
    let trie = trie::<B>(setup);
    trie.try_extend(entries(7)).expect("memory");
    let mut bytes = Vec::new();
    ciborium::into_writer(&trie, &mut bytes).expect("a vector takes any number");
    let read: QpTrie<u64, B, Immediate> = ciborium::from_reader(&bytes[..]).expect("as written");
    assert_eq!(read, trie);
    let text = QpTrie::<u32, B, Immediate>::from([("b", 2), ("a", 1)]);
    assert_eq!(serde_json::to_string(&text).expect("all keys are text"), r#"{"a":1,"b":2}"#);
}

in_every_setup![
    entries_in_any_order_make_the_same_trie_as_a_btree_map,
    a_clone_is_independent_of_its_original,
    a_clone_beside_a_writer_has_every_entry_that_is_always_present,
    a_trie_of_copied_values_is_deserialized_as_it_was_serialized,
];

/// The same code makes a trie under each policy of leaves.
#[test]
fn code_that_is_generic_over_leaves_has_the_traits_of_maps() {
    fn check<L: LeafPolicy<u32>>() {
        let mut trie: QpTrie<u32, Immediate, L> = [("a", 1)].into_iter().collect();
        trie.extend([("b", 2)]);
        let clone = trie.clone();
        assert_eq!((&clone, clone.len()), (&trie, 2));
        trie.pin().clear();
        assert!(trie.is_empty() && clone != trie);
    }
    check::<Immediate>();
    check::<memalloc::AfterRcuGp>();
    check::<FreeAfterRcuGp>();
    check::<AfterTasksTraceGp>();
}
