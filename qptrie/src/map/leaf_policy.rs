//! Pairs each policy of leaves with the values it permits, so that the traits of std's maps and
//! serde's are implemented under every policy.

use crate::map::by_copy::iter::IterCopied;
use crate::map::by_ref::iter::Iter;
use crate::map::by_ref::point::{TrieRef, Update};
use crate::map::error::InsertError;
use crate::node::PlainBits;
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use std::borrow::Borrow;
use std::ops::Bound::{Excluded, Unbounded};

/// The policies that leaves with values of type `V` may have: [`Immediate`] if the values are
/// [plain bits](PlainBits), the other policies for values of any type.
///
/// A trie has [`Extend`], [`FromIterator`], [`Clone`], [`PartialEq`], serde's traits and
/// [`TrieRef::clear`] under each of them. Code that is generic over the policy of leaves requires
/// this trait to use them:
///
/// ```
/// use memalloc::{AfterRcuGp, Immediate};
/// use qptrie::{LeafPolicy, QpTrie};
///
/// fn count<L: LeafPolicy<u32>>(words: &[&str]) -> QpTrie<u32, Immediate, L> {
///     words.iter().copied().zip(1..).collect()
/// }
/// assert_eq!(count::<Immediate>(&["a", "b"]).len(), count::<AfterRcuGp>(&["c", "d"]).len());
/// ```
///
/// It is implemented for all policies; other crates can't implement it.
#[diagnostic::on_unimplemented(
    message = "leaves under `{Self}` can't have values of type `{V}`",
    note = "leaves under `Immediate` have values of plain bits (`qptrie::PlainBits`); leaves that are kept \
            for readers, as in `QpTrie<{V}>`, have values of any type",
    note = "code that is generic over the policy `L` of leaves needs `L: LeafPolicy<{V}>`"
)]
pub trait LeafPolicy<V: Send + Sync + 'static>: ReusePolicy + sealed::Sealed<V> + Sized {
    /// The key of an entry in a scan.
    #[doc(hidden)]
    type Key<'r>: AsRef<[u8]>;

    /// The value of an entry in a scan.
    #[doc(hidden)]
    type Value<'r>: Borrow<V>;

    /// The iterator of a scan.
    #[doc(hidden)]
    type Entries<'r, B: ReusePolicy>: Iterator<Item = (Self::Key<'r>, Self::Value<'r>)>;

    /// Returns all entries in ascending order.
    #[doc(hidden)]
    fn entries<B: ReusePolicy>(view: &TrieRef<V, B, Self>) -> Self::Entries<'_, B>;

    /// Returns the entries after a key, in ascending order; all entries for `None`.
    #[doc(hidden)]
    fn entries_after<'r, B: ReusePolicy>(
        view: &'r TrieRef<V, B, Self>,
        key: Option<&[u8]>,
    ) -> Self::Entries<'r, B>;

    /// Inserts or replaces the value of a key.
    #[doc(hidden)]
    fn insert<B: ReusePolicy>(
        view: &TrieRef<V, B, Self>,
        key: &[u8],
        value: V,
    ) -> Result<(), InsertError<V>>;

    /// Removes a key.
    #[doc(hidden)]
    fn remove<B: ReusePolicy>(view: &TrieRef<V, B, Self>, key: &[u8]);
}

mod sealed {
    /// Other crates can't name this trait.
    pub trait Sealed<V> {}
}

impl<V: PlainBits> sealed::Sealed<V> for Immediate {}

impl<V: PlainBits> LeafPolicy<V> for Immediate {
    type Key<'r> = Vec<u8>;
    type Value<'r> = V;
    type Entries<'r, B: ReusePolicy> = IterCopied<'r, V, B, Self>;

    fn entries<B: ReusePolicy>(view: &TrieRef<V, B, Self>) -> Self::Entries<'_, B> {
        view.iter_copied()
    }

    fn entries_after<'r, B: ReusePolicy>(
        view: &'r TrieRef<V, B, Self>,
        key: Option<&[u8]>,
    ) -> Self::Entries<'r, B> {
        view.range_copied((key.map_or(Unbounded, Excluded), Unbounded))
    }

    fn insert<B: ReusePolicy>(
        view: &TrieRef<V, B, Self>,
        key: &[u8],
        value: V,
    ) -> Result<(), InsertError<V>> {
        view.update_copied_bytes(key, value, Update::Any).map(drop)
    }

    fn remove<B: ReusePolicy>(view: &TrieRef<V, B, Self>, key: &[u8]) {
        view.remove_copied_bytes(key);
    }
}

/// Implements the trait for policies that keep leaves for readers.
macro_rules! for_any_value {
    ($($policy:ty)*) => {$(
        impl<V: Send + Sync + 'static> sealed::Sealed<V> for $policy {}

        impl<V: Send + Sync + 'static> LeafPolicy<V> for $policy {
            type Key<'r> = &'r [u8];
            type Value<'r> = &'r V;
            type Entries<'r, B: ReusePolicy> = Iter<'r, V, B, Self>;

            fn entries<B: ReusePolicy>(view: &TrieRef<V, B, Self>) -> Self::Entries<'_, B> {
                view.iter()
            }

            fn entries_after<'r, B: ReusePolicy>(
                view: &'r TrieRef<V, B, Self>,
                key: Option<&[u8]>,
            ) -> Self::Entries<'r, B> {
                view.range((key.map_or(Unbounded, Excluded), Unbounded))
            }

            fn insert<B: ReusePolicy>(
                view: &TrieRef<V, B, Self>,
                key: &[u8],
                value: V,
            ) -> Result<(), InsertError<V>> {
                view.update_bytes(key, value, Update::Any).map(drop)
            }

            fn remove<B: ReusePolicy>(view: &TrieRef<V, B, Self>, key: &[u8]) {
                view.remove_bytes(key);
            }
        }
    )*};
}

for_any_value!(AfterRcuGp FreeAfterRcuGp AfterTasksTraceGp);

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Removes every entry that is present throughout; entries that other threads insert meanwhile
    /// may stay. Costs the same as [`retain`](Self::retain).
    pub fn clear(&self)
    where
        L: LeafPolicy<V>,
    {
        for (key, _) in L::entries(self) {
            L::remove(self, key.as_ref());
        }
    }
}
