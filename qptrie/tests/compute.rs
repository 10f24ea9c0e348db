//! Changes that depend on the current value: their results in sequence, and their atomicity beside
//! other threads.
#![cfg(not(loom))]

mod common;

use common::keys::{Dice, any_key};
use common::reference::{Model, same_entries, same_memory};
use common::{Setup, in_every_setup};
use memalloc::{Immediate, ReusePolicy};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use qptrie::{Computed, InsertErrorKind, Operation, QpTrie, TrieRef};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

/// A step of a test; some depend on the value that they find.
#[derive(Clone, Debug)]
enum Step {
    TryInsert(Vec<u8>),
    GetOrInsert(Vec<u8>),
    /// The decisions for no value, an even value and an odd value.
    Compute(Vec<u8>, [Decision; 3]),
    RemoveIf(Vec<u8>, u64),
    Retain(u64),
    Clear,
}

#[derive(Clone, Copy, Debug)]
enum Decision {
    Insert,
    Remove,
    Abort,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || any_key(4086);
    let decision = prop_oneof![
        3 => Just(Decision::Insert),
        1 => Just(Decision::Remove),
        1 => Just(Decision::Abort),
    ];
    let step = prop_oneof![
        6 => key().prop_map(Step::TryInsert),
        6 => key().prop_map(Step::GetOrInsert),
        20 => (key(), prop::array::uniform3(decision)).prop_map(|(key, d)| Step::Compute(key, d)),
        6 => (key(), 1..4_u64).prop_map(|(key, part)| Step::RemoveIf(key, part)),
        1 => (2..9_u64).prop_map(Step::Retain),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 0..200)
}

/// Returns the decision for `value`.
fn chosen([nothing, even, odd]: [Decision; 3], value: Option<&u64>) -> Decision {
    match value {
        None => nothing,
        Some(value) if value % 2 == 0 => even,
        Some(_) => odd,
    }
}

fn compute<B: ReusePolicy>(
    view: &TrieRef<u64, B>,
    model: &mut Model<u64>,
    (key, decisions, number): (Vec<u8>, [Decision; 3], u64),
) {
    let (there, asked) = (model.get(&key).copied(), Cell::new(0));
    let decision = chosen(decisions, there.as_ref());
    let done = view.compute(&key, |found| {
        asked.set(asked.get() + 1);
        assert_eq!(found.copied(), there, "{key:?}");
        match decision {
            Decision::Insert => Operation::Insert(number),
            Decision::Remove => Operation::Remove,
            Decision::Abort => Operation::Abort,
        }
    });
    let expected = match (decision, &there) {
        (Decision::Insert, None) => Computed::Inserted(&number),
        (Decision::Insert, Some(old)) => Computed::Replaced { old, new: &number },
        (Decision::Remove, None) => Computed::Absent,
        (Decision::Remove, Some(old)) => Computed::Removed(old),
        (Decision::Abort, _) => Computed::Aborted,
    };
    assert_eq!(done, Ok(expected), "{key:?}");
    assert_eq!(asked.get(), 1, "no other thread changes anything");
    match decision {
        Decision::Insert => _ = model.insert(key, number),
        Decision::Remove => _ = model.remove(&key),
        Decision::Abort => {}
    }
}

fn run<B: ReusePolicy>(trie: &QpTrie<u64, B>, steps: Vec<Step>) -> Model<u64> {
    let mut model = Model::new();
    for (number, step) in (0..).zip(steps) {
        let view = trie.pin();
        match step {
            Step::TryInsert(key) => match view.try_insert(&key, number) {
                Ok(value) => {
                    assert_eq!(*value, number);
                    assert_eq!(model.insert(key, number), None);
                }
                Err(error) => {
                    assert_eq!(
                        (error.kind(), error.into_value()),
                        (InsertErrorKind::Exists, number)
                    );
                    assert!(model.contains_key(&key));
                }
            },
            Step::GetOrInsert(key) => {
                let value = view.get_or_insert_with(&key, || number).copied();
                assert_eq!(value, Ok(*model.entry(key.clone()).or_insert(number)));
                assert_eq!(
                    view.get_key_value(&key),
                    model.get_key_value(&key).map(|(k, v)| (&k[..], v))
                );
                assert_eq!(view.get_with(&key, |value| value + 1), model.get(&key).map(|v| v + 1));
            }
            Step::Compute(key, decisions) => compute(&view, &mut model, (key, decisions, number)),
            Step::RemoveIf(key, part) => {
                let unwanted = model.get(&key).is_some_and(|value| value % part == 0);
                let expected = if unwanted { model.remove(&key) } else { None };
                assert_eq!(view.remove_if(&key, |value| value % part == 0).copied(), expected);
            }
            Step::Retain(part) => {
                let mut asked = Vec::new();
                view.retain(|key, value| {
                    asked.push((key.to_vec(), *value));
                    value % part != 0
                });
                assert!(asked.iter().map(|(key, value)| (key, value)).eq(&model), "{asked:?}");
                model.retain(|_, value| *value % part != 0);
            }
            Step::Clear => {
                view.clear();
                model.clear();
            }
        }
        assert_eq!(trie.len(), model.len());
    }
    model
}

