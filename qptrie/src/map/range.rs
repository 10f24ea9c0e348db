//! Ranges of keys.

use smallvec::SmallVec;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::ops::{
    Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive,
};

/// A range of keys, as an argument of [`TrieRef::range`](crate::TrieRef::range).
///
/// It is implemented for std's ranges whose bounds have bytes, and for pairs of [`Bound`]s. Each
/// range implements it for one type of bounds only, so that the compiler infers the type. (With
/// [`RangeBounds`], `..` would be a range of any type, and `b"a"..b"c"` a range of arrays and of
/// references to arrays.)
///
/// ```
/// # use qptrie::QpTrie;
/// use std::ops::Bound::{Excluded, Included};
///
/// let trie = QpTrie::<u32>::from([("a", 1), ("b", 2), ("c", 3)]);
/// let view = trie.pin();
/// assert_eq!(view.range(..).count(), 3);
/// assert_eq!(view.range(b"a"..b"c").count(), 2);
/// assert_eq!(view.range("b".to_owned()..).count(), 2);
/// assert_eq!(view.range(..="b").count(), 2);
/// assert_eq!(view.range((Excluded("a"), Included("c"))).count(), 2);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a range of keys",
    note = "std's ranges whose bounds have bytes (`AsRef<[u8]>`), and pairs of such `Bound`s, are ranges of keys",
    note = "both bounds have the same type: `&b\"a\"[..]..b\"bc\"` compiles, `b\"a\"..b\"bc\"` does not"
)]
pub trait KeyRange {
    /// Returns the lower and the upper bound.
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>);
}

fn bytes<'r, K: AsRef<[u8]> + 'r>(
    range: &'r impl RangeBounds<K>,
) -> (Bound<&'r [u8]>, Bound<&'r [u8]>) {
    (range.start_bound().map(K::as_ref), range.end_bound().map(K::as_ref))
}

impl KeyRange for RangeFull {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Unbounded, Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyRange for Range<K> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        bytes(self)
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeFrom<K> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        bytes(self)
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeTo<K> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        bytes(self)
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeInclusive<K> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        bytes(self)
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeToInclusive<K> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        bytes(self)
    }
}

impl<K: AsRef<[u8]>> KeyRange for (Bound<K>, Bound<K>) {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        bytes(self)
    }
}

/// A key that an iterator owns.
pub(super) type Key = SmallVec<[u8; 24]>;

/// The bounds of a scan.
pub(super) type Bounds = (Bound<Key>, Bound<Key>);

/// Returns the bounds of a range.
pub(super) fn range_bounds(range: &impl KeyRange) -> Bounds {
    let (start, end) = range.bounds();
    (start.map(Key::from), end.map(Key::from))
}

/// Returns the bounds of the keys that begin with `prefix`.
pub(super) fn prefix_bounds(prefix: &[u8]) -> Bounds {
    // These keys end before the next greater key of the same length; bytes 0xff at the end of the
    // prefix are dropped first, since they can't be incremented.
    let end = prefix.iter().rposition(|&byte| byte < 0xff).map_or(Unbounded, |last| {
        let mut next: Key = prefix[..=last].into();
        next[last] += 1;
        Excluded(next)
    });
    (Included(prefix.into()), end)
}
