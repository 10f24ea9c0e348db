//! Maps of other crates. Keys are boxed slices if a map owns its keys, and all maps allocate on the
//! program's heap.
//!
//! Each map reads inside its own kind of section for a batch of operations, as the trie does. If an
//! insertion does not return the previous value, that value is not checked.

use std::ops::Bound;

use masstree::{MassTree, RangeBound};
use qptrie::Hints;
use scc::TreeIndex;

use super::map::{Before, OrderedMap, View};
use super::{Case, Setting, guest};
use crate::data::DataSet;
use crate::measure::{NoReadings, WrongAnswer};
use crate::workload::rivals::version;
use crate::workload::{Subject, malloc_usage};

type Key = Box<[u8]>;

/// Returns all maps that support the keys and the case.
pub(super) fn subjects<'d, C: Case>(setting: Setting<'d>) -> Vec<Subject<'d>> {
    let masstree = (!refuses(setting.data))
        .then(|| guest::<C, Mass>("masstree", version("masstree"), setting))
        .flatten();
    let all = [
        masstree,
        guest::<C, Skip>("crossbeam-skiplist", version("crossbeam-skiplist"), setting),
        guest::<C, Tree>("scc-treeindex", version("scc"), setting),
        guest::<C, Papaya>("papaya", version("papaya"), setting),
        guest::<C, Dash>("dashmap", version("dashmap"), setting),
    ];
    all.into_iter().flatten().collect()
}

/// Returns a line about masstree if it does not support the keys.
pub(super) fn that_refuse(data: &DataSet) -> Option<String> {
    let longest = masstree::MAX_KEY_LENGTH;
    refuses(data).then(|| {
        format!(
            "masstree is skipped for {}: it supports keys of at most {longest} bytes.\n",
            data.name
        )
    })
}

fn refuses(data: &DataSet) -> bool {
    data.keys.iter().any(|key| key.len() > masstree::MAX_KEY_LENGTH)
}

/// Drives a map's reclamation until the heap shrinks no more.
fn settle(mut push: impl FnMut()) {
    let mut least = u64::MAX;
    let mut idle = 0;
    while idle < 8 {
        (0..64).for_each(|_| push());
        let now = malloc_usage::bytes_in_use().unwrap_or(0);
        idle = if now < least { 0 } else { idle + 1 };
        least = least.min(now);
    }
}

/// masstree, whose values are in its nodes.
struct Mass {
    tree: MassTree<u64>,
    heap_before: Option<u64>,
}

struct MassRef<'m> {
    tree: &'m MassTree<u64>,
    guard: seize::LocalGuard<'m>,
}

impl OrderedMap<u64> for Mass {
    type View<'m> = MassRef<'m>;

    fn build(_hints: Hints) -> Result<Self, NoReadings> {
        let heap_before = malloc_usage::bytes_in_use();
        Ok(Self { tree: MassTree::new(), heap_before })
    }

    fn pin(&self) -> MassRef<'_> {
        MassRef { tree: &self.tree, guard: self.tree.guard() }
    }

    fn len(&self) -> u64 {
        self.tree.len() as u64
    }

    /// Does not use masstree's own maintenance, which never ends in an emptied tree.
    fn quiesce(&self) -> Result<(), WrongAnswer> {
        settle(|| self.tree.flush(&self.tree.guard()));
        Ok(())
    }

    fn held_at_rest(&self) -> Option<u64> {
        malloc_usage::grown_since(self.heap_before)
    }
}

