//! The address range of an allocator's slabs, and the ways to access an object there: as bytes, as
//! atomic words, and as a link of a lock-free list.
//!
//! The links are kept beside the objects, in a table with one word for each unit, so that nothing
//! is ever written into a free object. Both ranges grow and are committed as slabs are opened. So
//! does the range that an allocator keeps beside them in proportion ([`Beside`]).
//!
//! Under loom the bytes are one small block, and the words of an object are model atomics that are
//! built when the object is first carved.

use super::Handle;
use crate::backing::Backing;
use crate::class::UNIT;
#[cfg(not(loom))]
use crate::sync::AtomicU32;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

/// Size of a slab, in units.
pub(super) const SLAB_UNITS: u32 = if cfg!(loom) { 64 } else { 4096 };

/// The smallest range to accept, in bytes, if the system grants no more.
pub(crate) const LEAST_RANGE: usize = 16 << 20;

/// Size of a slab, in bytes.
pub(super) const SLAB_BYTES: usize = SLAB_UNITS as usize * UNIT;

#[cfg(not(loom))]
mod imp {
    use super::super::poison;
    use super::*;
    use crate::backing::Region;
    use std::io;

    /// The number of slabs that are committed at a time: 2 MiB, the size of a huge page.
    const CHUNK_SLABS: u32 = 32;
    const CHUNK_BYTES: usize = CHUNK_SLABS as usize * SLAB_BYTES;
    const LINK_BYTES: usize = size_of::<u32>();

    /// A range whose reserved part grows with the slabs.
    #[derive(Debug)]
    pub(crate) struct Beside {
        pub(crate) range: Arc<Region>,
        /// Bytes that are reserved and committed with the first slab.
        pub(crate) committed: usize,
        /// The fewest bytes that are reserved.
        pub(crate) least: usize,
        /// One byte is reserved for this many bytes of slabs.
        pub(crate) slab_bytes: usize,
    }

    #[derive(Debug)]
    pub(crate) struct Arena {
        objects: Region,
        links: Region,
        beside: Option<Beside>,
        huge_pages: bool,
    }

    impl Arena {
        /// Finds addresses for `reach` bytes, rounded up to chunks, and for the links beside them.
        pub(crate) fn reserve(
            backing: &Arc<dyn Backing>,
            reach: usize,
            huge_pages: bool,
        ) -> io::Result<Self> {
            let bytes = reach.next_multiple_of(CHUNK_BYTES).max(LEAST_RANGE);
            let links = bytes / UNIT * LINK_BYTES;
            Ok(Self {
                objects: Region::reserve_growing(backing, bytes, CHUNK_BYTES)?,
                links: Region::reserve_growing(backing, links, SLAB_BYTES)?,
                beside: None,
                huge_pages,
            })
        }

        /// Makes another range grow with the slabs.
        pub(crate) fn grows_with(mut self, beside: Beside) -> Self {
            self.beside = Some(beside);
            self
        }

        /// Returns how many slabs the range has room for.
        pub(in super::super) fn slabs(&self) -> u32 {
            (self.objects.bytes() / SLAB_BYTES) as u32
        }

        /// Returns how many bytes are reserved for slabs.
        pub(in super::super) fn reserved(&self) -> u64 {
            self.objects.reserved() as u64
        }

        /// Commits memory for slab number `slab` and the rest of its chunk. Idempotent. Returns
        /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the range cannot grow that far.
        ///
        /// # Safety
        ///
        /// No other thread calls this at the same time.
        pub(in super::super) unsafe fn commit(&self, slab: u32) -> io::Result<()> {
            let start = (slab / CHUNK_SLABS) as usize * CHUNK_BYTES;
            let end = start + CHUNK_BYTES;
            // SAFETY: the caller's promise.
            unsafe {
                self.objects.grow(end)?;
                self.links.grow(end / UNIT * LINK_BYTES)?;
                if let Some(beside) = &self.beside {
                    let bytes = (end / beside.slab_bytes).next_multiple_of(SLAB_BYTES);
                    beside.range.grow(bytes.max(beside.least))?;
                }
            }
            if let Some(beside) = &self.beside
                && start == 0
            {
                beside.range.commit(0, beside.committed)?;
            }
            self.links.commit(start / UNIT * LINK_BYTES, CHUNK_BYTES / UNIT * LINK_BYTES)?;
            self.objects.commit(start, CHUNK_BYTES)?;
            if self.huge_pages {
                self.objects.advise_huge(start, CHUNK_BYTES);
            }
            Ok(())
        }