fn any_steps_have_the_same_effect_as_on_a_btree_map<B: ReusePolicy>(setup: Setup) {
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&steps(), |steps| {
        let trie = setup.trie::<u64, B>();
        let model = run(&trie, steps);
        same_entries(&trie, &model);
        same_memory(&trie, &model);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Keys that share branches: changing one replaces branches that the others are in.
const COUNTERS: [&[u8]; 5] = [b"c", b"c\x00", b"c\x08", b"c\x10", b"c\x10\x00"];

const THREADS: u64 = 3;

/// Every increment starts from the value that it replaces, even if the key is removed in between:
/// the final values and the removed values add up.
fn increments_of_several_threads_add_up<B: ReusePolicy>(setup: Setup) {
    const ROUNDS: u64 = 8_000;
    let trie = setup.trie::<u64, B>();
    let taken: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|own| {
                scope.spawn({
                    let trie = &trie;
                    move || {
                        let (mut dice, mut taken) = (Dice::new(own), 0);
                        for _ in 0..ROUNDS {
                            let (view, key) = (trie.pin(), COUNTERS[dice.roll(COUNTERS.len())]);
                            let remove = dice.roll(8) == 0;
                            let done = view.compute(key, |count| match count {
                                Some(_) if remove => Operation::Remove,
                                _ => Operation::Insert(count.map_or(1, |count| count + 1)),
                            });
                            match done.expect("memory") {
                                Computed::Inserted(new) => assert_eq!(*new, 1),
                                Computed::Replaced { old, new } => assert_eq!(*new, old + 1),
                                // This round does not increment.
                                Computed::Removed(count) => taken += count + 1,
                                Computed::Absent | Computed::Aborted => {
                                    unreachable!("not decided")
                                }
                            }
                        }
                        taken
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    let left: u64 = trie.pin().values().sum();
    assert_eq!(left + taken, THREADS * ROUNDS);
    let model = trie.pin().iter().map(|(key, value)| (key.to_vec(), *value)).collect();
    same_memory(&trie, &model);
}

/// A value is removed by one thread only, and only if it is the one that the closure accepted.
fn remove_if_removes_the_value_that_it_saw<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let balance = AtomicI64::new(0);
    thread::scope(|scope| {
        for own in 0..THREADS {
            let (trie, balance) = (&trie, &balance);
            scope.spawn(move || {
                let mut dice = Dice::new(own);
                for step in 0..8_000 {
                    let (view, key) = (trie.pin(), COUNTERS[dice.roll(COUNTERS.len())]);
                    if dice.roll(2) == 0 {
                        let new = view.insert(key, step).expect("memory").is_none();
                        balance.fetch_add(i64::from(new), Ordering::Relaxed);
                        continue;
                    }
                    let seen = Cell::new(None);
                    let taken = view.remove_if(key, |value| {
                        seen.set(Some(*value));
                        value % 2 == 0
                    });
                    if let Some(taken) = taken {
                        assert_eq!((seen.get(), taken % 2), (Some(*taken), 0));
                        balance.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(balance.into_inner(), trie.len() as i64);
    let model = trie.pin().iter().map(|(key, value)| (key.to_vec(), *value)).collect();
    same_entries(&trie, &model);
    same_memory(&trie, &model);
}

/// All threads that request one key at the same time get the value of one of them.
fn all_threads_get_the_value_that_was_inserted<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let answers: Vec<Vec<u64>> = thread::scope(|scope| {
        let ask = |own: u64| {
            let trie = &trie;
            move || {
                let key = |number: u64| number.to_string().into_bytes();
                let value =
                    |number| *trie.pin().get_or_insert_with(&key(number), || own).expect("memory");
                (0..3_000).map(value).collect()
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|own| scope.spawn(ask(own))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "the threads differ");
    assert_eq!(trie.len(), 3_000);
}

/// Entries that `retain` accepts stay, whatever other threads insert and remove.
fn retain_keeps_accepted_entries_beside_writers<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    for number in 0..200_u64 {
        trie.pin().insert(&[b'w', number as u8, 7], 1).expect("memory");
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice::new(1);
            for _ in 0..20_000 {
                let _ = trie.pin().insert(&[b'w', dice.roll(256) as u8], 2).expect("memory");
            }
        });
        for _ in 0..100 {
            trie.pin().retain(|_, value| *value == 1);
        }
    });
    trie.pin().retain(|_, value| *value == 1);
    assert_eq!(trie.len(), 200);
    assert!(trie.pin().iter().all(|(key, value)| key.len() == 3 && *value == 1));
    trie.pin().clear();
    same_memory(&trie, &Model::new());
}

in_every_setup![
    any_steps_have_the_same_effect_as_on_a_btree_map,
    increments_of_several_threads_add_up,
    remove_if_removes_the_value_that_it_saw,
    all_threads_get_the_value_that_was_inserted,
    retain_keeps_accepted_entries_beside_writers,
];

/// `decide` itself does what other threads could do while it runs: it is called again, and the
/// value that is replaced, removed or filled in is the one that it saw last.
#[test]
fn a_decision_is_repeated_if_the_value_has_changed() {
    let trie: QpTrie<u64> = QpTrie::new().expect("a trie");
    let view = trie.pin();
    let mut seen = Vec::new();
    let done = view.compute(b"key", |found| {
        seen.push(found.copied());
        if seen.len() < 4 {
            let _ = view.insert(b"key", seen.len() as u64).expect("memory");
        }
        Operation::Insert(10 + found.copied().unwrap_or(0))
    });
    assert_eq!(done, Ok(Computed::Replaced { old: &3, new: &13 }));
    assert_eq!(seen, [None, Some(1), Some(2), Some(3)]);

    let mut asked = 0;
    let removed = view.remove_if(b"key", |value| {
        asked += 1;
        if asked == 1 {
            // An equal value in another leaf is not the value that was seen.
            let _ = view.insert(b"key", *value).expect("memory");
        }
        true
    });
    assert_eq!((removed, asked), (Some(&13), 2));

    let mut asked = Vec::new();
    let _ = view.insert(b"key", 1).expect("memory");
    view.retain(|_, value| {
        asked.push(*value);
        if *value == 1 {
            let _ = view.insert(b"key", 2).expect("memory");
        }
        *value != 1
    });
    assert_eq!((asked, view.get(b"key")), (vec![1, 2], Some(&2)), "2 was never refused");
}

#[test]
fn a_full_trie_accepts_a_new_value_for_a_present_key() {
    let trie: QpTrie<u64> = QpTrie::builder().max_entries(1).build().expect("a trie");
    let view = trie.pin();
    // The key is absent when `decide` is called, and present when its value is inserted.
    let done = view.compute(b"key", |old| {
        if old.is_none() {
            view.insert(b"key", 1).expect("room");
        }
        Operation::Insert(2)
    });
    assert_eq!(done, Ok(Computed::Replaced { old: &1, new: &2 }));
    let full = view.try_insert(b"other", 1).unwrap_err();
    assert_eq!(full.kind(), InsertErrorKind::Full { max_entries: 1 });

    let trie = QpTrie::<u64, Immediate, Immediate>::builder().max_entries(1).build();
    let trie = trie.expect("a trie");
    let view = trie.pin();
    let done = view.compute_copied(b"key", |old| {
        if old.is_none() {
            view.insert_copied(b"key", 1).expect("room");
        }
        Operation::Insert(2)
    });
    assert_eq!(done, Ok(Computed::Replaced { old: 1, new: 2 }));
}

#[test]
fn a_rejected_value_is_returned_and_nothing_changes() {
    let trie: QpTrie<String> = QpTrie::builder().max_entries(1).build().expect("a trie");
    let view = trie.pin();
    let value = || "value".to_owned();
    view.insert(b"key", value()).expect("room");
    let full = InsertErrorKind::Full { max_entries: 1 };
    let refused = [
        (view.try_insert(b"key", value()).unwrap_err(), InsertErrorKind::Exists),
        (view.try_insert(b"other", value()).unwrap_err(), full),
        (view.get_or_insert_with(b"other", value).unwrap_err(), full),
        (view.compute(b"other", |_| Operation::Insert(value())).unwrap_err(), full),
    ];
    for (error, kind) in refused {
        assert_eq!((error.kind(), error.into_value()), (kind, value()));
    }
    let long = [0; 5000];
    let error = view.compute(&long, |_| Operation::Insert(value())).unwrap_err();
    assert!(matches!(error.kind(), InsertErrorKind::TooLarge { key: 5000, .. }), "{error}");
    assert_eq!((trie.len(), view.get(b"other")), (1, None));
}
