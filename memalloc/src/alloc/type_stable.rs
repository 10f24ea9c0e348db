//! Objects of one type that may be reused while readers still look at them.

use super::builder::{Builder, FromBuilder};
use super::cache::{Cache, table};
use super::error::{AllocError, BuildError};
use crate::policy::Immediate;
use crate::rcu::{Guard, TraceGuard};
use crate::slab::Handle;
use std::alloc::Layout;
use std::fmt;
use std::mem::needs_drop;
use std::ops::Deref;
use std::ptr::NonNull;

/// A type whose objects may be reused while readers still look at them
/// (`SLAB_TYPESAFE_BY_RCU`).
///
/// Its `Default` is the constructor: it runs once when an object leaves its slab, and every later
/// life begins with the contents that the earlier one left. It runs under the lock of the slabs, so
/// it must not use this cache, build or end an allocator, a cache or a domain, or fork. If it
/// panics, up to a batch of objects is lost.
///
/// # Safety
///
/// Every field that a reader can reach is an atomic (or made of atomics), any contents left by an
/// earlier life are valid for a later one, and the type needs no drop.
pub unsafe trait TypeStable: Default + Send + Sync + 'static {}

unsafe fn write_default<T: Default>(object: NonNull<u8>) {
    // SAFETY: a constructor gets an object that no other thread can reach, as large and aligned as
    // its class, which was made for `T`.
    unsafe { object.cast::<T>().write(T::default()) };
}

impl<T: TypeStable> FromBuilder<Immediate> for Cache<T, Immediate> {
    fn from_builder(builder: Builder<Immediate, Self>) -> Result<Self, BuildError> {
        const { assert!(!needs_drop::<T>(), "a TypeStable type needs no drop") };
        let builder = builder.classes(table::<T>()?).constructor(write_default::<T>);
        Ok(Self::over(builder.build_alloc()?))
    }
}

impl<T: TypeStable> Cache<T, Immediate> {
    /// Creates a cache on the global domain whose objects are reused immediately.
    ///
    /// # Errors
    ///
    /// As [`Cache::new`] under other policies.
    pub fn type_stable() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Allocates an object with the contents that its earlier life left. The caller initialises it
    /// by stores. Readers of the earlier life may still read it.
    ///
    /// ```
    /// use memalloc::{Cache, Immediate};
    /// # use memalloc::TypeStable;
    /// # use std::sync::atomic::{AtomicU64, Ordering};
    /// # #[derive(Default)]
    /// # struct Count(AtomicU64);
    /// # // SAFETY: an atomic, of which every value is valid, and nothing to drop.
    /// # unsafe impl TypeStable for Count {}
    ///
    /// let counts = Cache::<Count, Immediate>::type_stable()?;
    /// let slot = counts.alloc_slot()?; // A handle of 32 bits.
    /// let guard = counts.domain().pin();
    /// // SAFETY: allocated above, and not freed yet; the guard is of this cache's domain.
    /// unsafe { counts.slot(slot, &guard) }.0.store(7, Ordering::Relaxed);
    /// # drop(guard);
    /// # // SAFETY: never published, and freed once.
    /// # unsafe { counts.free_slot(slot) };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::alloc`](crate::MemAlloc::alloc).
    pub fn alloc_slot(&self) -> Result<Handle, AllocError> {
        self.mem_alloc().alloc_handle(Layout::new::<T>())
    }

