//! Removal of the first and the last entry.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::{Model, same_entries, same_memory};
use common::{Setup, in_every_setup};
use memalloc::{AfterRcuGp, Immediate, ReusePolicy};
use qptrie::QpTrie;
use std::collections::HashSet;
use std::thread;

/// A trie pops the same entries as a `BTreeMap`, in the same order.
fn entries_are_popped_as_from_a_btree_map<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let copied = QpTrie::<u64, B, Immediate>::builder().domain(setup.domain()).build();
    let copied = copied.expect("a trie");
    let (mut dice, mut model) = (Dice::new(21), Model::new());
    let mut buffer = Vec::new();
    for step in 0..3_000 {
        let view = trie.pin();
        match dice.roll(3) {
            0 => {
                let (popped, expected) = (view.pop_first(), model.pop_first());
                assert_eq!(popped.map(|(key, value)| (key.to_vec(), *value)), expected);
                let value = copied.pin().pop_first_copied(&mut buffer);
                assert_eq!(value.map(|value| (buffer.clone(), value)), expected);
            }
            1 => {
                let (popped, expected) = (view.pop_last(), model.pop_last());
                assert_eq!(popped.map(|(key, value)| (key.to_vec(), *value)), expected);
                let value = copied.pin().pop_last_copied(&mut buffer);
                assert_eq!(value.map(|value| (buffer.clone(), value)), expected);
            }
            _ => {
                for key in [dice.key(), dice.key()] {
                    let _ = view.insert(&key, step).expect("memory");
                    copied.pin().insert_copied(&key, step).expect("memory");
                    model.insert(key, step);
                }
            }
        }
    }
    assert!(model.len() > 10, "there is something to compare");
    same_entries(&trie, &model);
    same_memory(&trie, &model);
    while copied.pin().pop_last_copied(&mut buffer).is_some() {}
    assert_eq!(
        buffer,
        *model.first_key_value().expect("not empty").0,
        "unchanged when the trie is empty"
    );
}

const ENTRIES: u64 = 4_000;
const THREADS: u64 = 3;

/// Threads that pop from both ends, while others insert, get every entry once.
fn each_is_once(insert: impl Fn(u64) + Sync, pop: impl Fn(bool) -> Option<u64> + Sync) {
    let (insert, pop) = (&insert, &pop);
    let popped: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                scope.spawn(move || {
                    let mut popped = Vec::new();
                    for entry in (number..ENTRIES).step_by(THREADS as usize) {
                        insert(entry);
                        if entry % 2 == 0 {
                            popped.extend(pop(entry % 4 == 0));
                        }
                    }
                    while let Some(entry) = pop(number % 2 == 0) {
                        popped.push(entry);
                    }
                    popped
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    // A thread may find the trie empty before another inserts its last entries; that thread pops
    // them.
    assert_eq!(popped.len(), ENTRIES as usize);
    assert_eq!(popped.iter().collect::<HashSet<_>>().len(), popped.len(), "an entry came twice");
}

/// The same by reference and by copy, under every policy of branches.
fn an_entry_is_popped_once<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let number = |(key, value): (&[u8], &u64)| {
        assert_eq!(key, value.to_be_bytes());
        *value
    };
    each_is_once(
        |entry| _ = trie.pin().insert(&entry.to_be_bytes(), entry).expect("memory"),
        |first| {
            let view = trie.pin();
            if first { view.pop_first().map(number) } else { view.pop_last().map(number) }
        },
    );
    assert!(trie.is_empty());
    copies_once::<B, Immediate>(setup);
    copies_once::<B, AfterRcuGp>(setup);
}

fn copies_once<B: ReusePolicy, L: ReusePolicy>(setup: Setup) {
    let trie = QpTrie::<u64, B, L>::builder().domain(setup.domain()).build().expect("a trie");
    each_is_once(
        |entry| _ = trie.pin().insert_copied(&entry.to_be_bytes(), entry).expect("memory"),
        |first| {
            let (view, mut key) = (trie.pin(), Vec::new());
            let value = if first {
                view.pop_first_copied(&mut key)
            } else {
                view.pop_last_copied(&mut key)
            };
            value.inspect(|value| assert_eq!(key, value.to_be_bytes()))
        },
    );
    assert!(trie.is_empty());
}

in_every_setup![entries_are_popped_as_from_a_btree_map, an_entry_is_popped_once];