        /// Returns true if slab number `slab` is the first of its chunk.
        pub(in super::super) fn opens_chunk(slab: u32) -> bool {
            slab.is_multiple_of(CHUNK_SLABS)
        }

        /// Returns the memory of slabs to the system; it stays mapped. Returns false if the
        /// backing does not support that.
        pub(in super::super) fn release(&self, slabs: &Range<u32>) -> bool {
            self.objects.release(slabs.start as usize * SLAB_BYTES, slabs.len() * SLAB_BYTES)
        }

        /// Called for every object when it leaves its slab.
        #[inline(always)]
        pub(in super::super) fn carved(&self, object: Handle, units: u32) {
            poison::unpoison(self.pointer(object), units as usize * UNIT);
        }

        /// Called for every object when it has returned to its slab.
        #[cfg(poison)]
        pub(in super::super) fn went_back(&self, object: Handle, units: u32) {
            poison::poison(self.pointer(object), units as usize * UNIT);
        }

        #[inline(always)]
        pub(crate) fn pointer(&self, object: Handle) -> NonNull<u8> {
            let offset = (object.get() as usize).wrapping_mul(UNIT);
            let place = self.objects.base().as_ptr().wrapping_add(offset);
            if cfg!(target_pointer_width = "64") {
                // SAFETY: 64 GiB behind the start of a mapping is not null.
                unsafe { NonNull::new_unchecked(place) }
            } else {
                // A handle of another arena may be beyond the address space.
                NonNull::new(place).unwrap_or(NonNull::dangling())
            }
        }

        /// Returns the handle of the object at `pointer`; for any other pointer, a meaningless one.
        #[inline(always)]
        pub(crate) fn handle(&self, pointer: NonNull<u8>) -> Handle {
            let offset = pointer.addr().get().wrapping_sub(self.objects.base().addr().get());
            // The first slab is never used, so no object is at offset 0.
            Handle::new((offset / UNIT) as u32).unwrap_or(Handle::NOTHING)
        }

        /// Returns the handle of the object at `pointer`, without a check.
        ///
        /// # Safety
        ///
        /// The arena has given out the object at `pointer`.
        #[inline(always)]
        pub(crate) unsafe fn handle_of(&self, pointer: NonNull<u8>) -> Handle {
            let offset = pointer.addr().get().wrapping_sub(self.objects.base().addr().get());
            // SAFETY: the first slab is never used, so no object is at offset 0, and the range is
            // no larger than handles can address.
            unsafe { Handle::new_unchecked((offset / UNIT) as u32) }
        }

        /// Returns word number `index` of an object.
        ///
        /// # Safety
        ///
        /// The arena gave out `object` at some time, and `index` is inside its class.
        #[inline(always)]
        pub(crate) unsafe fn word(&self, object: Handle, index: usize) -> &AtomicU32 {
            // SAFETY: by the caller's promise and MEM-A1 the word is committed memory, aligned to
            // 4, and stays mapped as long as `self` lives; every bit pattern is a valid word.
            unsafe { self.pointer(object).cast::<AtomicU32>().add(index).as_ref() }
        }

        /// Returns the link of an object that is outside its slab.
        #[inline(always)]
        pub(crate) fn link(&self, object: Handle) -> &AtomicU32 {
            // SAFETY: the table has a word for each unit of the range, and the part that
            // belongs to an open slab is committed (MEM-A1).
            unsafe { self.links.base().cast::<AtomicU32>().add(object.get() as usize).as_ref() }
        }

        /// Declares that the caller reads plain memory of `object`. Checked under loom.
        #[inline(always)]
        #[cfg_attr(counted, track_caller)]
        pub(crate) fn reads_plain(&self, _object: Handle) {
            #[cfg(counted)]
            self.count_first_unit(_object, crate::sync::machine::AccessKind::Load);
        }

        /// Declares that the caller writes plain memory of `object`. Checked under loom.
        #[inline(always)]
        #[cfg_attr(counted, track_caller)]
        pub(crate) fn writes_plain(&self, _object: Handle) {
            #[cfg(counted)]
            self.count_first_unit(_object, crate::sync::machine::AccessKind::Store);
        }

