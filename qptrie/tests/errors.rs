//! Rejected insertions lose nothing: keys that are too long, a full trie, no memory.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::{Model, branches, same_entries, same_memory};
use common::{Setup, in_every_setup, stay_on_this_cpu};
use memalloc::{AllocErrorKind, ReusePolicy};
use qptrie::{InsertErrorKind, QpTrie, Update};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// The granularity of limits on memory.
const SLAB: u64 = 64 << 10;

fn a_key_of_5000_bytes_is_refused_with_both_numbers<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let view = trie.pin();
    let key = vec![b'k'; 5000];
    view.insert(&key[..4086], 1).expect("the longest key");
    for how in [Update::Any, Update::NoExist, Update::Exist] {
        let error = view.update(&key, 7, how).unwrap_err();
        let expected = InsertErrorKind::TooLarge { key: 5000, value: 8, longest_key: 4086 };
        assert_eq!(error.kind(), expected);
        let message = error.to_string();
        assert!(message.contains("5000") && message.contains("4086"), "{message}");
        assert_eq!(error.into_value(), 7);
    }
    // Looking up such a key is not an error.
    assert_eq!(view.get(&key), None);
    assert_eq!(view.remove(&key), None);
    let mut next = Vec::new();
    assert!(!view.next_key(Some(&key), &mut next));
    view.insert(b"l", 2).expect("memory");
    assert!(view.next_key(Some(&key), &mut next) && next == b"l");
    assert_eq!(trie.len(), 2);
}

fn the_longest_key_is_accepted_and_one_byte_more_is_not<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let (view, mut model) = (trie.pin(), Model::new());
    for last in [0, 0x0f, 0x10, 0xff] {
        let mut key = vec![0xff; 4086];
        key[4085] = last;
        view.insert(&key, u64::from(last)).expect("the longest key");
        model.insert(key.clone(), u64::from(last));
        key.push(0);
        assert!(view.insert(&key, 1).is_err());
        key.truncate(4085);
        assert_eq!(view.get(&key), None);
    }
    same_entries(&trie, &model);
    drop(view);
    same_memory(&trie, &model);
}

fn max_key_len_is_enforced_and_reported<B: ReusePolicy>(setup: Setup) {
    let trie = setup.builder::<u64, B>().max_key_len(3).build().expect("a trie");
    let view = trie.pin();
    view.insert(b"", 0).expect("shorter");
    view.insert(b"abc", 3).expect("as long as allowed");
    let error = view.insert(b"abcd", 4).unwrap_err();
    assert_eq!(error.kind(), InsertErrorKind::KeyTooLong { key: 4, limit: 3 });
    assert_eq!(error.to_string(), "a key of 4 bytes is too long: this trie allows 3 bytes");
    assert_eq!(error.into_value(), 4);
    assert_eq!(trie.len(), 2);
    let only_empty = setup.builder::<u64, B>().max_key_len(0).build().expect("a trie");
    assert!(only_empty.pin().insert(b"", 1).is_ok());
    assert!(only_empty.pin().insert(b"a", 1).is_err());
}

fn a_full_trie_refuses_keys_and_accepts_values<B: ReusePolicy>(setup: Setup) {
    let trie = setup.builder::<u64, B>().max_entries(2).build().expect("a trie");
    let view = trie.pin();
    view.insert(b"a", 1).expect("room");
    view.insert(b"b", 2).expect("room");
    let error = view.insert(b"c", 3).unwrap_err();
    assert_eq!(error.kind(), InsertErrorKind::Full { max_entries: 2 });
    assert_eq!(error.to_string(), "the trie is full: it allows 2 entries");
    assert_eq!(error.into_value(), 3);
    assert_eq!(view.get(b"c"), None);
    assert_eq!(view.insert(b"a", 4).expect("no new entry"), Some(&1));
    // `Exists` and `NotFound` take precedence over `Full`.
    let exists = view.update(b"a", 5, Update::NoExist).unwrap_err();
    assert_eq!(exists.kind(), InsertErrorKind::Exists);
    let missing = view.update(b"c", 5, Update::Exist).unwrap_err();
    assert_eq!(missing.kind(), InsertErrorKind::NotFound);
    assert_eq!(view.remove(b"b"), Some(&2));
    view.insert(b"c", 3).expect("room again");
    drop(view);
    same_entries(&trie, &Model::from([(b"a".to_vec(), 4), (b"c".to_vec(), 3)]));
    let none = setup.builder::<u64, B>().max_entries(0).build().expect("a trie");
    assert!(none.pin().insert(b"", 1).is_err());
    same_memory(&none, &Model::<u64>::new());
}

