//! Scans of copies, and changes that depend on copies, under every policy of leaves.
//!
//! The tests do not depend on timing: for every interleaving of the threads, some order of the
//! operations must explain all answers.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::Model;
use common::{Setup, in_every_setup};
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use qptrie::{Computed, InsertErrorKind, Operation, PlainBits, QpTrie};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn trie<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(setup: Setup) -> QpTrie<V, B, L> {
    let builder = QpTrie::builder().cpu_mode(setup.cpu_mode).domain(setup.domain());
    builder.build().expect("a trie")
}

/// Takes entries from both ends, in an order that `dice` chooses, until none is left.
fn by_turns<T>(mut scan: impl DoubleEndedIterator<Item = T>, dice: &mut Dice) -> Vec<T> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    loop {
        let entry = if dice.roll(2) == 0 {
            scan.next().map(|entry| front.push(entry))
        } else {
            scan.next_back().map(|entry| back.push(entry))
        };
        if entry.is_none() {
            assert!(scan.next().is_none() && scan.next_back().is_none(), "what has ended goes on");
            front.extend(back.into_iter().rev());
            return front;
        }
    }
}

fn scans_match<B: ReusePolicy, L: ReusePolicy>(setup: Setup) {
    let trie = trie::<u64, B, L>(setup);
    let (mut dice, mut model) = (Dice::new(11), Model::new());
    let view = trie.pin();
    for step in 0..300 {
        let key = dice.key();
        view.insert_copied(&key, step).expect("memory");
        model.insert(key, step);
    }
    let entry = |(key, value): (&Vec<u8>, &u64)| (key.clone(), *value);
    let all: Vec<_> = model.iter().map(entry).collect();
    assert_eq!(view.iter_copied().collect::<Vec<_>>(), all);
    assert!(view.iter_copied().rev().eq(all.iter().rev().cloned()));
    assert_eq!(by_turns(view.iter_copied(), &mut dice), all);
    assert_eq!(view.iter_copied().last(), all.last().cloned());
    for _ in 0..100 {
        let (low, high) = (dice.key(), dice.key());
        let prefix = &low[..dice.roll(low.len() + 1)];
        let begin_alike: Vec<_> =
            all.iter().filter(|(key, _)| key.starts_with(prefix)).cloned().collect();
        assert_eq!(by_turns(view.prefix_copied(prefix), &mut dice), begin_alike, "{prefix:?}");
        for range in [
            (Included(&low[..]), Excluded(&high[..])),
            (Excluded(&low[..]), Included(&high[..])),
            (Unbounded, Included(&high[..])),
            (Excluded(&low[..]), Unbounded),
        ] {
            let expected: Vec<_> = if low < high
                || !matches!(range, (Included(_) | Excluded(_), Included(_) | Excluded(_)))
            {
                model.range::<[u8], _>(range).map(entry).collect()
            } else {
                Vec::new()
            };
            let found = by_turns(view.range_copied(range), &mut dice);
            assert_eq!(found, expected, "{range:?}");
        }
    }
    // Removing the key that a scan stands on does not disturb the scan.
    let (mut scan, mut key, mut seen) = (view.iter_copied(), Vec::new(), Vec::new());
    while let Some(value) = scan.next_into(&mut key) {
        seen.push((key.clone(), value));
        assert_eq!(view.remove_copied(&key), Some(value));
    }
    assert_eq!((seen, trie.len()), (all, 0));
}

/// A scan of copies returns what a sorted map returns, from both ends.
fn scans_of_copies_answer_as_a_sorted_map<B: ReusePolicy>(setup: Setup) {
    scans_match::<B, Immediate>(setup);
    scans_match::<B, AfterRcuGp>(setup);
    scans_match::<B, FreeAfterRcuGp>(setup);
    scans_match::<B, AfterTasksTraceGp>(setup);
}

/// A value that encodes its key twice.
type Twice = [u64; 2];

fn twice(key: &[u8]) -> Twice {
    let hash = key.iter().fold(1, |hash: u64, byte| hash * 31 + u64::from(*byte));
    [hash, !hash]
}

