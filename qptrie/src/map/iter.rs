//! Entries in order.

use super::view::TrieRef;
use memalloc::{AfterRcuGp, Handle, Immediate, ProtectsIdentity, ReusePolicy};
use std::fmt;
use std::iter::FusedIterator;

/// Entries that are fetched under one lock.
const AHEAD: usize = 64;

/// The entries of a trie, ascending; see [`TrieRef::iter`].
pub struct Iter<
    'r,
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ProtectsIdentity = AfterRcuGp,
> {
    trie: &'r TrieRef<'r, V, B, L>,
    /// Leaves that come next, the nearest last.
    ahead: Vec<Handle>,
    /// The leaf that was returned last.
    last: Option<Handle>,
    /// Set at the end: what is inserted behind it afterwards is not for this iterator.
    ended: bool,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> fmt::Debug
    for Iter<'_, V, B, L>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> Iter<'r, V, B, L> {
    pub(super) fn new(trie: &'r TrieRef<'r, V, B, L>) -> Self {
        Self { trie, ahead: Vec::with_capacity(AHEAD), last: None, ended: false }
    }
}

impl<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> Iterator
    for Iter<'r, V, B, L>
{
    type Item = (&'r [u8], &'r V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ahead.is_empty() && !self.ended {
            // SAFETY: `leaves_after` found it linked, inside the section that `trie` stands for.
            let after = self.last.map(|leaf| unsafe { self.trie.entry(leaf) }.0);
            self.trie.leaves_after(after, AHEAD, &mut self.ahead);
            self.ahead.reverse();
            self.ended = self.ahead.is_empty();
        }
        let leaf = self.ahead.pop()?;
        self.last = Some(leaf);
        // SAFETY: as above.
        Some(unsafe { self.trie.entry(leaf) })
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> FusedIterator
    for Iter<'_, V, B, L>
{
}
