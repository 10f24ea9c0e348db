//! Objects of one type.

use super::MemAlloc;
use super::boxes::{SlabBox, UninitBox};
use super::builder::{Builder, FromBuilder, sealed};
use super::error::{AllocError, BuildError};
use super::reclaim::Reclaimed;
use crate::class::{Class, ClassTable, MAX_SIZE, UNIT, Watermarks};
use crate::policy::{AfterRcuGp, ProtectsIdentity, ProtectsSleepers, ReusePolicy};
use crate::rcu::{Domain, Guard, SynchronizeError, TraceGuard};
use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::mem::needs_drop;
use std::ptr::NonNull;
use std::time::Duration;

/// An allocator of objects of type `T` with a cache for each CPU (`bpf_mem_alloc` with a size,
/// `kmem_cache`).
///
/// Under a policy that protects identity, values move in, and references to published objects are
/// valid inside a read section. Under [`Immediate`](crate::Immediate) the type must be
/// [`TypeStable`](crate::TypeStable), an object is initialised through `&T`, and a reader gets a
/// [`SlotRef`](crate::SlotRef), which guarantees memory and type but not identity.
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
/// Under immediate reuse there are no references that outlive validation:
///
/// ```compile_fail,E0599
/// use memalloc::{Cache, Immediate};
///
/// let cache = Cache::<u64, Immediate>::with_policy()?;
/// let value = cache.alloc(7)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A `Cache<T>` is invariant in `T`, since objects are put in through shared references:
///
/// ```compile_fail,E0308
/// use memalloc::Cache;
///
/// let cache: Cache<for<'a> fn(&'a str)> = Cache::new().unwrap();
/// let narrow: &Cache<fn(&'static str)> = &cache;
/// ```
#[doc(alias = "kmem_cache")]
pub struct Cache<T: Send + Sync + 'static, P: ReusePolicy = AfterRcuGp> {
    alloc: MemAlloc<P>,
    /// Makes `T` invariant: a value put in through a reference is dropped as the type that the
    /// cache was built for.
    _objects: PhantomData<fn(T) -> T>,
}

impl<T: Send + Sync + 'static, P: ReusePolicy> fmt::Debug for Cache<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("policy", &P::KIND).finish_non_exhaustive()
    }
}

/// Returns the only class of a cache of `T`: the smallest aligned size that handles allow.
pub(super) fn table<T>() -> Result<ClassTable, BuildError> {
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

impl<T: Send + Sync + 'static, P: ReusePolicy> sealed::Sealed for Cache<T, P> {}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> FromBuilder<P> for Cache<T, P> {
    fn from_builder(builder: Builder<P, Self>) -> Result<Self, BuildError> {
        let mut builder = builder.classes(table::<T>()?);
        if needs_drop::<T>() {
            // SAFETY: every object that is freed deferred holds a `T` (`free_raw`).
            builder = unsafe { builder.finalizer(drop_value::<T>) };
        }
        Ok(Self::over(builder.build_alloc()?))
    }
}

