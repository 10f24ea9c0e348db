//! Allocation by layout, for every size class.

use super::error::{AllocError, AllocErrorKind};
use super::raw::Raw;
use super::reclaim::Reclaimed;
use crate::class::ClassTable;
use crate::policy::{AfterRcuGp, PolicyKind, ReusePolicy};
use crate::rcu::{Domain, SynchronizeError};
use crate::recording::{self, Way};
use crate::slab::Handle;
use crate::sync::AtomicU32;
use crate::sys::rseq::CacheRow;
use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

/// An allocator of objects of up to 4096 bytes with a cache for each CPU (`bpf_mem_alloc` with size
/// zero).
///
/// The policy `P` decides what [`free`](Self::free) does; [`free_rcu`](Self::free_rcu) defers reuse
/// under every policy. The allocator never writes into a freed object.
///
/// Objects are named by pointer or, in half the space, by [`Handle`]; each method has both forms.
/// The fast path is a restartable sequence of a dozen instructions on memory of this CPU or, if the
/// system has no such sequences, one atomic exchange and a store: see [`CpuMode`](crate::CpuMode).
///
/// ```
/// use memalloc::{Immediate, MemAlloc};
/// use std::alloc::Layout;
///
/// let alloc = MemAlloc::<Immediate>::with_policy()?;
/// let layout = Layout::new::<[u64; 8]>();
/// let object = alloc.alloc(layout)?.cast::<u8>();
/// // SAFETY: `object` was allocated with this layout and is not used any more.
/// unsafe { alloc.free(object, layout) };
/// // The same memory, at once: last in, first out.
/// assert_eq!(alloc.alloc(layout)?.cast(), object);
/// # // SAFETY: as above.
/// # unsafe { alloc.free(object, layout) };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Any context
///
/// `alloc_nowait`, `free`, `free_rcu` and `free_unshared` (and their forms by handle) are
/// async-signal-safe, also in a handler that interrupted one of them. Frees are async-signal-safe
/// only if the allocator has no destructor and, for deferred frees, no finalizer. All of these may
/// change `errno`. Build the allocator before the first signal, and [`prefill`](Self::prefill) it
/// with the objects that a handler may need. A handler that pins needs its thread to be
/// [registered](Domain::register) with the domain.
///
/// A deferred free may block, in a handler as elsewhere. Beyond
/// [`max_pending`](crate::Builder::max_pending) it waits until readers leave, for at most the
/// domain's [`stall_after`](crate::rcu::Builder::stall_after), and then calls the stall handler,
/// which has to be async-signal-safe too if signal handlers free. It does not block if the
/// interrupted thread is inside a read section (the thread then blocks when the section ends) or
/// was driving a grace period.
///
/// # Ending
///
/// Dropping an allocator never blocks. If a reader may still look at its objects, the domain ends
/// the allocator once that reader has left: with its [callbacks](Domain::run_callbacks), when
/// another allocator of the domain is dropped or [tended](Self::tend), and at the latest with the
/// last clone of the domain. If the process exits first, the allocator is leaked. Objects that a
/// user still holds when the allocator ends stay mapped until the process exits;
/// [`destroy`](Self::destroy) returns how much that is.
#[doc(alias = "bpf_mem_alloc")]
pub struct MemAlloc<P: ReusePolicy = AfterRcuGp> {
    raw: Raw,
    policy: PhantomData<P>,
}

impl<P: ReusePolicy> fmt::Debug for MemAlloc<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemAlloc").field("policy", &P::KIND).finish_non_exhaustive()
    }
}

