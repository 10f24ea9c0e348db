//! The view of readers that may sleep, against `BTreeMap`: every method.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::Model;
use common::{Setup, in_every_setup};
use memalloc::{AfterTasksTraceGp, ReusePolicy};
use qptrie::{Computed, InsertErrorKind, Operation, QpTrie, TraceRef, Update};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::ops::ControlFlow::{Break, Continue};

type View<B> = TraceRef<u64, B, AfterTasksTraceGp>;

fn owned((key, value): (&[u8], &u64)) -> (Vec<u8>, u64) {
    (key.to_vec(), *value)
}

fn entry((key, value): (&Vec<u8>, &u64)) -> (Vec<u8>, u64) {
    (key.clone(), *value)
}

/// Returns the entries from `key` on.
fn from<'a>(model: &'a Model<u64>, key: &'a [u8]) -> impl Iterator<Item = (&'a Vec<u8>, &'a u64)> {
    model.range::<[u8], _>((Included(key), Unbounded))
}

fn change<B: ReusePolicy>(view: &View<B>, model: &mut Model<u64>, dice: &mut Dice, value: u64) {
    let key = dice.key();
    let before = model.get(&key).copied();
    match dice.roll(9) {
        0 | 1 => {
            assert_eq!(view.insert(&key, value).expect("memory").copied(), before);
            model.insert(key, value);
        }
        2 => {
            let how = if dice.roll(2) == 0 { Update::Exist } else { Update::NoExist };
            let fits = before.is_some() == (how == Update::Exist);
            let done = view.update(&key, value, how).map(|old| old.copied());
            assert_eq!(done.map_err(|error| error.kind()).ok(), fits.then_some(before));
            if fits {
                model.insert(key, value);
            }
        }
        3 => assert_eq!(view.remove(&key).copied(), model.remove(&key)),
        4 => {
            let done = view.try_insert(&key, value).copied();
            match before {
                None => assert_eq!(done.expect("memory"), value),
                Some(_) => assert_eq!(done.unwrap_err().kind(), InsertErrorKind::Exists),
            }
            model.entry(key).or_insert(value);
        }
        5 => {
            let found = *view.get_or_insert_with(&key, || value).expect("memory");
            assert_eq!(found, *model.entry(key).or_insert(value));
        }
        6 => {
            let done = view.compute(&key, |old| match old {
                Some(_) => Operation::Remove,
                None => Operation::Insert(value),
            });
            match (done.expect("memory"), before) {
                (Computed::Removed(&old), Some(before)) => assert_eq!(old, before),
                (Computed::Inserted(&new), None) => assert_eq!(new, value),
                (done, before) => panic!("{done:?} of {before:?}"),
            }
            if model.remove(&key).is_none() {
                model.insert(key, value);
            }
        }
        7 => {
            let is_odd = before.is_some_and(|value| value % 2 == 1);
            assert_eq!(view.remove_if(&key, |value| value % 2 == 1).is_some(), is_odd);
            if is_odd {
                model.remove(&key);
            }
        }
        _ if value.is_multiple_of(2) => {
            assert_eq!(view.pop_first().map(owned), model.pop_first());
        }
        _ => assert_eq!(view.pop_last().map(owned), model.pop_last()),
    }
}

fn compare_key<B: ReusePolicy>(view: &View<B>, model: &Model<u64>, key: &[u8]) {
    let value = model.get(key).copied();
    assert_eq!(view.get(key).copied(), value);
    assert_eq!(view.get_with(key, |value| *value), value);
    assert_eq!(view.contains_key(key), value.is_some());
    assert_eq!(view.get_key_value(key).map(owned), model.get_key_value(key).map(entry));
    let absent = [key, &[0xff; 9]].concat();
    assert_eq!(view.get_many([key, &absent]).map(|value| value.copied()), [value, None]);

    let above = || model.range::<[u8], _>((Excluded(key), Unbounded));
    let below = || model.range::<[u8], _>((Unbounded, Excluded(key)));
    let to = model.range::<[u8], _>((Unbounded, Included(key)));
    assert_eq!(view.lower_bound(Included(key)).map(owned), from(model, key).map(entry).next());
    assert_eq!(view.lower_bound(Excluded(key)).map(owned), above().map(entry).next());
    assert_eq!(view.upper_bound(Included(key)).map(owned), to.map(entry).next_back());
    assert_eq!(view.upper_bound(Excluded(key)).map(owned), below().map(entry).next_back());
    let mut found = Vec::new();
    let next = view.next_key(Some(key), &mut found).then(|| found.clone());
    assert_eq!(next, above().map(|(key, _)| key.clone()).next());
    let previous = view.prev_key(Some(key), &mut found).then(|| found.clone());
    assert_eq!(previous, below().map(|(key, _)| key.clone()).next_back());
    let prefix = (0..=key.len()).rev().find_map(|end| model.get_key_value(&key[..end]));
    assert_eq!(view.longest_prefix(key).map(owned), prefix.map(entry));

    let start = &key[..key.len().min(1)];
    let starting = model.iter().filter(|(key, _)| key.starts_with(start)).map(entry);
    assert!(view.prefix(start).map(owned).eq(starting));
    assert!(view.range(key..).map(owned).eq(from(model, key).map(entry)));
    assert!(view.range(..key).rev().map(owned).eq(below().map(entry).rev()));
    let mut visited = Vec::new();
    view.for_each(key.., |key, value| visited.push(owned((key, value))));
    assert!(visited.into_iter().eq(from(model, key).map(entry)));
    let mut seen = 0;
    let third = view.try_for_each(key.., |_, value| {
        seen += 1;
        if seen == 3 { Break(*value) } else { Continue(()) }
    });
    let expected = from(model, key).nth(2);
    assert_eq!(third, expected.map_or(Continue(()), |(_, value)| Break(*value)));
}

fn compare_all<B: ReusePolicy>(view: &View<B>, model: &Model<u64>) {
    assert!(view.iter().map(owned).eq(model.iter().map(entry)));
    assert!(view.iter().rev().map(owned).eq(model.iter().map(entry).rev()));
    assert!(view.keys().eq(model.keys()) && view.keys().rev().eq(model.keys().rev()));
    assert!(view.values().eq(model.values()) && view.values().rev().eq(model.values().rev()));
    assert_eq!(view.first().map(owned), model.first_key_value().map(entry));
    assert_eq!(view.last().map(owned), model.last_key_value().map(entry));
}

/// Values that this section has removed stay readable in it.
fn a_view_of_sleeping_readers_answers_as_a_sorted_map<B: ReusePolicy>(setup: Setup) {
    let builder = QpTrie::<u64, B, AfterTasksTraceGp>::builder();
    let trie = builder.cpu_mode(setup.cpu_mode).domain(setup.domain()).build().expect("a trie");
    let (mut dice, mut model) = (Dice::new(47), Model::new());
    for round in 0..40 {
        let view = trie.pin_trace();
        let held: Vec<_> = view.iter().map(|(key, value)| (key, value, *value)).collect();
        for step in 0..30 {
            change(&view, &mut model, &mut dice, round * 100 + step);
        }
        if round % 8 == 7 {
            view.retain(|_, value| value % 3 != 0);
            model.retain(|_, value| *value % 3 != 0);
        }
        compare_key(&view, &model, &dice.key());
        compare_all(&view, &model);
        assert!(held.iter().all(|(_, value, expected)| *value == expected));
    }
    trie.quiesce().expect("no section is left");
}

in_every_setup![a_view_of_sleeping_readers_answers_as_a_sorted_map];
