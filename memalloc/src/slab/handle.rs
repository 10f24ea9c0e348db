//! The short name of an object.

use std::fmt;
use std::num::NonZeroU32;

/// Names an object of one allocator in 32 bits: its place in the allocator's range, counted in
/// [`UNIT`](crate::UNIT)s. Never zero, so that an `Option<Handle>` is 32 bits too.
///
/// A handle means nothing to another allocator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Handle(NonZeroU32);

impl Handle {
    /// A place in the first slab, which is never used.
    pub(super) const NOTHING: Self = Self(NonZeroU32::MIN);

    /// The handle with this number, as [`Handle::get`] gave it; `None` for zero.
    #[inline(always)]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The handle with this number.
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

    /// The number, to be stored in place of a pointer.
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