impl<P: ReusePolicy> MemAlloc<P> {
    /// Allocates an object of at least `layout.size()` bytes, as long as its class and aligned as
    /// requested (`bpf_mem_alloc`). Its contents are undefined. A size of zero allocates an object
    /// of the smallest class.
    ///
    /// May block on a lock or in the system when this CPU's cache is at its low watermark.
    ///
    /// ```
    /// use memalloc::MemAlloc;
    /// use std::alloc::Layout;
    ///
    /// let (alloc, layout) = (MemAlloc::new()?, Layout::from_size_align(100, 64)?);
    /// let object = alloc.alloc(layout)?;
    /// assert_eq!(object.len(), 128, "the smallest class that is large enough and aligned to 64");
    /// // SAFETY: allocated with this layout, never published, and freed once.
    /// unsafe { alloc.free_unshared(object.cast(), layout) };
    /// # alloc.destroy()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TooLarge`](AllocErrorKind::TooLarge) and [`OverAligned`](AllocErrorKind::OverAligned) give
    /// the requested value and the limit. [`LimitReached`](AllocErrorKind::LimitReached),
    /// [`RangeExhausted`](AllocErrorKind::RangeExhausted) and
    /// [`OutOfMemory`](AllocErrorKind::OutOfMemory) are returned when every cache is empty too.
    #[inline(always)]
    pub fn alloc(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let caches = self.serving(layout);
        match self.raw.alloc(caches) {
            Some(object) => {
                recording::allocated(layout.size(), || self.pointer(object));
                Ok(self.slice(caches, object))
            }
            None => self.alloc_slice_slow(layout),
        }
    }

