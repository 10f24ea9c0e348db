//! The way of one thread through a stream of keys.

use std::ops::Range;

use crate::data::Stream;

/// The bits of a value that hold the number of its key; above them is its version.
const NUMBER_BITS: u32 = 32;

/// Returns the value of a key that has been written `version` times since the map was filled.
#[inline]
pub(super) fn versioned(number: u32, version: u64) -> u64 {
    u64::from(number) | version << NUMBER_BITS
}

/// Returns the number of the key of a value.
#[inline]
pub(super) fn number_of(value: u64) -> u32 {
    value as u32
}

/// Iterates over a part of a stream, repeatedly.
#[derive(Clone, Debug)]
pub(super) struct Walk<'d> {
    stream: &'d Stream,
    part: Range<usize>,
    place: usize,
    passes: u64,
}

impl<'d> Walk<'d> {
    /// Begins at the beginning of `part`, which is a range of places in the stream.
    pub(super) fn through(stream: &'d Stream, part: Range<usize>) -> Self {
        Self { stream, place: part.start, part, passes: 0 }
    }

    /// Returns walks through the same `part` for several threads, which begin evenly spaced.
    pub(super) fn spaced(
        stream: &'d Stream,
        part: Range<usize>,
        members: usize,
    ) -> impl Iterator<Item = Self> {
        split(part.clone(), members).map(move |own| {
            let mut walk = Self::through(stream, part.clone());
            walk.place = own.start;
            walk
        })
    }

    /// Returns walks through nearly equal parts of the whole stream, one for each thread.
    pub(super) fn parts(stream: &'d Stream, members: usize) -> impl Iterator<Item = Self> {
        split(0..stream.len(), members).map(|own| Self::through(stream, own))
    }

    /// Returns the number of the next key, and the key.
    #[inline]
    pub(super) fn next(&mut self) -> (u32, &'d [u8]) {
        let next = self.stream.get(self.place);
        self.place += 1;
        if self.place == self.part.end {
            self.place = self.part.start;
            self.passes += 1;
        }
        next
    }

    /// Returns how often the end has been reached.
    #[inline]
    pub(super) fn passes(&self) -> u64 {
        self.passes
    }

    /// Returns the number of keys left in this pass.
    pub(super) fn left(&self) -> usize {
        self.part.end - self.place
    }

    /// Returns how often the key at a place of the stream has been visited, if the place is in the
    /// part. Only for a walk that began at the beginning of its part.
    pub(super) fn visits(&self, place: usize) -> Option<u64> {
        self.part.contains(&place).then(|| self.passes + u64::from(place < self.place))
    }
}

/// Splits a range into nearly equal parts, in order.
fn split(whole: Range<usize>, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let cut = move |part| whole.start + whole.len() * part / parts;
    (0..parts).map(move |part| cut(part)..cut(part + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataName, DataSet};

    #[test]
    fn parts_cover_the_stream_and_do_not_overlap() {
        for members in [1, 2, 3, 7] {
            let parts: Vec<_> = split(10..74, members).collect();
            assert_eq!((parts[0].start, parts[members - 1].end), (10, 74));
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn a_walk_wraps_around_and_counts_its_visits() {
        let set = DataSet::load(&DataName::Random, 1).unwrap();
        let mut walk = Walk::through(&set.queries, 5..8);
        let first = walk.next();
        assert_eq!(
            (walk.left(), walk.passes(), walk.visits(5), walk.visits(6)),
            (2, 0, Some(1), Some(0))
        );
        walk.next();
        walk.next();
        assert_eq!((walk.next(), walk.passes()), (first, 1));
        assert_eq!((walk.visits(5), walk.visits(6), walk.visits(8)), (Some(2), Some(1), None));
    }
}
