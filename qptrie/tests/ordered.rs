//! Order, checked against `BTreeMap`: entries from both ends, ranges with any bounds, neighbours,
//! and the longest prefix.
#![cfg(not(loom))]

mod common;

use common::keys::any_key;
use common::reference::Model;
use common::{Setup, in_every_setup};
use memalloc::ReusePolicy;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use qptrie::{QpTrie, TrieRef};
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::ops::RangeBounds;

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// An entry of the model, in the form that a trie returns.
type Entry<'e> = (&'e [u8], &'e u64);

fn key() -> impl Strategy<Value = Vec<u8>> {
    any_key(300)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        3 => key().prop_map(Included),
        3 => key().prop_map(Excluded),
        1 => Just(Unbounded),
    ]
}

fn entries() -> impl Strategy<Value = Model<u64>> {
    prop::collection::btree_map(key(), any::<u64>(), 0..60)
}

fn filled<B: ReusePolicy>(setup: Setup, model: &Model<u64>) -> QpTrie<u64, B> {
    let trie = setup.trie();
    for (key, value) in model {
        trie.pin().insert(key, *value).expect("memory");
    }
    trie
}

/// Checks `claim` for many inputs.
fn for_all<S: Strategy>(strategy: S, claim: impl Fn(S::Value)) {
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&strategy, |input| {
        claim(input);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

fn borrowed(bounds: &Bounds) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (bounds.0.as_ref().map(|key| &key[..]), bounds.1.as_ref().map(|key| &key[..]))
}

/// Returns the entries of the model between the bounds; none where `BTreeMap` would panic.
fn between<'m>(model: &'m Model<u64>, bounds: &Bounds) -> Vec<Entry<'m>> {
    let range = borrowed(bounds);
    let all = model.iter().map(|(key, value)| (&key[..], value));
    all.filter(|(key, _)| RangeBounds::<[u8]>::contains(&range, key)).collect()
}

/// Takes entries from the front (true) or the back (false), as `turns` says, repeatedly.
fn from_both_ends<'e>(
    mut iter: impl DoubleEndedIterator<Item = Entry<'e>>,
    turns: &[bool],
) -> Vec<Entry<'e>> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for turn in turns.iter().cycle() {
        let entry = if *turn { iter.next() } else { iter.next_back() };
        match entry {
            Some(entry) if *turn => front.push(entry),
            Some(entry) => back.push(entry),
            None => break,
        }
    }
    assert!(iter.next().is_none() && iter.next_back().is_none(), "what has ended stays ended");
    back.reverse();
    front.append(&mut back);
    front
}

fn a_range_is_that_of_a_btree_map_from_both_ends<B: ReusePolicy>(setup: Setup) {
    let turns = prop::collection::vec(any::<bool>(), 1..8);
    for_all((entries(), (bound(), bound()), turns), |(model, bounds, turns)| {
        let trie = filled::<B>(setup, &model);
        let (view, expected) = (trie.pin(), between(&model, &bounds));
        let range = || view.range(borrowed(&bounds));
        assert_eq!(range().collect::<Vec<_>>(), expected, "{bounds:?}");
        let descending: Vec<_> = expected.iter().rev().copied().collect();
        assert_eq!(range().rev().collect::<Vec<_>>(), descending, "{bounds:?}");
        assert_eq!(from_both_ends(range(), &turns), expected, "{bounds:?} {turns:?}");
        assert_eq!(range().last(), expected.last().copied());
        let mut begun = range();
        begun.next();
        assert!(begun.clone().eq(begun), "a copy goes on from the same place");
    });
}

fn all_entries_come_in_order_from_both_ends<B: ReusePolicy>(setup: Setup) {
    for_all((entries(), prop::collection::vec(any::<bool>(), 1..8)), |(model, turns)| {
        let trie = filled::<B>(setup, &model);
        let view = trie.pin();
        let expected: Vec<Entry<'_>> = model.iter().map(|(key, value)| (&key[..], value)).collect();
        assert_eq!(from_both_ends(view.iter(), &turns), expected);
        assert!(view.into_iter().eq(expected.iter().copied()));
        assert!(view.keys().eq(model.keys()));
        assert!(view.values().rev().eq(model.values().rev()));
        assert_eq!(view.first(), expected.first().copied());
        assert_eq!(view.last(), expected.last().copied());
    });
}

fn a_prefix_has_the_keys_that_begin_with_it<B: ReusePolicy>(setup: Setup) {
    let turns = prop::collection::vec(any::<bool>(), 1..8);
    for_all((entries(), key(), 0..9_usize, turns), |(model, mut prefix, keep, turns)| {
        prefix.truncate(keep);
        let trie = filled::<B>(setup, &model);
        let expected: Vec<Entry<'_>> = model
            .iter()
            .map(|(key, value)| (&key[..], value))
            .filter(|(key, _)| key.starts_with(&prefix))
            .collect();
        assert_eq!(from_both_ends(trie.pin().prefix(&prefix), &turns), expected, "{prefix:?}");
    });
}

/// Each key is a prefix of the next one, so that the path to the last key is as long as possible.
fn a_path_of_any_length_is_walked<B: ReusePolicy>(setup: Setup) {
    let model: Model<u64> = (0..400).map(|length| (vec![0xff; length], length as u64)).collect();
    let trie = filled::<B>(setup, &model);
    let view = trie.pin();
    let expected: Vec<Entry<'_>> = model.iter().map(|(key, value)| (&key[..], value)).collect();
    assert!(view.iter().eq(expected.iter().copied()));
    assert!(view.iter().rev().eq(expected.iter().rev().copied()));
    for length in 0..400 {
        let prefix = vec![0xff; length];
        assert!(view.prefix(&prefix).eq(expected[length..].iter().copied()));
        assert_eq!(view.longest_prefix(&prefix), Some(expected[length]));
    }
    assert_eq!(view.longest_prefix(&[0xff; 500]), expected.last().copied());
}