    /// Frees an object as the policy says. Under a deferring policy it may block, as
    /// [`free_rcu`](Self::free_rcu) does.
    ///
    /// ```
    /// use memalloc::MemAlloc;
    /// use std::alloc::Layout;
    ///
    /// let (alloc, layout) = (MemAlloc::new()?, Layout::new::<u64>()); // After a grace period.
    /// let object = alloc.alloc(layout)?.cast::<u8>();
    /// // SAFETY: allocated with this layout, known only here, and freed once.
    /// unsafe { alloc.free(object, layout) };
    /// alloc.destroy()?; // No object is left.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Safety
    ///
    /// `object` was allocated from this allocator with this layout, is freed only once, can no
    /// longer be found by readers, and is not touched by the caller again. Under `Immediate` no
    /// reader may rely on the object's identity.
    #[doc(alias = "bpf_mem_free")]
    #[inline(always)]
    pub unsafe fn free(&self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free_handle(self.handle_of(object), layout) };
    }

    /// Frees an object, which may be allocated again once a grace period has passed, under every
    /// policy.
    ///
    /// Beyond [`max_pending`](crate::Builder::max_pending) it blocks until readers leave, for at
    /// most the domain's [`stall_after`](crate::rcu::Builder::stall_after), in a signal handler
    /// too, and then calls the stall handler; see [any context](Self#any-context).
    ///
    /// ```
    /// use memalloc::{Immediate, MemAlloc};
    /// use std::alloc::Layout;
    ///
    /// let (alloc, layout) = (MemAlloc::<Immediate>::with_policy()?, Layout::new::<u64>());
    /// let object = alloc.alloc(layout)?.cast::<u8>();
    /// let guard = alloc.domain().pin();
    /// // SAFETY: allocated with this layout, known only here, and freed once.
    /// unsafe { alloc.free_rcu(object, layout) };
    /// assert_ne!(alloc.alloc(layout)?.cast(), object, "not before the section has ended");
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Safety
    ///
    /// As [`free`](Self::free), but readers inside a section may keep using the object that they
    /// found.
    #[doc(alias = "bpf_mem_free_rcu")]
    #[inline(always)]
    pub unsafe fn free_rcu(&self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free_rcu_handle(self.handle_of(object), layout) };
    }

    /// Frees an unshared object, which may be allocated again immediately, under every policy.
    ///
    /// # Unshared
    ///
    /// An object is *unshared* if it was never published, or if every section in which a reader may
    /// have found it has ended. It needs no grace period.
    ///
    /// # Safety
    ///
    /// As [`free`](Self::free), and the object is unshared.
    #[inline(always)]
    pub unsafe fn free_unshared(&self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free_unshared_handle(self.handle_of(object), layout) };
    }

    /// Allocates an object of which every byte is zero. Only for objects that no reader may still
    /// read: not for objects that are freed for immediate reuse and read concurrently. Otherwise
    /// like [`alloc`](Self::alloc).
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc).
    pub fn alloc_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let object = self.alloc(layout)?;
        // SAFETY: the object is ours, and as long as its slice says (MEM-A2).
        unsafe { object.cast::<u8>().write_bytes(0, object.len()) };
        Ok(object)
    }

    /// Allocates an object if one is ready: waits for no lock and does not ask the system for
    /// memory (`GFP_NOWAIT`). Async-signal-safe. Otherwise like [`alloc`](Self::alloc).
    ///
    /// A call that finds no object ready moves pending objects along, at most once in 150 µs: it
    /// visits the caches of every CPU and begins a grace period, which may issue a `membarrier`. So
    /// a program that calls nothing but this and deferred frees does not starve. It runs no
    /// finalizers and no destructors.
    ///
    /// A call that finds no object in this CPU's cache, and fails or leaves fewer ready objects
    /// than a batch, wakes the [`Worker`](crate::Worker) of the allocator, if it has one. The
    /// worker makes a batch ready, or as many objects as [`prefill`](Self::prefill) reserved (the
    /// kernel's `irq_work`). Only reserved objects stay ready if none are needed for some rounds of
    /// the worker.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](AllocErrorKind::WouldBlock) if neither this CPU's cache nor the batches that
    /// all CPUs share have an object, or if they are in use. Errors of size and alignment as
    /// [`alloc`](Self::alloc).
    pub fn alloc_nowait(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let caches = self.serving(layout);
        if caches.size == 0 {
            self.check_served(layout)?;
            // Nothing has been allocated yet.
            if let Some(class) = self.classes().class_for(layout) {
                self.raw.want(class);
            }
            return Err(AllocErrorKind::WouldBlock.into());
        }
        let object = self.raw.alloc_nowait(caches)?;
        recording::allocated_nowait(layout.size(), || self.pointer(object));
        Ok(self.slice(caches, object))
    }

    /// Makes `objects` objects for `layout` ready, and reserves them for
    /// [`alloc_nowait`](Self::alloc_nowait) on any CPU. Call this before the first signal, or
    /// before a part of the program that must not fail.
    ///
    /// ```
    /// use memalloc::MemAlloc;
    /// use std::alloc::Layout;
    ///
    /// let (alloc, layout) = (MemAlloc::new()?, Layout::new::<u64>());
    /// alloc.alloc_nowait(layout).expect_err("nothing is ready yet");
    /// alloc.prefill(layout, 100)?;
    /// let object = alloc.alloc_nowait(layout)?.cast();
    /// // SAFETY: allocated with this layout, never published, and freed once.
    /// unsafe { alloc.free_unshared(object, layout) };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The largest number requested counts, until [`quiesce`](Self::quiesce) releases the reserve.
    ///
    /// - Calls that may block take nothing from the reserve until memory has run out.
    /// - [`trim`](Self::trim), [`tend`](Self::tend) and a [`Worker`](crate::Worker) keep it.
    /// - After `alloc_nowait` has taken objects from it, it is refilled by objects that the program
    ///   frees, by a [`Worker`](crate::Worker), and by the next call of `prefill`. (Under
    ///   [`FreeAfterRcuGp`](crate::FreeAfterRcuGp) freed objects return to their slabs and do not
    ///   refill it.)
    ///
    /// A call of `alloc_nowait` holds up to 250 objects for a moment: reserve that many more for
    /// each call that may run at the same time, interrupted or on another CPU.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc); objects made ready before the error stay reserved.
    #[doc(alias = "prefill_mem_cache")]
    pub fn prefill(&self, layout: Layout, objects: usize) -> Result<(), AllocError> {
        let caches = self.awake(layout)?;
        Ok(self.raw.prefill(caches.class.into(), objects as u64)?)
    }

    /// Does the background work that needs no waiting for readers: drives grace periods, lets
    /// objects that have passed theirs be reused, and returns surplus memory, also that of caches
    /// that their CPUs have not used since the previous call. Calls that allocate
    /// and free do this too; `tend` is for times without such calls, and a
    /// [`Worker`](crate::Worker) calls it. Runs the callbacks of the domain that are due, which
    /// also ends allocators of the domain that were dropped while a reader was inside a section.
    pub fn tend(&self) {
        self.raw.tend();
    }

    /// Returns unneeded objects to their slabs, and empty slabs to the system, as far as that is
    /// possible without waiting for readers. The free objects stay in the caches that their CPUs
    /// have used since the previous call of this or [`tend`](Self::tend), and objects that
    /// [`prefill`](Self::prefill) reserved stay ready.
    pub fn trim(&self) -> Reclaimed {
        self.raw.trim()
    }

    /// Waits for readers until nothing is pending, then returns every object that no user holds to
    /// its slab, and every empty slab to the system, including those that
    /// [`prefill`](Self::prefill) reserved. One call is enough for any number of objects, and for a
    /// chain of any length of values that free one another when they are dropped. Calls of several
    /// threads take turns, so each returns with everything back, except for objects that a free,
    /// `tend`, `trim` or a [`Worker`](crate::Worker) is moving on another thread. A call in a
    /// finalizer or destructor does not wait for its turn. While a call waits for readers,
    /// statistics count what waits as live.
    ///
    /// Objects that other threads free meanwhile are not waited for. But if finalizers or
    /// destructors run for such objects, the call cannot tell what these have freed from what other
    /// threads have, and returns only when a round leaves nothing outside or runs none.
    ///
    /// ```
    /// use memalloc::MemAlloc;
    /// use std::alloc::Layout;
    ///
    /// let (alloc, layout) = (MemAlloc::new()?, Layout::new::<u64>());
    /// let object = alloc.alloc(layout)?.cast();
    /// // SAFETY: allocated with this layout, known only here, and freed once.
    /// unsafe { alloc.free(object, layout) };
    /// alloc.quiesce()?;
    /// assert_eq!(alloc.stats().taken.objects, 0, "every object is in its slab");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SynchronizeError::InsideReadSection`] if the calling thread holds a guard of the domain;
    /// nothing is lost then. (Under [`FreeAfterRcuGp`](crate::FreeAfterRcuGp) a guard of
    /// [`pin_trace`](Domain::pin_trace) does not count: such readers are not waited for.) A guard
    /// of [`pin_trace`](Domain::pin_trace) that was made on another thread and is held by this one
    /// is waited for without end, and reported to the stall handler: if that cannot be ruled out,
    /// use [`quiesce_timeout`](Self::quiesce_timeout).
    #[doc(alias = "bpf_mem_alloc_destroy")]
    pub fn quiesce(&self) -> Result<Reclaimed, SynchronizeError> {
        self.raw.quiesce(None)
    }

    /// As [`quiesce`](Self::quiesce), but waits for readers, and for a chain of values, no longer
    /// than `limit`.
    ///
    /// ```
    /// use memalloc::rcu::SynchronizeError;
    /// use memalloc::{AfterRcuGp, MemAlloc};
    /// use std::alloc::Layout;
    /// use std::time::Duration;
    ///
    /// let alloc = MemAlloc::<AfterRcuGp>::new()?;
    /// let object = alloc.alloc(Layout::new::<u64>())?.cast();
    /// // SAFETY: allocated with this layout, and freed once.
    /// unsafe { alloc.free(object, Layout::new::<u64>()) };
    /// let guard = alloc.domain().pin_trace();
    /// std::thread::scope(|scope| {
    ///     let outcome = scope.spawn(|| alloc.quiesce_timeout(Duration::from_millis(1))).join();
    ///     let Ok(Err(SynchronizeError::TimedOut { reader: Some(reader) })) = outcome else { panic!() };
    ///     assert_ne!(reader.thread, 0);
    /// });
    /// drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`quiesce`](Self::quiesce), and [`SynchronizeError::TimedOut`], which names a reader in
    /// the way, if there is one. Nothing is lost then; another call continues.
    pub fn quiesce_timeout(&self, limit: Duration) -> Result<Reclaimed, SynchronizeError> {
        self.raw.quiesce(Some(limit))
    }

    /// Returns the domain whose readers this allocator waits for.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        self.raw.domain()
    }

    /// Returns the size classes.
    #[must_use]
    pub fn classes(&self) -> &ClassTable {
        &self.raw.depot().classes
    }

    /// Returns the bytes of whole pages that the slabs have touched and not returned to the system,
    /// as in [`Stats`](crate::Stats), at the cost of one lock.
    #[must_use]
    pub fn backing_bytes(&self) -> u64 {
        self.raw.depot().slabs.backing_bytes()
    }

    /// Allocates an object and returns its handle. Otherwise like [`alloc`](Self::alloc).
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc).
    #[inline(always)]
    pub fn alloc_handle(&self, layout: Layout) -> Result<Handle, AllocError> {
        let caches = self.serving(layout);
        match self.raw.alloc(caches) {
            Some(object) => {
                recording::allocated(layout.size(), || self.pointer(object));
                Ok(object)
            }
            None => self.alloc_slow(layout),
        }
    }

    /// Frees the object of a handle as the policy says. Otherwise like [`free`](Self::free).
    ///
    /// # Safety
    ///
    /// As [`free`](Self::free).
    #[inline(always)]
    pub unsafe fn free_handle(&self, object: Handle, layout: Layout) {
        let caches = self.having(layout);
        match P::KIND {
            PolicyKind::Immediate => {
                recording::freed(Way::Now, || self.pointer(object));
                self.raw.free_now(caches, object)
            }
            PolicyKind::AfterRcuGp | PolicyKind::FreeAfterRcuGp | PolicyKind::AfterTasksTraceGp => {
                recording::freed(Way::Deferred, || self.pointer(object));
                self.raw.free_rcu(caches, object)
            }
        }
    }

    /// Frees the object of a handle, which may be allocated again once a grace period has passed.
    /// Otherwise like [`free_rcu`](Self::free_rcu).
    ///
    /// # Safety
    ///
    /// As [`free_rcu`](Self::free_rcu).
    #[inline(always)]
    pub unsafe fn free_rcu_handle(&self, object: Handle, layout: Layout) {
        recording::freed(Way::Deferred, || self.pointer(object));
        self.raw.free_rcu(self.having(layout), object);
    }

    /// Frees the unshared object of a handle, which may be allocated again immediately. Otherwise
    /// like [`free_unshared`](Self::free_unshared).
    ///
    /// # Safety
    ///
    /// As [`free_unshared`](Self::free_unshared).
    #[inline(always)]
    pub unsafe fn free_unshared_handle(&self, object: Handle, layout: Layout) {
        recording::freed(Way::Unshared, || self.pointer(object));
        self.raw.free_now(self.having(layout), object);
    }

    /// Returns the address of an object of this allocator.
    #[must_use]
    #[inline(always)]
    pub fn pointer(&self, object: Handle) -> NonNull<u8> {
        self.raw.depot().slabs.arena().pointer(object)
    }

    /// Returns the handle of the object at `pointer`, which must be the start of an object of this
    /// allocator; for any other pointer the handle is meaningless.
    #[must_use]
    #[inline(always)]
    pub fn handle(&self, pointer: NonNull<u8>) -> Handle {
        self.raw.depot().slabs.arena().handle(pointer)
    }

    /// Returns word number `index` of an object as an atomic. This is the way to read an object
    /// that may be reused at any moment, in an ordinary build and under loom alike.
    ///
    /// The word stays mapped for the lifetime of the allocator. The caller has to validate that it
    /// still belongs to the object that was found.
    ///
    /// # Safety
    ///
    /// `object` was allocated from this allocator at some time, and `index` is inside its class.
    /// All accesses to the word are atomic.
    #[must_use]
    #[inline(always)]
    pub unsafe fn word(&self, object: Handle, index: usize) -> &AtomicU32 {
        // SAFETY: the caller's promise.
        unsafe { self.raw.depot().slabs.arena().word(object, index) }
    }

    /// For models: declares that the calling thread reads plain (non-atomic) memory of an object.
    /// Under loom, reports a write that is not ordered with it; otherwise does nothing.
    #[doc(hidden)]
    #[inline(always)]
    #[cfg_attr(counted, track_caller)]
    pub fn reads_plain(&self, object: Handle) {
        self.raw.depot().slabs.arena().reads_plain(object);
    }

    /// For models: declares that the calling thread writes plain (non-atomic) memory of an object.
    /// Under loom, reports an access that is not ordered with it; otherwise does nothing.
    #[doc(hidden)]
    #[inline(always)]
    #[cfg_attr(counted, track_caller)]
    pub fn writes_plain(&self, object: Handle) {
        self.raw.depot().slabs.arena().writes_plain(object);
    }
}

