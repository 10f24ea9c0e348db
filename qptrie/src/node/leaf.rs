//! Leaves that are plain memory: a value, and the whole key behind it. (For those that are reused at
//! once see `words`.)

use super::{Nodes, words};
use memalloc::{AllocError, Handle, ReusePolicy};
use std::alloc::Layout;
use std::ptr::NonNull;

const LENGTH_BYTES: usize = size_of::<u16>();

/// The longest key that symbol numbers and a leaf's length can count, in bytes.
pub(crate) const LONGEST_KEY: usize = 4095;

/// The bytes of a leaf before its key, for a value of type `V`.
pub(crate) const fn leaf_overhead<V, L: ReusePolicy>() -> usize {
    if L::PROTECTS_IDENTITY { plain_bytes::<V>(0) } else { words::overhead::<V>() }
}

const fn plain_bytes<V>(key_len: usize) -> usize {
    size_of::<V>() + LENGTH_BYTES + key_len
}

fn layout<V>(key_len: usize) -> Layout {
    debug_assert!(key_len <= LONGEST_KEY);
    // SAFETY: the alignment is that of a type, and the size can't come near the limit: types are
    // at most half the address space, and keys short (checked where they come in).
    unsafe { Layout::from_size_align_unchecked(plain_bytes::<V>(key_len), align_of::<V>()) }
}

/// Drops the value of a leaf.
///
/// # Safety
///
/// `leaf` is a leaf with a value of type `V`, which is not used again.
pub(super) unsafe fn drop_value<V>(leaf: NonNull<u8>) {
    // SAFETY: the value is the first thing in a leaf.
    unsafe { leaf.cast::<V>().drop_in_place() };
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    /// A leaf that is not published yet.
    ///
    /// # Errors
    ///
    /// As the allocator says; the error gives the value back.
    pub(crate) fn new_leaf(&self, key: &[u8], value: V) -> Result<Handle, AllocError<V>> {
        let leaf = match self.leaves.alloc_handle(layout::<V>(key.len())) {
            Ok(leaf) => leaf,
            Err(error) => return Err(error.with_value(value)),
        };
        self.leaves.writes_plain(leaf);
        let start = self.leaves.pointer(leaf);
        // SAFETY: the object is ours, as long and aligned as the layout, and no reader knows it
        // (INV-N3).
        unsafe {
            start.cast::<V>().write(value);
            let length = start.add(size_of::<V>());
            length.cast::<u16>().write_unaligned(key.len() as u16);
            length.add(LENGTH_BYTES).copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
        }
        Ok(leaf)
    }

    /// The key of a leaf.
    ///
    /// # Safety
    ///
    /// The leaf was found by a validated step, or under the lock, and what protects it (the read
    /// section, the lock) lasts for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn key<'a>(&self, leaf: Handle) -> &'a [u8] {
        debug_assert!(L::PROTECTS_IDENTITY, "such leaves are words");
        self.leaves.reads_plain(leaf);
        // SAFETY: a published leaf is never written (INV-N3), and the caller keeps it.
        unsafe {
            let length = self.leaves.pointer(leaf).add(size_of::<V>());
            let count = length.cast::<u16>().read_unaligned() as usize;
            std::slice::from_raw_parts(length.add(LENGTH_BYTES).as_ptr(), count)
        }
    }

    /// The value of a leaf.
    ///
    /// # Safety
    ///
    /// As [`key`](Self::key).
    #[inline(always)]
    pub(crate) unsafe fn value<'a>(&self, leaf: Handle) -> &'a V {
        self.leaves.reads_plain(leaf);
        // SAFETY: as in `key`.
        unsafe { self.leaves.pointer(leaf).cast::<V>().as_ref() }
    }

    /// Frees a leaf that no slot names any more; its value is dropped after the grace period.
    ///
    /// # Safety
    ///
    /// The caller unlinked the leaf, and frees it only here.
    pub(crate) unsafe fn free_leaf(&self, leaf: Handle) {
        // SAFETY: the caller holds the unlinked leaf.
        let length = unsafe { self.key(leaf) }.len();
        // SAFETY: as the caller promises; the layout is the one that it was allocated with.
        unsafe { self.leaves.free_handle(leaf, layout::<V>(length)) };
    }

    /// Drops a leaf that nobody else can reach any more, with its value.
    ///
    /// # Safety
    ///
    /// The leaf is not used again.
    pub(crate) unsafe fn drop_leaf(&self, leaf: Handle) {
        // SAFETY: as the caller promises.
        unsafe {
            if L::PROTECTS_IDENTITY {
                drop(self.take_back(leaf));
            } else {
                self.drop_words(leaf);
            }
        }
    }

    /// Takes the value out of a leaf that was never published, and frees the leaf.
    ///
    /// # Safety
    ///
    /// `leaf` came from [`new_leaf`](Self::new_leaf), was not published, and is not used again.
    pub(crate) unsafe fn take_back(&self, leaf: Handle) -> V {
        // SAFETY: the leaf is the caller's alone.
        unsafe {
            let length = self.key(leaf).len();
            let value = self.leaves.pointer(leaf).cast::<V>().read();
            self.leaves.free_unshared_handle(leaf, layout::<V>(length));
            value
        }
    }
}