/// Threads fill one trie; each has separate keys that share prefixes with those of the others.
/// Exactly as many insertions succeed as there is room for, while removals make room.
fn max_entries_is_exact_with_several_threads<B: ReusePolicy>(setup: Setup) {
    const ROOM: u64 = 100;
    const THREADS: u8 = 4;
    let trie = setup.builder::<u64, B>().max_entries(ROOM).build().expect("a trie");
    let (inserted, removed) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for own in 0..THREADS {
            let (trie, inserted, removed) = (&trie, &inserted, &removed);
            scope.spawn(move || {
                for number in 0..500_u16 {
                    let [high, low] = number.to_be_bytes();
                    let key = [high, low, own];
                    if trie.pin().insert(&key, u64::from(number)).is_ok() {
                        inserted.fetch_add(1, Ordering::Relaxed);
                        if number % 3 == 0 {
                            assert_eq!(trie.pin().remove(&key), Some(&u64::from(number)));
                            removed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    assert!(trie.len() as u64 <= ROOM);
                }
            });
        }
    });
    assert_eq!(trie.len() as u64, ROOM, "there were more than enough attempts");
    assert_eq!(inserted.into_inner() - removed.into_inner(), ROOM);
    assert_eq!(trie.pin().iter().count() as u64, ROOM);
}

/// Inserts until memory runs out, and returns the entries that were accepted.
fn fill<V, B>(trie: &QpTrie<V, B>, mut next: impl FnMut() -> (Vec<u8>, V)) -> Model<V>
where
    V: Clone + Eq + std::fmt::Debug + Send + Sync + 'static,
    B: ReusePolicy,
{
    let mut model = Model::new();
    loop {
        let (key, value) = next();
        match trie.pin().insert(&key, value.clone()) {
            Ok(_) => model.insert(key, value),
            Err(error) => {
                let limit = AllocErrorKind::LimitReached { limit: 8 * SLAB };
                assert_eq!(error.kind(), InsertErrorKind::Memory(limit));
                assert_eq!(error.into_value(), value, "given back");
                return model;
            }
        };
    }
}

fn an_insertion_without_memory_loses_nothing<B: ReusePolicy>(setup: Setup) {
    let trie = setup.builder::<u64, B>().limit_bytes(8 * SLAB).build().expect("a trie");
    let mut number = 0;
    let model = fill(&trie, || {
        number += 1;
        // Spread over the trie, with many lengths.
        let key = u64::reverse_bits(number).to_be_bytes();
        (key[..2 + number as usize % 7].to_vec(), number)
    });
    assert!(model.len() > 1000, "{} entries", model.len());
    same_entries(&trie, &model);
    same_memory(&trie, &model);
}

fn a_trie_without_any_memory_refuses_everything<B: ReusePolicy>(setup: Setup) {
    let trie = setup.builder::<String, B>().limit_bytes(SLAB - 1).build().expect("a trie");
    let view = trie.pin();
    let error = view.insert(b"key", "value".to_owned()).unwrap_err();
    let limit = AllocErrorKind::LimitReached { limit: 0 };
    assert_eq!(error.kind(), InsertErrorKind::Memory(limit));
    assert_eq!(error.into_value(), "value");
    assert_eq!(view.get(b"key"), None);
    assert_eq!(view.remove(b"key"), None);
    assert_eq!(view.iter().next(), None);
    assert!(trie.is_empty());
}

/// A family of keys below one branch: the nibbles of its number, a byte each, followed by the byte
/// `member`.
fn sibling(family: u16, member: u8) -> Vec<u8> {
    let nibbles = [12, 8, 4, 0].map(|shift| (family >> shift & 15) as u8);
    [&nibbles[..], &[member]].concat()
}

/// The families with nine members, in [`no_branches_for_smaller_copies`].
const LARGE: std::ops::Range<u16> = 0..40;

