//! Tries with hints give the same answers as without, while the table grows and shrinks beside
//! readers and writers.
#![cfg(not(loom))]

mod common;

use common::keys::{Dice, any_key};
use common::reference::Model;
use common::{Setup, in_every_setup};
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use proptest::prelude::*;
use qptrie::{Computed, Hints, InsertErrorKind, Operation, QpTrie, Update};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn hinted<B: ReusePolicy, L: ReusePolicy>(setup: Setup) -> QpTrie<u64, B, L> {
    let builder = QpTrie::builder().cpu_mode(setup.cpu_mode).domain(setup.domain());
    builder.hints(Hints::On).build().expect("a trie")
}

/// An operation on a trie and on its model.
#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, u64),
    Update(Vec<u8>, u64, Update),
    Add(Vec<u8>, u64),
    Remove(Vec<u8>),
    Get(Vec<u8>),
    Quiesce,
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = || any_key(4000);
    let how = prop::sample::select(vec![Update::Any, Update::NoExist, Update::Exist]);
    prop_oneof![
        4 => (key(), any::<u64>()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => (key(), any::<u64>(), how).prop_map(|(key, value, how)| Step::Update(key, value, how)),
        2 => (key(), any::<u64>()).prop_map(|(key, value)| Step::Add(key, value)),
        3 => key().prop_map(Step::Remove),
        6 => key().prop_map(Step::Get),
        1 => Just(Step::Quiesce),
    ]
}

