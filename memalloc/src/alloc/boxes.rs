//! Owning pointers to objects of a cache that have not been published yet.
//!
//! - MEM-O1: a box is the only way to its object, and no reader has found the object. The object of
//!   a [`SlabBox`] holds a value.

use super::MemAlloc;
use crate::policy::{AfterRcuGp, ProtectsIdentity};
use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Owns an object of a [`Cache`](crate::Cache) that has not been published yet. Dropping it drops
/// the value and frees the object for immediate reuse. [`into_raw`](Self::into_raw) gives up
/// ownership so that the object can be published.
pub struct SlabBox<'c, T: Send + Sync + 'static, P: ProtectsIdentity = AfterRcuGp> {
    place: NonNull<T>,
    alloc: &'c MemAlloc<P>,
    /// Makes `T` invariant, as it is in a cache: the value of a box that is published is dropped as
    /// the type that the cache was built for.
    ///
    /// ```compile_fail,E0308
    /// use memalloc::SlabBox;
    ///
    /// fn narrow<'c>(
    ///     wide: SlabBox<'c, for<'a> fn(&'a str)>,
    /// ) -> SlabBox<'c, fn(&'static str)> {
    ///     wide
    /// }
    /// ```
    _objects: PhantomData<fn(T) -> T>,
}

// SAFETY: the box is the only owner of its value, and both the value and the cache may move between
// threads.
unsafe impl<T: Send + Sync + 'static, P: ProtectsIdentity> Send for SlabBox<'_, T, P> {}
// SAFETY: a shared box gives out shared references only.
unsafe impl<T: Send + Sync + 'static, P: ProtectsIdentity> Sync for SlabBox<'_, T, P> {}

impl<T: fmt::Debug + Send + Sync + 'static, P: ProtectsIdentity> fmt::Debug for SlabBox<'_, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SlabBox").field(&**self).finish()
    }
}

impl<'c, T: Send + Sync + 'static, P: ProtectsIdentity> SlabBox<'c, T, P> {
    /// Gives up ownership of the object, so that it can be published. Free it with
    /// [`Cache::free_raw`](crate::Cache::free_raw), or take it back with
    /// [`from_raw`](Self::from_raw).
    #[must_use = "the object leaks unless it is freed"]
    pub fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).place
    }

    /// Owns the object at `place`, which is of the class of `T`, holds a value and is unshared.
    pub(super) fn new(alloc: &'c MemAlloc<P>, place: NonNull<T>) -> Self {
        Self { place, alloc, _objects: PhantomData }
    }

    /// Tells a model that the value is dropped or moved out.
    #[inline(always)]
    fn note_write(&self) {
        self.alloc.writes_plain(self.alloc.handle(self.place.cast()));
    }

    /// Moves the value out, and frees the object for immediate reuse.
    #[must_use]
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        this.note_write();
        // SAFETY: MEM-O1: the box is given up, so the value is read once, and the empty object is
        // freed by the drop of an `UninitBox`.
        let value = unsafe { this.place.read() };
        drop(UninitBox::<T, P>::new(this.alloc, this.place.cast()));
        value
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> Deref for SlabBox<'_, T, P> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the box owns the object, which holds a value (MEM-O1).
        unsafe { self.place.as_ref() }
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> DerefMut for SlabBox<'_, T, P> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `&mut self` makes it the only reference.
        unsafe { self.place.as_mut() }
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> Drop for SlabBox<'_, T, P> {
    fn drop(&mut self) {
        self.note_write();
        // SAFETY: MEM-O1: no reader can look at it.
        unsafe {
            self.place.drop_in_place();
            self.alloc.free_unshared(self.place.cast(), Layout::new::<T>());
        }
    }
}

/// Owns an object of a [`Cache`](crate::Cache) that holds no value yet. Dropping it frees the
/// object for immediate reuse and drops no value, even if bytes have been written to it.
pub struct UninitBox<'c, T: Send + Sync + 'static, P: ProtectsIdentity = AfterRcuGp> {
    place: NonNull<MaybeUninit<T>>,
    alloc: &'c MemAlloc<P>,
    /// As in [`SlabBox`].
    _objects: PhantomData<fn(T) -> T>,
}

// SAFETY: as for `SlabBox`; there is no value.
unsafe impl<T: Send + Sync + 'static, P: ProtectsIdentity> Send for UninitBox<'_, T, P> {}
// SAFETY: a shared box gives access to nothing.
unsafe impl<T: Send + Sync + 'static, P: ProtectsIdentity> Sync for UninitBox<'_, T, P> {}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> fmt::Debug for UninitBox<'_, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UninitBox").finish_non_exhaustive()
    }
}

impl<'c, T: Send + Sync + 'static, P: ProtectsIdentity> UninitBox<'c, T, P> {
    /// Owns an object of the class of `T` that has just been allocated.
    pub(super) fn new(alloc: &'c MemAlloc<P>, place: NonNull<MaybeUninit<T>>) -> Self {
        Self { place, alloc, _objects: PhantomData }
    }

    /// Moves `value` into the object.
    #[must_use]
    pub fn write(self, value: T) -> SlabBox<'c, T, P> {
        // SAFETY: MEM-O1; the object is as large and aligned as its class, made for `T`.
        unsafe {
            self.place.cast::<T>().write(value);
            self.assume_init()
        }
    }

    /// Returns a pointer to the place for the value.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.place.as_ptr().cast()
    }

    /// Returns a box of the value that has been written to the object.
    ///
    /// # Safety
    ///
    /// The object holds a valid `T`.
    #[must_use]
    pub unsafe fn assume_init(self) -> SlabBox<'c, T, P> {
        let this = ManuallyDrop::new(self);
        SlabBox::new(this.alloc, this.place.cast())
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> Drop for UninitBox<'_, T, P> {
    fn drop(&mut self) {
        // SAFETY: MEM-O1.
        unsafe { self.alloc.free_unshared(self.place.cast(), Layout::new::<T>()) };
    }
}
