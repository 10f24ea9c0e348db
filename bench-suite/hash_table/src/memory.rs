//! The interface of the memory for elements.

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
/// An object has one holder at a time, and has the size and alignment of its layout. A freed object
/// is handed out only for the same layout until every section of the domain has ended that was open
/// at the free. If [`PROTECTS_IDENTITY`](Self::PROTECTS_IDENTITY) is set, it is not handed out at
/// all before that. Memory stays mapped for as long as `self` and its clones live.
pub unsafe trait ElementMemory: Send + Sync {
    /// True if an object that a reader found stays that object until its section ends.
    const PROTECTS_IDENTITY: bool;

    /// Returns the domain whose readers delay reuse.
    fn domain(&self) -> &Domain;

    /// Allocates an object, with the content that its last holder left.
    ///
    /// # Errors
    ///
    /// The memory is exhausted.
    fn alloc(&self, layout: Layout) -> Result<Handle, AllocError>;

    /// Frees an object.
    ///
    /// # Safety
    ///
    /// It was allocated here with this layout, is freed once, and can't be found any more.
    unsafe fn free(&self, object: Handle, layout: Layout);

    /// Returns the address of an object.
    fn pointer(&self, object: Handle) -> NonNull<u8>;

    /// Returns the word number `index` of an object.
    ///
    /// # Safety
    ///
    /// The object was handed out here at some time, the word is inside it, and accessed only
    /// atomically.
    unsafe fn word(&self, object: Handle, index: usize) -> &AtomicU32;
}

// SAFETY: the allocator's guarantees: memory and type under each policy, identity if the policy
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

/// Memory under which an object that a reader found stays that object until its section ends.
///
/// # Safety
///
/// [`PROTECTS_IDENTITY`](ElementMemory::PROTECTS_IDENTITY) is set.
pub unsafe trait KeepsIdentity: ElementMemory {}

// SAFETY: the policies that protect identity set the constant, too.
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

/// Memory in which a separate callback frees each object (`call_rcu` for each element, as in the
/// kernel's table before it had its own allocator).
///
/// It exists to be compared with batches. Pending memory is not bounded.
#[derive(Clone, Debug)]
pub struct OneByOne {
    memory: Arc<MemAlloc<Immediate>>,
    sleepable: bool,
}

impl OneByOne {
    /// Frees each object by a callback after an RCU grace period, as under
    /// [`AfterRcuGp`](memalloc::AfterRcuGp).
    pub fn after_rcu_gp(memory: Arc<MemAlloc<Immediate>>) -> Self {
        Self { memory, sleepable: false }
    }

    /// Frees each object by a callback after a grace period of each flavour, as under
    /// [`AfterTasksTraceGp`](memalloc::AfterTasksTraceGp).
    pub fn after_tasks_trace_gp(memory: Arc<MemAlloc<Immediate>>) -> Self {
        Self { memory, sleepable: true }
    }
}

// SAFETY: the allocator's guarantees, and a callback runs after every section that was open when it
// was queued.
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
        // SAFETY: the caller's promise, and no reader can read the object by then.
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
