//! The tree that a set of keys must lead to, computed from the sorted keys alone, and a check that
//! a trie is that tree.

use memalloc::{ReusePolicy, Stats};
use qptrie::QpTrie;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;

/// The reference map of a trie.
pub(crate) type Model<V> = BTreeMap<Vec<u8>, V>;

/// Returns the choices that lead to a key: one for each byte (1 to 256), then "it ends here" (0).
fn ways(key: &[u8]) -> Vec<u16> {
    key.iter().map(|byte| u16::from(*byte) + 1).chain([0]).collect()
}

/// Returns the branches of a trie of these keys: one for every sequence of choices after which the
/// keys differ. Keys that differ in their first byte share no branch.
fn partings<V>(model: &Model<V>) -> HashSet<Vec<u16>> {
    let keys: Vec<_> = model.keys().collect();
    let neighbours = keys.windows(2).filter(|pair| pair[0].first() == pair[1].first());
    neighbours
        .map(|pair| {
            let (a, b) = (ways(pair[0]), ways(pair[1]));
            let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            a[..common].to_vec()
        })
        .collect()
}

/// Returns the number of branches of a trie of these keys.
pub(crate) fn branches<V>(model: &Model<V>) -> u64 {
    partings(model).len() as u64
}

/// Returns the number of branches on the path to each key.
pub(crate) fn depths<V>(model: &Model<V>) -> Vec<usize> {
    let partings = partings(model);
    let depth = |key: &Vec<u8>| {
        let ways = ways(key);
        (0..ways.len()).filter(|&choices| partings.contains(&ways[..choices])).count()
    };
    model.keys().map(depth).collect()
}

/// Panics unless the trie finds, counts and lists exactly the entries of the model.
pub(crate) fn same_entries<V, B>(trie: &QpTrie<V, B>, model: &Model<V>)
where
    V: Debug + PartialEq + Send + Sync + 'static,
    B: ReusePolicy,
{
    let view = trie.pin();
    for (key, value) in model {
        assert_eq!(view.get(key), Some(value), "{key:?}");
    }
    let listed: Vec<_> = view.iter().take(model.len() + 1).collect();
    let expected: Vec<_> = model.iter().map(|(key, value)| (&key[..], value)).collect();
    assert!(listed == expected, "listed {listed:?}\nexpected {expected:?}");
    assert_eq!(trie.len(), model.len());
    assert_eq!(trie.is_empty(), model.is_empty());
}

/// Panics unless the memory of an idle trie is that of the model's tree, and the statistics add up.
/// The calling thread is outside of read sections.
pub(crate) fn same_memory<V, B>(trie: &QpTrie<V, B>, model: &Model<V>)
where
    V: Send + Sync + 'static,
    B: ReusePolicy,
{
    trie.quiesce().expect("outside of read sections");
    let usage = trie.memory_usage();
    assert_eq!(usage.branches.live.objects, branches(model), "branches");
    assert_eq!(usage.leaves.live.objects, model.len() as u64, "leaves");
    for stats in [&usage.branches, &usage.leaves] {
        nothing_but_live(stats);
    }
}

/// Panics unless every object outside of the slabs is in use.
fn nothing_but_live(stats: &Stats) {
    assert_eq!(stats.pending.objects, 0, "{stats:?}");
    assert_eq!(stats.cached.objects, 0, "{stats:?}");
    assert_eq!(stats.taken, stats.live, "{stats:?}");
    for class in &stats.classes {
        assert_eq!(class.live + class.cached + class.pending, class.taken, "{stats:?}");
    }
}
