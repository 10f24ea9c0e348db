//! Validation of a leaf.
//!
//! Under a policy that protects identity, a leaf is valid once the path to it was validated. Under
//! immediate reuse it may have become another leaf since its slot was read, and its value may be
//! overwritten at any moment:
//!
//! ```text
//!  at leaf f, reached through slot S of branch Q whose validated count is sQ
//!    1  s := f.count                    odd: f is free, or being written: start again
//!    2  S still names f?                no: start again
//!    3  Q.count still sQ?               no: Q is unlinked, so S proves nothing: start again
//!    4  compare the key, copy the requested data
//!    5  f.count still s?                no: start again
//!    6  now trust "another key", or build a value from the copy
//! ```
//!
//! - QPT-V4: after step 3, `f` was linked at a moment between step 1 and step 3, in version `s` or
//!   in a later version of the same life. After step 5 it had version `s` at every moment between
//!   step 1 and step 4.
//!
//! A reader that follows a hint (`hinted`) has no slot. For it the leaf's mark, in the word that is
//! read first, replaces steps 2 and 3.
//!
//! - QPT-V5: a leaf found by a hint was linked at the moment at which its mark was read. Under a
//!   policy that protects identity it stays unchanged until the section ends; under immediate
//!   reuse, as long as its count is unchanged (step 5).
//!
//! Neither the count (steps 1 and 5) nor the slot (step 2) is enough alone. Without the count, the
//! leaf may come back to the same slot with another key between the comparison and the copy.
//! Without the slot, a removed leaf may have been filled for an insertion that has not happened
//! yet, or never will.

use super::branch_view::LinkedBranch;
use crate::node::{KeyCopy, Node, Nodes, Parting, PlainBits, Retry, Twig, Version, parting};
use memalloc::sync::{AtomicU32, Ordering, fence};
use memalloc::{Handle, ReusePolicy};
use smallvec::CollectionAllocErr;
use std::alloc::handle_alloc_error;

/// A leaf at the end of a path, and the slot that named it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafAt<'t> {
    pub(crate) leaf: Handle,
    pub(crate) slot: &'t AtomicU32,
    /// The branch that has the slot; `None` for a root.
    pub(crate) parent: Option<LinkedBranch>,
}

/// A leaf and the version in which it was linked. Under a policy that protects identity the version
/// is not used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkedLeaf {
    pub(crate) leaf: Handle,
    pub(crate) version: Version,
}

impl LeafAt<'_> {
    /// Steps 1 to 3: enters the leaf.
    #[inline(always)]
    fn enter<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<LinkedLeaf, Retry> {
        let leaf = self.leaf;
        if L::PROTECTS_IDENTITY {
            return Ok(LinkedLeaf { leaf, version: Version::ONLY });
        }
        let versions = nodes.versions(leaf);
        let named = || Twig::load(self.slot, Ordering::Relaxed).node() == Node::Leaf(leaf);
        let Some(version) = versions.now() else {
            if named() {
                versions.wait();
            }
            return Err(Retry);
        };
        if !nodes.faults.leaf_slot_not_reread() && !named() {
            return Err(Retry);
        }
        if let Some(parent) = self.parent
            && !nodes.faults.leaf_parent_not_reread()
        {
            parent.is_linked(nodes)?;
        }
        Ok(LinkedLeaf { leaf, version })
    }

    /// Returns true if the leaf has the key `key`.
    #[inline(always)]
    pub(crate) fn is_for<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
        key: &[u8],
    ) -> Result<bool, Retry> {
        self.enter(nodes)?.is_for(nodes, key)
    }

    /// Returns where the key of the leaf differs from `key` ([`Parting`]).
    #[inline]
    pub(crate) fn parting<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
        key: &[u8],
    ) -> Result<(Parting, LinkedLeaf), Retry> {
        let at = self.enter(nodes)?;
        if L::PROTECTS_IDENTITY {
            // SAFETY: as in `is_for`.
            return Ok((parting(key, unsafe { nodes.key(self.leaf) }), at));
        }
        let parting = nodes.parting_of(self.leaf, key);
        at.confirm(nodes)?;
        Ok((parting, at))
    }

    /// Copies the key to `key`, and returns a copy of the value that it had at the same moment.
    pub(crate) fn entry<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
        key: &mut KeyCopy,
    ) -> Result<V, Retry> {
        if L::PROTECTS_IDENTITY {
            key.clear();
            // SAFETY: as in `is_for`.
            let (found, value) = unsafe { (nodes.key(self.leaf), nodes.value(self.leaf)) };
            key.extend_from_slice(found);
            return Ok(*value);
        }
        let at = self.enter(nodes)?;
        if let Err(CollectionAllocErr::AllocErr { layout }) = nodes.copy_key(self.leaf, key) {
            handle_alloc_error(layout);
        }
        let value = nodes.copy_value(self.leaf);
        at.confirm(nodes)?;
        // SAFETY: as in `value_of`.
        Ok(unsafe { value.assume_init() })
    }

    /// Returns a copy of the value, if the leaf has the key `key`.
    #[inline(always)]
    pub(crate) fn value_of<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
        key: &[u8],
    ) -> Result<Option<V>, Retry> {
        self.enter(nodes)?.value_of(nodes, key)
    }
}

