//! The trie with each of its readers.

use std::cell::Cell;
use std::fmt::{self, Display};
use std::ops::Bound;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memalloc::{AfterRcuGp, Immediate, PolicyKind, ReusePolicy};
use qptrie::{Hints, QpTrie, TrieGuard};

use super::Value;
use super::map::{Before, OrderedMap, View};
use crate::measure::{CutOff, NoReadings, WrongAnswer};

/// The way lookups are protected from writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Branches are reused at once, and readers validate them.
    Validated,
    /// Branches are reused after a grace period, and readers need not validate.
    Plain,
    /// Like `Validated`, with batched lookups.
    Batched,
    /// Like `Validated`, and leaves are also reused at once: values are copied out, and overwritten
    /// in place.
    Copied,
    /// Like `Validated`, and every operation takes a lock for the first byte of the key.
    SubtreeLock,
}

impl Reader {
    /// Every reader, in the order in which they are shown.
    pub(crate) const ALL: [Self; 5] =
        [Self::Validated, Self::Plain, Self::Batched, Self::Copied, Self::SubtreeLock];

    /// Returns the name in records and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Validated => "validated",
            Self::Plain => "plain",
            Self::Batched => "batched",
            Self::Copied => "copied",
            Self::SubtreeLock => "subtree-lock",
        }
    }

    /// Returns the policy of the branches.
    pub(crate) fn policy(self) -> PolicyKind {
        match self {
            Self::Validated | Self::Batched | Self::Copied | Self::SubtreeLock => {
                PolicyKind::Immediate
            }
            Self::Plain => PolicyKind::AfterRcuGp,
        }
    }
}

impl FromStr for Reader {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|reader| reader.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("unknown reader \"{name}\": expected one of {known}")
        })
    }
}

impl Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A kind of trie, for any values.
pub(super) trait Family: 'static {
    /// The reader.
    const READER: Reader;
    /// The map.
    type Map<V: Value>: OrderedMap<V>;
}

/// See [`Reader::Validated`].
pub(super) struct Validated;

impl Family for Validated {
    const READER: Reader = Reader::Validated;
    type Map<V: Value> = QpTrie<V, Immediate, AfterRcuGp>;
}

/// See [`Reader::Plain`].
pub(super) struct Plain;

impl Family for Plain {
    const READER: Reader = Reader::Plain;
    type Map<V: Value> = QpTrie<V, AfterRcuGp, AfterRcuGp>;
}

/// See [`Reader::Batched`].
pub(super) struct Batched;

impl Family for Batched {
    const READER: Reader = Reader::Batched;
    type Map<V: Value> = AtOnce<V>;
}

/// See [`Reader::SubtreeLock`].
pub(super) struct SubtreeLock;

impl Family for SubtreeLock {
    const READER: Reader = Reader::SubtreeLock;
    type Map<V: Value> = Locked<V>;
}

impl<V: Value, B: ReusePolicy, L: ReusePolicy> OrderedMap<V> for QpTrie<V, B, L>
where
    for<'m> TrieGuard<'m, V, B, L>: View,
{
    type View<'m> = TrieGuard<'m, V, B, L>;

    fn build(hints: Hints) -> Result<Self, NoReadings> {
        let built = Self::builder().hints(hints).build();
        built.map_err(|error| CutOff::refused("building a trie", error).into())
    }

    fn pin(&self) -> Self::View<'_> {
        self.pin()
    }

    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn quiesce(&self) -> Result<(), WrongAnswer> {
        self.quiesce().map(drop).map_err(|error| failed("waiting for a grace period", error))
    }

    fn held_now(&self) -> Option<u64> {
        Some(self.backing_bytes())
    }

    fn held_at_rest(&self) -> Option<u64> {
        Some(self.memory_usage().total_bytes())
    }

    fn retries(&self) -> Option<u64> {
        Some(self.stats().retries)
    }
}

impl<V: Value, B: ReusePolicy> View for TrieGuard<'_, V, B, AfterRcuGp> {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<u64> {
        (**self).get(key).map(V::number)
    }

    #[inline]
    fn get_many<const N: usize>(&self, keys: [&[u8]; N]) -> [Option<u64>; N] {
        (**self).get_many(keys).map(|found| found.map(V::number))
    }

    #[inline]
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        match (**self).insert(key, V::new(number)) {
            Ok(before) => Ok(Before::Was(before.map(V::number))),
            Err(error) => Err(failed("inserting", error)),
        }
    }

    #[inline]
    fn remove(&self, key: &[u8]) -> Option<u64> {
        (**self).remove(key).map(V::number)
    }

    fn scan(&self, mut each: impl FnMut(&[u8], u64)) {
        for (key, value) in self.iter() {
            each(key, value.number());
        }
    }

    #[inline]
    fn after(&self, key: &[u8]) -> Option<u64> {
        self.lower_bound(Bound::Excluded(key)).map(|(_, value)| value.number())
    }
}

