//! Objects of one type.

use super::MemAlloc;
use super::builder::Builder;
use super::error::{AllocError, BuildError};
use super::reclaim::Reclaimed;
use crate::class::{Class, ClassTable, MAX_SIZE, UNIT, Watermarks};
use crate::policy::{AfterRcuGp, Immediate, ProtectsIdentity, ReusePolicy};
use crate::rcu::{Domain, Guard, SynchronizeError};
use crate::slab::Handle;
use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, needs_drop};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A type whose objects may be reused while readers still look at them
/// (`SLAB_TYPESAFE_BY_RCU`).
///
/// Its `Default` is the constructor: it runs once when an object leaves its slab, and every
/// later life begins with what the earlier one left. It must not allocate from the cache that it
/// is for.
///
/// # Safety
///
/// Every field that a reader can reach is an atomic (or made of such), whatever an earlier life
/// left in it is valid for a later one, and the type needs no drop.
pub unsafe trait TypeStable: Default + Send + Sync + 'static {}

/// An allocator of objects of type `T` with a cache for each CPU (`bpf_mem_alloc` with a size,
/// `kmem_cache`).
///
/// Under a policy that protects identity, values move in and references to published objects
/// hold inside a read section. Under [`Immediate`] the type must be [`TypeStable`], an object is
/// initialised through `&T`, and a reader gets a [`SlotRef`], which promises memory and type but
/// not identity.
///
/// ```
/// use memalloc::Cache;
///
/// let cache = Cache::<String>::new()?;
/// let mut word = cache.alloc("trie".to_owned())?;
/// word.insert_str(0, "qp-");
/// assert_eq!(*word, "qp-trie");
/// drop(word);
/// cache.destroy()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A reference that outlives validation can't be had under immediate reuse:
///
/// ```compile_fail
/// use memalloc::{Cache, Immediate};
///
/// let cache = Cache::<u64, Immediate>::new()?;
/// let value = cache.alloc(7)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "kmem_cache")]
pub struct Cache<T: Send + Sync + 'static, P: ReusePolicy = AfterRcuGp> {
    alloc: MemAlloc<P>,
    _objects: PhantomData<fn() -> T>,
}

impl<T: Send + Sync + 'static, P: ReusePolicy> fmt::Debug for Cache<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("policy", &P::KIND).finish_non_exhaustive()
    }
}

/// The one class of a cache of `T`: aligned objects as small as handles allow.
fn table<T>() -> Result<ClassTable, BuildError> {
    let layout = Layout::new::<T>();
    let size = layout.size().max(1).next_multiple_of(layout.align().max(UNIT));
    if size > MAX_SIZE {
        let limit = MAX_SIZE;
        return Err(BuildError::Type { size: layout.size(), align: layout.align(), limit });
    }
    let class = Class { size, watermarks: Watermarks::for_size(size) };
    Ok(ClassTable::with_watermarks(&[class])?)
}

unsafe fn drop_value<T>(object: NonNull<u8>) {
    // SAFETY: `Cache` uses this as the finalizer of objects that hold a `T`.
    unsafe { object.cast::<T>().drop_in_place() };
}