/// Returns a trie that has branches of nine twigs, the `LARGE` families, and no memory for branches
/// of three to eight twigs.
fn no_branches_for_smaller_copies<B: ReusePolicy>(setup: Setup) -> (QpTrie<u64, B>, Model<u64>) {
    stay_on_this_cpu();
    // One slab for each of the first five sizes of branches: those of a pair, and of at most four,
    // eight, twelve and sixteen twigs.
    let trie = setup.builder::<u64, B>().limit_bytes(5 * SLAB).build().expect("a trie");
    let mut model = Model::new();
    let mut put = |family, member| {
        // Make the branches that copies replaced reusable.
        if family % 64 == 0 {
            trie.quiesce().expect("outside of read sections");
        }
        let (key, value) = (sibling(family, member), u64::from(family) << 8 | u64::from(member));
        trie.pin().insert(&key, value).map(|_| model.insert(key, value))
    };
    for family in 0..4500 {
        put(family, 0).expect("enough for the branches above the families");
    }
    for family in LARGE {
        for member in 1..9 {
            put(family, member).expect("enough for the large families");
        }
    }
    let mut families = LARGE.end..4500;
    for family in families.by_ref().take(10) {
        put(family, 1).expect("pairs that keep the slab of such");
    }
    // The larger size first: growing to it also needs a branch of the smaller size.
    for members in [5, 3] {
        let full = families.by_ref().find(|&family| {
            put(family, 1).expect("the branch of an earlier pair");
            (2..members).any(|member| put(family, member).is_err())
        });
        full.expect("branches run out");
    }
    (trie, model)
}

/// Removing a ninth twig needs a smaller branch, and there is none: the branch stays, and the trie
/// is still correct.
fn removing_without_memory_never_fails<B: ReusePolicy>(setup: Setup) {
    let (trie, mut model) = no_branches_for_smaller_copies::<B>(setup);
    same_entries(&trie, &model);
    let before = trie.memory_usage().branches.live.bytes;
    for family in LARGE {
        let key = sibling(family, (family % 9) as u8);
        assert_eq!(trie.pin().remove(&key).copied(), model.remove(&key), "{key:?}");
        assert_eq!(trie.pin().get(&key), None);
    }
    same_entries(&trie, &model);
    assert_eq!(trie.memory_usage().branches.live.bytes, before, "no branch became smaller");
    // Scans skip the holes, and can start at them.
    let (view, mut next) = (trie.pin(), Vec::new());
    for family in LARGE {
        let gone = sibling(family, (family % 9) as u8);
        let expected = model.range(gone.clone()..).next().map(|(key, _)| key.clone());
        let found = view.next_key(Some(&gone), &mut next).then_some(&next);
        assert_eq!(found, expected.as_ref(), "after {gone:?}");
    }
}

/// A key that was removed without memory can be inserted again without memory for a branch.
fn an_insertion_fills_a_hole_without_memory<B: ReusePolicy>(setup: Setup) {
    let (trie, mut model) = no_branches_for_smaller_copies::<B>(setup);
    let before = trie.memory_usage().branches.live;
    for family in LARGE {
        for member in [3, 0, 6] {
            let key = sibling(family, member);
            assert_eq!(trie.pin().remove(&key).copied(), model.remove(&key));
        }
        // Two keys fill holes: one that extends the removed key, and one that was removed; the
        // third hole stays.
        for key in [[sibling(family, 3), b"longer".to_vec()].concat(), sibling(family, 0)] {
            trie.pin().insert(&key, 1).expect("a hole to fill");
            model.insert(key, 1);
        }
    }
    assert_eq!(trie.memory_usage().branches.live, before, "no branch was needed");
    same_entries(&trie, &model);
    same_memory_but_for_holes(&trie, &model);
}

/// Holes disappear with the next copy of their branch. A branch with one twig left is removed at
/// once, with or without holes.
fn holes_close_and_branches_merge<B: ReusePolicy>(setup: Setup) {
    let (trie, mut model) = no_branches_for_smaller_copies::<B>(setup);
    for family in LARGE {
        // Down to one key, in a different order for each family: the last removal merges.
        let order = (0..9).map(|step| ((family + step * 4) % 9) as u8);
        for member in order.take(if family % 2 == 0 { 8 } else { 7 }) {
            let key = sibling(family, member);
            assert_eq!(trie.pin().remove(&key).copied(), model.remove(&key), "{key:?}");
        }
        same_memory_but_for_holes(&trie, &model);
    }
    same_entries(&trie, &model);
    // With memory available again, every branch that is copied loses its holes.
    let small: Vec<_> =
        model.keys().filter(|key| **key >= sibling(LARGE.end, 0)).cloned().collect();
    for key in small {
        assert_eq!(trie.pin().remove(&key).copied(), model.remove(&key));
    }
    trie.quiesce().expect("outside of read sections");
    for family in LARGE {
        for member in 9..11 {
            trie.pin().insert(&sibling(family, member), 9).expect("memory again");
            model.insert(sibling(family, member), 9);
        }
    }
    same_entries(&trie, &model);
    same_memory(&trie, &model);
}

