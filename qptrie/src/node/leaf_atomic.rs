//! Leaves that are reused at once: a count and the content, all in atomic words.
//!
//! Readers copy the words and then check that they belong together (`read::leaf`). They build a
//! value only from the bytes of one value that was stored, never from a mixture. So a type
//! qualifies if its bytes can be copied as numbers; not every bit pattern has to be valid (`bool`
//! and enums qualify). See [`PlainBits`].

use super::{LONGEST_KEY, Nodes, Parting, Retry, Symbol, Version, Versions};
use bytemuck::NoUninit;
use memalloc::sync::{AtomicU32, Ordering, fence};
use memalloc::{AllocError, Handle, MAX_SIZE, ReusePolicy};
use smallvec::{CollectionAllocErr, SmallVec};
use std::alloc::Layout;
use std::mem::MaybeUninit;

/// Values that can be copied out of a leaf while it may be reused or overwritten: types whose bytes
/// are all initialised and contain the whole value.
///
/// These are integers, floats, `bool`, `char`, `()`, arrays and wrappers of them, and structs and
/// enums that derive bytemuck's `NoUninit`. Readers load a value word by word as numbers, and build
/// a `V` only after they have checked that all words belong to one stored value. So not every bit
/// pattern has to be valid. But uninitialised bytes (padding) must not be loaded, and a reference
/// can't be built from numbers. The trait is implemented for every type that qualifies.
///
/// It requires less than bytemuck's `Pod`, for which every bit pattern is valid. A type of your own
/// derives `NoUninit`, which checks that it has no padding. The feature `derive` of this crate
/// re-exports it; the macro is told where (or your crate depends on bytemuck itself):
///
/// ```
/// use memalloc::Immediate;
/// use qptrie::QpTrie;
/// use qptrie::bytemuck::NoUninit;
///
/// #[derive(Clone, Copy, Debug, PartialEq, NoUninit)]
/// #[bytemuck(crate = "qptrie::bytemuck")]
/// #[repr(C)]
/// struct Route {
///     gateway: u32,
///     metric: u16,
///     is_up: bool,
///     is_default: bool,
/// }
///
/// let routes = QpTrie::<Route, Immediate, Immediate>::with_policies()?;
/// let route = Route { gateway: 1, metric: 100, is_up: true, is_default: false };
/// routes.pin().insert_copied("10.0/16", route)?;
/// assert_eq!(routes.pin().get_copied("10.0/16"), Some(route));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0277
/// use memalloc::Immediate;
/// use qptrie::QpTrie;
///
/// // A string owns memory that its bytes only point to.
/// let trie = QpTrie::<String, Immediate, Immediate>::with_policies().unwrap();
/// let value = trie.pin().get_copied(b"key");
/// ```
#[diagnostic::on_unimplemented(
    message = "values of type `{Self}` can't be copied out of a leaf that is reused at once",
    label = "not plain bits",
    note = "for a `#[repr(C)]` type without padding, derive `Clone`, `Copy` and bytemuck's `NoUninit` \
            (feature `derive` of `qptrie`: see `PlainBits`)",
    note = "values of any other type need leaves that are kept for readers, as in `QpTrie<{Self}>`, and \
            the operations without `_copied`"
)]
pub trait PlainBits: NoUninit + Send + Sync {}

#[diagnostic::do_not_recommend]
impl<V: NoUninit + Send + Sync> PlainBits for V {}

const WORD_BYTES: usize = size_of::<u32>();
const LENGTH_BYTES: usize = size_of::<u16>();

/// Rounding up to whole words never exceeds the limit in bytes.
const _: () = assert!(MAX_SIZE.is_multiple_of(WORD_BYTES));

/// The maximum length of a key that is copied without an allocation.
const SHORT_KEY: usize = 64;

/// A copy of a leaf's key.
pub(crate) type KeyCopy = SmallVec<[u8; SHORT_KEY]>;

/// The index of the value's first word.
const VALUE: usize = 1;

/// The index of the first word of the key's length and the key.
const fn key_at<V>() -> usize {
    VALUE + size_of::<V>().div_ceil(WORD_BYTES)
}

/// The size of a leaf before its key, in bytes.
pub(super) const fn overhead<V>() -> usize {
    key_at::<V>() * WORD_BYTES + LENGTH_BYTES
}

/// The size of a leaf with a value of type `V` and a key of this length, in bytes.
const fn leaf_bytes<V>(key_len: usize) -> usize {
    (overhead::<V>() + key_len).next_multiple_of(WORD_BYTES)
}

fn layout<V>(key_len: usize) -> Layout {
    debug_assert!(key_len <= LONGEST_KEY);
    // SAFETY: the alignment is a power of two, and the size is far below the limit: a type has at
    // most half of the address space, and keys are short (checked by the callers).
    unsafe { Layout::from_size_align_unchecked(leaf_bytes::<V>(key_len), WORD_BYTES) }
}

