//! Implements the allocator trait of containers: [`Allocator`] of the crate `allocator-api2`.
//!
//! A container is not read while it is written, so its memory is freed for immediate reuse under
//! every policy. Only policies that protect identity implement the trait: under the others a racing
//! reader may still read the object that a container gets, and container memory is not atomic.
//!
//! - MEM-E1: all layouts that fit a block (sizes from the requested size to the granted size) have
//!   the same class, or none: the class is the first that is large and aligned enough, and no other
//!   class lies between the two sizes. So the layout alone tells which allocator a block belongs
//!   to.

use super::MemAlloc;
use crate::policy::{AfterRcuGp, ProtectsIdentity};
use allocator_api2::alloc::{AllocError, Allocator};
use std::alloc::Layout;
use std::ptr::NonNull;

/// Memory for containers, up to the largest class. A larger or more strictly aligned layout is an
/// error: see [`MemAlloc::with_fallback`].
///
/// Blocks are freed as by [`free_unshared`](MemAlloc::free_unshared). A block that grows or shrinks
/// within its class stays in place. A size of zero takes no memory. A block that is never freed
/// stays valid after the allocator has ended.
///
/// ```
/// use hashbrown::{DefaultHashBuilder, HashMap};
/// use memalloc::MemAlloc;
///
/// let alloc: MemAlloc = MemAlloc::new()?;
/// let mut map = HashMap::with_hasher_in(DefaultHashBuilder::default(), &alloc);
/// map.insert("trie", 4);
/// assert!(map.try_reserve(1 << 20).is_err(), "more than 4096 bytes");
/// assert_eq!(map["trie"], 4);
/// drop(map);
/// alloc.destroy()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A container cannot write where readers may still read reused memory:
///
/// ```compile_fail,E0277
/// use memalloc::{Immediate, MemAlloc};
///
/// let alloc = MemAlloc::<Immediate>::with_policy()?;
/// let numbers = allocator_api2::vec::Vec::<u32, _>::new_in(&alloc);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
// SAFETY: a block is an object, which stays mapped when the allocator moves or ends, and is held by
// no other caller until it is freed (MEM-A2). As the policy protects identity, a reader that found
// an earlier life has left its section (MEM-L1), or reads as `MemAlloc::word` requires.
unsafe impl<P: ProtectsIdentity> Allocator for MemAlloc<P> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(nothing(layout));
        }
        self.alloc(layout).map_err(|_| AllocError)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() > 0 {
            // SAFETY: the caller's promise; any fitting layout has the object's class (MEM-E1).
            unsafe { self.free_unshared(block, layout) };
        }
    }

    unsafe fn grow(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        match self.in_place(block, old, new) {
            Some(block) => Ok(block),
            // SAFETY: the caller's promise; `new` is the longer layout.
            None => unsafe { move_block(self, block, old, self.allocate(new)?, old.size()) },
        }
    }

    unsafe fn shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        match self.in_place(block, old, new) {
            Some(block) => Ok(block),
            // SAFETY: the caller's promise; `new` is the shorter layout.
            None => unsafe { move_block(self, block, old, self.allocate(new)?, new.size()) },
        }
    }
}

impl<P: ProtectsIdentity> MemAlloc<P> {
    /// Returns an allocator that uses `large` for every layout that this one does not serve: for
    /// containers that outgrow 4096 bytes. `large` is any allocator, such as the global one, or
    /// `bumpalo`'s arena. It is not used when memory runs out for a layout that this allocator
    /// serves; that is still an error.
    ///
    /// ```
    /// use allocator_api2::{alloc::Global, vec::Vec};
    /// use memalloc::MemAlloc;
    ///
    /// let alloc: MemAlloc = MemAlloc::new()?;
    /// let mut numbers = Vec::new_in(alloc.with_fallback(Global));
    /// numbers.extend(0..100_000_u32);
    /// assert_eq!(alloc.stats().live.objects, 0, "it has moved out");
    /// numbers.truncate(1000);
    /// numbers.shrink_to_fit();
    /// assert_eq!(alloc.stats().live.objects, 1, "and in again");
    /// drop(numbers);
    /// alloc.destroy()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_fallback<F: Allocator>(&self, large: F) -> WithFallback<'_, F, P> {
        WithFallback { small: self, large }
    }

    fn serves(&self, layout: Layout) -> bool {
        layout.size() == 0 || self.classes().class_for(layout).is_some()
    }

    /// Returns the object at `block` if its class serves both layouts.
    fn in_place(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<[u8]>> {
        let class = self.classes().class_for(new)?;
        let same = new.size() > 0 && old.size() > 0 && self.classes().class_for(old) == Some(class);
        same.then(|| NonNull::slice_from_raw_parts(block, self.classes().class(class).size))
    }
}

