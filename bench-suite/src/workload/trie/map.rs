//! The interface of the subjects: what a workload needs from a map.

use qptrie::Hints;

use crate::measure::{NoReadings, WrongAnswer};

/// A map from byte strings to values.
pub(super) trait OrderedMap<V>: Sync + Sized {
    /// Access for a short batch of operations.
    type View<'m>: View
    where
        Self: 'm;

    /// True if the map is ordered, so that it can scan and seek. (Hash maps take part for
    /// comparison.)
    const ORDERED: bool = true;

    /// True if lookups are batched, see [`View::get_many`].
    const AT_ONCE: bool = false;

    /// Builds an empty map, with or without hints if it is the trie; other maps have none.
    fn build(hints: Hints) -> Result<Self, NoReadings>;

    /// Enters a read section.
    fn pin(&self) -> Self::View<'_>;

    /// Returns the number of entries.
    fn len(&self) -> u64;

    /// Waits until nothing is pending and every replaced or removed value has been dropped, as far
    /// as the map supports that.
    fn quiesce(&self) -> Result<(), WrongAnswer>;

    /// Returns the bytes held now, if the map can count them under concurrent operations.
    fn held_now(&self) -> Option<u64> {
        None
    }

    /// Returns the bytes held without concurrent operations, if the map can count them.
    fn held_at_rest(&self) -> Option<u64>;

    /// Returns how often lookups have restarted since the map was built, if the map counts it.
    fn retries(&self) -> Option<u64> {
        None
    }
}

/// Operations inside a read section. Values go in and come out as their numbers.
pub(super) trait View {
    /// Returns the value of a key.
    fn get(&self, key: &[u8]) -> Option<u64>;

    /// Returns the values of several keys, looked up in one batch.
    fn get_many<const N: usize>(&self, keys: [&[u8]; N]) -> [Option<u64>; N] {
        keys.map(|key| self.get(key))
    }

    /// Sets the value of a key.
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer>;

    /// Sets the value of an existing key, in the way that is best for that.
    fn overwrite(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        self.insert(key, number)
    }

    /// Removes a key; returns its value.
    fn remove(&self, key: &[u8]) -> Option<u64>;

    /// Calls `each` for every entry, in ascending order of the keys.
    fn scan(&self, each: impl FnMut(&[u8], u64));

    /// Returns the value of the first key that is greater than `key`.
    fn after(&self, key: &[u8]) -> Option<u64>;
}

/// The previous value that an insertion reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// The previous value.
    Was(Option<u64>),
    /// The map does not report it.
    #[cfg_attr(not(feature = "rivals"), allow(dead_code))]
    Untold,
}