impl View for MassRef<'_> {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<u64> {
        self.tree.get_with_guard(key, &self.guard)
    }

    #[inline]
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        Ok(Before::Was(self.tree.insert_with_guard(key, number, &self.guard)))
    }

    #[inline]
    fn remove(&self, key: &[u8]) -> Option<u64> {
        // An error means that others interfered too often, and that nothing has changed.
        loop {
            if let Ok(found) = self.tree.remove_with_guard(key, &self.guard) {
                return found;
            }
        }
    }

    fn scan(&self, mut each: impl FnMut(&[u8], u64)) {
        let visit = |key: &[u8], value| {
            each(key, value);
            true
        };
        self.tree.scan(RangeBound::Unbounded, RangeBound::Unbounded, visit, &self.guard);
    }

    #[inline]
    fn after(&self, key: &[u8]) -> Option<u64> {
        let mut found = None;
        let visit = |_: &[u8], value| {
            found = Some(value);
            false
        };
        self.tree.scan(RangeBound::Excluded(key), RangeBound::Unbounded, visit, &self.guard);
        found
    }
}

/// crossbeam's skip list.
struct Skip {
    map: crossbeam_skiplist::SkipMap<Key, u64>,
    heap_before: Option<u64>,
}

struct SkipRef<'m> {
    map: &'m crossbeam_skiplist::SkipMap<Key, u64>,
    /// Keeps the thread pinned, which makes the pins of the operations cheaper.
    _guard: crossbeam_epoch::Guard,
}

impl OrderedMap<u64> for Skip {
    type View<'m> = SkipRef<'m>;

    fn build(_hints: Hints) -> Result<Self, NoReadings> {
        settle(|| crossbeam_epoch::pin().flush());
        let heap_before = malloc_usage::bytes_in_use();
        Ok(Self { map: crossbeam_skiplist::SkipMap::new(), heap_before })
    }

    fn pin(&self) -> SkipRef<'_> {
        SkipRef { map: &self.map, _guard: crossbeam_epoch::pin() }
    }

    fn len(&self) -> u64 {
        self.map.len() as u64
    }

    fn quiesce(&self) -> Result<(), WrongAnswer> {
        settle(|| crossbeam_epoch::pin().flush());
        Ok(())
    }

    fn held_at_rest(&self) -> Option<u64> {
        malloc_usage::grown_since(self.heap_before)
    }
}

impl View for SkipRef<'_> {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<u64> {
        self.map.get(key).map(|entry| *entry.value())
    }

    #[inline]
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        self.map.insert(key.into(), number);
        Ok(Before::Untold)
    }

    #[inline]
    fn remove(&self, key: &[u8]) -> Option<u64> {
        self.map.remove(key).map(|entry| *entry.value())
    }

    fn scan(&self, mut each: impl FnMut(&[u8], u64)) {
        self.map.iter().for_each(|entry| each(entry.key(), *entry.value()));
    }

    #[inline]
    fn after(&self, key: &[u8]) -> Option<u64> {
        self.map.lower_bound(Bound::Excluded(key)).map(|entry| *entry.value())
    }
}

/// scc's tree.
struct Tree {
    index: TreeIndex<Key, u64>,
    heap_before: Option<u64>,
}

struct TreeRef<'m> {
    index: &'m TreeIndex<Key, u64>,
    guard: scc::Guard,
}

impl OrderedMap<u64> for Tree {
    type View<'m> = TreeRef<'m>;

    fn build(_hints: Hints) -> Result<Self, NoReadings> {
        settle(|| scc::Guard::new().accelerate());
        let heap_before = malloc_usage::bytes_in_use();
        Ok(Self { index: TreeIndex::new(), heap_before })
    }

    fn pin(&self) -> TreeRef<'_> {
        TreeRef { index: &self.index, guard: scc::Guard::new() }
    }

    fn len(&self) -> u64 {
        self.index.len() as u64
    }

    fn quiesce(&self) -> Result<(), WrongAnswer> {
        settle(|| scc::Guard::new().accelerate());
        Ok(())
    }

    fn held_at_rest(&self) -> Option<u64> {
        malloc_usage::grown_since(self.heap_before)
    }
}

