//! Operations that copy values, under every policy of leaves: with leaves that are reused at once,
//! and with leaves that are kept for readers.
//!
//! The tests do not depend on timing: for every interleaving of the threads, some order of the
//! operations must explain all answers.
//! that some order of the operations explains.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::{Model, branches};
use common::{Setup, in_every_setup};
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use qptrie::{InsertErrorKind, PlainBits, QpTrie, Update};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

fn trie<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(setup: Setup) -> QpTrie<V, B, L> {
    let builder = QpTrie::builder().cpu_mode(setup.cpu_mode).domain(setup.domain());
    builder.build().expect("a trie")
}

fn same_as_the_model<B: ReusePolicy, L: ReusePolicy>(setup: Setup) {
    let trie = trie::<u64, B, L>(setup);
    let (mut dice, mut model) = (Dice::new(7), Model::new());
    for step in 0..3_000 {
        let (key, view) = (dice.key(), trie.pin());
        match dice.roll(8) {
            0..3 => {
                let old = view.insert_copied(&key, step).expect("memory");
                assert_eq!(old, model.insert(key, step), "{step}");
            }
            3 => {
                let done = view.update_copied(&key, step, Update::Exist);
                assert_eq!(done.ok().flatten(), model.get(&key).copied(), "{step}");
                model.entry(key).and_modify(|value| *value = step);
            }
            4 => match view.update_copied(&key, step, Update::NoExist) {
                Ok(old) => assert_eq!((old, model.insert(key, step)), (None, None), "{step}"),
                Err(error) => {
                    assert_eq!(error.kind(), InsertErrorKind::Exists);
                    assert!(model.contains_key(&key), "{step}");
                }
            },
            5..7 => assert_eq!(view.remove_copied(&key), model.remove(&key), "{step}"),
            _ => {
                assert_eq!(view.get_copied(&key), model.get(&key).copied(), "{step}");
                assert_eq!(view.contains_key(&key), model.contains_key(&key), "{step}");
            }
        }
    }
    for (key, value) in &model {
        assert_eq!(trie.pin().get_copied(key), Some(*value), "{key:?}");
    }
    for _ in 0..300 {
        let (bound, view, mut found) = (dice.key(), trie.pin(), b"untouched".to_vec());
        for from in [Included(&bound[..]), Excluded(&bound[..]), Unbounded] {
            let entry = |entry: Option<(&Vec<u8>, &u64)>| match entry {
                Some((key, value)) => (Some(*value), key.clone()),
                None => (None, b"untouched".to_vec()),
            };
            found.clone_from(&b"untouched".to_vec());
            let value = view.lower_bound_copied(from, &mut found);
            let next = model.range::<[u8], _>((from, Unbounded)).next();
            assert_eq!((value, found.clone()), entry(next), "{from:?}");
            found.clone_from(&b"untouched".to_vec());
            let value = view.upper_bound_copied(from, &mut found);
            let last = model.range::<[u8], _>((Unbounded, from)).next_back();
            assert_eq!((value, found.clone()), entry(last), "{from:?}");
        }
    }
    trie.quiesce().expect("outside of read sections");
    let usage = trie.memory_usage();
    assert_eq!(trie.len(), model.len());
    assert_eq!(usage.branches.live.objects, branches(&model));
    assert_eq!(usage.leaves.live.objects, model.len() as u64);
    assert_eq!(usage.leaves.pending.objects, 0);
}

/// Copies under every policy of leaves equal those of a sorted map, and no memory is lost.
fn copies_answer_as_a_sorted_map<B: ReusePolicy>(setup: Setup) {
    same_as_the_model::<B, Immediate>(setup);
    same_as_the_model::<B, AfterRcuGp>(setup);
    same_as_the_model::<B, FreeAfterRcuGp>(setup);
    same_as_the_model::<B, AfterTasksTraceGp>(setup);
}

/// The number of threads of each kind in the tests with several threads.
const THREADS: usize = 3;
const CHANGES: usize = 8_000;

/// A value that encodes its key in every word.
type Stamped = [u64; 5];