/// A branch with ways for all symbols needs a smaller copy when too few of them are in use. If
/// there is none, it stays with its holes, and its number of twigs stays correct: the trie checks
/// that when it is dropped, in builds with debug assertions.
fn a_wide_branch_without_memory_for_a_smaller_one_stays<B: ReusePolicy>(setup: Setup) {
    stay_on_this_cpu();
    let trie = setup.builder::<u64, B>().limit_bytes(17 * SLAB).build().expect("a trie");
    let put = |model: &mut Model<u64>, key: [u8; 3]| {
        let mut put = trie.pin().insert(&key, 0).is_ok();
        if !put {
            // The memory may only be pending.
            trie.quiesce().expect("outside of read sections");
            put = trie.pin().insert(&key, 0).is_ok();
        }
        if put {
            model.insert(key.to_vec(), 0);
        }
        put
    };
    let take = |model: &mut Model<u64>, key: [u8; 3]| {
        assert_eq!(trie.pin().remove(&key).copied(), model.remove(&key[..]), "{key:?}");
    };
    let mut model = Model::new();
    for byte in 0..=255 {
        assert!(put(&mut model, [1, 1, byte]));
        // These keys are used by the families below.
        assert!(put(&mut model, [3, byte, 0]) && put(&mut model, [4, byte, 0]));
    }
    // Branches of every size smaller than the size that runs out, so that these sizes have memory.
    for members in 2..60 {
        for byte in 0..members {
            assert!(put(&mut model, [2, members, byte * 3]));
        }
    }
    // Branches that use up the remaining memory, each large for the number of its keys.
    for family in 0..=255 {
        if !(0..=255).all(|byte| put(&mut model, [3, family, byte])) {
            break;
        }
        (65..=255).for_each(|byte| take(&mut model, [3, family, byte]));
    }
    // Branches of up to 60 twigs, the size that has to run out.
    let mut sized = (0..=255).flat_map(|family| (1..62).map(move |byte| [4, family, byte * 3]));
    let refused = sized.find(|&key| !put(&mut model, key)).expect("a limit");
    assert!(refused[2] >= 59 * 3, "{refused:?}: a smaller branch or a leaf was rejected");
    let before = trie.memory_usage().branches.live;
    // Every fourth byte stays, except for four.
    let go = (0..=255).filter(|byte| byte % 4 != 0).chain([0, 100, 200, 252]);
    go.for_each(|byte| take(&mut model, [1, 1, byte]));
    for byte in [7, 252] {
        assert!(put(&mut model, [1, 1, byte]), "a hole to fill");
    }
    assert_eq!(trie.memory_usage().branches.live, before, "no branch became smaller");
    same_entries(&trie, &model);
    same_memory_but_for_holes(&trie, &model);
}

/// Holes do not change the number of branches, only their size.
fn same_memory_but_for_holes<B: ReusePolicy>(trie: &QpTrie<u64, B>, model: &Model<u64>) {
    let usage = trie.memory_usage();
    assert_eq!(usage.branches.live.objects, branches(model));
    assert_eq!(usage.leaves.live.objects, model.len() as u64);
}

