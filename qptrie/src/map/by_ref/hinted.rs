//! The calls of operations to the hints: they look for the leaf of a key, and keep the table right
//! when a leaf was found, linked or unlinked.

use crate::map::by_ref::point::{TrieRef, Update};
use crate::node::{KeyHash, Node};
use crate::read::{LinkedLeaf, find_hinted, move_hints};
use crate::write::{Named, locate_by_parent};
use memalloc::{Handle, ReusePolicy};

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Returns the leaf of `key` if a hint leads to it.
    #[inline(always)]
    pub(in crate::map) fn find_hinted(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
    ) -> Option<LinkedLeaf> {
        find_hinted(&self.trie.nodes, key, hash?)
    }

    /// Ends a lookup that no hint answered: adds a hint for the leaf that it found.
    #[inline(always)]
    pub(in crate::map) fn walked(&self, hash: Option<KeyHash>, leaf: Option<Handle>) {
        self.trie.nodes.hints.looked_up(hash, leaf.is_some());
        if let (Some(hash), Some(leaf)) = (hash, leaf) {
            self.hint(hash, leaf, None);
        }
    }

    /// Returns the hashes of several keys, if there are hints, and prefetches their leaves.
    pub(in crate::map) fn prefetch_hinted<const N: usize>(
        &self,
        keys: &[&[u8]; N],
    ) -> [Option<KeyHash>; N] {
        let nodes = &self.trie.nodes;
        let hashes = keys.map(|key| nodes.hints.for_lookup(key));
        for &hash in hashes.iter().flatten() {
            nodes.hints.prefetch(hash);
        }
        for &hash in hashes.iter().flatten() {
            nodes.hints.find(hash, |leaf| {
                nodes.prefetch_both_lines(Node::Leaf(leaf));
                None::<()>
            });
        }
        hashes
    }

    /// Returns true if a hint shows that the key is present although `how` requires it to be
    /// absent.
    pub(in crate::map) fn is_refused_by_hint(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
        how: Update,
    ) -> bool {
        if how != Update::NoExist {
            return false;
        }
        let refused = self.find_hinted(key, hash).is_some();
        self.trie.nodes.hints.updated(hash, refused);
        refused
    }

    /// Returns the leaf of `key` if a hint leads to it, to overwrite it: leaves are reused at once.
    #[inline]
    pub(in crate::map) fn find_to_overwrite(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
    ) -> Option<LinkedLeaf> {
        if L::PROTECTS_IDENTITY {
            return None;
        }
        let found = self.find_hinted(key, hash);
        self.trie.nodes.hints.updated(hash, found.is_some());
        found
    }

    /// Returns the leaf of `key` and its slot, if a hint leads to the leaf, and the leaf to its
    /// slot. The leaf stays valid as long as the section lasts.
    #[inline]
    pub(in crate::map) fn find_named(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
    ) -> Option<Named<'_>> {
        let nodes = &self.trie.nodes;
        if !L::PROTECTS_IDENTITY || hash.is_none() {
            return None;
        }
        nodes.roots.of(key).let_readers_pass();
        let hinted = self.find_hinted(key, hash);
        let found = hinted.and_then(|at| locate_by_parent(nodes, key, at));
        nodes.hints.updated(hash, found.is_some());
        found
    }

    /// Replaces a leaf that was found by `leaf`. Returns true if it was still linked; then the
    /// caller frees it.
    pub(in crate::map) fn replace(
        &self,
        hash: Option<KeyHash>,
        old: &Named<'_>,
        leaf: Handle,
    ) -> bool {
        let replaced = old.replace(&self.trie.nodes, leaf).is_ok();
        if replaced {
            self.hint_linked(hash, leaf, Some(old.leaf));
        }
        replaced
    }

    /// Adds a hint for a leaf that was just linked, in place of the hint for the leaf it replaced,
    /// if any.
    #[inline]
    pub(in crate::map) fn hint_linked(
        &self,
        hash: Option<KeyHash>,
        leaf: Handle,
        old: Option<Handle>,
    ) {
        if let Some(hash) = hash {
            self.hint(hash, leaf, old);
        }
    }

    /// Adds a hint for `leaf`, in place of the hint for `old`.
    #[inline]
    fn hint(&self, hash: KeyHash, leaf: Handle, old: Option<Handle>) {
        let nodes = &self.trie.nodes;
        nodes.faults.linger();
        if nodes.hints.put(hash, leaf, old) {
            nodes.fit_hints(false);
        }
        if nodes.hints.are_moving() {
            move_hints(nodes);
        }
    }

    /// Removes the hint for a leaf that was unlinked.
    #[inline]
    pub(in crate::map) fn forget_hint(&self, hash: Option<KeyHash>, leaf: Handle) {
        if let Some(hash) = hash {
            self.trie.nodes.hints.forget(hash, leaf);
        }
    }
}

#[cfg(all(test, loom))]
mod models;
