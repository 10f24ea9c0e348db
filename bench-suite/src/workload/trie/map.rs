//! What a workload needs of an ordered map, and the trie as such a map. A rival joins with a
//! [`Family`] of its own.

use std::fmt::Display;
use std::marker::PhantomData;

use memalloc::{AfterRcuGp, Immediate, PolicyKind, ReusePolicy};
use qptrie::{QpTrie, TrieRef};

use super::Value;
use crate::measure::WrongAnswer;

/// A kind of map, for whatever values.
pub(super) trait Family: 'static {
    /// Its name in records.
    const SUBJECT: &'static str;
    /// Its reuse policy, if it has one.
    const POLICY: Option<PolicyKind>;
    /// How its readers protect themselves, as records name it.
    const READER: &'static str;
    /// The map.
    type Map<V: Value>: OrderedMap<V>;
}

/// A map from byte strings to values.
pub(super) trait OrderedMap<V>: Sync + Sized {
    /// Access for a short batch of operations.
    type View<'m>: View
    where
        Self: 'm;

    /// An empty map.
    fn build() -> Result<Self, WrongAnswer>;
    /// Enters a read section.
    fn pin(&self) -> Self::View<'_>;
    /// The number of entries.
    fn len(&self) -> u64;
    /// Waits until nothing is pending, and every value that was given up has been dropped.
    fn quiesce(&self) -> Result<(), WrongAnswer>;
    /// Bytes held from the system.
    fn held_bytes(&self) -> u64;
    /// How often lookups had to begin again, since the map was built.
    fn retries(&self) -> u64;
}

/// Operations inside a read section. Values go in and come out as their numbers.
pub(super) trait View {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Option<u64>;
    /// Sets the value of a key; gives back the one before.
    fn insert(&self, key: &[u8], number: u64) -> Result<Option<u64>, WrongAnswer>;
    /// Takes a key out; gives back its value.
    fn remove(&self, key: &[u8]) -> Option<u64>;
    /// Calls `each` for every entry, in ascending order of the keys.
    fn scan(&self, each: impl FnMut(&[u8], u64));
}

/// The trie with a policy for its branches.
pub(super) struct Qp<B>(PhantomData<B>);

impl Family for Qp<Immediate> {
    const SUBJECT: &'static str = "qptrie";
    const POLICY: Option<PolicyKind> = Some(PolicyKind::Immediate);
    const READER: &'static str = "validated";
    type Map<V: Value> = QpTrie<V, Immediate, AfterRcuGp>;
}

impl Family for Qp<AfterRcuGp> {
    const SUBJECT: &'static str = "qptrie";
    const POLICY: Option<PolicyKind> = Some(PolicyKind::AfterRcuGp);
    const READER: &'static str = "plain";
    type Map<V: Value> = QpTrie<V, AfterRcuGp, AfterRcuGp>;
}

impl<V: Value, B: ReusePolicy> OrderedMap<V> for QpTrie<V, B, AfterRcuGp> {
    type View<'m> = TrieRef<'m, V, B, AfterRcuGp>;

    fn build() -> Result<Self, WrongAnswer> {
        Self::new().map_err(|error| failed("building a trie", error))
    }

    fn pin(&self) -> Self::View<'_> {
        self.pin()
    }

    fn len(&self) -> u64 {
        self.len()
    }

    fn quiesce(&self) -> Result<(), WrongAnswer> {
        self.quiesce().map(drop).map_err(|error| failed("waiting for a grace period", error))
    }

    fn held_bytes(&self) -> u64 {
        self.backing_bytes()
    }

    fn retries(&self) -> u64 {
        self.stats().retries
    }
}

impl<V: Value, B: ReusePolicy> View for TrieRef<'_, V, B, AfterRcuGp> {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<u64> {
        self.get(key).map(V::number)
    }

    #[inline]
    fn insert(&self, key: &[u8], number: u64) -> Result<Option<u64>, WrongAnswer> {
        match self.insert(key, V::new(number)) {
            Ok(before) => Ok(before.map(V::number)),
            Err(error) => Err(failed("inserting", error)),
        }
    }

    #[inline]
    fn remove(&self, key: &[u8]) -> Option<u64> {
        self.remove(key).map(V::number)
    }

    fn scan(&self, mut each: impl FnMut(&[u8], u64)) {
        for (key, value) in self.iter() {
            each(key, value.number());
        }
    }
}

#[cold]
fn failed(doing: &str, error: impl Display) -> WrongAnswer {
    WrongAnswer(format!("{doing} failed: {error}"))
}