fn scans_beside_writers<B: ReusePolicy, L: ReusePolicy>(setup: Setup) {
    const SCANS: usize = 150;
    let trie = trie::<Twice, B, L>(setup);
    // Keys of equal length, so that a leaf that one of them frees is reused for another at once.
    let keys: Vec<[u8; 3]> = (0..4).flat_map(|a| (0..4).map(move |b| [b'k', a, b])).collect();
    let (always, others): (Vec<[u8; 3]>, Vec<_>) = keys.iter().partition(|key| key[2] == 1);
    for key in &always {
        trie.pin().insert_copied(key, twice(key)).expect("memory");
    }
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for own in 0..2 {
            let (trie, others, always, ended) = (&trie, &others, &always, &ended);
            scope.spawn(move || {
                let mut dice = Dice::new(own + 3);
                while !ended.load(Ordering::Relaxed) {
                    let key = others[dice.roll(others.len())];
                    trie.pin().insert_copied(&key, twice(&key)).expect("memory");
                    trie.pin().remove_copied(&others[dice.roll(others.len())]);
                    let key = always[dice.roll(always.len())];
                    trie.pin().insert_copied(&key, twice(&key)).expect("memory");
                }
            });
        }
        for _ in 0..SCANS {
            let view = trie.pin();
            let forwards: Vec<_> = view.iter_copied().collect();
            let mut backwards: Vec<_> = view.iter_copied().rev().collect();
            backwards.reverse();
            for found in [forwards, backwards] {
                assert!(found.is_sorted_by(|a, b| a.0 < b.0), "a scan out of order");
                for (key, value) in &found {
                    assert_eq!(*value, twice(key), "a value that {key:?} never had");
                }
                let missed =
                    always.iter().find(|key| !found.iter().any(|(found, _)| found == *key));
                assert_eq!(missed, None, "a key that is always there");
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
}

/// While leaves are reused for other keys, a scan of copies is in order, returns one of its own
/// values with each key, and misses no key that is always there.
fn a_scan_of_copies_misses_no_key_that_is_always_there<B: ReusePolicy>(setup: Setup) {
    scans_beside_writers::<B, Immediate>(setup);
    scans_beside_writers::<B, AfterRcuGp>(setup);
}

const THREADS: usize = 3;

fn counts_add_up<B: ReusePolicy, L: ReusePolicy>(setup: Setup) {
    const INCREMENTS: u64 = 2_000;
    let trie = trie::<u64, B, L>(setup);
    let keys = [b"a1", b"a2", b"b1"];
    let taken: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|own| {
                let trie = &trie;
                scope.spawn(move || {
                    let (mut dice, mut taken) = (Dice::new(own as u64), 0);
                    for _ in 0..INCREMENTS {
                        let (key, view) = (keys[dice.roll(keys.len())], trie.pin());
                        // Counts up, and sometimes removes the count.
                        let done = view.compute_copied(key, |count| match count {
                            None => Operation::Insert(1),
                            Some(count) if count > 20 => Operation::Remove,
                            Some(count) => Operation::Insert(count + 1),
                        });
                        match done.expect("memory") {
                            Computed::Inserted(new) => assert_eq!(new, 1),
                            Computed::Replaced { old, new } => assert_eq!(new, old + 1),
                            // This removal counts as an increment itself.
                            Computed::Removed(count) => taken += count + 1,
                            Computed::Absent | Computed::Aborted => unreachable!(),
                        }
                        let accepted = &mut None;
                        let gone = view.remove_if_copied(key, |count| {
                            *accepted = Some(count);
                            count == 7
                        });
                        if let Some(gone) = gone {
                            assert_eq!((gone, *accepted), (7, Some(7)), "not what was accepted");
                            taken += gone;
                        }
                    }
                    taken
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    let left: u64 = trie.pin().iter_copied().map(|(_, count)| count).sum();
    assert_eq!(taken + left, INCREMENTS * THREADS as u64, "increments were lost");
    trie.quiesce().expect("outside of read sections");
    assert_eq!(trie.memory_usage().leaves.live.objects, trie.len() as u64);
}

/// The increments of many threads by `compute_copied` add up, together with the counts that were
/// removed meanwhile.
fn no_change_by_compute_is_lost<B: ReusePolicy>(setup: Setup) {
    counts_add_up::<B, Immediate>(setup);
    counts_add_up::<B, AfterRcuGp>(setup);
}

fn decides<B: ReusePolicy, L: ReusePolicy>(setup: Setup) {
    let trie = trie::<u32, B, L>(setup);
    let view = trie.pin();
    let done = |operation| view.compute_copied(b"key", |_| operation).expect("memory");
    assert_eq!(done(Operation::Remove), Computed::Absent);
    assert_eq!(done(Operation::Abort), Computed::Aborted);
    assert_eq!(done(Operation::Insert(1)), Computed::Inserted(1));
    assert_eq!(done(Operation::Insert(2)), Computed::Replaced { old: 1, new: 2 });
    assert_eq!(done(Operation::Abort), Computed::Aborted);
    assert_eq!(view.get_or_insert_with_copied(b"key", || unreachable!()), Ok(2));
    assert_eq!(done(Operation::Remove), Computed::Removed(2));
    assert_eq!(view.get_or_insert_with_copied(b"key", || 3), Ok(3));
    let long = [0; 5000];
    let error = view.compute_copied(&long, |_| Operation::Insert(4)).expect_err("too long");
    assert!(matches!(error.kind(), InsertErrorKind::TooLarge { .. }));
    assert_eq!(error.into_value(), 4);
    for (key, value) in [(b"k0", 0), (b"k1", 1), (b"k2", 2)] {
        view.insert_copied(key, value).expect("memory");
    }
    view.retain_copied(|key, value| key == b"key" || value % 2 == 0);
    let left: Vec<_> = view.iter_copied().map(|(_, value)| value).collect();
    assert_eq!((left, trie.len()), (vec![0, 2, 3], 3));
}

/// Each decision is carried out, and an error returns the value.
fn every_decision_is_carried_out<B: ReusePolicy>(setup: Setup) {
    decides::<B, Immediate>(setup);
    decides::<B, AfterRcuGp>(setup);
    decides::<B, AfterTasksTraceGp>(setup);
}

in_every_setup![
    scans_of_copies_answer_as_a_sorted_map,
    a_scan_of_copies_misses_no_key_that_is_always_there,
    no_change_by_compute_is_lost,
    every_decision_is_carried_out,
];
