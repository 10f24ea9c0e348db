//! Removal of many entries: those that a closure rejects, or all.

use super::view::TrieRef;
use memalloc::{ProtectsIdentity, ReusePolicy};

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<'_, V, B, L> {
    /// Removes every entry for which `keep` returns false.
    ///
    /// Calls `keep` with entries in ascending order. If other threads write, it visits the entries
    /// that [`iter`](Self::iter) returns: every key that is present throughout. A removed entry is
    /// exactly the one that `keep` rejected; if another thread replaced the value meanwhile, `keep`
    /// is called with the new value.
    ///
    /// Cost: a step of a scan for each entry, and a removal for each rejected one. Removed entries
    /// are not reused before the section ends: in a large trie, remove entries in portions, each in
    /// its own section.
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
                // No other value can be at this address inside this section.
                self.remove_if(key, |value| std::ptr::eq(value, seen) || !keep(key, value));
            }
        }
    }

    /// Removes every entry that is present throughout; entries that other threads insert meanwhile
    /// may stay. Costs the same as [`retain`](Self::retain).
    pub fn clear(&self) {
        for key in self.keys() {
            self.remove(key);
        }
    }
}
