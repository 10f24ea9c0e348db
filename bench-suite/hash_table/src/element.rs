//! The words of an element: link, key, version, and the place of the value.
//!
//! The value follows the header, or is a separate object if both do not fit into one. It consists
//! of words of 8 bytes; under loom, whose objects have words of 4 bytes, each of them is two.

use memalloc::Handle;
use memalloc::sync::{AtomicU32, Ordering, fence};

use crate::fault::Faults;
use crate::link::Link;
use crate::memory::ElementMemory;
use crate::shape::HEADER;

const LINK: usize = 0;
const KEY: usize = 1;
const VERSION: usize = 2;
const VALUE: usize = 3;

/// An element, linked or not. It may be reused for another one at any time, unless its holder or
/// the lock of its bucket keeps it.
#[derive(Debug)]
pub(crate) struct Element<'t, M> {
    memory: &'t M,
    handle: Handle,
}

impl<M> Clone for Element<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Element<'_, M> {}

impl<'t, M: ElementMemory> Element<'t, M> {
    /// Wraps the element with this handle.
    ///
    /// # Safety
    ///
    /// The memory handed out the handle for the layout of elements, and the element, or its type,
    /// is kept for `'t`: by its holder, by the lock of its bucket or by a read section (BEN-HT1).
    #[inline]
    pub(crate) unsafe fn new(memory: &'t M, handle: Handle) -> Self {
        Self { memory, handle }
    }

    pub(crate) fn handle(self) -> Handle {
        self.handle
    }

