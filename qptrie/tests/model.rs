//! The trie compared with `BTreeMap` after each operation.
#![cfg(not(loom))]

mod common;

use common::keys::any_key;
use common::reference::{Model, same_entries, same_memory};
use common::{Setup, in_every_setup};
use memalloc::ReusePolicy;
use memalloc::rcu::SynchronizeError;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use qptrie::{InsertErrorKind, QpTrie, TrieRef, Update};
use std::ops::Bound::{Excluded, Unbounded};

/// The length of the longest key that fits 4096 bytes together with a `u64` and its own length.
const LONGEST: usize = 4096 - 8 - 2;

#[derive(Clone, Debug)]
enum Operation {
    Update(Vec<u8>, Update),
    Remove(Vec<u8>),
    Get(Vec<u8>),
    NextKey(Option<Vec<u8>>),
    Iterate,
    /// Opens a read section, or closes the one that is open. While it is open, no freed object is
    /// reused.
    Section,
    Quiesce,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let key = || any_key(LONGEST);
    let how = prop::sample::select(vec![Update::Any, Update::Any, Update::NoExist, Update::Exist]);
    let operation = prop_oneof![
        20 => (key(), how).prop_map(|(key, how)| Operation::Update(key, how)),
        12 => key().prop_map(Operation::Remove),
        6 => key().prop_map(Operation::Get),
        6 => prop::option::weighted(0.9, key()).prop_map(Operation::NextKey),
        1 => Just(Operation::Iterate),
        1 => Just(Operation::Section),
        1 => Just(Operation::Quiesce),
    ];
    prop::collection::vec(operation, 0..200)
}

fn update<B: ReusePolicy>(
    view: &TrieRef<u64, B>,
    model: &mut Model<u64>,
    (key, value, how): (Vec<u8>, u64, Update),
) {
    let expected = match (how, model.get(&key)) {
        (Update::NoExist, Some(_)) => Err((InsertErrorKind::Exists, value)),
        (Update::Exist, None) => Err((InsertErrorKind::NotFound, value)),
        (_, old) => Ok(old.copied()),
    };
    let result = match view.update(&key, value, how) {
        Ok(old) => Ok(old.copied()),
        Err(error) => Err((error.kind(), error.into_value())),
    };
    assert_eq!(result, expected, "{key:?}");
    if result.is_ok() {
        model.insert(key, value);
    }
}

fn next_key<B: ReusePolicy>(view: &TrieRef<u64, B>, model: &Model<u64>, after: Option<Vec<u8>>) {
    let expected = match &after {
        None => model.keys().next(),
        Some(after) => {
            model.range::<Vec<u8>, _>((Excluded(after), Unbounded)).next().map(|(key, _)| key)
        }
    };
    let mut found = b"what was there before".to_vec();
    let before = found.clone();
    if view.next_key(after.as_deref(), &mut found) {
        assert_eq!(Some(&found), expected, "after {after:?}");
    } else {
        assert_eq!(None, expected, "after {after:?}");
        assert_eq!(found, before, "the buffer is left alone when there is no key");
    }
}

fn run<B: ReusePolicy>(trie: &QpTrie<u64, B>, operations: Vec<Operation>) -> Model<u64> {
    let mut model = Model::new();
    let mut section = None;
    for (number, operation) in operations.into_iter().enumerate() {
        let view = trie.pin();
        match operation {
            Operation::Update(key, how) => update(&view, &mut model, (key, number as u64, how)),
            Operation::Remove(key) => {
                assert_eq!(view.remove(&key).copied(), model.remove(&key), "{key:?}");
            }
            Operation::Get(key) => {
                assert_eq!(view.get(&key), model.get(&key), "{key:?}");
                assert_eq!(view.contains_key(&key), model.contains_key(&key), "{key:?}");
                let keys = [&key[..], b"", &key[key.len() / 2..], &key];
                assert_eq!(view.get_many(keys), keys.map(|key| model.get(key)), "{key:?}");
            }
            Operation::NextKey(after) => next_key(&view, &model, after),
            Operation::Iterate => assert!(
                view.iter().eq(model.iter().map(|(key, value)| (&key[..], value))),
                "{:?}",
                view.iter().collect::<Vec<_>>()
            ),
            Operation::Section => section = section.is_none().then(|| trie.pin()),
            Operation::Quiesce => {
                drop(view);
                match trie.quiesce() {
                    Ok(_) => assert!(section.is_none()),
                    Err(SynchronizeError::InsideReadSection) => assert!(section.is_some()),
                    Err(other) => panic!("{other}"),
                }
            }
        }
        assert_eq!(trie.len(), model.len());
    }
    model
}