unsafe fn write_default<T: Default>(object: NonNull<u8>) {
    // SAFETY: a constructor gets an object that nobody else can reach, as large and aligned as
    // its class, which was made for `T`.
    unsafe { object.cast::<T>().write(T::default()) };
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> Cache<T, P> {
    /// A cache on the global domain.
    ///
    /// # Errors
    ///
    /// [`BuildError::Type`] when `T` is larger, or more strictly aligned, than 4096 bytes; see
    /// also [`Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::with_builder(MemAlloc::builder())
    }

    /// A cache that `builder` configures; its size classes are replaced by the one for `T`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_builder(builder: Builder<P>) -> Result<Self, BuildError> {
        let mut builder = builder.classes(table::<T>()?);
        if needs_drop::<T>() {
            // SAFETY: every object that is freed deferred holds a `T` (`free_raw`).
            builder = unsafe { builder.finalizer(drop_value::<T>) };
        }
        Ok(Self { alloc: builder.build()?, _objects: PhantomData })
    }

    /// Moves `value` into an object.
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::alloc`]; the error gives the value back.
    pub fn alloc(&self, value: T) -> Result<SlabBox<'_, T, P>, AllocError<T>> {
        match self.alloc.alloc_handle(Layout::new::<T>()) {
            Ok(object) => {
                self.alloc.writes_plain(object);
                let place = self.alloc.pointer(object).cast::<T>();
                // SAFETY: the object is ours; the policy let no reader keep it (INV-L1).
                unsafe { place.write(value) };
                Ok(SlabBox { place, cache: self })
            }
            Err(error) => Err(error.with_value(value)),
        }
    }

    /// Frees a published object: the value is dropped, and the object allocated again, after the
    /// grace period of the policy.
    ///
    /// # Safety
    ///
    /// `object` came from [`SlabBox::into_raw`] of this cache, is freed only once, and readers
    /// can't find it any more.
    pub unsafe fn free_raw(&self, object: NonNull<T>) {
        // SAFETY: the caller's promise.
        unsafe { self.alloc.free(object.cast(), Layout::new::<T>()) };
    }
}

impl<T: TypeStable> Cache<T, Immediate> {
    const NO_DROP: () = assert!(!needs_drop::<T>(), "a TypeStable type needs no drop");

    /// A cache on the global domain whose objects are reused at once.
    ///
    /// # Errors
    ///
    /// As [`Cache::new`] under other policies.
    pub fn type_stable() -> Result<Self, BuildError> {
        Self::type_stable_with(MemAlloc::builder())
    }

    /// The same, as `builder` configures it; its size classes are replaced by the one for `T`.
    ///
    /// # Errors
    ///
    /// As [`Cache::new`] under other policies.
    pub fn type_stable_with(builder: Builder<Immediate>) -> Result<Self, BuildError> {
        let () = Self::NO_DROP;
        let builder = builder.classes(table::<T>()?).constructor(write_default::<T>);
        Ok(Self { alloc: builder.build()?, _objects: PhantomData })
    }

    /// An object, as its earlier life left it, for the caller to initialise by stores. Readers
    /// of that life may still look at it.
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::alloc`].
    pub fn alloc_slot(&self) -> Result<Handle, AllocError> {
        self.alloc.alloc_handle(Layout::new::<T>())
    }

    /// The object that `slot` names, for the length of a read section of this cache's domain.
    /// By the time that it is looked at it may be another: validate what you read.
    ///
    /// # Safety
    ///
    /// `slot` was given out by this cache, and was freed, if at all, after `_guard` began, which
    /// is a guard of this cache's domain.
    pub unsafe fn slot<'g>(&'g self, slot: Handle, _guard: &'g Guard<'_>) -> SlotRef<'g, T> {
        // SAFETY: the slot was constructed when it left its slab, and does not go back before
        // the guard ends (INV-L2): it is a valid `T` with atomic fields only.
        SlotRef { object: unsafe { self.alloc.pointer(slot).cast().as_ref() } }
    }

    /// Frees an object: it may be allocated again at once.
    ///
    /// # Safety
    ///
    /// `slot` came from [`alloc_slot`](Self::alloc_slot) of this cache, is freed only once, and
    /// readers can't find it any more.
    pub unsafe fn free_slot(&self, slot: Handle) {
        // SAFETY: the caller's promise.
        unsafe { self.alloc.free_handle(slot, Layout::new::<T>()) };
    }
}

impl<T: Send + Sync + 'static, P: ReusePolicy> Cache<T, P> {
    /// The domain whose readers this cache waits for.
    pub fn domain(&self) -> &Domain {
        self.alloc.domain()
    }

    /// See [`MemAlloc::trim`].
    pub fn trim(&self) -> Reclaimed {
        self.alloc.trim()
    }

    /// See [`MemAlloc::quiesce`].
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::quiesce`].
    pub fn quiesce(&self) -> Result<Reclaimed, SynchronizeError> {
        self.alloc.quiesce()
    }

    pub(crate) fn mem_alloc(&self) -> &MemAlloc<P> {
        &self.alloc
    }

    pub(crate) fn into_mem_alloc(self) -> MemAlloc<P> {
        self.alloc
    }
}

/// Owns an object of a [`Cache`] that was not published yet. Dropping it drops the value and
/// frees the object for immediate reuse; [`into_raw`](Self::into_raw) makes it ready to publish.
pub struct SlabBox<'c, T: Send + Sync + 'static, P: ProtectsIdentity = AfterRcuGp> {
    place: NonNull<T>,
    cache: &'c Cache<T, P>,
}

// SAFETY: the box owns its value alone, and both the value and the cache may move between
// threads.
unsafe impl<T: Send + Sync + 'static, P: ProtectsIdentity> Send for SlabBox<'_, T, P> {}
// SAFETY: a shared box gives shared references only.
unsafe impl<T: Send + Sync + 'static, P: ProtectsIdentity> Sync for SlabBox<'_, T, P> {}

impl<T: fmt::Debug + Send + Sync + 'static, P: ProtectsIdentity> fmt::Debug for SlabBox<'_, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SlabBox").field(&**self).finish()
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> SlabBox<'_, T, P> {
    /// Gives the object up, to be published, and at last freed with [`Cache::free_raw`].
    pub fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).place
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> Deref for SlabBox<'_, T, P> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the box owns the object, which holds a value (INV-A2).
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
        // SAFETY: the box owns the object, which holds a value and was never published.
        unsafe {
            self.place.drop_in_place();
            self.cache.alloc.free_unshared(self.place.cast(), Layout::new::<T>());
        }
    }
}

/// An object of a type-stable cache as a reader sees it: memory and type hold as long as the
/// read section, identity does not.
pub struct SlotRef<'g, T> {
    object: &'g T,
}

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
