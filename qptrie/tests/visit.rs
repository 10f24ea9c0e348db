//! Scans that call a closure, against `BTreeMap` and beside writers.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::Model;
use common::{Setup, in_every_setup};
use memalloc::{AfterRcuGp, Immediate, ProtectsIdentity, ReusePolicy};
use qptrie::QpTrie;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn built<B: ReusePolicy, L: ReusePolicy>(setup: Setup) -> QpTrie<u64, B, L> {
    let builder = QpTrie::builder().cpu_mode(setup.cpu_mode).domain(setup.domain());
    builder.build().expect("a trie")
}

/// The entries of a scan, up to the one at which it breaks, and its result.
type Seen = (Vec<(Vec<u8>, u64)>, ControlFlow<u64>);

fn by_reference<B: ReusePolicy, L: ProtectsIdentity>(
    trie: &QpTrie<u64, B, L>,
    (low, high): (&[u8], &[u8]),
    last: u64,
) -> Seen {
    let mut seen = Vec::new();
    let end = trie.pin().try_for_each(low..high, |key, value| {
        seen.push((key.to_vec(), *value));
        if *value == last { Break(last) } else { Continue(()) }
    });
    (seen, end)
}

fn by_copy<B: ReusePolicy, L: ReusePolicy>(
    trie: &QpTrie<u64, B, L>,
    (low, high): (&[u8], &[u8]),
    last: u64,
) -> Seen {
    let mut seen = Vec::new();
    let end = trie.pin().try_for_each_copied(low..high, |key, value| {
        seen.push((key.to_vec(), value));
        if value == last { Break(last) } else { Continue(()) }
    });
    (seen, end)
}

/// A scan visits the same entries as that of a `BTreeMap`, for any range and any break.
fn a_closure_sees_the_entries_of_a_sorted_map<B: ReusePolicy>(setup: Setup) {
    let (kept, copied) = (built::<B, AfterRcuGp>(setup), built::<B, Immediate>(setup));
    let (mut dice, mut model) = (Dice::new(31), Model::new());
    for step in 0..300 {
        let key = dice.key();
        kept.pin().insert(&key, step).expect("memory");
        copied.pin().insert_copied(&key, step).expect("memory");
        model.insert(key, step);
    }
    let mut all = Vec::new();
    kept.pin().for_each(.., |key, value| all.push((key.to_vec(), *value)));
    assert!(all.iter().map(|(key, value)| (key, value)).eq(&model));
    all.clear();
    copied.pin().for_each_copied(.., |key, value| all.push((key.to_vec(), value)));
    assert!(all.iter().map(|(key, value)| (key, value)).eq(&model));
    for _ in 0..200 {
        let (low, high, last) = (dice.key(), dice.key(), dice.roll(300) as u64);
        let in_range = model
            .iter()
            .filter(|(key, _)| low <= **key && **key < high)
            .map(|(k, v)| (k.clone(), *v));
        let mut expected = (Vec::new(), Continue(()));
        for (key, value) in in_range {
            expected.0.push((key, value));
            if value == last {
                expected.1 = Break(last);
                break;
            }
        }
        let range = (&low[..], &high[..]);
        assert_eq!(by_reference(&kept, range, last), expected, "{range:?}");
        assert_eq!(by_copy(&kept, range, last), expected, "{range:?}");
        assert_eq!(by_copy(&copied, range, last), expected, "{range:?}");
    }
}

/// Checks that the keys are in order without duplicates, with every key that is present throughout.
fn check(keys: &[u64], stay: u64) {
    assert!(keys.is_sorted_by(|one, next| one < next), "{keys:?}");
    assert_eq!(keys.iter().filter(|&key| key % 2 == 0).count() as u64, stay);
}

