//! Where the trie begins: a slot for each first byte of a key, and one for the empty key.

use memalloc::sync::AtomicU32;

/// Keys with the same first byte share a subtree; the empty key has one of its own. (A model has
/// few, each for a range of first bytes.)
const SHIFT: u32 = if cfg!(loom) { 7 } else { 0 };
const ROOTS: usize = (256 >> SHIFT) + 1;

/// The roots, in the order of the keys below them.
#[derive(Debug)]
pub(crate) struct Roots(Box<[AtomicU32]>);

impl Roots {
    pub(super) fn new() -> Self {
        Self((0..ROOTS).map(|_| AtomicU32::new(0)).collect())
    }

    /// The number of the root that `key` is below.
    #[inline(always)]
    pub(crate) fn number_of(key: &[u8]) -> usize {
        key.first().map_or(0, |&first| (first as usize >> SHIFT) + 1)
    }

    /// The root that `key` is below.
    #[inline(always)]
    pub(crate) fn of(&self, key: &[u8]) -> &AtomicU32 {
        &self.0[Self::number_of(key)]
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> &[AtomicU32] {
        &self.0
    }

    /// The bytes that the table takes up.
    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(&*self.0) as u64
    }
}
