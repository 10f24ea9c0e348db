//! Where elements come from, and where they go.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;

use memalloc::rcu::Domain;
use memalloc::sync::AtomicU32;
use memalloc::{AllocError, Handle, Immediate, MemAlloc, ProtectsIdentity, ReusePolicy};

/// Memory for the elements of a table.
///
/// # Safety
///
/// An object has one holder at a time, is as large and aligned as its layout, and an object that was freed
/// is given out for the same layout only, for as long as a section of the domain lasts that was open at the
/// free. Where [`PROTECTS_IDENTITY`](Self::PROTECTS_IDENTITY) is set it is not given out at all so long.
/// Memory stays mapped for as long as `self` and its clones live.
pub unsafe trait ElementMemory: Send + Sync {
    /// Whether an object that a reader found stays that object for as long as its section lasts.
    const PROTECTS_IDENTITY: bool;

    /// The domain whose readers are waited for.
    fn domain(&self) -> &Domain;

    /// An object, as its last holder left it.
    ///
    /// # Errors
    ///
    /// There is no memory.
    fn alloc(&self, layout: Layout) -> Result<Handle, AllocError>;

    /// Gives an object up.
    ///
    /// # Safety
    ///
    /// It was allocated here with this layout, is freed once, and can't be found any more.
    unsafe fn free(&self, object: Handle, layout: Layout);

    /// Where an object lies.
    fn pointer(&self, object: Handle) -> NonNull<u8>;

    /// Word number `index` of an object.
    ///
    /// # Safety
    ///
    /// The object was given out here at some time, the word is inside of it, and accessed atomically only.
    unsafe fn word(&self, object: Handle, index: usize) -> &AtomicU32;
}

// SAFETY: what the allocator promises of its policy: memory and type under each of them, identity where it
// says so. A class serves one layout of a table (`Shape::configure`).
unsafe impl<P: ReusePolicy> ElementMemory for MemAlloc<P> {
    const PROTECTS_IDENTITY: bool = P::PROTECTS_IDENTITY;

    fn domain(&self) -> &Domain {
        self.domain()
    }

    #[inline]
    fn alloc(&self, layout: Layout) -> Result<Handle, AllocError> {
        self.alloc_handle(layout)
    }

    #[inline]
    unsafe fn free(&self, object: Handle, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free_handle(object, layout) };
    }

    #[inline]
    fn pointer(&self, object: Handle) -> NonNull<u8> {
        self.pointer(object)
    }

    #[inline]
    unsafe fn word(&self, object: Handle, index: usize) -> &AtomicU32 {
        // SAFETY: the caller's promise.
        unsafe { self.word(object, index) }
    }
}

/// Memory under which an object that a reader found stays that object for as long as its section lasts.
///
/// # Safety
///
/// [`PROTECTS_IDENTITY`](ElementMemory::PROTECTS_IDENTITY) is set.
pub unsafe trait KeepsIdentity: ElementMemory {}

// SAFETY: the policies that protect identity say so in the constant too.
unsafe impl<P: ProtectsIdentity> KeepsIdentity for MemAlloc<P> {}

// SAFETY: it is set below.
unsafe impl KeepsIdentity for OneByOne {}

macro_rules! delegate {
    ($($pointer:ty),*) => { $(
        // SAFETY: it is the same memory.
        unsafe impl<M: ElementMemory> ElementMemory for $pointer {
            const PROTECTS_IDENTITY: bool = M::PROTECTS_IDENTITY;

            fn domain(&self) -> &Domain {
                (**self).domain()
            }

            #[inline]
            fn alloc(&self, layout: Layout) -> Result<Handle, AllocError> {
                (**self).alloc(layout)
            }

            #[inline]
            unsafe fn free(&self, object: Handle, layout: Layout) {
                // SAFETY: the caller's promise.
                unsafe { (**self).free(object, layout) };
            }

            #[inline]
            fn pointer(&self, object: Handle) -> NonNull<u8> {
                (**self).pointer(object)
            }

            #[inline]
            unsafe fn word(&self, object: Handle, index: usize) -> &AtomicU32 {
                // SAFETY: the caller's promise.
                unsafe { (**self).word(object, index) }
            }
        }

        // SAFETY: it is the same memory.
        unsafe impl<M: KeepsIdentity> KeepsIdentity for $pointer {}
    )* };
}

delegate!(&M, Arc<M>);

/// Every freed object waits for a callback of its own, which frees it at once (`call_rcu` for each element,
/// as the kernel's table did before it had an allocator of its own).
///
/// It is here to be measured against batches. Nothing bounds what is pending.
#[derive(Clone, Debug)]
pub struct OneByOne {
    memory: Arc<MemAlloc<Immediate>>,
    sleepable: bool,
}

impl OneByOne {
    /// A callback after an RCU grace period for each object, as under
    /// [`AfterRcuGp`](memalloc::AfterRcuGp).
    pub fn after_rcu_gp(memory: Arc<MemAlloc<Immediate>>) -> Self {
        Self { memory, sleepable: false }
    }

    /// A callback after a grace period of each flavour, as under
    /// [`AfterTasksTraceGp`](memalloc::AfterTasksTraceGp).
    pub fn after_tasks_trace_gp(memory: Arc<MemAlloc<Immediate>>) -> Self {
        Self { memory, sleepable: true }
    }
}

// SAFETY: the allocator's, and a callback runs after every section that was open when it was queued.
unsafe impl ElementMemory for OneByOne {
    const PROTECTS_IDENTITY: bool = true;

    fn domain(&self) -> &Domain {
        self.memory.domain()
    }

    #[inline]
    fn alloc(&self, layout: Layout) -> Result<Handle, AllocError> {
        self.memory.alloc_handle(layout)
    }

    #[inline]
    unsafe fn free(&self, object: Handle, layout: Layout) {
        let memory = Arc::clone(&self.memory);
        // SAFETY: the caller's promise, and no reader can look at the object by then.
        let free = move || unsafe { memory.free_handle(object, layout) };
        let domain = self.domain();
        match self.sleepable {
            false => domain.rcu().call(free),
            true => {
                let rcu = domain.clone();
                domain.trace().call(move || rcu.rcu().call(free));
            }
        }
    }

    #[inline]
    fn pointer(&self, object: Handle) -> NonNull<u8> {
        self.memory.pointer(object)
    }

    #[inline]
    unsafe fn word(&self, object: Handle, index: usize) -> &AtomicU32 {
        // SAFETY: the caller's promise.
        unsafe { self.memory.word(object, index) }
    }
}
