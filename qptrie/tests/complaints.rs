//! Common complaints of users about ordered maps, one test for each. `memalloc` tests the
//! complaints about allocators and reclamation.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::{Model, same_entries, same_memory};
use common::{Setup, in_every_setup};
use memalloc::{PolicyKind, ReusePolicy};
use qptrie::{Computed, Operation};
use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Complaint 11: An ordered map whose ranges leak. A range that is abandoned half-way, from either
/// end, or forgotten, holds nothing once its section has ended: the values that were removed
/// meanwhile are dropped, and their memory is returned.
fn abandoned_ranges_leak_nothing<B: ReusePolicy>(setup: Setup) {
    let (trie, token) = (setup.trie::<Arc<()>, B>(), Arc::new(()));
    let mut dice = Dice::new(11);
    for _ in 0..50 {
        let keys: Vec<_> = (0..100).map(|_| dice.key()).collect();
        let view = trie.pin();
        view.clear();
        for key in &keys {
            let _ = view.insert(key, token.clone()).expect("memory");
        }
        let (low, high) = (&keys[0], &keys[1]);
        for taken in 0..10 {
            let mut range =
                view.range((Included(&low.min(high)[..]), Excluded(&low.max(high)[..])));
            let mut all = view.iter();
            for _ in 0..taken {
                _ = (range.next(), range.next_back(), all.next_back());
            }
            _ = all.next().map(|(key, _)| view.remove(key));
            if taken % 2 == 0 {
                std::mem::forget((range, all));
            }
        }
    }
    let model = trie.pin().iter().map(|(key, value)| (key.to_vec(), value.clone())).collect();
    same_memory(&trie, &model);
    let alive = Arc::strong_count(&token) - model.len() - 1;
    assert_eq!(alive, trie.len(), "as many values as entries");
    trie.pin().clear();
    same_memory(&trie, &Model::new());
}

/// Complaint 11: An ordered map whose `get` misses a key during its replacement. No kind of lookup
/// does, whichever thread replaces the value, and by whichever operation.
fn a_key_is_there_while_its_value_is_replaced<B: ReusePolicy>(setup: Setup) {
    const ROUNDS: u64 = 10_000;
    let trie = setup.trie::<u64, B>();
    // Inserting and removing neighbours replaces the branch that the key is in.
    let (key, neighbours) = (b"key", [b"key\x00", b"key\x10", b"kez\x00"]);
    let _ = trie.pin().insert(key, 0).expect("memory");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers = [0, 1].map(|own| {
            let trie = &trie;
            scope.spawn(move || {
                let mut dice = Dice::new(own);
                for round in 0..ROUNDS {
                    let (view, neighbour) = (trie.pin(), neighbours[dice.roll(3)]);
                    match dice.roll(4) {
                        0 => assert!(view.insert(key, round).expect("memory").is_some()),
                        1 => {
                            let replaced = view.compute(key, |value| {
                                Operation::Insert(value.expect("always there") + 1)
                            });
                            assert!(matches!(replaced, Ok(Computed::Replaced { .. })));
                        }
                        2 => _ = view.insert(neighbour, round).expect("memory"),
                        _ => _ = view.remove(neighbour),
                    }
                }
            })
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let view = trie.pin();
                assert!(view.get(key).is_some() && view.contains_key(key));
                assert!(view.get_key_value(key).is_some_and(|(found, _)| found == key));
                assert_eq!(view.prefix(b"k").next().map(|(found, _)| found), Some(&key[..]));
                assert!(view.iter().rev().any(|(found, _)| found == key));
                assert_eq!(view.longest_prefix(b"key?").map(|(found, _)| found), Some(&key[..]));
            }
        });
        let ended = writers.map(|writer| writer.join());
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
}

