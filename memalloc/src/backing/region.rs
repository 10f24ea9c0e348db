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
    /// With the most bytes that it may have.
    layout: Layout,
    reserved: AtomicUsize,
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

    /// Has at least so many bytes reserved, or all that there may be if those are fewer.
    ///
    /// # Safety
    ///
    /// No other thread does this at the same time.
    pub(crate) unsafe fn grow(&self, bytes: usize) -> io::Result<()> {
        let bytes = bytes.min(self.layout.size());
        let reserved = self.reserved();
        if bytes <= reserved {
            return Ok(());
        }
        // SAFETY: the range is ours (INV-K1), and this thread alone grows it.
        unsafe { self.backing.grow(self.base, reserved, bytes)? };
        // ORDERING: Release pairs with the load in `reserved`: the addresses are there before
        // anybody puts memory behind them. No test can see it weakened: what orders the two is
        // the system call.
        self.reserved.store(bytes, Ordering::Release);
        Ok(())
    }

    /// How many bytes are reserved.
    pub(crate) fn reserved(&self) -> usize {
        // ORDERING: Acquire pairs with the store in `grow`.
        self.reserved.load(Ordering::Acquire)
    }

    /// The first address, a multiple of the alignment asked for.
    #[inline(always)]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How many bytes it may come to have.
    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// Puts memory (zero, until written) behind a part of the range; an error where that is not
    /// reserved. Idempotent.
    pub(crate) fn commit(&self, offset: usize, bytes: usize) -> io::Result<()> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.reserved()) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
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
        // SAFETY: INV-K1: so much is reserved, and the owner drops it when nobody uses it.
        unsafe { self.backing.unreserve(self.base, layout) };
    }
}

fn layout_of(bytes: usize, align: usize) -> io::Result<Layout> {
    Layout::from_size_align(bytes, align).map_err(|_| io::ErrorKind::OutOfMemory.into())
}