/// Returns bytes as words; the last word is padded with zeros.
#[inline(always)]
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let (whole, rest) = bytes.as_chunks::<WORD_BYTES>();
    let last = (!rest.is_empty()).then(|| {
        let mut last = [0; WORD_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        last
    });
    whole.iter().copied().chain(last).map(u32::from_ne_bytes)
}

/// Returns the number of words of a key of this length, including the length.
const fn key_words_of(length: usize) -> usize {
    (LENGTH_BYTES + length).div_ceil(WORD_BYTES)
}

/// A length that no leaf's key has.
const TOO_LONG: u16 = u16::MAX;
const _: () = assert!(LONGEST_KEY < TOO_LONG as usize);

/// Returns the words of a key: the first has its length and its first two bytes. A key that is too
/// long for any leaf differs from every leaf's key in the first word.
#[inline(always)]
fn key_words(key: &[u8]) -> impl Iterator<Item = u32> {
    let (head, tail) = key.split_at(key.len().min(WORD_BYTES - LENGTH_BYTES));
    let length = u16::try_from(key.len()).unwrap_or(TOO_LONG).to_ne_bytes();
    let byte = |index: usize| head.get(index).copied().unwrap_or(0);
    let first = u32::from_ne_bytes([length[0], length[1], byte(0), byte(1)]);
    std::iter::once(first).chain(words(tail))
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    #[inline(always)]
    fn leaf_word(&self, leaf: Handle, index: usize) -> &AtomicU32 {
        debug_assert!(!L::PROTECTS_IDENTITY, "such leaves are plain memory");
        // SAFETY: handles of leaves come from twigs of this trie (QPT-N4) or from its allocator.
        // Word numbers come from a value's size, or from a length that this leaf had in some life,
        // so they are inside its class (QPT-N6); and every access is atomic (QPT-N6).
        unsafe { self.leaves.word(leaf, index) }
    }

    /// Returns the count of a leaf.
    #[inline(always)]
    pub(crate) fn versions(&self, leaf: Handle) -> Versions<'_> {
        Versions::new(self.leaf_word(leaf, 0), self.faults)
    }

    /// Allocates a leaf of words that is not published yet.
    ///
    /// # Errors
    ///
    /// The error of the allocator.
    pub(crate) fn new_words(&self, key: &[u8], value: &V) -> Result<Handle, AllocError>
    where
        V: PlainBits,
    {
        let leaf = self.leaves.alloc_handle(layout::<V>(key.len()))?;
        // ORDERING: pairs with the reader's Acquire fence before it reads the count again, as in
        // `new_branch`: if the reader saw any of the words below, it sees that the count had become
        // odd. Falls to `loom_protocol` "init fence removed".
        fence(Ordering::Release);
        self.put_value(leaf, value);
        for (index, word) in key_words(key).enumerate() {
            self.leaf_word(leaf, key_at::<V>() + index).store(word, Ordering::Relaxed);
        }
        self.versions(leaf).begin();
        Ok(leaf)
    }

    #[inline(always)]
    fn put_value(&self, leaf: Handle, value: &V)
    where
        V: PlainBits,
    {
        for (index, word) in words(bytemuck::bytes_of(value)).enumerate() {
            self.leaf_word(leaf, VALUE + index).store(word, Ordering::Relaxed);
        }
    }

    /// Overwrites the value of a leaf, if the leaf still has this version, and returns the old
    /// value.
    #[inline]
    pub(crate) fn overwrite(&self, leaf: Handle, version: Version, value: &V) -> Result<V, Retry>
    where
        V: PlainBits,
    {
        let _writing = self.versions(leaf).lock(version)?;
        let old = self.copy_value(leaf);
        self.put_value(leaf, value);
        // SAFETY: no other thread writes the leaf while it is locked, so these are the bytes of the
        // value that was stored last (QPT-N6).
        Ok(unsafe { old.assume_init() })
    }

    /// Copies the words of the value. The result is a value only if the leaf had one version all
    /// the time.
    #[inline(always)]
    pub(crate) fn copy_value(&self, leaf: Handle) -> MaybeUninit<V> {
        let mut value = MaybeUninit::<V>::uninit();
        let bytes = value.as_mut_ptr().cast::<u8>();
        for at in (0..size_of::<V>()).step_by(WORD_BYTES) {
            let word = self.leaf_word(leaf, VALUE + at / WORD_BYTES).load(Ordering::Relaxed);
            let count = WORD_BYTES.min(size_of::<V>() - at);
            // SAFETY: writes inside the value's bytes, at most as many as remain.
            unsafe { bytes.add(at).copy_from_nonoverlapping(word.to_ne_bytes().as_ptr(), count) };
        }
        value
    }

    /// Returns true if the leaf has this key. Valid only if the leaf had one version all the time.
    #[inline(always)]
    pub(crate) fn has_key(&self, leaf: Handle, key: &[u8]) -> bool {
        // The first word has the length: as long as the words are equal, the leaf has the words
        // that follow.
        key_words(key).enumerate().all(|(index, word)| self.key_word(leaf, index) == word)
    }

    /// Returns where the leaf's key differs from `key`. Valid only if the leaf had one version all
    /// the time.
    #[inline]
    pub(crate) fn parting_of(&self, leaf: Handle, key: &[u8]) -> Parting {
        let length = self.key_len(leaf);
        let mut common = length.min(key.len());
        for (index, own) in (0..key_words_of(common)).zip(key_words(key)) {
            // Puts the first byte into the lowest bits.
            let mut different = (self.key_word(leaf, index) ^ own).to_le();
            if index == 0 {
                different &= u32::MAX << (LENGTH_BYTES * 8);
            }
            if different != 0 {
                let byte = index * WORD_BYTES + different.trailing_zeros() as usize / 8;
                common = common.min(byte - LENGTH_BYTES);
                break;
            }
        }
        let symbol = if common < length {
            let at = LENGTH_BYTES + common;
            let bytes = self.key_word(leaf, at / WORD_BYTES).to_ne_bytes();
            Symbol::byte(bytes[at % WORD_BYTES])
        } else {
            Symbol::END
        };
        (common < length || common < key.len()).then_some((common as u32, symbol))
    }

    /// Returns one of the words of the key.
    #[inline(always)]
    fn key_word(&self, leaf: Handle, index: usize) -> u32 {
        self.leaf_word(leaf, key_at::<V>() + index).load(Ordering::Relaxed)
    }

    /// Returns the length of the key, in bytes.
    #[inline(always)]
    fn key_len(&self, leaf: Handle) -> usize {
        let [low, high, ..] = self.key_word(leaf, 0).to_ne_bytes();
        u16::from_ne_bytes([low, high]).into()
    }

    /// Copies the key. Valid only if the leaf had one version all the time. Fails if there is no
    /// memory for it.
    pub(crate) fn copy_key(
        &self,
        leaf: Handle,
        key: &mut KeyCopy,
    ) -> Result<(), CollectionAllocErr> {
        let length = self.key_len(leaf);
        key.clear();
        key.try_reserve(key_words_of(length) * WORD_BYTES)?;
        for index in 0..key_words_of(length) {
            let bytes = self.key_word(leaf, index).to_ne_bytes();
            key.extend_from_slice(&bytes[if index == 0 { LENGTH_BYTES } else { 0 }..]);
        }
        key.truncate(length);
        Ok(())
    }

    /// Frees a leaf of words that no slot names any more and whose life has ended.
    ///
    /// # Safety
    ///
    /// The caller unlinked the leaf, and frees it only here.
    pub(crate) unsafe fn free_words(&self, leaf: Handle) {
        let length = self.key_len(leaf);
        // ORDERING: as in `free_branch`: the thread that initialises the leaf next sees the odd
        // count. Falls to `loom_protocol` "free fence removed".
        fence(Ordering::Release);
        // SAFETY: as the caller promises; the layout is the one that it was allocated with.
        unsafe { self.leaves.free_handle(leaf, layout::<V>(length)) };
    }

    /// Frees a leaf of words that no other thread can reach: it was never published, or its trie is
    /// being dropped.
    ///
    /// # Safety
    ///
    /// Same as [`free_words`](Self::free_words).
    pub(crate) unsafe fn drop_words(&self, leaf: Handle) {
        self.versions(leaf).end();
        // SAFETY: the caller's promise.
        unsafe { self.free_words(leaf) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::fault::Faults;
    use crate::node::parting;
    use memalloc::{Immediate, MemAlloc};
    use proptest::prelude::*;

    /// Checks a leaf of words that has the key `own` against the key `other`.
    fn check<V: PlainBits>(value: V, own: &[u8], other: &[u8]) {
        let nodes = Nodes::<V, Immediate, Immediate>::new(
            MemAlloc::builder(),
            MemAlloc::builder(),
            u64::MAX,
            false,
            Faults::default(),
        );
        let nodes = nodes.expect("two allocators");
        let leaf = nodes.new_words(own, &value).expect("memory");
        assert_eq!(nodes.parting_of(leaf, other), parting(other, own));
        assert_eq!(nodes.has_key(leaf, other), own == other);
        let mut copy = KeyCopy::new();
        nodes.copy_key(leaf, &mut copy).expect("memory");
        assert_eq!(&copy[..], own);
        // SAFETY: it was not published.
        unsafe { nodes.drop_words(leaf) };
    }

    proptest! {
        #[test]
        fn a_key_in_words_parts_from_others_as_the_key_itself(
            common in prop::collection::vec(any::<u8>(), 0..80),
            own in prop::collection::vec(any::<u8>(), 0..6),
            other in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            let (own, other) = ([&common[..], &own].concat(), [&common[..], &other].concat());
            check((), &own, &[&own[..], &[0; 1 << 16]].concat());
            check((), &own, &other);
            check([7_u8; 3], &own, &other);
            check(u64::MAX, &own, &other);
        }
    }
}