#[cfg(loom)]
impl<P: ReusePolicy> MemAlloc<P> {
    /// For models that claim nothing about the end of the allocator: its drop frees the memory at
    /// once. It waits for no reader, runs neither finalizers nor destructors, and returns no object
    /// to its slab, which would be most of the steps of an execution. The model has to see to it
    /// that no section is open then, and no object in use: loom would report an access to memory
    /// that is gone.
    #[must_use]
    pub fn ends_at_once(mut self) -> Self {
        self.raw.ends_at_once = true;
        self
    }
}

impl<P: ReusePolicy> MemAlloc<P> {
    pub(super) fn from_raw(raw: Raw) -> Self {
        Self { raw, policy: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> &Raw {
        &self.raw
    }

    #[inline(always)]
    fn serving(&self, layout: Layout) -> &CacheRow {
        self.raw.depot().caches.serving(layout)
    }

    /// Returns the caches for an object that this allocator allocated for `layout`.
    #[inline(always)]
    fn having(&self, layout: Layout) -> &CacheRow {
        let caches = self.serving(layout);
        debug_assert!(caches.size > 0, "no object of this allocator has {layout:?}");
        caches
    }

    fn check_served(&self, layout: Layout) -> Result<(), AllocError> {
        if self.classes().class_for(layout).is_some() {
            return Ok(());
        }
        let classes = self.classes();
        let (size, align) = (classes.max_size(), classes.max_align_for(layout.size()));
        Err(AllocErrorKind::unservable(layout, size, align).into())
    }

    /// Returns the caches for a layout, after creating them if there are none yet.
    fn awake(&self, layout: Layout) -> Result<&CacheRow, AllocError> {
        self.check_served(layout)?;
        self.raw.depot().wake()?;
        Ok(self.serving(layout))
    }

    /// Allocates an object when the cache of this CPU has none.
    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, layout: Layout) -> Result<Handle, AllocError> {
        let caches = self.awake(layout)?;
        let object = self.raw.alloc_slow(caches.class.into())?;
        recording::allocated(layout.size(), || self.pointer(object));
        Ok(object)
    }

    /// Allocates after the fast path has failed, and returns the object with its size.
    #[cold]
    #[inline(never)]
    fn alloc_slice_slow(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let object = self.alloc_slow(layout)?;
        Ok(self.slice(self.serving(layout), object))
    }

    #[inline(always)]
    fn slice(&self, caches: &CacheRow, object: Handle) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.pointer(object), caches.size.into())
    }

    /// Defers the free of an object without waiting where too much is pending: for drops. Otherwise
    /// like [`free_rcu`](Self::free_rcu).
    ///
    /// # Safety
    ///
    /// As [`free_rcu`](Self::free_rcu).
    pub(super) unsafe fn free_rcu_unbounded(&self, object: NonNull<u8>, layout: Layout) {
        recording::freed(Way::Deferred, || object);
        // SAFETY: the caller's promise.
        let handle = unsafe { self.handle_of(object) };
        self.raw.free_rcu_unbounded(self.having(layout), handle);
    }

    /// Returns the handle of an object.
    ///
    /// # Safety
    ///
    /// `object` was allocated from this allocator.
    #[inline(always)]
    unsafe fn handle_of(&self, object: NonNull<u8>) -> Handle {
        // SAFETY: the caller's promise.
        unsafe { self.raw.depot().slabs.arena().handle_of(object) }
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<MemAlloc<crate::policy::Immediate>>();
    shared::<MemAlloc<AfterRcuGp>>();
};
