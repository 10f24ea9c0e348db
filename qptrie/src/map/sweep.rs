//! Taking many entries out: those that a caller does not want, or all.

use super::leaf_policy::LeafPolicy;
use super::view::TrieRef;
use memalloc::{ProtectsIdentity, ReusePolicy};

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<V, B, L> {
    /// Takes out every entry that `keep` does not want.
    ///
    /// Asks about entries in ascending order, beside writers as [`iter`](Self::iter) finds them:
    /// about every key that is there throughout. What is taken out is the very entry that `keep`
    /// refused; where another thread replaced the value meanwhile, `keep` is asked about that one.
    ///
    /// Cost: a step of a scan for each entry, and a removal for each that goes. What goes is not
    /// reused before the section ends: in a large trie, remove in portions, each in a section of
    /// its own.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie: QpTrie<u32> = QpTrie::new()?;
    /// # let view = trie.pin();
    /// for (key, value) in [("one", 1), ("three", 3), ("two", 2)] {
    ///     view.insert(key.as_bytes(), value)?;
    /// }
    /// view.retain(|key, value| key.starts_with(b"t") && *value != 2);
    /// assert_eq!(view.iter().collect::<Vec<_>>(), [(&b"three"[..], &3)]);
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retain(&self, mut keep: impl FnMut(&[u8], &V) -> bool) {
        for (key, seen) in self {
            if !keep(key, seen) {
                // Nothing else can be at the address inside this section.
                self.remove_if(key, |value| std::ptr::eq(value, seen) || !keep(key, value));
            }
        }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Takes out every entry that is there throughout; what others insert meanwhile may stay. Cost as
    /// [`retain`](Self::retain).
    pub fn clear(&self)
    where
        L: LeafPolicy<V>,
    {
        for (key, _) in L::entries(self) {
            L::remove(self, key.as_ref());
        }
    }
}