/// A trie with batched lookups.
pub(super) struct AtOnce<V: Value>(QpTrie<V, Immediate, AfterRcuGp>);

impl<V: Value> OrderedMap<V> for AtOnce<V> {
    type View<'m> = TrieGuard<'m, V, Immediate, AfterRcuGp>;

    const AT_ONCE: bool = true;

    fn build(hints: Hints) -> Result<Self, NoReadings> {
        OrderedMap::build(hints).map(Self)
    }

    fn pin(&self) -> Self::View<'_> {
        self.0.pin()
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn quiesce(&self) -> Result<(), WrongAnswer> {
        OrderedMap::quiesce(&self.0)
    }

    fn held_at_rest(&self) -> Option<u64> {
        self.0.held_at_rest()
    }

    fn retries(&self) -> Option<u64> {
        OrderedMap::retries(&self.0)
    }
}

/// A trie whose leaves are reused at once, which works only with numbers. See [`Reader::Copied`].
pub(super) type Copied = QpTrie<u64, Immediate, Immediate>;

impl View for TrieGuard<'_, u64, Immediate, Immediate> {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<u64> {
        self.get_copied(key)
    }

    #[inline]
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        match self.insert_copied(key, number) {
            Ok(before) => Ok(Before::Was(before)),
            Err(error) => Err(failed("inserting", error)),
        }
    }

    #[inline]
    fn remove(&self, key: &[u8]) -> Option<u64> {
        self.remove_copied(key)
    }

    fn scan(&self, mut each: impl FnMut(&[u8], u64)) {
        let (mut scan, mut key) = (self.iter_copied(), Vec::new());
        while let Some(value) = scan.next_into(&mut key) {
            each(&key, value);
        }
    }

    #[inline]
    fn after(&self, key: &[u8]) -> Option<u64> {
        // One buffer per thread, as a program with frequent lookups has.
        thread_local! { static FOUND: Cell<Vec<u8>> = const { Cell::new(Vec::new()) } }
        let mut found = FOUND.take();
        let value = self.lower_bound_copied(Bound::Excluded(key), &mut found);
        FOUND.set(found);
        value
    }
}

/// A trie whose readers and writers lock the subtree of the key's first byte, like the kernel's
/// variant without sequence counts. The empty key has a separate lock.
pub(super) struct Locked<V: Value> {
    trie: QpTrie<V, Immediate, AfterRcuGp>,
    locks: Box<[Mutex<()>]>,
}

/// See [`Locked`].
pub(super) struct LockedRef<'m, V: Value> {
    view: TrieGuard<'m, V, Immediate, AfterRcuGp>,
    locks: &'m [Mutex<()>],
}

impl<V: Value> OrderedMap<V> for Locked<V> {
    type View<'m> = LockedRef<'m, V>;

    fn build(hints: Hints) -> Result<Self, NoReadings> {
        let locks = (0..=256).map(|_| Mutex::new(())).collect();
        Ok(Self { trie: OrderedMap::build(hints)?, locks })
    }

    fn pin(&self) -> Self::View<'_> {
        LockedRef { view: self.trie.pin(), locks: &self.locks }
    }

    fn len(&self) -> u64 {
        self.trie.len() as u64
    }

    fn quiesce(&self) -> Result<(), WrongAnswer> {
        OrderedMap::quiesce(&self.trie)
    }

    fn held_now(&self) -> Option<u64> {
        self.trie.held_now()
    }

    fn held_at_rest(&self) -> Option<u64> {
        Some(self.trie.held_at_rest()? + size_of_val(&*self.locks) as u64)
    }

    fn retries(&self) -> Option<u64> {
        OrderedMap::retries(&self.trie)
    }
}

impl<V: Value> LockedRef<'_, V> {
    #[inline]
    fn lock(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let subtree = key.first().map_or(0, |&first| usize::from(first) + 1);
        self.locks[subtree].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Value> View for LockedRef<'_, V> {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<u64> {
        let _locked = self.lock(key);
        View::get(&self.view, key)
    }

    #[inline]
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        let _locked = self.lock(key);
        View::insert(&self.view, key, number)
    }

    #[inline]
    fn remove(&self, key: &[u8]) -> Option<u64> {
        let _locked = self.lock(key);
        View::remove(&self.view, key)
    }

    fn scan(&self, each: impl FnMut(&[u8], u64)) {
        self.view.scan(each);
    }

    fn after(&self, key: &[u8]) -> Option<u64> {
        let _locked = self.lock(key);
        self.view.after(key)
    }
}

#[cold]
fn failed(doing: &str, error: impl Display) -> WrongAnswer {
    WrongAnswer(format!("{doing} failed: {error}"))
}
