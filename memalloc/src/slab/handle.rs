//! The 32-bit name of an object.

use std::fmt;
use std::num::NonZeroU32;

/// Names an object of one allocator in 32 bits: its offset in the allocator's range, in
/// [`UNIT`](crate::UNIT)s. It is never zero, so that an `Option<Handle>` has 32 bits too.
///
/// A handle is meaningless to any other allocator.
///
/// # Tags
///
/// An `AtomicU64` has room for the number of a handle and 32 bits more, for a count that
/// distinguishes the lives of an object. The head of a stack whose nodes are reused at once:
///
/// ```
/// use memalloc::{Cache, Handle, Immediate, TypeStable};
/// use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
///
/// #[derive(Default)]
/// struct Node {
///     value: AtomicU32,
///     next: AtomicU32,
/// }
/// // SAFETY: atomics only, of which every value is valid, and nothing to drop.
/// unsafe impl TypeStable for Node {}
///
/// struct Stack {
///     nodes: Cache<Node, Immediate>,
///     /// The number of the first node, and above it how often the head has changed.
///     head: AtomicU64,
/// }
///
/// impl Stack {
///     fn replace(&self, old: u64, first: u32) -> bool {
///         let new = ((old >> 32) + 1) << 32 | u64::from(first);
///         let exchanged =
///             self.head.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
///         exchanged.is_ok()
///     }
///
///     fn push(&self, node: Handle, value: u32) {
///         let guard = self.nodes.domain().pin();
///         // SAFETY: allocated from this cache, and not freed.
///         let object = unsafe { self.nodes.slot(node, &guard) };
///         object.value.store(value, Ordering::Relaxed);
///         loop {
///             let old = self.head.load(Ordering::Relaxed);
///             object.next.store(old as u32, Ordering::Relaxed);
///             if self.replace(old, node.get()) {
///                 return;
///             }
///         }
///     }
///
///     fn pop(&self) -> Option<u32> {
///         let guard = self.nodes.domain().pin();
///         loop {
///             let old = self.head.load(Ordering::Acquire);
///             let node = Handle::new(old as u32)?;
///             // SAFETY: found inside the section; it may be another node by now.
///             let object = unsafe { self.nodes.slot(node, &guard) };
///             let next = object.next.load(Ordering::Relaxed);
///             // The count has not changed, so it was the first node all the time.
///             if self.replace(old, next) {
///                 let value = object.value.load(Ordering::Relaxed);
///                 // SAFETY: unlinked by the exchange, and freed once.
///                 unsafe { self.nodes.free_slot(node) };
///                 return Some(value);
///             }
///         }
///     }
/// }
///
/// let stack = Stack { nodes: Cache::type_stable()?, head: AtomicU64::new(0) };
/// stack.push(stack.nodes.alloc_slot()?, 1);
/// stack.push(stack.nodes.alloc_slot()?, 2);
/// assert_eq!([stack.pop(), stack.pop(), stack.pop()], [Some(2), Some(1), None]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// In 32 bits there is room for a tag if the range is smaller than the 64 GiB that handles can
/// address: a handle is below the size of the range in units of 16 bytes. With
/// [`range_bytes(32 << 30)`](crate::Builder::range_bytes), or less, the top bit of every handle is
/// zero; each halving, down to 16 MiB, frees one more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Handle(NonZeroU32);

impl Handle {
    /// An offset in the first slab, which is never used.
    pub(super) const NOTHING: Self = Self(NonZeroU32::MIN);

    /// Returns the handle with this number, as [`Handle::get`] returned it; `None` for zero.
    #[must_use]
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
    #[must_use]
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
