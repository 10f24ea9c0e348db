//! What a workload needs of a map, whoever made it.

use crate::measure::WrongAnswer;

/// A map from byte strings to values.
pub(super) trait OrderedMap<V>: Sync + Sized {
    /// Access for a short batch of operations.
    type View<'m>: View
    where
        Self: 'm;

    /// Whether it knows an order, so that it can scan and seek. (A hash map takes part for scale.)
    const ORDERED: bool = true;

    /// Whether its lookups come several at once, see [`View::get_many`].
    const AT_ONCE: bool = false;

    /// An empty map.
    fn build() -> Result<Self, WrongAnswer>;

    /// Enters a read section.
    fn pin(&self) -> Self::View<'_>;

    /// The number of entries.
    fn len(&self) -> u64;

    /// Waits until nothing is pending, and every value that was given up has been dropped, as far
    /// as the map lets itself be told to.
    fn quiesce(&self) -> Result<(), WrongAnswer>;

    /// Bytes held now, for those who can tell beside threads at work.
    fn held_now(&self) -> Option<u64> {
        None
    }

    /// Bytes held by a map at rest, for those who can tell.
    fn held_at_rest(&self) -> Option<u64>;

    /// How often lookups had to begin again since the map was built, for those who can tell.
    fn retries(&self) -> Option<u64> {
        None
    }
}

/// Operations inside a read section. Values go in and come out as their numbers.
pub(super) trait View {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Option<u64>;

    /// The values of several keys, looked up at once.
    fn get_many<const N: usize>(&self, keys: [&[u8]; N]) -> [Option<u64>; N] {
        keys.map(|key| self.get(key))
    }

    /// Sets the value of a key.
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer>;

    /// Sets the value of a key that is there, by whatever way is best for that.
    fn overwrite(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        self.insert(key, number)
    }

    /// Takes a key out; gives back its value.
    fn remove(&self, key: &[u8]) -> Option<u64>;

    /// Calls `each` for every entry, in ascending order of the keys.
    fn scan(&self, each: impl FnMut(&[u8], u64));

    /// The value of the first key that is greater than `key`.
    fn after(&self, key: &[u8]) -> Option<u64>;
}

/// What an insertion says of the value before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// This is what was there.
    Was(Option<u64>),
    /// It does not say.
    #[cfg_attr(not(feature = "rivals"), allow(dead_code))]
    Untold,
}
