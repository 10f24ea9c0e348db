//! Which values go with which policy of leaves, for what is there under each of them: the traits of std's
//! maps and serde's.

use super::error::InsertError;
use super::iter::Iter;
use super::iter_copied::IterCopied;
use super::view::{TrieRef, Update};
use crate::node::PlainBits;
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use std::borrow::Borrow;

/// The policies that leaves with values of type `V` may have: [`Immediate`] where these are
/// [plain bits](PlainBits), the others for values of any type.
///
/// [`Extend`], [`FromIterator`], [`Clone`], [`PartialEq`], serde's traits and [`TrieRef::clear`] are there
/// under each of them. Code that is generic over the policy of leaves asks for this trait to use those:
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
/// It is implemented for all policies, and nobody else can implement it.
#[diagnostic::on_unimplemented(
    message = "leaves under `{Self}` do not go with values of type `{V}`",
    note = "values under `Immediate` leaves are plain bits (`qptrie::PlainBits`); values of any type go with \
            leaves that are kept for readers, as in `QpTrie<{V}>`",
    note = "code that is generic over the policy `L` of leaves asks for `L: LeafPolicy<{V}>`"
)]
pub trait LeafPolicy<V: Send + Sync + 'static>: ReusePolicy + sealed::Sealed<V> + Sized {
    /// A key of a scan.
    #[doc(hidden)]
    type Key<'r>: AsRef<[u8]>;

    /// A value of a scan.
    #[doc(hidden)]
    type Value<'r>: Borrow<V>;

    /// A scan.
    #[doc(hidden)]
    type Entries<'r, B: ReusePolicy>: Iterator<Item = (Self::Key<'r>, Self::Value<'r>)>;

    /// All entries, ascending.
    #[doc(hidden)]
    fn entries<B: ReusePolicy>(view: &TrieRef<V, B, Self>) -> Self::Entries<'_, B>;

    /// Puts a value at a key.
    #[doc(hidden)]
    fn insert<B: ReusePolicy>(
        view: &TrieRef<V, B, Self>,
        key: &[u8],
        value: V,
    ) -> Result<(), InsertError<V>>;

    /// Takes a key out.
    #[doc(hidden)]
    fn remove<B: ReusePolicy>(view: &TrieRef<V, B, Self>, key: &[u8]);
}

mod sealed {
    /// Nobody outside of the crate can name this.
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
