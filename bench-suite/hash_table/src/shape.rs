//! The size of a table, and the layout of its elements.

use std::alloc::Layout;
use std::fmt;

use memalloc::{Builder, ClassTable, MAX_SIZE, ReusePolicy};

use crate::link::{MOST_BUCKETS, REACH};

/// The bytes before a value that is inside its element.
pub(crate) const HEADER: usize = 16;

/// The number of buckets and the size of the values of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    buckets: usize,
    words: usize,
}

impl Shape {
    /// Describes a table of at least `buckets` buckets, rounded up to a power of two, with values
    /// of `words` words of 8 bytes. A bucket takes 16 bytes; with as many buckets as entries, a
    /// chain has one entry on average.
    ///
    /// # Errors
    ///
    /// No bucket or more than 2^31, no word or more than 4096 bytes.
    pub fn new(buckets: usize, words: usize) -> Result<Self, ShapeError> {
        if !(1..=MOST_BUCKETS).contains(&buckets) {
            return Err(ShapeError::Buckets(buckets));
        }
        if !(1..=MAX_SIZE / 8).contains(&words) {
            return Err(ShapeError::Words(words));
        }
        Ok(Self { buckets: buckets.next_power_of_two(), words })
    }

    /// Returns the number of buckets, a power of two.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.buckets
    }

    /// Returns the number of words of 8 bytes in a value.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words
    }

    /// Configures an allocator for this shape: its size classes, and a range in which links can
    /// name every object.
    pub fn configure<P: ReusePolicy>(&self, builder: Builder<P>) -> Builder<P> {
        let element = self.element().size();
        let table = match self.apart() {
            None => ClassTable::new(&[element]),
            Some(value) => ClassTable::new(&[element, value.size()]),
        };
        // Multiples of 16 up to 4096 are valid classes.
        builder.classes(table.unwrap_or_default()).range_bytes(REACH)
    }

    /// Returns the layout of an element.
    pub(crate) fn element(&self) -> Layout {
        let value = if self.apart().is_some() { 0 } else { self.words * 8 };
        layout(HEADER + value)
    }

    /// Returns the layout of a value that is a separate object, because it does not fit behind a
    /// header.
    pub(crate) fn apart(&self) -> Option<Layout> {
        (HEADER + self.words * 8 > MAX_SIZE).then(|| layout(self.words * 8))
    }
}

fn layout(bytes: usize) -> Layout {
    // At most a page: it never overflows.
    Layout::from_size_align(bytes.next_multiple_of(16), 16).unwrap_or(Layout::new::<[u128; 256]>())
}

/// The error for an invalid shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShapeError {
    /// This number of buckets.
    Buckets(usize),
    /// This number of words in a value.
    Words(usize),
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buckets(buckets) => {
                write!(f, "{buckets} buckets: expected 1 to {MOST_BUCKETS}")
            }
            Self::Words(words) => {
                write!(f, "values of {words} words: expected 1 to {}", MAX_SIZE / 8)
            }
        }
    }
}

impl std::error::Error for ShapeError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_does_not_fit_behind_the_header_is_a_separate_object() {
        let of = |words| {
            let shape = Shape::new(1, words).unwrap();
            (shape.element().size(), shape.apart().map(|value| value.size()))
        };
        assert_eq!(of(1), (32, None));
        assert_eq!(of(510), (4096, None));
        assert_eq!(of(511), (16, Some(4096)));
        assert_eq!(of(512), (16, Some(4096)));
    }

    #[test]
    fn the_error_for_an_invalid_shape_says_what_is_expected() {
        assert_eq!(Shape::new(5, 1).unwrap().buckets(), 8);
        let said = |shape: Result<Shape, ShapeError>| shape.unwrap_err().to_string();
        assert_eq!(said(Shape::new(0, 1)), "0 buckets: expected 1 to 2147483648");
        assert_eq!(said(Shape::new(1, 513)), "values of 513 words: expected 1 to 512");
    }
}
