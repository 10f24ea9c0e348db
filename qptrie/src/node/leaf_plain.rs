//! Leaves that are plain memory: a value, followed by the whole key. (For leaves that are reused at
//! once see `leaf_atomic`.)
//!
//! The length of the key shares an atomic word with the *mark*, which tells whether the leaf is
//! linked, and with a part of the leaf's parent (`leaf_parent`). The mark exists for readers that
//! reach a leaf through a hint, and is kept only with hints; a reader that comes through a slot
//! does not need it.

use super::{LONGEST_KEY, Nodes, leaf_atomic};
#[cfg(not(loom))]
use memalloc::sync::AtomicU16;
#[cfg(loom)]
use memalloc::sync::AtomicU32;
use memalloc::sync::Ordering;
use memalloc::{AllocError, Handle, ReusePolicy};
use std::alloc::Layout;
use std::ptr::NonNull;

const LENGTH_BYTES: usize = size_of::<u16>();

/// The type of the word with the mark.
#[cfg(not(loom))]
type Mark = u16;
#[cfg(loom)]
type Mark = u32;

/// The mark: the leaf is linked.
const LINKED: u16 = 1 << 15;

/// The bits with the length of the key.
pub(super) const LENGTH: u16 = (1 << PARENT_SHIFT) - 1;
const _: () = assert!(LONGEST_KEY <= LENGTH as usize);

/// The position and the number of the bits that belong to the leaf's parent.
pub(super) const PARENT_SHIFT: u32 = 12;
pub(super) const PARENT_BITS: u32 = 3;
const _: () = assert!(LINKED as u32 == 1 << (PARENT_SHIFT + PARENT_BITS));

/// The size of a leaf before its key, for a value of type `V`, in bytes.
pub(crate) const fn leaf_overhead<V, L: ReusePolicy>() -> usize {
    if L::PROTECTS_IDENTITY { plain_bytes::<V>(0) } else { leaf_atomic::overhead::<V>() }
}

/// The offset of the word with length and mark, in bytes.
const fn length_at<V>() -> usize {
    size_of::<V>().next_multiple_of(LENGTH_BYTES)
}

pub(super) const fn plain_bytes<V>(key_len: usize) -> usize {
    length_at::<V>() + LENGTH_BYTES + key_len
}

fn layout<V>(key_len: usize) -> Layout {
    debug_assert!(key_len <= LONGEST_KEY);
    // SAFETY: the alignment is that of a type, and the size is far below the limit: a type has at
    // most half of the address space, and keys are short (checked by the callers).
    unsafe { Layout::from_size_align_unchecked(plain_bytes::<V>(key_len), align_of::<V>()) }
}