/// Complaint 11: An ordered map with undocumented semantics. Checks the promises of `Iter`'s
/// documentation about concurrent changes, with the changes made between the steps of a scan.
fn a_scan_beside_changes_does_what_its_documentation_promises<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let mut dice = Dice::new(12);
    for round in 0..300 {
        let view = trie.pin();
        view.clear();
        let mut there = Model::new();
        for number in 0..30 {
            there.insert(dice.key(), number);
        }
        for (key, value) in &there {
            let _ = view.insert(key, *value).expect("memory");
        }
        let (mut throughout, mut scan) = (there.clone(), view.iter());
        let mut ever: HashSet<_> = there.clone().into_iter().collect();
        let (mut front, mut back) = (Vec::new(), Vec::new());
        loop {
            let forwards = dice.roll(2) == 0;
            let Some((key, value)) = (if forwards { scan.next() } else { scan.next_back() }) else {
                break;
            };
            // With deferred branches, a scan may stand on a branch that has been replaced.
            let now = B::KIND == PolicyKind::Immediate;
            let were = if now {
                there.get(key) == Some(value)
            } else {
                ever.contains(&(key.to_vec(), *value))
            };
            assert!(were, "{key:?} was not there");
            if forwards { &mut front } else { &mut back }.push(key);
            for _ in 0..dice.roll(4) {
                let key = dice.key();
                if dice.roll(2) == 0 {
                    assert_eq!(view.remove(&key).copied(), there.remove(&key));
                    throughout.remove(&key);
                } else {
                    let _ = view.insert(&key, round).expect("memory");
                    ever.insert((key.clone(), round));
                    there.insert(key, round);
                }
            }
        }
        let late = dice.key();
        let _ = view.insert(&late, round).expect("memory");
        assert_eq!((scan.next(), scan.next_back()), (None, None), "what has ended stays ended");
        front.extend(back.into_iter().rev());
        assert!(front.is_sorted_by(|a, b| a < b), "strictly in order, each key once: {front:?}");
        let missed = throughout.keys().find(|key| front.binary_search(&&key[..]).is_err());
        assert_eq!(missed, None, "there throughout");
    }
}

/// Complaint 13: Trust based on stress tests alone, in which a branch that is reused under a reader
/// occurs once in thousands of runs. Here it occurs every time: between the steps of a walk, and
/// between the lookup of `compute` and its change, the branch is replaced and its memory reused for
/// other keys. (The models explore what else can happen in between.)
fn a_branch_that_is_reused_under_a_walk_or_a_change_deceives_neither<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let stable = [b"xa", b"xb", b"xc"];
    trie.try_extend(stable.iter().zip(0..)).expect("memory");
    // Replaces the branch of the stable keys, and reuses its memory for a branch of the same size.
    // The key changes each time: a removed key leaves a hole, which the same key would fill.
    let turns = Cell::new(0);
    let reuse = |round: u64| {
        let view = trie.pin();
        let (key, place) = (&[b'x', b'd' + turns.get() % 2], [b'o', round as u8]);
        turns.set(turns.get() ^ 1);
        assert_eq!(view.insert(key, round).expect("memory"), None);
        for last in [b'o', b'p', b'q'] {
            let _ = view.insert(&[&place[..], &[last]].concat(), round).expect("memory");
        }
        assert_eq!(view.remove(key), Some(&round));
    };
    for round in 0..500 {
        let view = trie.pin();
        let mut walk = view.prefix(b"x").map(|(key, _)| key);
        for key in stable {
            assert_eq!(walk.next(), Some(&key[..]), "round {round}");
            reuse(round);
        }
        assert_eq!(walk.next(), None);
        let (key, mut looks) = (stable[round as usize % 3], 0);
        let done = view.compute(key, |value| {
            looks += 1;
            if looks == 1 {
                reuse(round);
            }
            Operation::Insert(value.expect("always there") + 1)
        });
        let Ok(Computed::Replaced { new, .. }) = done else { panic!("{done:?}") };
        assert_eq!((view.get(key), looks), (Some(new), 2), "no change is lost, nor made twice");
        for last in [b'o', b'p', b'q'] {
            assert_eq!(view.remove(&[b'o', round as u8, last]), Some(&round));
        }
    }
    let counts =
        [0, 1, 2].map(|number| number + (0..500).filter(|n| n % 3 == number).count() as u64);
    same_entries(&trie, &stable.iter().map(|key| key.to_vec()).zip(counts).collect());
}

in_every_setup![
    abandoned_ranges_leak_nothing,
    a_key_is_there_while_its_value_is_replaced,
    a_scan_beside_changes_does_what_its_documentation_promises,
    a_branch_that_is_reused_under_a_walk_or_a_change_deceives_neither,
];