        /// The counting build knows where an object begins, but not where it ends.
        #[cfg(counted)]
        #[track_caller]
        fn count_first_unit(&self, object: Handle, kind: crate::sync::machine::AccessKind) {
            let unit = self.pointer(object).cast::<[u8; UNIT]>();
            crate::sync::machine::access(unit.as_ptr(), kind, std::panic::Location::caller());
        }
    }
}

#[cfg(loom)]
mod imp {
    use super::*;
    use crate::sync::{AtomicU32, UnsafeCell};
    use std::io;
    use std::sync::OnceLock;

    const SLABS: u32 = 4;

    /// The model of one unit.
    #[derive(Debug)]
    struct Shadow {
        words: [AtomicU32; UNIT / 4],
        link: AtomicU32,
        plain: UnsafeCell<()>,
    }

    #[derive(Debug)]
    pub(crate) struct Arena {
        bytes: std::cell::UnsafeCell<Box<[u128]>>,
        shadows: Box<[OnceLock<Shadow>]>,
    }

    // SAFETY: only the holder of an object touches its bytes (MEM-A2), which loom checks through
    // `reads_plain` and `writes_plain`.
    unsafe impl Sync for Arena {}

    impl Arena {
        pub(crate) fn reserve(
            _backing: &Arc<dyn Backing>,
            _reach: usize,
            _huge_pages: bool,
        ) -> io::Result<Self> {
            let units = (SLABS * SLAB_UNITS) as usize;
            Ok(Self {
                bytes: std::cell::UnsafeCell::new(vec![0; units].into()),
                shadows: (0..units).map(|_| OnceLock::new()).collect(),
            })
        }

        pub(in super::super) fn slabs(&self) -> u32 {
            SLABS
        }

        pub(in super::super) fn reserved(&self) -> u64 {
            u64::from(SLABS) * SLAB_BYTES as u64
        }

        /// # Safety
        ///
        /// None under loom.
        pub(in super::super) unsafe fn commit(&self, _slab: u32) -> io::Result<()> {
            Ok(())
        }

        pub(in super::super) fn opens_chunk(_slab: u32) -> bool {
            false
        }

        pub(in super::super) fn release(&self, _slabs: &Range<u32>) -> bool {
            true
        }

        pub(crate) fn carved(&self, object: Handle, units: u32) {
            for unit in object.get()..object.get() + units {
                self.shadows[unit as usize].get_or_init(|| Shadow {
                    words: std::array::from_fn(|_| AtomicU32::new(0)),
                    link: AtomicU32::new(0),
                    plain: UnsafeCell::new(()),
                });
            }
        }

        fn base(&self) -> NonNull<u8> {
            // SAFETY: only the pointer is taken; the box is never replaced.
            let first = unsafe { (*self.bytes.get()).as_mut_ptr() };
            NonNull::new(first).expect("a box is not null").cast()
        }

        pub(crate) fn pointer(&self, object: Handle) -> NonNull<u8> {
            assert!((object.get() as usize) < self.shadows.len(), "a wild handle: {object:?}");
            // SAFETY: inside the box, as just checked.
            unsafe { self.base().add(object.get() as usize * UNIT) }
        }

        pub(crate) fn handle(&self, pointer: NonNull<u8>) -> Handle {
            let offset = pointer.addr().get().wrapping_sub(self.base().addr().get());
            Handle::new((offset / UNIT) as u32).unwrap_or(Handle::NOTHING)
        }

        /// # Safety
        ///
        /// None under loom.
        pub(crate) unsafe fn handle_of(&self, pointer: NonNull<u8>) -> Handle {
            self.handle(pointer)
        }

        fn shadow(&self, unit: usize) -> &Shadow {
            self.shadows[unit].get().expect("a wild handle: never carved")
        }

        /// # Safety
        ///
        /// None under loom: a word that was never carved is reported.
        pub(crate) unsafe fn word(&self, object: Handle, index: usize) -> &AtomicU32 {
            &self.shadow(object.get() as usize + index / 4).words[index % 4]
        }

        pub(crate) fn link(&self, object: Handle) -> &AtomicU32 {
            &self.shadow(object.get() as usize).link
        }

        pub(crate) fn reads_plain(&self, object: Handle) {
            self.shadow(object.get() as usize).plain.with(|_| ());
        }

        pub(crate) fn writes_plain(&self, object: Handle) {
            self.shadow(object.get() as usize).plain.with_mut(|_| ());
        }
    }
}

pub(crate) use imp::Arena;
#[cfg(not(loom))]
pub(crate) use imp::Beside;