impl<T: Send + Sync + 'static> Cache<T> {
    /// A cache on the global domain, under the default policy, [`AfterRcuGp`].
    ///
    /// It exists for the default policy only, so that the policy need not be named: other policies
    /// have [`with_policy`](Self::with_policy) and [`type_stable`](Cache::type_stable).
    ///
    /// ```
    /// use memalloc::Cache;
    ///
    /// let cache = Cache::new()?; // Of strings, as the next line shows.
    /// let word = cache.alloc("trie".to_owned())?;
    /// assert_eq!(*word, "trie");
    /// drop(word);
    /// cache.destroy()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError::Type`] when `T` is larger, or more strictly aligned, than 4096 bytes; see
    /// also [`BuildError`].
    #[doc(alias = "kmem_cache_create")]
    pub fn new() -> Result<Self, BuildError> {
        Self::with_policy()
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> Cache<T, P> {
    /// A cache on the global domain, under the policy that its type names:
    /// `Cache::<String, AfterTasksTraceGp>::with_policy()`.
    ///
    /// # Errors
    ///
    /// As [`new`](Cache::new).
    #[doc(alias = "kmem_cache_create")]
    pub fn with_policy() -> Result<Self, BuildError> {
        Self::builder().build()
    }
}

impl<T: Send + Sync + 'static, P: ReusePolicy> Cache<T, P> {
    /// Returns a builder of a cache, which has the same settings as that of an allocator. The type
    /// of the cache is named once, on either side.
    ///
    /// ```
    /// use memalloc::Cache;
    /// use memalloc::rcu::Domain;
    ///
    /// let cache: Cache<String> = Cache::builder().domain(Domain::new()).build()?;
    /// # drop(cache);
    /// let cache = Cache::<String>::builder().max_pending(64 << 10).build()?;
    /// assert_eq!(*cache.alloc("trie".to_owned())?, "trie");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> Builder<P, Self> {
        Builder::new()
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> Cache<T, P> {
    /// Moves `value` into an object.
    ///
    /// ```
    /// use memalloc::Cache;
    ///
    /// let cache = Cache::<Vec<u32>>::new()?;
    /// let mut numbers = cache.alloc(vec![1])?; // A box: no other thread knows the object.
    /// numbers.push(2);
    /// assert_eq!(*numbers, [1, 2]);
    /// let published = numbers.into_raw(); // A pointer, to be stored where readers find it.
    /// # // SAFETY: never published, and freed once.
    /// # unsafe { cache.free_unshared(published) };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::alloc`]; the error returns the value.
    pub fn alloc(&self, value: T) -> Result<SlabBox<'_, T, P>, AllocError<T>> {
        match self.alloc_uninit() {
            Ok(place) => Ok(place.write(value)),
            Err(error) => Err(error.with_value(value)),
        }
    }

    /// Returns a reference to a published object, valid for a read section of this cache's domain
    /// (`rcu_dereference`).
    ///
    /// Under loom this notes a read of the object, and each allocation of it a write: a model
    /// reports a reader that looks at an object which was freed before its section began.
    ///
    /// ```
    /// use memalloc::Cache;
    ///
    /// let cache = Cache::<String>::new()?;
    /// let word = cache.alloc("trie".to_owned())?.into_raw();
    /// let guard = cache.domain().pin();
    /// // SAFETY: not freed yet, and the guard is of this cache's domain.
    /// let seen = unsafe { cache.read(word, &guard) };
    /// // SAFETY: known only here, and freed once.
    /// unsafe { cache.free_raw(word) };
    /// assert_eq!(seen, "trie", "it stays until the guard is dropped");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// With debug assertions, when `guard` is of another domain.
    ///
    /// # Safety
    ///
    /// `object` came from [`SlabBox::into_raw`] of this cache and was freed, if at all, after
    /// `guard` began. `guard` is of this cache's domain.
    #[doc(alias = "rcu_dereference")]
    #[must_use]
    pub unsafe fn read<'g>(&'g self, object: NonNull<T>, guard: &'g Guard<'_>) -> &'g T {
        self.check_guard(guard);
        self.note_read(object);
        // SAFETY: the caller's promise; the policy keeps the value for the section (MEM-L1).
        unsafe { object.as_ref() }
    }

    /// Frees a published object. After the grace period of the policy the value is dropped and the
    /// object may be allocated again.
    ///
    /// The value is dropped on the thread that first notices the end of the grace period. Beyond
    /// [`max_pending`](Builder::max_pending) a call blocks until readers leave, for at most the
    /// domain's [`stall_after`](crate::rcu::Builder::stall_after). The guide lists
    /// [the calls that wait, and how to avoid it][waits].
    ///
    /// [waits]: crate::guide#where-a-free-waits-and-where-destructors-run
    ///
    /// ```
    /// use memalloc::Cache;
    /// use std::ptr::NonNull;
    /// use std::sync::atomic::{AtomicPtr, Ordering};
    ///
    /// let cache = Cache::new()?;
    /// let word = AtomicPtr::new(cache.alloc("old".to_owned())?.into_raw().as_ptr());
    /// let new = cache.alloc("new".to_owned())?.into_raw();
    /// let old = word.swap(new.as_ptr(), Ordering::AcqRel);
    /// // SAFETY: of this cache, unlinked by the swap, and freed once.
    /// unsafe { cache.free_raw(NonNull::new(old).expect("published above")) };
    /// # // SAFETY: no other thread has it, and it is freed once.
    /// # unsafe { cache.free_unshared(new) };
    /// # cache.destroy()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Safety
    ///
    /// `object` came from [`SlabBox::into_raw`] of this cache, is freed only once, and readers can
    /// no longer find it.
    #[doc(alias = "free_rcu_raw")]
    pub unsafe fn free_raw(&self, object: NonNull<T>) {
        // SAFETY: the caller's promise.
        unsafe { self.alloc.free(object.cast(), Layout::new::<T>()) };
    }

    /// Drops the value of an unshared object, and frees the object for immediate reuse, without a
    /// grace period.
    ///
    /// # Unshared
    ///
    /// An object is *unshared* if it was never published, or if every section in which a reader may
    /// have found it has ended. It needs no grace period. An unlinked object is unshared after a
    /// grace period, and in the drop of a structure whose readers borrow the structure.
    ///
    /// ```
    /// use memalloc::Cache;
    /// use std::ptr;
    /// use std::sync::atomic::{AtomicPtr, Ordering};
    ///
    /// let (cache, slot) = (Cache::new()?, AtomicPtr::new(ptr::null_mut()));
    /// let mine = cache.alloc("mine".to_owned())?.into_raw();
    /// # slot.store(cache.alloc("theirs".to_owned())?.into_raw().as_ptr(), Ordering::Relaxed);
    /// let (empty, new) = (ptr::null_mut(), mine.as_ptr());
    /// if slot.compare_exchange(empty, new, Ordering::AcqRel, Ordering::Relaxed).is_err() {
    ///     // SAFETY: the exchange failed, so `mine` was never published; it is freed once.
    ///     unsafe { cache.free_unshared(mine) };
    /// }
    /// # let theirs = ptr::NonNull::new(slot.into_inner()).expect("stored above");
    /// # // SAFETY: no other thread knows it, and it is freed once.
    /// # unsafe { cache.free_unshared(theirs) };
    /// # cache.destroy()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Safety
    ///
    /// `object` came from [`SlabBox::into_raw`] of this cache, is freed only once, and is unshared.
    #[doc(alias = "kmem_cache_free")]
    pub unsafe fn free_unshared(&self, object: NonNull<T>) {
        // SAFETY: the caller's promise is what a box asks for (MEM-O1).
        drop(unsafe { SlabBox::from_raw(object, self) });
    }

    /// Moves `value` into a ready object, without taking a lock or asking the system for memory
    /// (`GFP_NOWAIT`). Async-signal-safe.
    ///
    /// ```
    /// use memalloc::{AllocErrorKind, Cache};
    ///
    /// let cache = Cache::<u64>::new()?;
    /// let error = cache.alloc_nowait(7).expect_err("nothing is ready yet");
    /// assert_eq!((error.kind(), error.into_value()), (AllocErrorKind::WouldBlock, 7));
    ///
    /// cache.prefill(100)?;
    /// assert_eq!(*cache.alloc_nowait(7)?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::alloc_nowait`]; the error returns the value.
    pub fn alloc_nowait(&self, value: T) -> Result<SlabBox<'_, T, P>, AllocError<T>> {
        match self.alloc.alloc_nowait(Layout::new::<T>()) {
            Ok(object) => {
                self.alloc.writes_plain(self.alloc.handle(object.cast()));
                Ok(UninitBox::new(&self.alloc, object.cast()).write(value))
            }
            Err(error) => Err(error.with_value(value)),
        }
    }

    /// Allocates an object without a value, so that the value can be built in place.
    ///
    /// ```
    /// use memalloc::Cache;
    ///
    /// let cache = Cache::<[u8; 4096]>::new()?;
    /// let mut page = cache.alloc_uninit()?;
    /// // SAFETY: the object is ours, and as large as the type.
    /// unsafe { page.as_mut_ptr().write_bytes(7, 1) };
    /// // SAFETY: every byte was written.
    /// let page = unsafe { page.assume_init() };
    /// assert_eq!(page[4095], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::alloc`].
    pub fn alloc_uninit(&self) -> Result<UninitBox<'_, T, P>, AllocError> {
        let object = self.alloc.alloc_handle(Layout::new::<T>())?;
        self.alloc.writes_plain(object);
        Ok(UninitBox::new(&self.alloc, self.alloc.pointer(object).cast()))
    }

    /// Returns a reference to a published object, valid for a section that may sleep. The policy
    /// must protect objects for sleepers.
    ///
    /// ```
    /// use memalloc::{AfterTasksTraceGp, Cache};
    ///
    /// let cache = Cache::<String, AfterTasksTraceGp>::with_policy()?;
    /// let word = cache.alloc("trie".to_owned())?.into_raw();
    /// let guard = cache.domain().pin_trace();
    /// // SAFETY: not freed yet, and the guard is of this cache's domain.
    /// let seen = unsafe { cache.read_trace(word, &guard) };
    /// // SAFETY: known only here, and freed once.
    /// unsafe { cache.free_raw(word) };
    /// assert_eq!(seen, "trie", "still there");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// It does not compile under any other policy:
    ///
    /// ```compile_fail,E0277
    /// use memalloc::{AfterRcuGp, Cache};
    ///
    /// let cache = Cache::<String, AfterRcuGp>::new().unwrap();
    /// let word = cache.alloc("trie".to_owned()).unwrap().into_raw();
    /// let guard = cache.domain().pin_trace();
    /// let seen = unsafe { cache.read_trace(word, &guard) };
    /// ```
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    ///
    /// # Safety
    ///
    /// As [`read`](Self::read).
    #[doc(alias = "rcu_dereference")]
    #[must_use]
    pub unsafe fn read_trace<'g>(&'g self, object: NonNull<T>, guard: &'g TraceGuard<'_>) -> &'g T
    where
        P: ProtectsSleepers,
    {
        self.check_trace_guard(guard);
        self.note_read(object);
        // SAFETY: as in `read`.
        unsafe { object.as_ref() }
    }
}

