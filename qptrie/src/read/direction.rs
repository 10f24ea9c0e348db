//! The direction of a scan, and what is beyond a key or a way.

use crate::node::{Parting, Symbol, parting, symbol_at};
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::ops::Range;

/// The direction of a walk.
pub(crate) trait Direction {
    /// Takes the next of the remaining ways.
    fn take(left: &mut Range<u16>) -> Option<u16>;

    /// Returns the ways of `all` that are beyond `way`.
    fn beyond(way: Range<u16>, all: Range<u16>) -> Range<u16>;

    /// Puts the way that was taken last back to the remaining ones.
    fn put_back(left: &mut Range<u16>);

    /// Returns true if keys with `symbol` are beyond keys with `other` at the same index.
    fn is_beyond(symbol: Symbol, other: Symbol) -> bool;

    /// Returns true if a walk that begins at `from` visits `key`.
    #[inline(always)]
    fn admits(from: Bound<&[u8]>, key: &[u8]) -> bool {
        match from {
            Included(bound) | Excluded(bound) => Self::admits_at(from, parting(bound, key)),
            Unbounded => true,
        }
    }

    /// Like `admits`, for a key whose difference from the key in `from` is known.
    #[inline(always)]
    fn admits_at(from: Bound<&[u8]>, parting: Parting) -> bool {
        match (from, parting) {
            (Unbounded, _) | (Included(_), None) => true,
            (Excluded(_), None) => false,
            (Included(bound) | Excluded(bound), Some((index, symbol))) => {
                Self::is_beyond(symbol, symbol_at(bound, index))
            }
        }
    }
}

/// From smaller keys to greater ones.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ascending {}

/// From greater keys to smaller ones.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Descending {}

impl Direction for Ascending {
    #[inline(always)]
    fn take(left: &mut Range<u16>) -> Option<u16> {
        left.next()
    }

    #[inline(always)]
    fn beyond(way: Range<u16>, all: Range<u16>) -> Range<u16> {
        way.end..all.end
    }

    #[inline(always)]
    fn put_back(left: &mut Range<u16>) {
        left.start -= 1;
    }

    #[inline(always)]
    fn is_beyond(symbol: Symbol, other: Symbol) -> bool {
        symbol > other
    }
}

impl Direction for Descending {
    #[inline(always)]
    fn take(left: &mut Range<u16>) -> Option<u16> {
        left.next_back()
    }

    #[inline(always)]
    fn beyond(way: Range<u16>, all: Range<u16>) -> Range<u16> {
        all.start..way.start
    }

    #[inline(always)]
    fn put_back(left: &mut Range<u16>) {
        left.end += 1;
    }

    #[inline(always)]
    fn is_beyond(symbol: Symbol, other: Symbol) -> bool {
        symbol < other
    }
}
