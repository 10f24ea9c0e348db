//! The 32-bit name of a branch or a leaf.
//!
//! ```text
//!  0                                       nothing
//!  0 | 0 | handle, 30 bits                 a branch
//!  0 | 1 | tag, 4 bits | handle, 26 bits   a leaf in the first GiB of the leaves
//!  1 | handle, 31 bits                     a leaf without a tag
//! ```
//!
//! A leaf without a tag is correct anywhere: a lookup then reads the leaf.

use super::tag::{TAG_BITS, Tag};
use memalloc::sync::{AtomicU32, Ordering};
use memalloc::{Handle, UNIT};

/// The content of a slot: nothing, a branch, or a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Twig(u32);

/// A decoded twig, without the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Nothing,
    Branch(Handle),
    Leaf(Handle),
}

const UNTAGGED: u32 = 1 << 31;
const TAGGED: u32 = 1 << 30;
const TAG_SHIFT: u32 = TAGGED.trailing_zeros() - TAG_BITS;

/// Handles from here on have no tag. Unit tests have few that do, so that their tries have leaves
/// of both kinds.
const FIRST_WITHOUT_TAG: u32 = if cfg!(all(test, not(loom))) { 1 << 10 } else { 1 << TAG_SHIFT };

/// The range in bytes that twigs can address, for branches and for leaves. The range of the
/// allocator may not be larger.
pub(crate) const MOST_BRANCH_BYTES: u64 = TAGGED as u64 * UNIT as u64;
pub(crate) const MOST_LEAF_BYTES: u64 = UNTAGGED as u64 * UNIT as u64;

impl Twig {
    pub(crate) const NOTHING: Self = Self(0);

    pub(crate) fn branch(branch: Handle) -> Self {
        debug_assert!(branch.get() < TAGGED);
        Self(branch.get())
    }

    /// Returns the twig of a leaf whose key has this tag.
    pub(crate) fn leaf(leaf: Handle, tag: Tag) -> Self {
        if leaf.get() < FIRST_WITHOUT_TAG {
            Self(TAGGED | tag.bits() << TAG_SHIFT | leaf.get())
        } else {
            Self::leaf_without_tag(leaf)
        }
    }

    fn leaf_without_tag(leaf: Handle) -> Self {
        debug_assert!(leaf.get() < UNTAGGED);
        Self(UNTAGGED | leaf.get())
    }

    /// Returns the twig of another leaf with the same key (QPT-N10). It has no tag if this twig has
    /// none.
    pub(crate) fn replaced_by(self, leaf: Handle) -> Self {
        self.tag().map_or(Self::leaf_without_tag(leaf), |tag| Self::leaf(leaf, tag))
    }

    /// Returns the tag of a leaf's key; `None` for a leaf without a tag, and for everything else.
    #[inline(always)]
    fn tag(self) -> Option<Tag> {
        let tagged = self.0 & (UNTAGGED | TAGGED) == TAGGED;
        tagged.then(|| Tag::from_bits((self.0 & !TAGGED) >> TAG_SHIFT))
    }

    /// Returns true if the twig names a leaf whose key can't be `key`. Looks at no node.
    #[inline(always)]
    pub(crate) fn is_of_another(self, key: &[u8]) -> bool {
        self.tag().is_some_and(|tag| tag != Tag::of(key))
    }

    #[inline(always)]
    pub(crate) fn node(self) -> Node {
        let (bits, leaf) = match self.0 {
            ..TAGGED => (self.0, false),
            TAGGED..UNTAGGED => (self.0 & !(u32::MAX << TAG_SHIFT), true),
            UNTAGGED.. => (self.0 & !UNTAGGED, true),
        };
        match Handle::new(bits) {
            None => Node::Nothing,
            Some(handle) if leaf => Node::Leaf(handle),
            Some(handle) => Node::Branch(handle),
        }
    }

    #[inline(always)]
    pub(crate) fn load(slot: &AtomicU32, ordering: Ordering) -> Self {
        Self(slot.load(ordering))
    }

    /// Makes a node reachable, in place of the slot's previous content.
    pub(crate) fn publish(self, slot: &AtomicU32) {
        // ORDERING: Release pairs with the reader's Acquire load of the slot (plain readers), or
        // its Acquire fence after a Relaxed load (validating readers): a reader that sees the twig
        // sees the node that it names. Falls to `loom_protocol` "publish relaxed, leaf" and
        // "publish relaxed, branch".
        slot.store(self.0, Ordering::Release);
    }

    /// Fills a slot of a branch that is not published yet.
    pub(crate) fn place(self, slot: &AtomicU32) {
        slot.store(self.0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn handles() -> impl Iterator<Item = Handle> {
        let near = |bits: u32| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1];
        let numbers =
            [1, 2].into_iter().chain([9, 10, 11, 25, 26, 27, 29].into_iter().flat_map(near));
        numbers.filter_map(Handle::new)
    }

    #[test]
    fn a_twig_names_the_node_that_it_was_made_of() {
        for handle in handles() {
            assert_eq!(Twig::branch(handle).node(), Node::Branch(handle));
        }
        let far = [1 << 30, (1 << 31) - 1].into_iter().filter_map(Handle::new);
        for handle in handles().chain(far) {
            for tag in 0..1 << TAG_BITS {
                let twig = Twig::leaf(handle, Tag::from_bits(tag));
                assert_eq!(twig.node(), Node::Leaf(handle));
                let tagged = handle.get() < FIRST_WITHOUT_TAG;
                assert_eq!(twig.tag(), tagged.then(|| Tag::from_bits(tag)));
            }
        }
        assert_eq!(Twig::NOTHING.node(), Node::Nothing);
        let last = Handle::new((1 << TAG_SHIFT) - 1).expect("not zero");
        let tagged = Twig(TAGGED | 5 << TAG_SHIFT | last.get());
        assert_eq!((tagged.node(), tagged.tag()), (Node::Leaf(last), Some(Tag::from_bits(5))));
    }

    #[test]
    fn only_a_tagged_leaf_is_of_another_key() {
        let near = Handle::new(5).expect("not zero");
        let far = Handle::new(FIRST_WITHOUT_TAG).expect("not zero");
        let (own, other) = (b"own", (0..).map(|number: u32| number.to_le_bytes()));
        let other = other.into_iter().find(|key| Tag::of(key) != Tag::of(own)).expect("one of 16");
        assert!(Twig::leaf(near, Tag::of(own)).is_of_another(&other));
        assert!(!Twig::leaf(near, Tag::of(own)).is_of_another(own));
        for twig in [Twig::leaf(far, Tag::of(own)), Twig::branch(near), Twig::NOTHING] {
            assert!(!twig.is_of_another(&other), "{twig:?}");
        }
    }

    #[test]
    fn a_replaced_leaf_leaves_its_tag() {
        let [near, beside, far] =
            [5, 6, FIRST_WITHOUT_TAG].map(|number| Handle::new(number).expect("one"));
        let twig = Twig::leaf(near, Tag::of(b"key"));
        assert_eq!(twig.replaced_by(beside), Twig::leaf(beside, Tag::of(b"key")));
        let without = twig.replaced_by(far);
        assert_eq!((without.node(), without.tag()), (Node::Leaf(far), None));
        let again = without.replaced_by(beside);
        assert_eq!((again.node(), again.tag()), (Node::Leaf(beside), None));
    }
}