/// Memory runs out repeatedly, because a section keeps freed objects from being reused and because
/// the limit is low. The trie agrees with the model, whichever insertions fail.
fn a_trie_with_little_memory_agrees_with_the_model<B: ReusePolicy>(setup: Setup) {
    for slabs in 1..=4 {
        let trie = setup.builder::<u64, B>().limit_bytes(slabs * SLAB).build().expect("a trie");
        let (mut model, mut dice) = (Model::new(), Dice::new(slabs));
        let (mut refused, mut section) = (0, None);
        for step in 0..30_000_u64 {
            if dice.roll(2000) == 0 {
                section = section.is_none().then(|| trie.pin());
            }
            let (view, key) = (trie.pin(), dice.key());
            if dice.roll(5) < 3 {
                match view.insert(&key, step) {
                    Ok(old) => assert_eq!(old.copied(), model.insert(key, step)),
                    Err(error) => {
                        refused += 1;
                        assert_eq!(error.into_value(), step);
                        assert_eq!(view.get(&key), model.get(&key));
                    }
                }
            } else {
                // A present key, if any is greater.
                let key = model.range(key.clone()..).next().map_or(key, |(key, _)| key.clone());
                assert_eq!(view.remove(&key).copied(), model.remove(&key), "{key:?}");
            }
            if dice.roll(1000) == 0 {
                same_entries(&trie, &model);
            }
        }
        assert!(refused > 0, "{slabs} slabs are too much memory for this test");
        drop(section);
        same_entries(&trie, &model);
        trie.quiesce().expect("outside of read sections");
        same_memory_but_for_holes(&trie, &model);
        for key in model.into_keys() {
            assert!(trie.pin().remove(&key).is_some());
        }
        same_memory(&trie, &Model::<u64>::new());
    }
}

/// Inserts and removes keys that end in `own`, with or without memory, and returns the entries that
/// are left.
fn scrape_along<B: ReusePolicy>(trie: &QpTrie<u64, B>, own: u8) -> Model<u64> {
    let (mut mine, mut dice, mut refused) = (Model::new(), Dice::new(own.into()), 0);
    for step in 0..4_000_u64 {
        let key = [dice.key(), vec![own]].concat();
        let view = trie.pin();
        if dice.roll(10) < 7 {
            match view.insert(&key, step) {
                Ok(old) => assert_eq!(old.copied(), mine.insert(key, step)),
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.into_value(), step);
                    assert_eq!(view.get(&key), mine.get(&key));
                }
            }
        } else {
            // A present key, if any is greater.
            let next = mine.range(key.clone()..).next();
            let key = next.map_or(key, |(key, _)| key.clone());
            assert_eq!(view.remove(&key).copied(), mine.remove(&key), "{key:?}");
        }
    }
    assert!(refused > 0, "there is too much memory for this test");
    mine
}

/// Threads compete for the last objects; each knows the state of its own keys.
fn threads_that_share_little_memory_lose_nothing<B: ReusePolicy>(setup: Setup) {
    let trie = setup.builder::<u64, B>().limit_bytes(2 * SLAB).build().expect("a trie");
    let model: Model<u64> = thread::scope(|scope| {
        let trie = &trie;
        let threads: Vec<_> =
            (0..4).map(|own| scope.spawn(move || scrape_along(trie, own))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    same_entries(&trie, &model);
    trie.quiesce().expect("outside of read sections");
    same_memory_but_for_holes(&trie, &model);
    for key in model.into_keys() {
        assert!(trie.pin().remove(&key).is_some());
    }
    same_memory(&trie, &Model::<u64>::new());
}

in_every_setup![
    a_key_of_5000_bytes_is_refused_with_both_numbers,
    the_longest_key_is_accepted_and_one_byte_more_is_not,
    max_key_len_is_enforced_and_reported,
    a_full_trie_refuses_keys_and_accepts_values,
    max_entries_is_exact_with_several_threads,
    an_insertion_without_memory_loses_nothing,
    a_trie_without_any_memory_refuses_everything,
    removing_without_memory_never_fails,
    an_insertion_fills_a_hole_without_memory,
    holes_close_and_branches_merge,
    a_wide_branch_without_memory_for_a_smaller_one_stays,
    a_trie_with_little_memory_agrees_with_the_model,
    threads_that_share_little_memory_lose_nothing,
];

/// A value that no leaf can hold is rejected with any key.
#[test]
fn a_value_of_4096_bytes_is_refused_with_its_size() {
    let trie: QpTrie<[u8; 4096]> = QpTrie::new().expect("a trie");
    let error = trie.pin().insert(b"", [7; 4096]).unwrap_err();
    assert!(matches!(error.kind(), InsertErrorKind::TooLarge { key: 0, value: 4096, .. }));
    assert!(error.to_string().contains("4096"), "{error}");
    assert_eq!(error.into_value(), [7; 4096]);
}