/// An [`Allocator`] without a largest size, made by [`MemAlloc::with_fallback`].
#[derive(Debug)]
pub struct WithFallback<'a, F, P: ProtectsIdentity = AfterRcuGp> {
    small: &'a MemAlloc<P>,
    large: F,
}

impl<F: Clone, P: ProtectsIdentity> Clone for WithFallback<'_, F, P> {
    fn clone(&self) -> Self {
        Self { small: self.small, large: self.large.clone() }
    }
}

// SAFETY: each block belongs to `small` or to `large`, and is freed to the same one, as its layout
// says (MEM-E1). Both keep the promises, and a clone shares the one and clones the other.
unsafe impl<F: Allocator, P: ProtectsIdentity> Allocator for WithFallback<'_, F, P> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if self.small.serves(layout) {
            self.small.allocate(layout)
        } else {
            self.large.allocate(layout)
        }
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if self.small.serves(layout) {
            self.small.allocate_zeroed(layout)
        } else {
            self.large.allocate_zeroed(layout)
        }
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise, and MEM-E1.
        unsafe {
            if self.small.serves(layout) {
                self.small.deallocate(block, layout)
            } else {
                self.large.deallocate(block, layout)
            }
        }
    }

    unsafe fn grow(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise, and MEM-E1; `new` is the longer layout.
        unsafe {
            match (self.small.serves(old), self.small.serves(new)) {
                (true, true) => self.small.grow(block, old, new),
                (false, false) => self.large.grow(block, old, new),
                _ => move_block(self, block, old, self.allocate(new)?, old.size()),
            }
        }
    }

    unsafe fn grow_zeroed(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: as in `grow`.
        unsafe {
            match (self.small.serves(old), self.small.serves(new)) {
                (true, true) => self.small.grow_zeroed(block, old, new),
                (false, false) => self.large.grow_zeroed(block, old, new),
                _ => move_block(self, block, old, self.allocate_zeroed(new)?, old.size()),
            }
        }
    }

    unsafe fn shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise, and MEM-E1; `new` is the shorter layout.
        unsafe {
            match (self.small.serves(old), self.small.serves(new)) {
                (true, true) => self.small.shrink(block, old, new),
                (false, false) => self.large.shrink(block, old, new),
                _ => move_block(self, block, old, self.allocate(new)?, new.size()),
            }
        }
    }
}

/// Returns a block of zero bytes: an aligned address that is no object.
fn nothing(layout: Layout) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(layout.dangling_ptr(), 0)
}

/// Copies `bytes` to another block of `allocator` and frees the old block.
///
/// # Safety
///
/// `from` is a block of `allocator`, which `old` fits, and both blocks have at least `bytes` bytes.
unsafe fn move_block(
    allocator: &impl Allocator,
    from: NonNull<u8>,
    old: Layout,
    to: NonNull<[u8]>,
    bytes: usize,
) -> Result<NonNull<[u8]>, AllocError> {
    // SAFETY: the caller's promise; two blocks that are both allocated do not overlap.
    unsafe {
        to.cast::<u8>().copy_from_nonoverlapping(from, bytes);
        allocator.deallocate(from, old);
    }
    Ok(to)
}