/// Even numbers stay; odd ones are inserted and removed, and every change replaces a branch on the
/// path of the scan. The closure changes the trie as well.
fn a_closure_sees_every_key_that_is_always_present<B: ReusePolicy>(setup: Setup) {
    const STAY: u64 = 300;
    let (kept, copied) = (built::<B, AfterRcuGp>(setup), built::<B, Immediate>(setup));
    for number in 0..STAY {
        kept.pin().insert(&(2 * number).to_be_bytes(), 0).expect("memory");
        copied.pin().insert_copied(&(2 * number).to_be_bytes(), 0).expect("memory");
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice::new(5);
            while !done.load(Ordering::Relaxed) {
                let key = (2 * dice.roll(STAY as usize) as u64 + 1).to_be_bytes();
                if kept.pin().remove(&key).is_none() {
                    kept.pin().insert(&key, 1).expect("memory");
                }
                if copied.pin().remove_copied(&key).is_none() {
                    copied.pin().insert_copied(&key, 1).expect("memory");
                }
            }
        });
        let number = |key: &[u8]| u64::from_be_bytes(key.try_into().expect("eight bytes"));
        for _ in 0..100 {
            let mut keys = Vec::new();
            let view = kept.pin();
            view.for_each(.., |key, value| {
                keys.push(number(key));
                if *value == 1 {
                    view.remove(key);
                }
            });
            check(&keys, STAY);
            keys.clear();
            let view = copied.pin();
            view.for_each_copied(.., |key, value| {
                keys.push(number(key));
                if value == 1 {
                    view.remove_copied(key);
                }
            });
            check(&keys, STAY);
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// A lookup finds the longest prefix that is always present, or a longer one, with its own value.
fn prefixes<B: ReusePolicy, L: ReusePolicy>(setup: Setup) {
    const PATH: &[u8] = b"/usr/lib/rust/src/core";
    const ALWAYS: usize = 8;
    let trie = built::<B, L>(setup);
    for length in [0, 1, 4, ALWAYS] {
        trie.pin().insert_copied(&PATH[..length], length as u64).expect("memory");
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in [1, 2] {
            let (trie, done) = (&trie, &done);
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                while !done.load(Ordering::Relaxed) {
                    // Longer prefixes, shorter ones, and keys beside them are inserted and removed.
                    let length = dice.roll(PATH.len() + 1);
                    if [0, 1, 4, ALWAYS].contains(&length) {
                        continue;
                    }
                    let mut key = PATH[..length].to_vec();
                    if dice.roll(2) == 0 {
                        key[length - 1] = b'!';
                    }
                    if trie.pin().remove_copied(&key).is_none() {
                        trie.pin().insert_copied(&key, length as u64).expect("memory");
                    }
                }
            });
        }
        for _ in 0..20_000 {
            let (found, length) = trie.pin().longest_prefix_copied(PATH).expect("always present");
            assert!(found.len() >= ALWAYS && PATH.starts_with(found));
            assert_eq!(found.len() as u64, length, "the value of another key");
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn a_prefix_that_is_always_present_is_found_with_its_value<B: ReusePolicy>(setup: Setup) {
    prefixes::<B, Immediate>(setup);
    prefixes::<B, AfterRcuGp>(setup);
}

/// The longest prefix is the greatest key of a `BTreeMap` that is a prefix of the given key.
fn the_longest_prefix_is_the_same_as_in_a_sorted_map<B: ReusePolicy>(setup: Setup) {
    let (kept, copied) = (built::<B, AfterRcuGp>(setup), built::<B, Immediate>(setup));
    let (mut dice, mut model) = (Dice::new(41), Model::new());
    for step in 0..2_000 {
        let key = dice.key();
        if dice.roll(3) == 0 {
            kept.pin().remove(&key);
            copied.pin().remove_copied(&key);
            model.remove(&key);
        } else {
            kept.pin().insert(&key, step).expect("memory");
            copied.pin().insert_copied(&key, step).expect("memory");
            model.insert(key, step);
        }
        let asked = dice.key();
        let expected = model.iter().rev().find(|(key, _)| asked.starts_with(key));
        let expected = expected.map(|(key, value)| (&key[..], *value));
        assert_eq!(copied.pin().longest_prefix_copied(&asked), expected, "{asked:?}");
        assert_eq!(kept.pin().longest_prefix_copied(&asked), expected, "{asked:?}");
        assert_eq!(kept.pin().longest_prefix(&asked).map(|(key, v)| (key, *v)), expected);
    }
}

in_every_setup![
    a_closure_sees_the_entries_of_a_sorted_map,
    a_closure_sees_every_key_that_is_always_present,
    a_prefix_that_is_always_present_is_found_with_its_value,
    the_longest_prefix_is_the_same_as_in_a_sorted_map,
];
