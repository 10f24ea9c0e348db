//! Memory by layout, for every size class.

use super::builder::Builder;
use super::error::{AllocError, AllocErrorKind, BuildError};
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

/// An allocator of objects up to 4096 bytes with a cache for each CPU (`bpf_mem_alloc` with size
/// zero).
///
/// The policy `P` is what [`free`](Self::free) does; [`free_rcu`](Self::free_rcu) defers reuse
/// under every policy. Nothing is ever written into a freed object.
///
/// Objects are known by pointer or, in half the space, by [`Handle`]; each method has both
/// forms. An operation on the fast path is a restartable sequence of a dozen instructions on
/// memory of this CPU, or, where the system has none, one atomic exchange and a store: see
/// [`CpuMode`](crate::CpuMode).
///
/// # Any context
///
/// `alloc_nowait`, `free`, `free_rcu` and `free_unshared` (and their forms by handle) are
/// async-signal-safe, also in a handler that interrupted one of them; but frees only where the
/// allocator has neither a destructor nor, for deferred ones, a finalizer. They may change `errno`.
/// Build the allocator before the first signal, and [`prefill`](Self::prefill) it with what a
/// handler may need; a handler that pins wants its thread [registered](Domain::register),
/// and no other domain used by it.
///
/// A deferred free may wait, in a handler as elsewhere: beyond
/// [`max_pending`](Builder::max_pending) it waits until readers leave, at most for the domain's
/// [`stall_after`](crate::rcu::Builder::stall_after), and then calls the stall handler, which has
/// to be async-signal-safe too if signal handlers free. It does not wait where the thread that was
/// interrupted is inside a read section, which waits when it ends, or was moving a grace period along.
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
/// Dropping an allocator waits for nobody. Where a reader may still look at its objects, the domain
/// ends it when that has left: with its [callbacks](Domain::run_callbacks), when another allocator of the
/// domain is dropped or [tended](Self::tend), and with the last clone of the domain at the latest; at the
/// end of the process it is forgotten. What a user still holds then stays mapped for good;
/// [`destroy`](Self::destroy) tells how much that is.
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

impl MemAlloc {
    /// An allocator with the kernel's size classes, on the global domain, under the default policy,
    /// [`AfterRcuGp`].
    ///
    /// It exists for the default policy only, so that the policy need not be named: other policies
    /// have [`with_policy`](Self::with_policy).
    ///
    /// ```
    /// use memalloc::MemAlloc;
    ///
    /// let alloc = MemAlloc::new()?;
    /// assert_eq!(alloc.stats().policy.to_string(), "after-rcu-gp");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Builder::build`].
    #[doc(alias = "bpf_mem_alloc_init")]
    pub fn new() -> Result<Self, BuildError> {
        Self::with_policy()
    }
}

impl<P: ReusePolicy> MemAlloc<P> {
    /// An allocator with the kernel's size classes, on the global domain, under the policy that its
    /// type names: `MemAlloc::<Immediate>::with_policy()`.
    ///
    /// # Errors
    ///
    /// See [`Builder::build`].
    #[doc(alias = "bpf_mem_alloc_init")]
    pub fn with_policy() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// An allocator that is configured step by step.
    pub fn builder() -> Builder<P> {
        Builder::new()
    }

    pub(super) fn from_raw(raw: Raw) -> Self {
        Self { raw, policy: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> &Raw {
        &self.raw
    }

    /// The domain whose readers this allocator waits for.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        self.raw.domain()
    }

    /// The size classes.
    #[must_use]
    pub fn classes(&self) -> &ClassTable {
        &self.raw.depot().classes
    }

    #[inline(always)]
    fn serving(&self, layout: Layout) -> &CacheRow {
        self.raw.depot().caches.serving(layout)
    }

    /// The caches of an object that this allocator gave out for `layout`.
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

    /// The caches for a layout, which are made if there are none yet.
    fn awake(&self, layout: Layout) -> Result<&CacheRow, AllocError> {
        self.check_served(layout)?;
        self.raw.depot().wake()?;
        Ok(self.serving(layout))
    }

    /// An object that the cache of this CPU does not have.
    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, layout: Layout) -> Result<Handle, AllocError> {
        let caches = self.awake(layout)?;
        let object = self.raw.alloc_slow(caches.class.into())?;
        recording::allocated(layout.size(), || self.pointer(object));
        Ok(object)
    }

    /// The same, with its size.
    #[cold]
    #[inline(never)]
    fn alloc_slice_slow(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let object = self.alloc_slow(layout)?;
        Ok(self.slice(self.serving(layout), object))
    }

    /// An object of at least `layout.size()` bytes, as long as its class, aligned as asked
    /// (`bpf_mem_alloc`). What is in it is undefined. A size of zero takes an object of the
    /// smallest class.
    ///
    /// May wait for a lock and for the system when this CPU's cache is at its low watermark.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](AllocErrorKind::TooLarge) and [`OverAligned`](AllocErrorKind::OverAligned)
    /// name both numbers; [`LimitReached`](AllocErrorKind::LimitReached),
    /// [`RangeExhausted`](AllocErrorKind::RangeExhausted) and
    /// [`OutOfMemory`](AllocErrorKind::OutOfMemory) when every cache is empty too.
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