/// Drops the value of a leaf.
///
/// # Safety
///
/// `leaf` is a leaf with a value of type `V` that is not used again.
pub(super) unsafe fn drop_value<V>(leaf: NonNull<u8>) {
    // SAFETY: the value is the first thing in a leaf.
    unsafe { leaf.cast::<V>().drop_in_place() };
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    /// Allocates a leaf that is not published yet.
    ///
    /// # Errors
    ///
    /// The error of the allocator, with the value.
    pub(crate) fn new_leaf(&self, key: &[u8], value: V) -> Result<Handle, AllocError<V>> {
        let leaf = match self.leaves.alloc_handle(layout::<V>(key.len())) {
            Ok(leaf) => leaf,
            Err(error) => return Err(error.with_value(value)),
        };
        self.leaves.writes_plain(leaf);
        let start = self.leaves.pointer(leaf);
        // SAFETY: this thread owns the object, which has the size and alignment of the layout, and
        // no reader knows it (QPT-N3).
        unsafe {
            start.cast::<V>().write(value);
            let place = start.add(length_at::<V>() + LENGTH_BYTES);
            place.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
        }
        self.put_leaf_header(leaf, key.len() as u16);
        Ok(leaf)
    }

    /// Returns the key of a leaf.
    ///
    /// # Safety
    ///
    /// The leaf was found by a validated step, or under the lock, and its protection (the read
    /// section, the lock) lasts for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn key<'a>(&self, leaf: Handle) -> &'a [u8] {
        debug_assert!(L::PROTECTS_IDENTITY, "such leaves are words");
        self.leaves.reads_plain(leaf);
        // SAFETY: a published leaf is never written (QPT-N3), and the caller's section or lock
        // protects it.
        unsafe {
            let place = self.leaves.pointer(leaf).add(length_at::<V>() + LENGTH_BYTES);
            std::slice::from_raw_parts(place.as_ptr(), self.length(leaf).into())
        }
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn length_word(&self, leaf: Handle) -> &AtomicU16 {
        debug_assert!(L::PROTECTS_IDENTITY, "such leaves are words");
        // SAFETY: the handle is that of a leaf, now or earlier (QPT-N4, QPT-H1). In the leaf's
        // class this word is atomic and aligned to 2: no leaf has its value or key there.
        unsafe { self.leaves.pointer(leaf).add(length_at::<V>()).cast::<AtomicU16>().as_ref() }
    }

    /// Returns the length of the key.
    #[inline(always)]
    fn length(&self, leaf: Handle) -> u16 {
        self.leaf_header(leaf) & LENGTH
    }

    /// Returns the word with the length of the key.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(super) fn leaf_header(&self, leaf: Handle) -> u16 {
        self.length_word(leaf).load(Ordering::Relaxed)
    }

    /// Stores the word with the length of the key, in a leaf that is not linked.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(super) fn put_leaf_header(&self, leaf: Handle, header: u16) {
        self.length_word(leaf).store(header, Ordering::Relaxed);
    }

    /// In a model the mark is a word apart from the length, so that the model does not explore the
    /// order in which lengths are read.
    #[cfg(loom)]
    fn length_word(&self, leaf: Handle) -> &AtomicU32 {
        // SAFETY: as above; a plain leaf has no other word.
        unsafe { self.leaves.word(leaf, 0) }
    }

    #[cfg(loom)]
    pub(super) fn leaf_header(&self, leaf: Handle) -> u16 {
        // SAFETY: the caller may read the leaf; a model checks that.
        unsafe { self.leaves.pointer(leaf).add(length_at::<V>()).cast::<u16>().read() }
    }

    #[cfg(loom)]
    pub(super) fn put_leaf_header(&self, leaf: Handle, header: u16) {
        // SAFETY: the leaf is not published, and only the caller knows it.
        unsafe { self.leaves.pointer(leaf).add(length_at::<V>()).cast::<u16>().write(header) };
    }

    /// Marks a leaf as linked, if there are hints. Called under the lock of the slot that names the
    /// leaf, after the store to the slot.
    #[inline]
    pub(crate) fn mark_linked(&self, leaf: Handle) {
        if !self.hints.are_kept() {
            return;
        }
        if !L::PROTECTS_IDENTITY {
            self.versions(leaf).mark_linked();
            return;
        }
        let word = self.length_word(leaf);
        // ORDERING: pairs with the Acquire load in `is_linked`: a reader that sees the mark sees
        // the leaf, and that its slot names it. Falls to `loom`
        // `a_hint_is_believed_of_a_linked_leaf_only`.
        word.store(word.load(Ordering::Relaxed) | Mark::from(LINKED), Ordering::Release);
    }

    /// Clears the mark, if there are hints. Called under the lock of the slot, before the store to
    /// the slot.
    #[inline]
    pub(crate) fn mark_unlinked(&self, leaf: Handle) {
        debug_assert!(L::PROTECTS_IDENTITY, "such a leaf's life ends by its count");
        if self.hints.are_kept() {
            // Relaxed: the Release store to the slot comes after it.
            let word = self.length_word(leaf);
            word.store(word.load(Ordering::Relaxed) & !Mark::from(LINKED), Ordering::Relaxed);
        }
    }

    /// Returns true if a leaf that a hint names is linked. Then it is freed, if at all, after this
    /// moment, so it stays unchanged until the caller's section ends.
    #[inline(always)]
    pub(crate) fn is_linked(&self, leaf: Handle) -> bool {
        // ORDERING: Acquire pairs with the Release store in `mark_linked`. Falls to `loom`
        // `a_hint_is_believed_of_a_linked_leaf_only`.
        let order =
            if self.faults.hinted_leaf_relaxed() { Ordering::Relaxed } else { Ordering::Acquire };
        self.length_word(leaf).load(order) & Mark::from(LINKED) != 0
            || self.faults.hinted_leaf_unlinked()
    }

    /// Returns the value of a leaf.
    ///
    /// # Safety
    ///
    /// Same as [`key`](Self::key).
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

    /// Drops a leaf that no other thread can reach any more, with its value.
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
        // SAFETY: no other thread knows the leaf.
        unsafe {
            let length = self.key(leaf).len();
            let value = self.leaves.pointer(leaf).cast::<V>().read();
            self.leaves.free_unshared_handle(leaf, layout::<V>(length));
            value
        }
    }
}
