//! The 32-bit name of an object.

use std::fmt;
use std::num::NonZeroU32;

/// Names an object of one allocator in 32 bits: its offset in the allocator's range, in
/// [`UNIT`](crate::UNIT)s. It is never zero, so that an `Option<Handle>` has 32 bits too.
///
/// A handle is meaningless to any other allocator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Handle(NonZeroU32);

impl Handle {
    /// An offset in the first slab, which is never used.
    pub(super) const NOTHING: Self = Self(NonZeroU32::MIN);

    /// Returns the handle with this number, as [`Handle::get`] returned it; `None` for zero.
    #[inline(always)]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the handle with this number.
    ///
    /// # Safety
    ///
    /// The number is not zero.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(super) const unsafe fn new_unchecked(number: u32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { NonZeroU32::new_unchecked(number) })
    }

    /// Returns the number, which can be stored in place of a pointer.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:#x})", self.get())
    }
}