impl View for TreeRef<'_> {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<u64> {
        self.index.peek(key, &self.guard).copied()
    }

    #[inline]
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        self.index.upsert_sync(key.into(), number);
        Ok(Before::Untold)
    }

    #[inline]
    fn remove(&self, key: &[u8]) -> Option<u64> {
        let mut found = None;
        let removed = self.index.remove_if_sync(key, |&value| {
            found = Some(value);
            true
        });
        found.filter(|_| removed)
    }

    fn scan(&self, mut each: impl FnMut(&[u8], u64)) {
        self.index.iter(&self.guard).for_each(|(key, &value)| each(key, value));
    }

    #[inline]
    fn after(&self, key: &[u8]) -> Option<u64> {
        let bounds = (Bound::Excluded(key), Bound::Unbounded);
        self.index.range::<[u8], _>(bounds, &self.guard).next().map(|(_, &value)| value)
    }
}

/// A hash map, for comparison.
struct Papaya {
    map: papaya::HashMap<Key, u64>,
    heap_before: Option<u64>,
}

type PapayaRef<'m> =
    papaya::HashMapRef<'m, Key, u64, std::hash::RandomState, papaya::LocalGuard<'m>>;

impl OrderedMap<u64> for Papaya {
    type View<'m> = PapayaRef<'m>;

    const ORDERED: bool = false;

    fn build(_hints: Hints) -> Result<Self, NoReadings> {
        let heap_before = malloc_usage::bytes_in_use();
        Ok(Self { map: papaya::HashMap::new(), heap_before })
    }

    fn pin(&self) -> PapayaRef<'_> {
        self.map.pin()
    }

    fn len(&self) -> u64 {
        self.map.len() as u64
    }

    fn quiesce(&self) -> Result<(), WrongAnswer> {
        Ok(())
    }

    fn held_at_rest(&self) -> Option<u64> {
        malloc_usage::grown_since(self.heap_before)
    }
}

impl View for PapayaRef<'_> {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<u64> {
        self.get(key).copied()
    }

    #[inline]
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        Ok(Before::Was(self.insert(key.into(), number).copied()))
    }

    #[inline]
    fn remove(&self, key: &[u8]) -> Option<u64> {
        self.remove(key).copied()
    }

    fn scan(&self, mut each: impl FnMut(&[u8], u64)) {
        self.iter().for_each(|(key, &value)| each(key, value));
    }

    fn after(&self, _key: &[u8]) -> Option<u64> {
        None
    }
}

/// A hash map with locks, for comparison.
struct Dash {
    map: dashmap::DashMap<Key, u64>,
    heap_before: Option<u64>,
}

impl OrderedMap<u64> for Dash {
    type View<'m> = &'m Self;

    const ORDERED: bool = false;

    fn build(_hints: Hints) -> Result<Self, NoReadings> {
        let heap_before = malloc_usage::bytes_in_use();
        Ok(Self { map: dashmap::DashMap::new(), heap_before })
    }

    fn pin(&self) -> &Self {
        self
    }

    fn len(&self) -> u64 {
        self.map.len() as u64
    }

    fn quiesce(&self) -> Result<(), WrongAnswer> {
        Ok(())
    }

    fn held_at_rest(&self) -> Option<u64> {
        malloc_usage::grown_since(self.heap_before)
    }
}

impl View for &Dash {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<u64> {
        self.map.get(key).map(|found| *found)
    }

    #[inline]
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        Ok(Before::Was(self.map.insert(key.into(), number)))
    }

    #[inline]
    fn overwrite(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        let place = self.map.get_mut(key);
        Ok(Before::Was(place.map(|mut value| std::mem::replace(&mut *value, number))))
    }

    #[inline]
    fn remove(&self, key: &[u8]) -> Option<u64> {
        self.map.remove(key).map(|(_, value)| value)
    }

    fn scan(&self, mut each: impl FnMut(&[u8], u64)) {
        self.map.iter().for_each(|entry| each(entry.key(), *entry.value()));
    }

    fn after(&self, _key: &[u8]) -> Option<u64> {
        None
    }
}