    #[inline]
    fn word(self, index: usize) -> &'t AtomicU32 {
        // SAFETY: BEN-HT1: a header is 16 bytes; BEN-HT2: it is accessed only atomically.
        unsafe { self.memory.word(self.handle, index) }
    }

    /// Fills a new element, whose version becomes odd. `apart` is the object for the value, if it
    /// needs a separate one.
    #[inline]
    pub(crate) fn fill(self, key: u32, value: &[u64], apart: Option<Handle>, faults: Faults) {
        let version = self.word(VERSION);
        version.store(version.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        if !faults.fence_missing() {
            // ORDERING: pairs with the Acquire fence of a reader that saw a word below: it also
            // sees the odd version. The fence has to be this thread's, even if another thread made
            // the version odd. Falls to `a_value_that_was_seen_stays`.
            fence(Ordering::Release);
        }
        self.word(KEY).store(key, Ordering::Relaxed);
        let place = apart.unwrap_or(self.handle);
        self.word(VALUE).store(place.get(), Ordering::Relaxed);
        let first = if apart.is_some() { 0 } else { HEADER };
        // SAFETY: BEN-HT1: the value is inside the object that was allocated for it, which this
        // thread holds.
        unsafe { words::store(self.memory, place, first, value) };
        if faults.even_too_soon() {
            self.mark_linked();
        }
    }

    /// Reads the key, which the reader has to validate.
    #[inline]
    pub(crate) fn key(self) -> u32 {
        self.word(KEY).load(Ordering::Relaxed)
    }

    /// Reads the version: even while the element is linked.
    #[inline]
    pub(crate) fn version(self) -> u32 {
        // ORDERING: pairs with the Release of `mark_linked`: a reader that sees the even version
        // sees the key and the value of that life or of a later one. Falls to
        // `a_lookup_gets_the_value_of_one_life`.
        self.word(VERSION).load(Ordering::Acquire)
    }

    /// Reads the version again, after all previous reads.
    #[inline]
    pub(crate) fn version_again(self) -> u32 {
        // ORDERING: pairs with the Release fence of `fill`. Falls to
        // `a_value_that_was_seen_stays`.
        fence(Ordering::Acquire);
        self.word(VERSION).load(Ordering::Relaxed)
    }

    /// Makes the version even, after the store that links the element.
    #[inline]
    pub(crate) fn mark_linked(self) {
        let version = self.word(VERSION);
        // ORDERING: pairs with the Acquire in `version`. Falls to
        // `a_lookup_gets_the_value_of_one_life` and `a_value_that_was_seen_stays`.
        version.store(version.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// Makes the version odd, after the store that unlinks the element, and before it is freed. The
    /// allocator makes this store visible to the thread that fills the object next.
    #[inline]
    pub(crate) fn mark_unlinked(self) {
        let version = self.word(VERSION);
        version.store(version.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
    }

    /// Reads the next link of the chain.
    #[inline]
    pub(crate) fn link(self) -> Link {
        // ORDERING: pairs with the Release of `set_link` and, for a link that was filled in before
        // the element was inserted, with that of the head: the next element is seen as it was
        // linked. Falls to `a_lookup_gets_the_value_of_one_life`.
        Link::of(self.word(LINK).load(Ordering::Acquire))
    }

    /// Sets the link of an element that is not linked yet.
    #[inline]
    pub(crate) fn fill_link(self, link: Link) {
        self.word(LINK).store(link.word(), Ordering::Relaxed);
    }

    /// Unlinks the next element.
    #[inline]
    pub(crate) fn set_link(self, link: Link, faults: Faults) {
        // ORDERING: pairs with the Acquire fence before the second read of a head: a reader that
        // misses an element because it was unlinked sees the element that was inserted before.
        // Falls to `a_key_that_is_replaced_is_never_missed`.
        let ordering = if faults.relaxed_unlink() { Ordering::Relaxed } else { Ordering::Release };
        self.word(LINK).store(link.word(), ordering);
    }

    /// Returns the place of the value: the object, and the first byte in it.
    #[inline]
    pub(crate) fn place(self) -> (Handle, usize) {
        let named = Handle::new(self.word(VALUE).load(Ordering::Relaxed)).unwrap_or(self.handle);
        // An element with its value inside in one life has it there in every life (BEN-HT1).
        (named, if named == self.handle { HEADER } else { 0 })
    }

    /// Copies the value out; the reader has to validate it.
    #[inline]
    pub(crate) fn copy_value(self, value: &mut [u64]) {
        let (object, first) = self.place();
        // SAFETY: BEN-HT1: any object that an element ever named is as large as the value; BEN-HT2.
        unsafe { words::load(self.memory, object, first, value) };
    }
}

/// Access to values, word by word.
#[cfg(not(loom))]
pub(crate) mod words {
    use super::*;
    use memalloc::sync::AtomicU64;

    /// Returns the words of a value.
    ///
    /// # Safety
    ///
    /// The memory handed out the object, which stays mapped for `'t` and has `len` words from byte
    /// `first` on; they are accessed only atomically, as words of 8 bytes.
    #[inline]
    unsafe fn of<M: ElementMemory>(
        memory: &M,
        object: Handle,
        first: usize,
        len: usize,
    ) -> &[AtomicU64] {
        // SAFETY: the caller's promise; objects are aligned to 16, and `first` is 0 or 16.
        unsafe {
            let start = memory.pointer(object).add(first).cast::<AtomicU64>();
            std::slice::from_raw_parts(start.as_ptr(), len)
        }
    }

    /// Stores a value.
    ///
    /// # Safety
    ///
    /// As [`of`].
    #[inline]
    pub(super) unsafe fn store<M: ElementMemory>(
        memory: &M,
        object: Handle,
        first: usize,
        value: &[u64],
    ) {
        // SAFETY: the caller's promise.
        let words = unsafe { of(memory, object, first, value.len()) };
        for (word, value) in words.iter().zip(value) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    /// Loads a value.
    ///
    /// # Safety
    ///
    /// As [`of`].
    #[inline]
    pub(crate) unsafe fn load<M: ElementMemory>(
        memory: &M,
        object: Handle,
        first: usize,
        value: &mut [u64],
    ) {
        // SAFETY: the caller's promise.
        let words = unsafe { of(memory, object, first, value.len()) };
        for (word, value) in words.iter().zip(value) {
            *value = word.load(Ordering::Relaxed);
        }
    }
}

/// Access to values under loom: each word is two words of an object.
#[cfg(loom)]
pub(crate) mod words {
    use super::*;

    /// # Safety
    ///
    /// See the version without loom.
    pub(super) unsafe fn store<M: ElementMemory>(
        memory: &M,
        object: Handle,
        first: usize,
        value: &[u64],
    ) {
        for (place, value) in value.iter().enumerate() {
            for (half, part) in [*value as u32, (*value >> 32) as u32].into_iter().enumerate() {
                // SAFETY: the caller's promise.
                let word = unsafe { memory.word(object, first / 4 + 2 * place + half) };
                word.store(part, Ordering::Relaxed);
            }
        }
    }

    /// # Safety
    ///
    /// See the version without loom.
    pub(crate) unsafe fn load<M: ElementMemory>(
        memory: &M,
        object: Handle,
        first: usize,
        value: &mut [u64],
    ) {
        for (place, value) in value.iter_mut().enumerate() {
            let part = |half| {
                // SAFETY: the caller's promise.
                let word = unsafe { memory.word(object, first / 4 + 2 * place + half) };
                u64::from(word.load(Ordering::Relaxed))
            };
            *value = part(0) | part(1) << 32;
        }
    }
}
