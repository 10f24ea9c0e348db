//! Tags: a few bits of a key's hash, beside the leaf's handle in the twig that names it.
//!
//! Most lookups of absent keys end at a leaf, whose key then differs. The leaf is the most
//! expensive node of the way: two cache lines, which are seldom in a cache. The tag tells 15 of 16
//! such keys apart before the leaf is read.
//!
//! - QPT-N10: the tag of a twig in a linked branch, or in a root, is that of the key of the leaf
//!   which the twig names; in an unlinked branch that a section protects, of the leaf that it named
//!   when it was unlinked. A leaf that replaces another one has the same key, so it gets its tag.

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use std::hash::Hasher;

/// The tag of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u32);

/// The number of bits in a tag.
pub(super) const TAG_BITS: u32 = 4;

impl Tag {
    /// Returns the tag of a key. The hash has no seed: keys with the same tag cost what all absent
    /// keys would cost without tags.
    #[inline(always)]
    pub(crate) fn of(key: &[u8]) -> Self {
        let mut hasher = FoldHasher::with_seed(0, SharedSeed::global_fixed());
        hasher.write(key);
        // Of the last product, which every byte takes part in, the highest bits.
        Self((hasher.finish() >> (u64::BITS - TAG_BITS)) as u32)
    }

    pub(super) fn from_bits(bits: u32) -> Self {
        debug_assert!(bits >> TAG_BITS == 0);
        Self(bits)
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Returns the share of keys whose tag equals that of `base` among keys that differ from it in
    /// one byte.
    fn share_of_equal_tags(base: &[u8]) -> f64 {
        let (mut equal, mut all) = (0, 0);
        let mut key = base.to_vec();
        for place in 0..base.len() {
            for byte in (0..=255).filter(|&byte| byte != base[place]) {
                key[place] = byte;
                equal += u32::from(Tag::of(&key) == Tag::of(base));
                all += 1;
            }
            key[place] = base[place];
        }
        f64::from(equal) / f64::from(all)
    }

    #[test]
    fn keys_that_differ_in_one_byte_rarely_share_a_tag() {
        let long: Vec<u8> = (0..300).map(|number| b'a' + (number % 23) as u8).collect();
        for length in [4, 7, 8, 12, 16, 17, 24, 33, 70, 128, 300] {
            let share = share_of_equal_tags(&long[..length]);
            assert!(share < 0.08, "{share} of keys with {length} bytes");
        }
    }

    #[test]
    fn a_key_and_its_prefixes_have_many_tags() {
        let key: Vec<u8> = (0..64).map(|number| b'a' + number % 23).collect();
        let tags: std::collections::HashSet<_> =
            (0..=key.len()).map(|length| Tag::of(&key[..length]).bits()).collect();
        assert!(tags.len() >= 12, "{tags:?}");
    }
}
