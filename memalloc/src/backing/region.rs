//! One range of a backing, owned.

use super::Backing;
use crate::sync::{AtomicUsize, Ordering};
use std::alloc::Layout;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// A range, of which the first `reserved` bytes are reserved.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    /// The size is the most bytes that the range may have.
    layout: Layout,
    reserved: AtomicUsize,
    backing: Arc<dyn Backing>,
}

// SAFETY: a `Region` is an address range; its owner is responsible for accesses to the bytes.
unsafe impl Send for Region {}
// SAFETY: as above; every method is one of the backing, which is `Sync`.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves `bytes` bytes, at a multiple of `align`. `bytes` is not zero, and `align` is a
    /// power of two.
    pub(crate) fn reserve(
        backing: &Arc<dyn Backing>,
        bytes: usize,
        align: usize,
    ) -> io::Result<Self> {
        let layout = layout_of(bytes, align)?;
        let base = backing.reserve(layout)?;
        Ok(Self::new(backing, layout, base, bytes))
    }

    /// Finds addresses for a range that may grow to `bytes`.
    pub(crate) fn reserve_growing(
        backing: &Arc<dyn Backing>,
        bytes: usize,
        align: usize,
    ) -> io::Result<Self> {
        let layout = layout_of(bytes, align)?;
        let (base, reserved) = backing.reserve_growing(layout)?;
        Ok(Self::new(backing, layout, base, reserved))
    }

    fn new(backing: &Arc<dyn Backing>, layout: Layout, base: NonNull<u8>, reserved: usize) -> Self {
        debug_assert!(base.addr().get().is_multiple_of(layout.align()), "the backing's promise");
        debug_assert!(reserved <= layout.size(), "the backing's promise");
        Self { base, layout, reserved: AtomicUsize::new(reserved), backing: Arc::clone(backing) }
    }

    /// Makes sure that at least `bytes` bytes are reserved, or the whole range if that is smaller.
    ///
    /// # Safety
    ///
    /// No other thread calls this at the same time.
    pub(crate) unsafe fn grow(&self, bytes: usize) -> io::Result<()> {
        let bytes = bytes.min(self.layout.size());
        let reserved = self.reserved();
        if bytes <= reserved {
            return Ok(());
        }
        // SAFETY: the range is ours (MEM-K1), and only this thread grows it.
        unsafe { self.backing.grow(self.base, reserved, bytes)? };
        // ORDERING: Release pairs with the load in `reserved`: the addresses are there before any
        // thread commits memory for them. Falls to nothing: the system call orders the two.
        self.reserved.store(bytes, Ordering::Release);
        Ok(())
    }

    /// Returns how many bytes are reserved.
    pub(crate) fn reserved(&self) -> usize {
        // ORDERING: Acquire pairs with the store in `grow`. Falls to nothing: the system call
        // orders the two.
        self.reserved.load(Ordering::Acquire)
    }

    /// Returns the first address, a multiple of the requested alignment.
    #[inline(always)]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns the most bytes that the range may have.
    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// Provides memory (zero, until written) for a part of the range. Returns an error if the part
    /// is not reserved. Idempotent.
    pub(crate) fn commit(&self, offset: usize, bytes: usize) -> io::Result<()> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.reserved()) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: `part` returns a part of our own range (MEM-K1).
        unsafe { self.backing.commit(self.part(offset, bytes)) }
    }

    /// Asks for huge pages for a committed part, if the backing has any.
    pub(crate) fn advise_huge(&self, offset: usize, bytes: usize) {
        // SAFETY: as in `commit`.
        unsafe { self.backing.advise_huge(self.part(offset, bytes)) };
    }

    /// Asks for pages of the smallest size for a committed part, if the backing has others.
    pub(crate) fn advise_small(&self, offset: usize, bytes: usize) {
        // SAFETY: as in `commit`.
        unsafe { self.backing.advise_small(self.part(offset, bytes)) };
    }

    /// Returns the memory of a committed part to the system. Returns false if the part keeps it.
    /// The part can be read and written as before, but its contents are lost.
    pub(crate) fn release(&self, offset: usize, bytes: usize) -> bool {
        // SAFETY: as in `commit`. The owner has declared the contents unneeded.
        unsafe { self.backing.release(self.part(offset, bytes)) }
    }

    fn part(&self, offset: usize, bytes: usize) -> NonNull<[u8]> {
        let reserved = self.reserved();
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= reserved);
        assert!(inside, "{bytes} bytes at {offset} of a range of {reserved}");
        // SAFETY: inside the range, as just checked.
        NonNull::slice_from_raw_parts(unsafe { self.base.add(offset) }, bytes)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let reserved = self.reserved();
        // SAFETY: no larger than `layout`, which is valid.
        let layout = unsafe { Layout::from_size_align_unchecked(reserved, self.layout.align()) };
        // SAFETY: MEM-K1: `reserved` bytes are reserved, and the owner drops this when the range is
        // no longer used.
        unsafe { self.backing.unreserve(self.base, layout) };
    }
}

fn layout_of(bytes: usize, align: usize) -> io::Result<Layout> {
    Layout::from_size_align(bytes, align).map_err(|_| io::ErrorKind::OutOfMemory.into())
}