fn any_operations_have_the_same_effect_as_on_a_btree_map<B: ReusePolicy>(setup: Setup) {
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&operations(), |operations| {
        let trie = setup.trie::<u64, B>();
        let model = run(&trie, operations);
        same_entries(&trie, &model);
        same_memory(&trie, &model);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Every set of up to four keys out of a few that are as close together as possible: inserted in
/// every rotation, looked up with every key, and removed in another order.
fn small_sets_of_keys_are_right_in_every_order<B: ReusePolicy>(setup: Setup) {
    const KEYS: [&[u8]; 8] =
        [b"", b"a", b"a\0", b"a\0\0", b"a\x01", b"a\x10", b"a\xff", b"a\xff\xff"];
    let trie = setup.trie::<u64, B>();
    for set in 0_u32..1 << KEYS.len() {
        let chosen: Vec<&[u8]> =
            (0..KEYS.len()).filter(|n| set >> n & 1 == 1).map(|n| KEYS[n]).collect();
        if chosen.len() > 4 {
            continue;
        }
        for first in 0..chosen.len().max(1) {
            let mut order = chosen.clone();
            order.rotate_left(first);
            let (view, mut model) = (trie.pin(), Model::new());
            for (number, key) in order.iter().enumerate() {
                update(&view, &mut model, (key.to_vec(), number as u64, Update::NoExist));
            }
            for key in KEYS {
                assert_eq!(view.get(key), model.get(key), "{key:?} of {order:?}");
                next_key(&view, &model, Some(key.to_vec()));
            }
            order.reverse();
            for key in order {
                assert_eq!(view.remove(key).copied(), model.remove(key));
                same_entries(&trie, &model);
            }
        }
    }
    same_memory(&trie, &Model::new());
}

/// All ways of one branch, so that it takes every form, inserted and removed in several orders.
fn a_branch_has_room_for_every_byte_and_the_end<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let keys: Vec<Vec<u8>> =
        [vec![b'k']].into_iter().chain((0..=255).map(|byte| vec![b'k', byte])).collect();
    for first in (0..keys.len()).step_by(43) {
        let mut model = Model::new();
        for step in 0..keys.len() {
            let key = &keys[(first + step * 5) % keys.len()];
            update(&trie.pin(), &mut model, (key.clone(), step as u64, Update::NoExist));
            if step % 16 == 2 {
                same_entries(&trie, &model);
            }
        }
        same_entries(&trie, &model);
        for step in 0..keys.len() {
            let key = &keys[(first + step * 3) % keys.len()];
            assert_eq!(trie.pin().remove(key).copied(), model.remove(key));
            assert_eq!(trie.pin().get(key), None);
            if step % 16 == 2 {
                same_entries(&trie, &model);
                same_memory(&trie, &model);
            }
        }
    }
}

in_every_setup![
    any_operations_have_the_same_effect_as_on_a_btree_map,
    small_sets_of_keys_are_right_in_every_order,
    a_branch_has_room_for_every_byte_and_the_end,
];

/// An iterator that has returned `None` continues to do so, whatever is inserted after its end.
#[test]
fn an_iterator_that_has_ended_stays_ended() {
    let trie: QpTrie<u64> = QpTrie::new().expect("a trie");
    let view = trie.pin();
    let mut of_none = view.iter();
    assert_eq!(of_none.next(), None);
    view.insert(b"a", 1).expect("memory");
    assert_eq!(of_none.next(), None, "FusedIterator");
    let mut of_one = view.iter();
    assert_eq!(of_one.next(), Some((&b"a"[..], &1)));
    assert_eq!(of_one.next(), None);
    view.insert(b"b", 2).expect("memory");
    assert_eq!(of_one.next(), None, "FusedIterator");
}
