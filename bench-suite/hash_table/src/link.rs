//! Links: the handle of an element, or the marker that ends a chain.

use memalloc::{Handle, UNIT};

/// Set in a marker, and in no handle of an allocator whose range is at most [`REACH`].
const END: u32 = 1 << 31;

/// The bytes of addresses whose handles leave the bit free: 32 GiB.
pub(crate) const REACH: u64 = END as u64 * UNIT as u64;

/// The number of buckets for which markers have room.
pub(crate) const MOST_BUCKETS: usize = END as usize;

/// The next link of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// An element.
    Element(Handle),
    /// The end of the chain of the bucket with this number.
    End(u32),
}

impl Link {
    /// Encodes the link as a word.
    #[inline]
    pub(crate) fn word(self) -> u32 {
        match self {
            Self::Element(handle) => {
                assert!(handle.get() < END, "an allocator whose range is above 32 GiB");
                handle.get()
            }
            Self::End(bucket) => END | bucket,
        }
    }

    /// Decodes a word.
    #[inline]
    pub(crate) fn of(word: u32) -> Self {
        match Handle::new(word) {
            Some(handle) if word < END => Self::Element(handle),
            // Zero occurs in memory that was never an element: no link leads there (BEN-HT1).
            _ => Self::End(word & !END),
        }
    }
}

/// The first link of a chain, and the number of insertions, modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(u64);

impl Head {
    /// Returns the head of an empty chain.
    pub(crate) fn empty(bucket: u32) -> Self {
        Self(Link::End(bucket).word().into())
    }

    pub(crate) fn of(word: u64) -> Self {
        Self(word)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Returns the first link.
    #[inline]
    pub(crate) fn link(self) -> Link {
        Link::of(self.0 as u32)
    }

    /// Returns the head after an insertion.
    #[inline]
    pub(crate) fn inserted(self, element: Handle) -> Self {
        let count = (self.0 >> 32).wrapping_add(1);
        Self(count << 32 | u64::from(Link::Element(element).word()))
    }

    /// Returns the head after the first element was unlinked.
    #[inline]
    pub(crate) fn unlinked(self, next: Link) -> Self {
        Self(self.0 >> 32 << 32 | u64::from(next.word()))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_decoded_from_its_word() {
        let element = Handle::new(0x7fff_ffff).unwrap();
        for link in [Link::Element(element), Link::End(0), Link::End(0x7fff_ffff)] {
            assert_eq!(Link::of(link.word()), link);
        }
    }

    #[test]
    fn a_head_differs_after_its_element_was_reinserted() {
        let element = Handle::new(7).unwrap();
        let first = Head::empty(3).inserted(element);
        let again = first.unlinked(Link::End(3)).inserted(element);
        assert_eq!(first.link(), again.link());
        assert_ne!(first, again);
        assert_eq!(again.unlinked(Link::End(3)).link(), Link::End(3));
        let wrapped = Head::of(u64::MAX).inserted(element);
        assert_eq!(wrapped.word(), 7, "the count does not overflow into the link");
    }
}