impl<T: Send + Sync + 'static, P: ReusePolicy> Cache<T, P> {
    /// Makes `objects` objects ready and reserves them for [`alloc_nowait`](Cache::alloc_nowait).
    /// See [`MemAlloc::prefill`].
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::prefill`].
    pub fn prefill(&self, objects: usize) -> Result<(), AllocError> {
        self.alloc.prefill(Layout::new::<T>(), objects)
    }

    /// Does the background work that needs no waiting for readers. See [`MemAlloc::tend`].
    pub fn tend(&self) {
        self.alloc.tend();
    }

    /// Returns unneeded objects to their slabs, and empty slabs to the system, without waiting for
    /// readers. See [`MemAlloc::trim`].
    pub fn trim(&self) -> Reclaimed {
        self.alloc.trim()
    }

    /// Waits for readers until nothing is pending, drops the values that were, and returns unused
    /// memory to the system. See [`MemAlloc::quiesce`].
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::quiesce`].
    pub fn quiesce(&self) -> Result<Reclaimed, SynchronizeError> {
        self.alloc.quiesce()
    }

    /// Waits for readers as [`quiesce`](Self::quiesce) does, but no longer than `limit`. See
    /// [`MemAlloc::quiesce_timeout`].
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::quiesce_timeout`].
    pub fn quiesce_timeout(&self, limit: Duration) -> Result<Reclaimed, SynchronizeError> {
        self.alloc.quiesce_timeout(limit)
    }

    /// Returns the domain whose readers this cache waits for.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        self.alloc.domain()
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> Cache<T, P> {
    /// Frees a published object without waiting where too much is pending: for drops. Otherwise
    /// like [`free_raw`](Self::free_raw).
    ///
    /// # Safety
    ///
    /// As [`free_raw`](Self::free_raw).
    pub(super) unsafe fn free_raw_unbounded(&self, object: NonNull<T>) {
        // SAFETY: the caller's promise.
        unsafe { self.alloc.free_rcu_unbounded(object.cast(), Layout::new::<T>()) };
    }

    /// Tells a model that the calling thread reads an object.
    #[inline(always)]
    pub(super) fn note_read(&self, object: NonNull<T>) {
        self.alloc.reads_plain(self.alloc.handle(object.cast()));
    }
}

impl<T: Send + Sync + 'static, P: ReusePolicy> Cache<T, P> {
    /// Returns a cache of the objects of `alloc`, whose only class is that of `T`.
    pub(super) fn over(alloc: MemAlloc<P>) -> Self {
        Self { alloc, _objects: PhantomData }
    }

    #[inline(always)]
    pub(super) fn check_guard(&self, guard: &Guard<'_>) {
        debug_assert!(guard.is_of(self.domain()), "the guard is not of the domain of this cache");
    }

    #[inline(always)]
    pub(super) fn check_trace_guard(&self, guard: &TraceGuard<'_>) {
        debug_assert!(guard.is_of(self.domain()), "the guard is not of the domain of this cache");
    }

    pub(crate) fn mem_alloc(&self) -> &MemAlloc<P> {
        &self.alloc
    }

    pub(crate) fn into_mem_alloc(self) -> MemAlloc<P> {
        self.alloc
    }
}

impl<'c, T: Send + Sync + 'static, P: ProtectsIdentity> SlabBox<'c, T, P> {
    /// Takes an object back that [`into_raw`](Self::into_raw) gave up, for example because the
    /// exchange that was to publish it failed.
    ///
    /// ```
    /// use memalloc::{Cache, SlabBox};
    ///
    /// let cache = Cache::new()?;
    /// let object = cache.alloc("spare".to_owned())?.into_raw();
    /// // SAFETY: `object` is of this cache, and was never published.
    /// let spare = unsafe { SlabBox::from_raw(object, &cache) };
    /// assert_eq!(spare.into_inner(), "spare");
    /// # cache.destroy()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Safety
    ///
    /// `object` came from [`into_raw`](Self::into_raw) of a box of `cache`, was neither freed nor
    /// taken back since, and is unshared, as [`Cache::free_unshared`] says.
    #[must_use]
    pub unsafe fn from_raw(object: NonNull<T>, cache: &'c Cache<T, P>) -> Self {
        Self::new(&cache.alloc, object)
    }
}
