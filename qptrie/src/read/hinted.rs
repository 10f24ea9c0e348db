//! Lookup of one key by its hint, and the move of hints to another table.
//!
//! A useful hint leads to a linked leaf with this key: then the key was present at the moment at
//! which the leaf's mark was read (QPT-V5). Anything else proves nothing: no hint, or a leaf that
//! is unlinked, belongs to another key, is being written, or changed meanwhile. Then the lookup
//! walks the trie; only the trie can show that a key is absent.
//!
//! A hint moves by the key of its leaf. The leaf is read as by a lookup: if it is not linked, its
//! hint is stale and stays behind. So does a hint whose key can't be copied for lack of memory.

use super::leaf_view::LinkedLeaf;
use crate::node::{KeyCopy, KeyHash, Node, Nodes, PlainBits};
use memalloc::{Handle, ReusePolicy};

/// Returns the leaf of `key`, if a hint leads to it.
///
/// The caller is inside a read section.
#[inline(always)]
pub(crate) fn find_hinted<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
    hash: KeyHash,
) -> Option<LinkedLeaf> {
    look(nodes, hash, |leaf| {
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
    look(nodes, hash, |leaf| LinkedLeaf::hinted(nodes, leaf)?.value_of(nodes, key).ok().flatten())
}

/// Looks into the table of hints, and, while hints are moving, into the former one.
#[inline(always)]
fn look<R, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    hash: KeyHash,
    is_it: impl Fn(Handle) -> Option<R>,
) -> Option<R> {
    if !hash.is_to_be_found() {
        return None;
    }
    let found = nodes.hints.find(hash, &is_it);
    if found.is_none() && nodes.hints.are_moving() {
        return look_back(nodes, hash, is_it);
    }
    found
}

#[cold]
fn look_back<R, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    hash: KeyHash,
    is_it: impl Fn(Handle) -> Option<R>,
) -> Option<R> {
    let found = nodes.hints.find_in_former(hash, is_it);
    // A lookup that finds its key otherwise adds a hint, and moves some then. A few of the others
    // move some too: there may be no other calls.
    if found.is_some() || hash.is_counted() {
        move_hints(nodes);
    }
    found
}

/// Moves the hints of one bucket of a table that was replaced, if there is one left. Returns false
/// if not; then takes that table out.
///
/// The caller is inside a read section.
#[cold]
pub(crate) fn move_hints<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
) -> bool {
    let mut copy = KeyCopy::new();
    let hash_of = |leaf| {
        let at = LinkedLeaf::hinted(nodes, leaf)?;
        at.with_key(nodes, &mut copy, |key| nodes.hints.hash_of(key)).ok()?
    };
    let moved = nodes.hints.move_some(|leaf| nodes.prefetch_both_lines(Node::Leaf(leaf)), hash_of);
    if !moved {
        nodes.fit_hints(false);
    }
    moved
}