fn run<B: ReusePolicy, L: ReusePolicy>(setup: Setup, steps: &[Step]) {
    let trie = hinted::<B, L>(setup);
    let mut model = Model::<u64>::new();
    for step in steps {
        let view = trie.pin();
        match step {
            Step::Insert(key, value) => {
                let old = view.insert_copied(key, *value).expect("memory");
                assert_eq!(old, model.insert(key.clone(), *value));
            }
            Step::Update(key, value, how) => {
                let there = model.contains_key(key);
                match view.update_copied(key, *value, *how) {
                    Ok(old) => {
                        assert!(*how != if there { Update::NoExist } else { Update::Exist });
                        assert_eq!(old, model.insert(key.clone(), *value));
                    }
                    Err(error) if there => {
                        assert_eq!((error.kind(), *how), (InsertErrorKind::Exists, Update::NoExist))
                    }
                    Err(error) => {
                        assert_eq!((error.kind(), *how), (InsertErrorKind::NotFound, Update::Exist))
                    }
                }
            }
            Step::Add(key, more) => {
                let sum = |old: Option<u64>| old.unwrap_or(0).wrapping_add(*more);
                view.compute_copied(key, |old| Operation::Insert(sum(old))).expect("memory");
                let sum = sum(model.get(key).copied());
                model.insert(key.clone(), sum);
            }
            Step::Remove(key) => assert_eq!(view.remove_copied(key), model.remove(key)),
            Step::Get(key) => {
                assert_eq!(view.get_copied(key), model.get(key).copied());
                assert_eq!(view.contains_key(key), model.contains_key(key));
                let others = [&key[..], b"", b"a", key];
                let expected = others.map(|key| model.get(key).copied());
                assert_eq!(view.get_many_copied(others), expected);
            }
            Step::Quiesce => {
                drop(view);
                trie.quiesce().expect("outside of read sections");
            }
        }
        assert_eq!(trie.len(), model.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_trie_with_hints_is_the_map_that_it_is_without(
        steps in prop::collection::vec(any_step(), 1..200)
    ) {
        for setup in Setup::every().take(2) {
            run::<Immediate, Immediate>(setup, &steps);
            run::<Immediate, AfterRcuGp>(setup, &steps);
            run::<AfterRcuGp, FreeAfterRcuGp>(setup, &steps);
            run::<AfterRcuGp, AfterTasksTraceGp>(setup, &steps);
        }
    }
}

fn key_of(number: u64) -> Vec<u8> {
    // Keys of different lengths, so that their leaves are in several size classes.
    let text = format!("{:x}/{number}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    [text.as_bytes(), &vec![b'.'; (number % 7) as usize * 9]].concat()
}

fn the_table_grows_with_the_trie_and_shrinks<B: ReusePolicy>(setup: Setup) {
    const KEYS: u64 = 20_000;
    let trie = hinted::<B, AfterRcuGp>(setup);
    assert_eq!(trie.memory_usage().hint_bytes, 0, "nothing as long as there is no entry");
    for number in 0..KEYS {
        trie.pin().insert(&key_of(number), number).expect("memory");
    }
    for number in 0..KEYS {
        assert_eq!(trie.pin().get(&key_of(number)), Some(&number));
    }
    trie.quiesce().expect("outside of read sections");
    let usage = trie.memory_usage();
    let full = usage.hint_bytes;
    assert!((KEYS * 4..KEYS * 8).contains(&full), "{full} bytes for {KEYS} entries");
    assert!(usage.total_bytes() >= usage.slab_bytes() + full);
    for number in 100..KEYS {
        assert_eq!(trie.pin().remove(&key_of(number)), Some(&number));
    }
    trie.quiesce().expect("outside of read sections");
    let few = trie.memory_usage().hint_bytes;
    assert!(few < full / 50, "{few} bytes for 100 entries, {full} before");
    for number in 0..2 * KEYS {
        assert_eq!(trie.pin().get(&key_of(number)), Some(&number).filter(|_| number < 100));
    }
}

/// Keys that are always there are never missed and keep their own values, while other keys are
/// inserted and removed, leaves are reused, and tables are replaced.
fn stays_right<B: ReusePolicy, L: ReusePolicy>(setup: Setup) {
    const STAY: u64 = 500;
    const OTHERS: u64 = 1_500;
    let trie = hinted::<B, L>(setup);
    for number in 0..STAY {
        trie.pin().insert_copied(&key_of(number), number << 32).expect("memory");
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..2 {
            let (trie, done) = (&trie, &done);
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                while !done.load(Ordering::Relaxed) {
                    let number = dice.roll(STAY as usize) as u64;
                    let found = trie.pin().get_copied(&key_of(number));
                    assert_eq!(found.map(|value| value >> 32), Some(number));
                    let other = STAY + dice.roll(OTHERS as usize) as u64;
                    let found = trie.pin().get_copied(&key_of(other));
                    assert!(found.is_none_or(|value| value >> 32 == other));
                    let keys = [key_of(number), key_of(other)];
                    let [stays, _] = trie.pin().get_many_copied([&keys[0], &keys[1]]);
                    assert_eq!(stays.map(|value| value >> 32), Some(number));
                }
            });
        }
        let mut dice = Dice::new(7);
        for round in 0..2 {
            for number in STAY..STAY + OTHERS {
                trie.pin().insert_copied(&key_of(number), number << 32).expect("memory");
                let stays = dice.roll(STAY as usize) as u64;
                let old = trie.pin().insert_copied(&key_of(stays), stays << 32 | round);
                assert_eq!(old.expect("memory").map(|value| value >> 32), Some(stays));
            }
            for number in STAY..STAY + OTHERS {
                let gone = trie.pin().remove_copied(&key_of(number));
                assert_eq!(gone, Some(number << 32));
                assert!(!trie.pin().contains_key(&key_of(number)));
            }
            trie.quiesce().expect("outside of read sections");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(trie.len() as u64, STAY);
}

fn keys_that_stay_are_found_while_leaves_are_reused<B: ReusePolicy>(setup: Setup) {
    stays_right::<B, Immediate>(setup);
    stays_right::<B, AfterRcuGp>(setup);
    stays_right::<B, FreeAfterRcuGp>(setup);
    stays_right::<B, AfterTasksTraceGp>(setup);
}

/// Threads increment the values of a few keys with `compute_copied`, and remove the keys: no
/// increment is lost, whether the leaf was found by a hint or not.
fn no_addition_is_lost<B: ReusePolicy, L: ReusePolicy>(setup: Setup) {
    const THREADS: u64 = 4;
    let trie = hinted::<B, L>(setup);
    let add = |seed: u64| {
        let mut dice = Dice::new(seed);
        let mut taken = 0;
        for number in 0..3000 {
            let key = key_of(dice.roll(20) as u64);
            let view = trie.pin();
            view.compute_copied(&key, |sum| Operation::Insert(sum.unwrap_or(0) + 1))
                .expect("memory");
            if number % 5 == 0 {
                taken += view.remove_copied(&key).unwrap_or(0);
            }
        }
        taken
    };
    let taken: u64 = thread::scope(|scope| {
        let add = &add;
        let threads: Vec<_> = (0..THREADS).map(|seed| scope.spawn(move || add(seed))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    let left: u64 = trie.pin().iter_copied().map(|(_, sum)| sum).sum();
    assert_eq!(taken + left, THREADS * 3000);
}

fn changes_by_several_threads_are_all_there<B: ReusePolicy>(setup: Setup) {
    no_addition_is_lost::<B, Immediate>(setup);
    no_addition_is_lost::<B, AfterRcuGp>(setup);
}

/// Two threads replace the values of their own keys, and each replacement returns the value before,
/// while two others grow and shrink the branches of these keys.
fn no_replacement_is_lost_while_branches_change<B: ReusePolicy>(setup: Setup) {
    const OWN: u64 = 300;
    const ROUNDS: u64 = 12;
    let trie = hinted::<B, AfterRcuGp>(setup);
    let own = |thread: u64| (0..OWN).map(move |number| key_of(number * 2 + thread));
    for (number, key) in own(0).chain(own(1)).enumerate() {
        // Values of a round are above those of the round before.
        trie.pin().insert(&key, number as u64 % OWN).expect("memory");
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (trie, done) = (&trie, &done);
        for thread in 0..2 {
            scope.spawn(move || {
                let mut dice = Dice::new(thread);
                while !done.load(Ordering::Relaxed) {
                    let numbers: Vec<u64> = (0..40).map(|_| dice.roll(2000) as u64).collect();
                    let other = |number: &u64| {
                        // Below the keys that stay, and beside them.
                        [
                            key_of(number % (2 * OWN)),
                            vec![b'a' + thread as u8; 1 + *number as usize % 5],
                        ]
                        .concat()
                    };
                    for number in &numbers {
                        trie.pin().insert(&other(number), u64::MAX).expect("memory");
                    }
                    for number in &numbers {
                        trie.pin().remove(&other(number));
                    }
                    trie.tend();
                }
            });
        }
        let writers: Vec<_> = (0..2)
            .map(|thread| {
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        for (number, key) in (0..).zip(own(thread)) {
                            let (old, new) = ((round - 1) * OWN + number, round * OWN + number);
                            let view = trie.pin();
                            let found = match number % 3 {
                                0 => view.insert(&key, new).expect("memory").copied(),
                                1 => view.update(&key, new, Update::Exist).expect("there").copied(),
                                _ => match view.compute(&key, |_| Operation::Insert(new)) {
                                    Ok(Computed::Replaced { old, .. }) => Some(*old),
                                    other => panic!("{other:?}"),
                                },
                            };
                            assert_eq!(found, Some(old));
                            assert_eq!(view.get(&key), Some(&new));
                        }
                        trie.quiesce().expect("outside of read sections");
                    }
                })
            })
            .collect();
        let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ends.into_iter().all(|end| end.is_ok()), "no writer panics");
    });
    let view = trie.pin();
    for (number, key) in own(0).chain(own(1)).enumerate() {
        assert_eq!(view.get(&key), Some(&(ROUNDS * OWN + number as u64 % OWN)));
    }
    assert_eq!(view.iter().count() as u64, 2 * OWN);
}

in_every_setup![
    no_replacement_is_lost_while_branches_change,
    the_table_grows_with_the_trie_and_shrinks,
    keys_that_stay_are_found_while_leaves_are_reused,
    changes_by_several_threads_are_all_there,
];