impl LinkedLeaf {
    /// Enters a leaf that a hint names, if it is linked. Nothing else is known of it, not even its
    /// key.
    #[inline(always)]
    pub(super) fn hinted<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        nodes: &Nodes<V, B, L>,
        leaf: Handle,
    ) -> Option<Self> {
        let version = if L::PROTECTS_IDENTITY {
            nodes.is_linked(leaf).then_some(Version::ONLY)
        } else {
            let linked =
                |version: &Version| version.is_linked() || nodes.faults.hinted_leaf_unlinked();
            nodes.versions(leaf).now().filter(linked)
        };
        version.map(|version| Self { leaf, version })
    }

    /// Returns true if the leaf has the key `key`.
    #[inline(always)]
    pub(crate) fn is_for<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
        key: &[u8],
    ) -> Result<bool, Retry> {
        if L::PROTECTS_IDENTITY {
            // SAFETY: a validated step led here, or the leaf was marked as linked inside the
            // section (QPT-V5), which keeps it (QPT-N3).
            return Ok(unsafe { nodes.key(self.leaf) } == key);
        }
        let same = nodes.has_key(self.leaf, key);
        self.confirm(nodes)?;
        Ok(same)
    }

    /// Applies `read` to the key of the leaf, which may be copied to `copy`. Fails if there is no
    /// memory for a copy, too.
    pub(super) fn with_key<R, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
        copy: &mut KeyCopy,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Retry> {
        if L::PROTECTS_IDENTITY {
            // SAFETY: as in `is_for`.
            return Ok(read(unsafe { nodes.key(self.leaf) }));
        }
        nodes.copy_key(self.leaf, copy).map_err(|_| Retry)?;
        self.confirm(nodes)?;
        Ok(read(copy))
    }

    /// Returns a copy of the value, if the leaf has the key `key`.
    #[inline(always)]
    pub(crate) fn value_of<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
        key: &[u8],
    ) -> Result<Option<V>, Retry> {
        if L::PROTECTS_IDENTITY {
            // SAFETY: as in `is_for`.
            let value = || unsafe { *nodes.value(self.leaf) };
            return Ok(self.is_for(nodes, key)?.then(value));
        }
        let value = nodes.has_key(self.leaf, key).then(|| nodes.copy_value(self.leaf));
        self.confirm(nodes)?;
        // SAFETY: the leaf had one version all the time (QPT-V4), so these are the bytes of the
        // value that was stored with it (QPT-N6).
        Ok(value.map(|value| unsafe { value.assume_init() }))
    }

    /// Returns true if the leaf is unchanged. Only meaningful for the holder of the lock of the
    /// slot that names it: for any other caller it may change at once.
    pub(crate) fn is_same<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
    ) -> bool {
        L::PROTECTS_IDENTITY || nodes.versions(self.leaf).is(self.version)
    }

    /// Ends the life of the leaf, if it is unchanged. The caller holds the lock of the slot that
    /// names the leaf, and is about to empty or overwrite that slot.
    pub(crate) fn end<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<(), Retry> {
        if !L::PROTECTS_IDENTITY {
            nodes.versions(self.leaf).lock(self.version)?.end();
        } else if !nodes.faults.unmarked_late() {
            nodes.mark_unlinked(self.leaf);
        }
        Ok(())
    }

    /// Step 5: checks that the leaf still has the same version.
    #[inline(always)]
    pub(crate) fn confirm<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<(), Retry> {
        if nodes.faults.leaf_unconfirmed() {
            return Ok(());
        }
        // ORDERING: pairs with the Release fences in `new_words` and `Versions::lock`. If a load
        // before the fence read from a later version, the load below sees a later count. Falls to
        // `loom` `a_copy_is_whole_beside_an_overwrite`.
        fence(Ordering::Acquire);
        if nodes.versions(self.leaf).is(self.version) { Ok(()) } else { Err(Retry) }
    }
}