fn neighbours<B: ReusePolicy>(view: &TrieRef<u64, B>, model: &Model<u64>, key: &[u8]) {
    for bound in [Included(key), Excluded(key), Unbounded] {
        let above = between(model, &(bound.map(<[u8]>::to_vec), Unbounded));
        assert_eq!(view.lower_bound(bound), above.first().copied(), "{bound:?}");
        let below = between(model, &(Unbounded, bound.map(<[u8]>::to_vec)));
        assert_eq!(view.upper_bound(bound), below.last().copied(), "{bound:?}");
    }
    let longest = (0..=key.len()).rev().find_map(|length| model.get_key_value(&key[..length]));
    let longest = longest.map(|(key, value)| (&key[..], value));
    assert_eq!(view.longest_prefix(key), longest, "{key:?}");
}

fn a_key_has_the_neighbours_that_it_has_in_a_btree_map<B: ReusePolicy>(setup: Setup) {
    for_all((entries(), prop::collection::vec(key(), 1..20)), |(model, others)| {
        let trie = filled::<B>(setup, &model);
        let view = trie.pin();
        for key in others.iter().chain(model.keys()) {
            neighbours(&view, &model, key);
        }
    });
}

fn keys_are_stepped_through_in_both_directions<B: ReusePolicy>(setup: Setup) {
    for_all(entries(), |model| {
        let trie = filled::<B>(setup, &model);
        let view = trie.pin();
        let (mut up, mut down, mut key) = (Vec::new(), Vec::new(), Vec::new());
        while view.next_key(up.last().map(|last: &Vec<u8>| &last[..]), &mut key) {
            up.push(key.clone());
        }
        while view.prev_key(down.last().map(|last: &Vec<u8>| &last[..]), &mut key) {
            down.push(key.clone());
        }
        assert!(up.iter().eq(model.keys()));
        assert!(down.iter().eq(model.keys().rev()));
    });
}

/// Complaint 11: a cursor or an iterator whose key is removed continues with the next one; it does
/// not restart or end early.
fn a_cursor_whose_key_was_removed_goes_on_with_the_next<B: ReusePolicy>(setup: Setup) {
    for_all((entries(), any::<bool>()), |(model, backwards)| {
        let trie = filled::<B>(setup, &model);
        let view = trie.pin();
        let mut seen = Vec::new();
        let (mut iter, mut cursor, mut key) = (view.iter(), None::<Vec<u8>>, Vec::new());
        while let Some((found, _)) = if backwards { iter.next_back() } else { iter.next() } {
            let more = match backwards {
                true => view.prev_key(cursor.as_deref(), &mut key),
                false => view.next_key(cursor.as_deref(), &mut key),
            };
            assert!(more && key == found, "{key:?} {found:?}");
            assert!(view.remove(found).is_some());
            seen.push(key.clone());
            cursor = Some(key.clone());
        }
        if backwards {
            seen.reverse();
        }
        assert!(seen.iter().eq(model.keys()));
        assert!(view.first().is_none());
    });
}

in_every_setup![
    a_range_is_that_of_a_btree_map_from_both_ends,
    all_entries_come_in_order_from_both_ends,
    a_prefix_has_the_keys_that_begin_with_it,
    a_path_of_any_length_is_walked,
    a_key_has_the_neighbours_that_it_has_in_a_btree_map,
    keys_are_stepped_through_in_both_directions,
    a_cursor_whose_key_was_removed_goes_on_with_the_next,
];

/// `BTreeMap` panics for such ranges.
#[test]
fn a_range_whose_start_is_beyond_its_end_is_empty() {
    let trie: QpTrie<u64> = QpTrie::new().expect("a trie");
    let view = trie.pin();
    for key in ["a", "b", "c"] {
        view.insert(key.as_bytes(), 0).expect("memory");
    }
    assert_eq!(view.range("c".."a").next(), None);
    assert_eq!(view.range("c".."a").next_back(), None);
    let both = (Excluded("b"), Excluded("b"));
    assert_eq!(view.range(both).next(), None);
    assert_eq!(view.range(both).next_back(), None);
}

/// An entry that is inserted between the ends is returned only by the end that reaches it first.
#[test]
fn ends_that_have_met_do_not_pass_each_other() {
    let trie: QpTrie<u64> = QpTrie::new().expect("a trie");
    let view = trie.pin();
    for key in [b"a", b"d"] {
        view.insert(key, 0).expect("memory");
    }
    let mut iter = view.iter();
    assert_eq!(iter.next_back(), Some((&b"d"[..], &0)));
    assert_eq!(iter.next(), Some((&b"a"[..], &0)));
    for key in [b"b", b"c", b"e"] {
        view.insert(key, 1).expect("memory");
    }
    assert_eq!(iter.next(), Some((&b"b"[..], &1)));
    assert_eq!(iter.next_back(), Some((&b"c"[..], &1)));
    assert_eq!(iter.next_back(), None);
    view.insert(b"bb", 1).expect("memory");
    assert_eq!((iter.next(), iter.next_back()), (None, None));
}