fn stamped(key: &[u8], version: u64) -> Stamped {
    let hash = key.iter().fold(key.len() as u64, |hash, byte| {
        (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    std::array::from_fn(|index| hash ^ version.wrapping_add(index as u64))
}

/// Returns the version of a value, and checks that it is a value of `key`.
fn version(key: &[u8], value: Stamped) -> u64 {
    let version = value[0] ^ stamped(key, 0)[0];
    assert_eq!(value, stamped(key, version), "a value that {key:?} never had");
    version
}

/// Returns a few keys of equal length, so that a leaf that one of them frees is reused for another
/// at once, often in the same slot: pairs that share a branch, and some that are alone below their
/// root.
fn close_keys() -> Vec<Vec<u8>> {
    let pairs = (0..4_u8).flat_map(|part| [vec![b'p', part, 1], vec![b'p', part, 2]]);
    pairs.chain((0..4_u8).map(|root| vec![root, 7, 7])).collect()
}

/// Counts a writer as finished, even if it panics.
struct Writing<'s>(&'s AtomicUsize);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Returns the keys of a scan, and checks that it is in order and that each key has one of its own
/// values.
fn scanned<B: ReusePolicy, L: ReusePolicy>(trie: &QpTrie<Stamped, B, L>) -> Vec<Vec<u8>> {
    let (view, mut keys, mut key) = (trie.pin(), Vec::<Vec<u8>>::new(), Vec::new());
    loop {
        let from = keys.last().map_or(Unbounded, |last| Excluded(&last[..]));
        let Some(value) = view.lower_bound_copied(from, &mut key) else {
            return keys;
        };
        version(&key, value);
        assert!(keys.last() < Some(&key), "a scan out of order");
        keys.push(key.clone());
    }
}

fn copies_match<B: ReusePolicy, L: ReusePolicy>(setup: Setup) {
    let trie = trie::<Stamped, B, L>(setup);
    let keys = close_keys();
    let always = b"p".to_vec();
    trie.pin().insert_copied(&always, stamped(&always, 0)).expect("memory");
    let writing = AtomicUsize::new(THREADS);
    thread::scope(|scope| {
        for own in 0..THREADS {
            let (trie, keys, writing, always) = (&trie, &keys, &writing, &always);
            scope.spawn(move || {
                let _writing = Writing(writing);
                let mut dice = Dice::new(own as u64 + 1);
                let mut mine = BTreeMap::new();
                for step in 1..=CHANGES as u64 {
                    let key = &keys[dice.roll(keys.len() / THREADS) * THREADS + own];
                    let view = trie.pin();
                    let old = if dice.roll(3) > 0 {
                        let value = stamped(key, step);
                        let old = view.insert_copied(key, value).expect("memory");
                        assert_eq!(old.map(|old| version(key, old)), mine.insert(key, step));
                        old
                    } else {
                        let old = view.remove_copied(key);
                        assert_eq!(old.map(|old| version(key, old)), mine.remove(key));
                        old
                    };
                    assert!(old.is_none_or(|old| version(key, old) < step));
                    if own == 0 {
                        view.insert_copied(always, stamped(always, step)).expect("memory");
                    }
                }
            });
        }
        for own in 0..THREADS {
            let (trie, keys, writing, always) = (&trie, &keys, &writing, &always);
            scope.spawn(move || {
                let mut dice = Dice::new(own as u64 + 99);
                let (mut newest, mut newest_always) = (vec![0; keys.len()], 0);
                loop {
                    let last = writing.load(Ordering::Acquire) == 0;
                    for _ in 0..100 {
                        let view = trie.pin();
                        let of = dice.roll(keys.len());
                        if let Some(value) = view.get_copied(&keys[of]) {
                            let seen = version(&keys[of], value);
                            assert!(seen >= newest[of], "an older value after a newer one");
                            newest[of] = seen;
                        }
                        let value = view.get_copied(always).expect("always there");
                        let seen = version(always, value);
                        assert!(seen >= newest_always, "an older value after a newer one");
                        newest_always = seen;
                    }
                    assert!(scanned(trie).contains(always));
                    if last {
                        break;
                    }
                }
            });
        }
    });
    trie.quiesce().expect("outside of read sections");
    assert_eq!(trie.memory_usage().leaves.live.objects, trie.len() as u64);
}

/// While leaves are reused for other keys, every copy is a whole value of its key and never older
/// than a value seen before; a key that is always there is never missed.
fn every_copy_is_a_value_of_its_key_while_leaves_are_reused<B: ReusePolicy>(setup: Setup) {
    copies_match::<B, Immediate>(setup);
    copies_match::<B, AfterRcuGp>(setup);
}

/// Threads insert and remove values of the same few keys: each inserted value is returned exactly
/// once, to the thread that replaced or removed it, or is there at the end.
fn every_value_comes_back_once<B: ReusePolicy>(setup: Setup) {
    let trie = trie::<u64, B, Immediate>(setup);
    let keys = &close_keys()[..6];
    let mut back: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|own| {
                let trie = &trie;
                scope.spawn(move || {
                    let mut dice = Dice::new(own as u64 + 5);
                    let mut back = Vec::new();
                    for step in 0..CHANGES {
                        let (key, view) = (&keys[dice.roll(keys.len())], trie.pin());
                        back.extend(
                            view.insert_copied(key, (step * THREADS + own) as u64).unwrap(),
                        );
                        if dice.roll(3) == 0 {
                            back.extend(view.remove_copied(&keys[dice.roll(keys.len())]));
                        }
                    }
                    back
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    back.extend(keys.iter().filter_map(|key| trie.pin().remove_copied(key)));
    back.sort_unstable();
    assert!(back.into_iter().eq(0..(CHANGES * THREADS) as u64));
    assert!(trie.is_empty());
}

in_every_setup![
    copies_answer_as_a_sorted_map,
    every_copy_is_a_value_of_its_key_while_leaves_are_reused,
    every_value_comes_back_once,
];

fn comes_back<V: PlainBits + PartialEq + std::fmt::Debug>(values: [V; 2]) {
    let trie = QpTrie::<V, Immediate, Immediate>::with_policies().expect("a trie");
    let view = trie.pin();
    let keys: Vec<Vec<u8>> =
        (0..40).map(|length| (1..=length).collect()).chain([vec![9; 1000]]).collect();
    for (put, old) in [(values[0], None), (values[1], Some(values[0]))] {
        for key in &keys {
            assert_eq!(view.insert_copied(key, put), Ok(old), "{key:?}");
        }
        for key in &keys {
            assert_eq!(view.get_copied(key), Some(put), "{key:?}");
        }
    }
    for key in &keys {
        assert_eq!(view.remove_copied(key), Some(values[1]), "{key:?}");
        assert!(!view.contains_key(key));
    }
}

#[test]
fn values_of_every_size_come_back_whole() {
    comes_back([(), ()]);
    comes_back([true, false]);
    comes_back(['a', '\u{10ffff}']);
    comes_back([1_u8, 255]);
    comes_back([[1_u8, 2, 3], [4, 5, 6]]);
    comes_back([1.5_f64, -0.25]);
    comes_back([u128::MAX, 1 << 100]);
    comes_back([[7_u16; 5], [0xfffe; 5]]);
    comes_back([[1_u8; 999], [2; 999]]);
}

#[test]
fn a_value_is_overwritten_in_place_and_without_memory() {
    let builder = QpTrie::<u64, Immediate, Immediate>::builder().limit_bytes(1 << 20);
    let trie = builder.build().expect("a trie");
    let view = trie.pin();
    let mut count = 0_u64;
    let error = loop {
        match view.insert_copied(&count.to_be_bytes(), count) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), InsertErrorKind::Memory(_)), "{error}");
    assert_eq!(error.into_value(), count);
    let before = trie.memory_usage().leaves;
    for key in 0..count {
        assert_eq!(view.insert_copied(&key.to_be_bytes(), !key), Ok(Some(key)));
    }
    assert_eq!(trie.memory_usage().leaves, before);
    assert!((0..count).all(|key| view.get_copied(&key.to_be_bytes()) == Some(!key)));
}

#[test]
fn a_removed_leaf_is_reused_for_another_key_at_once() {
    let trie = QpTrie::<u64, Immediate, Immediate>::with_policies().expect("a trie");
    let view = trie.pin();
    for round in 0..10_000_u64 {
        let key = round.to_le_bytes();
        assert_eq!(view.insert_copied(&key, round), Ok(None));
        assert_eq!(view.remove_copied(&key), Some(round));
    }
    let leaves = trie.memory_usage().leaves;
    assert_eq!((leaves.live.objects, leaves.pending.objects), (0, 0));
    assert!(leaves.taken.objects < 1_000, "{leaves:?}");
}

/// Looking up a key that no leaf can hold is not an error. A leaf stores the key length in 16 bits.
#[test]
fn a_key_whose_length_is_beyond_16_bits_is_not_taken_for_a_shorter_one() {
    fn check<L: ReusePolicy>() {
        let trie = QpTrie::<u64, Immediate, L>::with_policies().expect("a trie");
        let view = trie.pin();
        for key in [&b""[..], b"a", b"ab", b"abc\0"] {
            view.insert_copied(key, 1).expect("memory");
            for more in [1 << 16, 2 << 16, 1 << 21] {
                let long = [key, &vec![0; more]].concat();
                assert_eq!(view.get_copied(&long), None);
                assert_eq!(view.get_many_copied([&long]), [None]);
                assert!(!view.contains_key(&long));
                assert_eq!(view.remove_copied(&long), None);
                assert!(view.insert_copied(&long, 2).is_err());
                let next = view.lower_bound_copied(Included(&long), &mut Vec::new());
                assert_eq!(next, None);
            }
            assert_eq!(view.get_copied(key), Some(1));
        }
    }
    check::<Immediate>();
    check::<AfterRcuGp>();
}

#[test]
fn the_longest_key_fits_a_leaf_of_words_and_one_byte_more_is_too_large() {
    fn limit<const N: usize>(longest: usize) {
        let trie = QpTrie::<[u8; N], Immediate, Immediate>::with_policies().expect("a trie");
        let view = trie.pin();
        let key = vec![b'k'; longest + 1];
        assert_eq!(view.insert_copied(&key[1..], [3; N]), Ok(None));
        assert_eq!(view.get_copied(&key[1..]), Some([3; N]));
        let error = view.insert_copied(&key, [3; N]).expect_err("one byte too many");
        let kind = InsertErrorKind::TooLarge { key: longest + 1, value: N, longest_key: longest };
        assert_eq!(error.kind(), kind);
    }
    limit::<8>(4096 - 4 - 8 - 2);
    limit::<5>(4096 - 4 - 8 - 2);
    limit::<4088>(2);
    let trie = QpTrie::<[u8; 4092], Immediate, Immediate>::with_policies().expect("a trie");
    let error = trie.pin().insert_copied(b"", [0; 4092]).expect_err("no room for a length");
    assert_eq!(
        error.to_string(),
        "a value of 4092 bytes leaves no room for a key: a leaf has 4096 bytes"
    );
}
