//! Lookup of one key by its hint.
//!
//! A useful hint leads to a linked leaf with this key: then the key was present at the moment at
//! which the leaf's mark was read (QPT-V5). Anything else proves nothing: no hint, or a leaf that
//! is unlinked, belongs to another key, is being written, or changed meanwhile. Then the lookup
//! walks the trie; only the trie can show that a key is absent.

use super::leaf_view::LinkedLeaf;
use crate::node::{KeyHash, Nodes, PlainBits};
use memalloc::ReusePolicy;

/// Returns the leaf of `key`, if a hint leads to it.
///
/// The caller is inside a read section.
#[inline(always)]
pub(crate) fn find_hinted<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
    hash: KeyHash,
) -> Option<LinkedLeaf> {
    nodes.hints.find(hash, |leaf| {
        let at = LinkedLeaf::hinted(nodes, leaf)?;
        let is_for = at.is_for(nodes, key) == Ok(true) || nodes.faults.hinted_leaf_unread();
        is_for.then_some(at)
    })
}

/// Returns a copy of the value of `key`, if a hint leads to its leaf.
///
/// The caller is inside a read section.
#[inline(always)]
pub(crate) fn find_hinted_copied<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
    hash: KeyHash,
) -> Option<V> {
    nodes
        .hints
        .find(hash, |leaf| LinkedLeaf::hinted(nodes, leaf)?.value_of(nodes, key).ok().flatten())
}
