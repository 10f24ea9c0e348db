//! One key, by its hint.
//!
//! A hint that helps leads to a leaf that is linked, and the key's: then the key is there, at the moment at
//! which the mark of the leaf was read (INV-V5). Anything else means nothing: no hint, a leaf that is not
//! linked, or another key's, or being written, or that changed meanwhile. Then the trie is asked; that a key is
//! absent it alone can say.

use super::leaf::LeafFooting;
use crate::node::{Nodes, PlainBits};
use memalloc::ReusePolicy;

/// The leaf of `key`, if a hint leads there.
///
/// The caller is inside a read section.
#[inline(always)]
pub(crate) fn find_hinted<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
    hash: u64,
) -> Option<LeafFooting> {
    nodes.hints.find(hash, |leaf| {
        let at = LeafFooting::hinted(nodes, leaf)?;
        let is_for = at.is_for(nodes, key) == Ok(true) || nodes.faults.hinted_leaf_unread();
        is_for.then_some(at)
    })
}

/// A copy of the value of `key`, if a hint leads there.
///
/// The caller is inside a read section.
#[inline(always)]
pub(crate) fn find_hinted_copied<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
    hash: u64,
) -> Option<V> {
    nodes
        .hints
        .find(hash, |leaf| LeafFooting::hinted(nodes, leaf)?.value_of(nodes, key).ok().flatten())
}
