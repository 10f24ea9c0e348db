//! Memory usage of a trie: as many branches as its keys need, none when it is empty, and no growth
//! over time.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::{Model, branches, depths, same_entries, same_memory};
use common::{Setup, in_every_setup};
use memalloc::ReusePolicy;
use qptrie::QpTrie;

/// Inserts entries with keys of many lengths, which lead to branches of many sizes.
fn many<B: ReusePolicy>(trie: &QpTrie<u64, B>, entries: u64) -> Model<u64> {
    let (mut model, mut dice) = (Model::new(), Dice::new(entries));
    for number in 0..entries {
        let key = [dice.key(), number.to_string().into_bytes()].concat();
        trie.pin().insert(&key, number).expect("memory");
        model.insert(key, number);
    }
    model
}

fn a_trie_has_the_branches_that_its_keys_need<B: ReusePolicy>(setup: Setup) {
    for entries in [0, 1, 2, 10, 1000, 20_000] {
        let trie = setup.trie::<u64, B>();
        let model = many(&trie, entries);
        same_memory(&trie, &model);
        let live = trie.memory_usage().branches.live.objects;
        assert!(live <= entries.saturating_sub(1), "{live} branches for {entries} entries");
    }
}

fn an_emptied_trie_returns_its_memory<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    for _ in 0..2 {
        let model = many(&trie, 20_000);
        let full = trie.memory_usage();
        assert!(full.branches.slabs > 5 && full.leaves.slabs > 5, "{full:?}");
        assert!(full.slab_bytes() > full.branches.live.bytes + full.leaves.live.bytes);
        let parts = full.branches.table_bytes + full.leaves.table_bytes + full.root_bytes;
        assert_eq!(full.total_bytes(), full.slab_bytes() + parts);
        assert!(trie.backing_bytes() == full.slab_bytes() + full.root_bytes);
        for key in model.keys() {
            assert!(trie.pin().remove(key).is_some());
        }
        same_memory(&trie, &Model::<u64>::new());
        let empty = trie.memory_usage();
        for stats in [&empty.branches, &empty.leaves] {
            assert_eq!((stats.slabs, stats.backing_bytes), (0, 0));
        }
        assert_eq!((empty.slab_bytes(), empty.total_bytes()), (0, empty.table_bytes()));
    }
}

/// `quiesce` reports the memory that it returns, and keeps the memory that is in use.
fn quiesce_releases_only_unused_memory<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let mut model = many(&trie, 20_000);
    trie.quiesce().expect("outside of read sections");
    let before = trie.memory_usage().total_bytes();
    // Entries that were inserted one after the other, so that whole slabs become empty.
    let gone = model.iter().filter(|(_, number)| **number >= 2000).map(|(key, _)| key.clone());
    let gone: Vec<_> = gone.collect();
    for key in gone {
        assert_eq!(trie.pin().remove(&key).copied(), model.remove(&key));
    }
    let reclaimed = trie.quiesce().expect("outside of read sections");
    assert!(reclaimed.objects > 0 && reclaimed.bytes >= 16 * reclaimed.objects);
    let after = trie.memory_usage().total_bytes();
    assert!(after < before, "{after} is not less than {before}");
    same_entries(&trie, &model);
    same_memory(&trie, &model);
    let again = trie.quiesce().expect("outside of read sections");
    assert_eq!((again.objects, again.released_bytes), (0, 0), "{again:?}");
}

/// A clone takes about as much memory as its original, under every policy of branches: it does not
/// keep the branches that it replaced while it grew.
fn a_clone_takes_the_memory_of_its_original<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let model = many(&trie, 100_000);
    let clone = trie.clone();
    let (own, original) =
        [&clone, &trie].map(|trie| trie.memory_usage().branches.backing_bytes).into();
    assert!(own < original + original / 4, "{own} bytes of branches instead of {original}");
    same_entries(&clone, &model);
}

/// With no readers, overwriting and churning for a long time costs no more memory than a few grace
/// periods' worth of frees: far less than everything that was allocated.
fn churn_does_not_accumulate_memory<B: ReusePolicy>(setup: Setup) {
    const STEPS: u64 = 400_000;
    const BOUND: u64 = 8 << 20;
    const { assert!(STEPS * 3 / 4 * 64 > 2 * BOUND, "enough steps to tell") };
    let trie = setup.trie::<[u64; 6], B>();
    for step in 0..STEPS {
        let key = [b'k', (step % 5) as u8 * 50, (step / 5 % 3) as u8];
        if step % 4 == 3 {
            trie.pin().remove(&key);
        } else {
            trie.pin().insert(&key, [step; 6]).expect("memory");
        }
    }
    let bytes = trie.memory_usage().total_bytes();
    assert!(bytes < BOUND, "{bytes} bytes after {STEPS} steps");
}

/// The number of branches on the path to each key is computed from the keys alone: one branch
/// wherever the key differs from a neighbour.
fn the_depth_histogram_matches_the_keys<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let mut model = many(&trie, 2_000);
    for number in 0..30 {
        let (gone, _) = model.pop_first().expect("there are more");
        trie.pin().remove(&gone);
        let chain = vec![b'c'; number];
        trie.pin().insert(&chain, 1).expect("memory");
        model.insert(chain, 1);
    }
    let mut expected: Vec<u64> = Vec::new();
    for depth in depths(&model) {
        expected.resize(expected.len().max(depth + 1), 0);
        expected[depth] += 1;
    }
    assert_eq!(trie.pin().depth_histogram(), expected);
    assert!(expected.len() > 20, "the chain");
}

in_every_setup![
    the_depth_histogram_matches_the_keys,
    a_trie_has_the_branches_that_its_keys_need,
    an_emptied_trie_returns_its_memory,
    quiesce_releases_only_unused_memory,
    churn_does_not_accumulate_memory,
    a_clone_takes_the_memory_of_its_original,
];

/// The reference is checked on trees that are small enough to count by hand.
#[test]
fn the_reference_counts_the_branches_of_small_trees() {
    let count = |keys: &[&[u8]]| {
        branches(&keys.iter().map(|key| (key.to_vec(), ())).collect::<Model<()>>())
    };
    assert_eq!(count(&[]), 0);
    assert_eq!(count(&[b"a"]), 0);
    assert_eq!(count(&[b"", b"a", b"b"]), 0, "each in a subtree of its own");
    assert_eq!(count(&[b"a", b"a\x00"]), 1);
    assert_eq!(count(&[b"a\x11", b"a\x12", b"a\x13"]), 1, "one byte");
    assert_eq!(count(&[b"ab", b"acb", b"acc"]), 2, "two bytes");
    assert_eq!(count(&[b"a", b"ab", b"abc"]), 2, "a chain");
}
