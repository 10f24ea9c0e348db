//! One range of a backing, owned.

use super::Backing;
use std::alloc::Layout;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// A reserved range.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    layout: Layout,
    backing: Arc<dyn Backing>,
}

// SAFETY: a `Region` is an address range; what may be done with the bytes is its owner's matter.
unsafe impl Send for Region {}
// SAFETY: as above; every method is one of the backing, which is `Sync`.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves `bytes`, more than none, at a multiple of `align`, a power of two.
    pub(crate) fn reserve(
        backing: &Arc<dyn Backing>,
        bytes: usize,
        align: usize,
    ) -> io::Result<Self> {
        let layout =
            Layout::from_size_align(bytes, align).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let base = backing.reserve(layout)?;
        debug_assert!(base.addr().get().is_multiple_of(align), "the backing's promise");
        Ok(Self { base, layout, backing: Arc::clone(backing) })
    }

    /// The first address, a multiple of the alignment asked for.
    #[inline(always)]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// Puts memory (zero, until written) behind a part of the range. Idempotent.
    pub(crate) fn commit(&self, offset: usize, bytes: usize) -> io::Result<()> {
        // SAFETY: `part` gives a part of our own range (INV-K1).
        unsafe { self.backing.commit(self.part(offset, bytes)) }
    }

    /// Asks for huge pages behind a committed part, where the backing has such.
    pub(crate) fn advise_huge(&self, offset: usize, bytes: usize) {
        // SAFETY: as in `commit`.
        unsafe { self.backing.advise_huge(self.part(offset, bytes)) };
    }

    /// Asks for pages of the smallest size behind a committed part, where the backing has others.
    pub(crate) fn advise_small(&self, offset: usize, bytes: usize) {
        // SAFETY: as in `commit`.
        unsafe { self.backing.advise_small(self.part(offset, bytes)) };
    }

    /// Gives the memory of a committed part back; `false` when it stays. The part can be read and
    /// written as before, what is in it is lost.
    pub(crate) fn release(&self, offset: usize, bytes: usize) -> bool {
        // SAFETY: as in `commit`. What is lost, its owner said that nobody needs.
        unsafe { self.backing.release(self.part(offset, bytes)) }
    }

    fn part(&self, offset: usize, bytes: usize) -> NonNull<[u8]> {
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes());
        assert!(inside, "{bytes} bytes at {offset} of a range of {}", self.bytes());
        // SAFETY: inside the range, as just checked.
        NonNull::slice_from_raw_parts(unsafe { self.base.add(offset) }, bytes)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: INV-K1: reserved with this layout, and the owner drops it when nobody uses it.
        unsafe { self.backing.unreserve(self.base, self.layout) };
    }
}
