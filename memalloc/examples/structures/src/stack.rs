//! A Treiber stack whose nodes are reused after a grace period.

use crate::sync::{AtomicPtr, Ordering};
use memalloc::rcu::Domain;
use memalloc::{AllocError, BuildError, Cache};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

/// A lock-free stack.
pub struct Stack<T: Send + Sync + 'static> {
    head: AtomicPtr<Node<T>>,
    nodes: Cache<Node<T>>,
    /// Frees a node that was taken out.
    free: unsafe fn(&Cache<Node<T>>, NonNull<Node<T>>),
}

struct Node<T> {
    /// Moved out by the thread that unlinks the node.
    value: ManuallyDrop<T>,
    next: AtomicPtr<Node<T>>,
}

impl<T: Send + Sync + 'static> Stack<T> {
    /// An empty stack, whose readers are those of `domain`.
    ///
    /// # Errors
    ///
    /// When `T` is too large for a cache, or there is no memory.
    pub fn new(domain: &Domain) -> Result<Self, BuildError> {
        let nodes = Cache::<Node<T>>::builder().domain(domain.clone()).build()?;
        Ok(Self { head: AtomicPtr::new(ptr::null_mut()), nodes, free: Cache::free_raw })
    }

    /// As [`new`](Self::new), with nodes that are freed at once: wrong, to show that a model finds
    /// it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    #[cfg(loom)]
    pub fn that_frees_at_once(domain: &Domain) -> Result<Self, BuildError> {
        let mut stack = Self::new(domain)?;
        stack.free = Cache::free_unshared;
        Ok(stack)
    }

    /// Puts `value` on top.
    ///
    /// # Errors
    ///
    /// When there is no memory; the error has the value.
    pub fn push(&self, value: T) -> Result<(), AllocError<T>> {
        let place = match self.nodes.alloc_uninit() {
            Ok(place) => place,
            Err(error) => return Err(error.with_value(value)),
        };
        let (value, next) = (ManuallyDrop::new(value), AtomicPtr::new(ptr::null_mut()));
        let node = place.write(Node { value, next });
        let new = (&raw const *node).cast_mut();
        loop {
            let head = self.head.load(Ordering::Relaxed);
            node.next.store(head, Ordering::Relaxed);
            // Release pairs with the Acquire in `pop`: the node arrives whole.
            let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
            if self.head.compare_exchange(head, new, release, relaxed).is_ok() {
                let _published = node.into_raw();
                return Ok(());
            }
        }
    }

    /// Takes the value on top.
    pub fn pop(&self) -> Option<T> {
        let guard = self.nodes.domain().pin();
        loop {
            let head = NonNull::new(self.head.load(Ordering::Acquire))?;
            // SAFETY: the node was found inside the section, so it is freed after that began.
            let node = unsafe { self.nodes.read(head, &guard) };
            let next = node.next.load(Ordering::Relaxed);
            let relaxed = Ordering::Relaxed;
            // The node can't come back to the head while the section lasts.
            if self.head.compare_exchange(head.as_ptr(), next, relaxed, relaxed).is_ok() {
                // SAFETY: this thread unlinked the node, so it alone takes the value and frees it.
                return Some(unsafe {
                    let value = ptr::read(&*node.value);
                    (self.free)(&self.nodes, head);
                    value
                });
            }
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Stack<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Stack<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}