    /// Returns the object that `slot` names, for the length of a read section of this cache's
    /// domain. The object may have been reused: validate what you read.
    ///
    /// ```
    /// use memalloc::{Cache, Immediate};
    /// # use memalloc::TypeStable;
    /// # use std::sync::atomic::{AtomicU64, Ordering};
    /// # #[derive(Default)]
    /// # struct Count(AtomicU64);
    /// # // SAFETY: an atomic, of which every value is valid, and nothing to drop.
    /// # unsafe impl TypeStable for Count {}
    ///
    /// let counts = Cache::<Count, Immediate>::type_stable()?;
    /// let slot = counts.alloc_slot()?;
    /// let guard = counts.domain().pin();
    /// // SAFETY: allocated above, and not freed yet; the guard is of this cache's domain.
    /// let count = unsafe { counts.slot(slot, &guard) };
    /// // SAFETY: known only here, and freed once.
    /// unsafe { counts.free_slot(slot) };
    /// assert_eq!(counts.alloc_slot()?, slot);
    /// count.0.load(Ordering::Relaxed); // Sound, but the value may be of the next life.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// With debug assertions, when `guard` is of another domain.
    ///
    /// # Safety
    ///
    /// `slot` was allocated from this cache, and was freed, if at all, after `guard` began.
    /// `guard` is a guard of this cache's domain.
    #[must_use]
    pub unsafe fn slot<'g>(&'g self, slot: Handle, guard: &'g Guard<'_>) -> SlotRef<'g, T> {
        self.check_guard(guard);
        // SAFETY: the slot was constructed when it left its slab, and does not return to it before
        // the guard ends (MEM-L2): it is a valid `T` with atomic fields only.
        SlotRef { object: unsafe { self.mem_alloc().pointer(slot).cast().as_ref() } }
    }

    /// Frees an object, which may be allocated again immediately.
    ///
    /// ```
    /// use memalloc::{Cache, Immediate};
    /// # use memalloc::TypeStable;
    /// # use std::sync::atomic::AtomicU64;
    /// # #[derive(Default)]
    /// # struct Count(AtomicU64);
    /// # // SAFETY: an atomic, of which every value is valid, and nothing to drop.
    /// # unsafe impl TypeStable for Count {}
    ///
    /// let counts = Cache::<Count, Immediate>::type_stable()?;
    /// let slot = counts.alloc_slot()?;
    /// // SAFETY: known only here, and freed once.
    /// unsafe { counts.free_slot(slot) };
    /// assert_eq!(counts.alloc_slot()?, slot, "last in, first out");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Safety
    ///
    /// `slot` came from [`alloc_slot`](Self::alloc_slot) of this cache, is freed only once, and
    /// readers can no longer find it.
    pub unsafe fn free_slot(&self, slot: Handle) {
        // SAFETY: the caller's promise.
        unsafe { self.mem_alloc().free_handle(slot, Layout::new::<T>()) };
    }

    /// Allocates an object if one is ready, without waiting. Async-signal-safe. Otherwise like
    /// [`alloc_slot`](Self::alloc_slot).
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::alloc_nowait`](crate::MemAlloc::alloc_nowait).
    pub fn alloc_slot_nowait(&self) -> Result<Handle, AllocError> {
        let object = self.mem_alloc().alloc_nowait(Layout::new::<T>())?;
        Ok(self.mem_alloc().handle(object.cast()))
    }

    /// Returns the object that `slot` names, for the length of a section that may sleep. Memory and
    /// type are guaranteed for such a section too; validate what you read.
    ///
    /// # Panics
    ///
    /// As [`slot`](Self::slot).
    ///
    /// # Safety
    ///
    /// As [`slot`](Self::slot).
    #[must_use]
    pub unsafe fn slot_trace<'g>(
        &'g self,
        slot: Handle,
        guard: &'g TraceGuard<'_>,
    ) -> SlotRef<'g, T> {
        self.check_trace_guard(guard);
        // SAFETY: as in `slot`; an object waits for both flavours before it returns to its slab
        // (`Route`).
        SlotRef { object: unsafe { self.mem_alloc().pointer(slot).cast().as_ref() } }
    }

    /// Frees an object, which may be allocated again once an RCU grace period has passed. Readers
    /// that found it before, in a section of [`pin`](crate::rcu::Domain::pin), keep it until they
    /// leave.
    ///
    /// ```
    /// use memalloc::{Cache, TypeStable};
    /// use std::sync::atomic::AtomicU64;
    ///
    /// #[derive(Default)]
    /// struct Count(AtomicU64);
    /// // SAFETY: an atomic, of which every value is valid, and nothing to drop.
    /// unsafe impl TypeStable for Count {}
    ///
    /// let cache = Cache::<Count, memalloc::Immediate>::type_stable()?;
    /// let slot = cache.alloc_slot()?;
    /// let guard = cache.domain().pin();
    /// // SAFETY: known only here, and freed once.
    /// unsafe { cache.free_rcu_slot(slot) };
    /// assert_ne!(cache.alloc_slot()?, slot, "not before the section has ended");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Safety
    ///
    /// As [`free_slot`](Self::free_slot).
    #[doc(alias = "free_rcu_raw")]
    pub unsafe fn free_rcu_slot(&self, slot: Handle) {
        // SAFETY: the caller's promise.
        unsafe { self.mem_alloc().free_rcu_handle(slot, Layout::new::<T>()) };
    }
}

/// A reader's reference to an object of a type-stable cache. Memory and type are guaranteed for the
/// length of the read section; identity is not.
pub struct SlotRef<'g, T> {
    object: &'g T,
}

impl<T> Clone for SlotRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SlotRef<'_, T> {}

impl<T> fmt::Debug for SlotRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotRef").finish_non_exhaustive()
    }
}

impl<T> Deref for SlotRef<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.object
    }
}