    /// As [`alloc`](Self::alloc), and every byte of the object is zero. Only for objects that no
    /// reader can still look at, so not for those that are freed at once and read concurrently.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc).
    pub fn alloc_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let object = self.alloc(layout)?;
        // SAFETY: the object is ours, and as long as its slice says (INV-A2).
        unsafe { object.cast::<u8>().write_bytes(0, object.len()) };
        Ok(object)
    }

    /// As [`alloc`](Self::alloc), but only what is ready: takes no lock and asks the system for
    /// nothing (`GFP_NOWAIT`). Async-signal-safe.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](AllocErrorKind::WouldBlock) when neither this CPU's cache nor any batch that all CPUs share has
    /// an object, or somebody is using them; other CPUs' caches are not looked into in the mode
    /// [`Rseq`](crate::CpuMode::Rseq); sizes and alignments as [`alloc`](Self::alloc).
    pub fn alloc_nowait(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let caches = self.serving(layout);
        if caches.size == 0 {
            self.check_served(layout)?;
            // Nobody has allocated yet.
            return Err(AllocErrorKind::WouldBlock.into());
        }
        let object = self.raw.alloc_nowait(caches)?;
        recording::allocated_nowait(layout.size(), || self.pointer(object));
        Ok(self.slice(caches, object))
    }

    /// Sees to it that so many objects for `layout` can be had by
    /// [`alloc_nowait`](Self::alloc_nowait), on any CPU. A call before the first signal, or before
    /// a part of the program that must not fail.
    ///
    /// They are reserved for it: calls that may wait leave so many alone until memory has run out,
    /// and [`trim`](Self::trim), [`tend`](Self::tend) and a [`Worker`](crate::Worker) keep them.
    /// What `alloc_nowait` took of them is made up for by what the program frees, unless that goes
    /// back to slabs first ([`FreeAfterRcuGp`](crate::FreeAfterRcuGp)), or by the next call of
    /// this. The largest number that was asked for counts, until [`quiesce`](Self::quiesce) returns
    /// them.
    ///
    /// A call of `alloc_nowait` takes up to 250 objects off for a moment: reserve as many more for
    /// each that may be under way, interrupted or on another CPU.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc); what was made ready until then stays.
    #[doc(alias = "prefill_mem_cache")]
    pub fn prefill(&self, layout: Layout, objects: usize) -> Result<(), AllocError> {
        let caches = self.awake(layout)?;
        Ok(self.raw.prefill(caches.class.into(), objects as u64)?)
    }

    /// As [`alloc`](Self::alloc), by handle.
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

    #[inline(always)]
    fn slice(&self, caches: &CacheRow, object: Handle) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.pointer(object), caches.size.into())
    }

    /// Frees an object as the policy says. Under a deferring policy it may wait, as
    /// [`free_rcu`](Self::free_rcu) does.
    ///
    /// # Safety
    ///
    /// `object` was allocated from this allocator with this layout, is freed only once, can't be
    /// found by readers any more, and is not touched by the caller again. Under `Immediate` no
    /// reader may rely on the object's identity.
    #[doc(alias = "bpf_mem_free")]
    #[inline(always)]
    pub unsafe fn free(&self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free_handle(self.handle_of(object), layout) };
    }

    /// Frees an object that may be allocated again once a grace period has passed, under every
    /// policy.
    ///
    /// Beyond [`max_pending`](Builder::max_pending) it waits for readers, at most for the domain's
    /// [`stall_after`](crate::rcu::Builder::stall_after), in a signal handler too, and then calls
    /// the stall handler; [any context](Self#any-context) has the details.
    ///
    /// # Safety
    ///
    /// As [`free`](Self::free), but readers inside a section may keep using what they found.
    #[doc(alias = "bpf_mem_free_rcu")]
    #[inline(always)]
    pub unsafe fn free_rcu(&self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free_rcu_handle(self.handle_of(object), layout) };
    }

    /// Frees an object that no other thread ever saw: it may be allocated again at once, under
    /// every policy.
    ///
    /// # Safety
    ///
    /// As [`free`](Self::free), and the object was never published.
    #[inline(always)]
    pub unsafe fn free_unshared(&self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free_unshared_handle(self.handle_of(object), layout) };
    }

    /// As [`free_rcu`](Self::free_rcu), but does not wait where too much is pending: for drops.
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

    /// As [`free`](Self::free), by handle.
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

    /// As [`free_rcu`](Self::free_rcu), by handle.
    ///
    /// # Safety
    ///
    /// As [`free_rcu`](Self::free_rcu).
    #[inline(always)]
    pub unsafe fn free_rcu_handle(&self, object: Handle, layout: Layout) {
        recording::freed(Way::Deferred, || self.pointer(object));
        self.raw.free_rcu(self.having(layout), object);
    }

    /// As [`free_unshared`](Self::free_unshared), by handle.
    ///
    /// # Safety
    ///
    /// As [`free_unshared`](Self::free_unshared).
    #[inline(always)]
    pub unsafe fn free_unshared_handle(&self, object: Handle, layout: Layout) {
        recording::freed(Way::Unshared, || self.pointer(object));
        self.raw.free_now(self.having(layout), object);
    }

    /// The handle of an object.
    ///
    /// # Safety
    ///
    /// `object` was given out by this allocator.
    #[inline(always)]
    unsafe fn handle_of(&self, object: NonNull<u8>) -> Handle {
        // SAFETY: the caller's promise.
        unsafe { self.raw.depot().slabs.arena().handle_of(object) }
    }

    /// Where an object of this allocator lies.
    #[must_use]
    #[inline(always)]
    pub fn pointer(&self, object: Handle) -> NonNull<u8> {
        self.raw.depot().slabs.arena().pointer(object)
    }

    /// The handle of the object at `pointer`, which must be the start of an object of this
    /// allocator; any other pointer gives a handle that means nothing.
    #[must_use]
    #[inline(always)]
    pub fn handle(&self, pointer: NonNull<u8>) -> Handle {
        self.raw.depot().slabs.arena().handle(pointer)
    }

    /// Word number `index` of an object, as an atomic: the way to look at an object that may be
    /// reused at any moment, in an ordinary build and under loom alike.
    ///
    /// The word stays mapped as long as the allocator lives. Whether it still belongs to the
    /// object that was found is for the caller to validate.
    ///
    /// # Safety
    ///
    /// `object` was given out by this allocator at some time, and `index` is inside its class.
    /// Nobody may access the word other than atomically.
    #[inline(always)]
    pub unsafe fn word(&self, object: Handle, index: usize) -> &AtomicU32 {
        // SAFETY: the caller's promise.
        unsafe { self.raw.depot().slabs.arena().word(object, index) }
    }

    /// Says that the calling thread reads plain (non-atomic) memory of an object. Under loom,
    /// reports a write that is not ordered with it; otherwise nothing.
    #[inline(always)]
    #[cfg_attr(counted, track_caller)]
    pub fn reads_plain(&self, object: Handle) {
        self.raw.depot().slabs.arena().reads_plain(object);
    }

    /// Says that the calling thread writes plain (non-atomic) memory of an object. Under loom,
    /// reports an access that is not ordered with it; otherwise nothing.
    #[inline(always)]
    #[cfg_attr(counted, track_caller)]
    pub fn writes_plain(&self, object: Handle) {
        self.raw.depot().slabs.arena().writes_plain(object);
    }

    /// Bytes of whole pages that the slabs have touched and not given back; as in
    /// [`Stats`](crate::Stats), at the cost of one lock.
    #[must_use]
    pub fn backing_bytes(&self) -> u64 {
        self.raw.depot().slabs.backing_bytes()
    }

    /// Moves along what can move without waiting for readers: grace periods, objects that have
    /// waited long enough, what is more than enough. Calls that allocate and free do so by the
    /// way; this is for the time when there is none, and what a [`Worker`](crate::Worker) calls. Runs the
    /// callbacks of the domain that are due, and so ends allocators of it that were dropped beside a
    /// reader.
    pub fn tend(&self) {
        self.raw.tend();
    }

    /// Returns objects that nobody needs to their slabs, and empty slabs to the system, as far
    /// as that goes without waiting for readers. The free objects of the CPUs' caches stay, and what
    /// [`prefill`](Self::prefill) reserved stays ready.
    pub fn trim(&self) -> Reclaimed {
        self.raw.trim()
    }

    /// Waits for readers until nothing is pending, and returns every object that no user holds to
    /// its slab and every empty slab to the system, also those that [`prefill`](Self::prefill)
    /// reserved. One call is enough, whatever the number of objects, and however long a chain of values
    /// is that free one another when they are dropped. What other threads do meanwhile is not waited for.
    ///
    /// # Errors
    ///
    /// [`SynchronizeError::InsideReadSection`] when the calling thread holds a guard of the domain;
    /// nothing is lost then. (Under [`FreeAfterRcuGp`](crate::FreeAfterRcuGp) a guard of
    /// [`pin_trace`](Domain::pin_trace) does not count: such readers are not waited for.) A guard
    /// of that kind which was made on another thread is waited for, for good, and the stall handler
    /// hears so: where that can't be ruled out, there is [`quiesce_timeout`](Self::quiesce_timeout).
    #[doc(alias = "bpf_mem_alloc_destroy")]
    pub fn quiesce(&self) -> Result<Reclaimed, SynchronizeError> {
        self.raw.quiesce(None)
    }

    /// As [`quiesce`](Self::quiesce), but waits for readers no longer than `limit`.
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
    /// As [`quiesce`](Self::quiesce), and [`SynchronizeError::TimedOut`], which names a reader that is in
    /// the way. Nothing is lost then, and another call goes on.
    pub fn quiesce_timeout(&self, limit: Duration) -> Result<Reclaimed, SynchronizeError> {
        self.raw.quiesce(Some(limit))
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<MemAlloc<crate::Immediate>>();
    shared::<MemAlloc<AfterRcuGp>>();
};
